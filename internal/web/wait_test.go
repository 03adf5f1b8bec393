package web

import (
	"bufio"
	"context"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"

	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
)

func TestWaitForFirstRefresh(t *testing.T) {
	for _, test := range []struct {
		timeout string
		want    time.Duration
	}{
		{"", 9500 * time.Millisecond},
		{"10", 9500 * time.Millisecond},
		{"10.500000", 10 * time.Second},
		{"15.000000", 10 * time.Second},
		{"1", 500 * time.Millisecond},
		{"0.2", 100 * time.Millisecond},
		{"0", 9500 * time.Millisecond},
		{"-3", 9500 * time.Millisecond},
		{"garbage", 9500 * time.Millisecond},
		{"NaN", 9500 * time.Millisecond},
		{"+Inf", 10 * time.Second},
		{"1e308", 10 * time.Second},
	} {
		for _, path := range []string{"/metrics", "/v1/organizations/org/postgres/prometheus", "/v1/organizations/org/postgres/a/prometheus"} {
			t.Run(test.timeout+path, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := &fake{
						err:  &collector.UnavailableError{Reason: "not yet"},
						wait: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
					}
					r := httptest.NewRequest(http.MethodGet, path, nil)
					if test.timeout != "" {
						r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", test.timeout)
					}
					w := httptest.NewRecorder()
					start := time.Now()
					handler(t, Options{Collector: f}).ServeHTTP(w, r)
					if got := time.Since(start); got != test.want {
						t.Errorf("waited %s, not %s", got, test.want)
					}
					if w.Code != http.StatusServiceUnavailable {
						t.Errorf("code %d", w.Code)
					}
				})
			})
		}
	}
}

// TestFirstRefreshAnswers has the refresh end while the scrape waits.
func TestFirstRefreshAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := withData()
		refreshed := make(chan struct{})
		f.wait = func(ctx context.Context) error {
			select {
			case <-refreshed:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		time.AfterFunc(3*time.Second, func() { close(refreshed) })
		w := httptest.NewRecorder()
		start := time.Now()
		handler(t, Options{Collector: f}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		if got := time.Since(start); got != 3*time.Second {
			t.Errorf("waited %s", got)
		}
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "PostgresServer_CacheHitRatio") {
			t.Errorf("code %d, body %s", w.Code, w.Body)
		}
	})
}

func TestProbesDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{
			err:  &collector.UnavailableError{Reason: "not yet"},
			wait: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		}
		start := time.Now()
		for _, path := range []string{"/-/healthy", "/-/ready", "/", "/nothing"} {
			handler(t, Options{Collector: f}).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil))
		}
		if got := time.Since(start); got != 0 {
			t.Errorf("waited %s", got)
		}
	})
}

func TestStopEndsWaiting(t *testing.T) {
	waiting := make(chan struct{})
	f := &fake{
		err: &collector.UnavailableError{Reason: "not yet"},
		wait: func(ctx context.Context) error {
			close(waiting)
			<-ctx.Done()
			return ctx.Err()
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := httptest.NewUnstartedServer(nil)
	s.Config = NewServer(ctx, handler(t, Options{Collector: f, ExporterMetrics: gatherer(exporterPage)}), log.NewNopLogger())
	s.Start()
	defer s.Close()
	go func() {
		<-waiting
		cancel()
	}()
	a := do(t, "GET", s.URL+"/metrics", http.Header{"X-Prometheus-Scrape-Timeout-Seconds": {"3600"}})
	if a.code != http.StatusOK || string(a.body) != exporterPage {
		t.Errorf("code %d, body %q", a.code, a.body)
	}
}

// TestLateAnswer: one who would wait for longer than others may take altogether is
// answered as early as they are.
func TestLateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		connect := servePipes(t, Options{Collector: &fake{
			err:  &collector.UnavailableError{Reason: "not yet"},
			wait: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		}})
		c, _ := connect()
		start := time.Now()
		if _, err := io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: 100\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got := time.Since(start); got != waitLimit || resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("code %d after %s", resp.StatusCode, got)
		}
	})
}

func TestAnnounced(t *testing.T) {
	for _, s := range []string{"", "0", "-1", "NaN", "1e-9", "0.001", "3", "119.9", "120", "1e300", "Inf"} {
		h := http.Header{"X-Prometheus-Scrape-Timeout-Seconds": {s}}
		d, p := scrapeTimeout(h), maxWait(h)
		if d < 0 || d > maxScrapeTimeout || p < 0 || p > d || math.Signbit(p.Seconds()) {
			t.Errorf("%q: announced %s, patience %s", s, d, p)
		}
	}
}
