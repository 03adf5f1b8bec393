package web

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"go.uber.org/goleak"

	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/pipenet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	upstreamPage = `# HELP PostgresServer_CPUSeconds_Total CPU time.
# TYPE PostgresServer_CPUSeconds_Total counter
PostgresServer_CPUSeconds_Total{mode="user",postgres_service="a"} 12.5
PostgresServer_CPUSeconds_Total{mode="user",postgres_service="b"} 99
# HELP PostgresServer_CacheHitRatio Percentage.
# TYPE PostgresServer_CacheHitRatio gauge
PostgresServer_CacheHitRatio{postgres_service="a"} 99.5
`
	serviceA = `# HELP PostgresServer_CPUSeconds_Total CPU time.
# TYPE PostgresServer_CPUSeconds_Total counter
PostgresServer_CPUSeconds_Total{mode="user",postgres_service="a"} 12.5
`
	ownPage = `# HELP own_things_total Things.
# TYPE own_things_total counter
own_things_total 3
`
)

// fake is a collector in the state that a test needs.
type fake struct {
	pages map[[2]string]string // by organization and service, in text format
	err   error                // of pages that are not there, default ErrNotFound
	ready bool
	fault string // of the organization
	wait  func(context.Context) error
}

func (f *fake) Page(org, service string) ([]*exposition.Document, error) {
	text, ok := f.pages[[2]string{org, service}]
	if ok || org == "" {
		return []*exposition.Document{exposition.NewDocument(families(text))}, nil
	}
	if f.err != nil {
		return nil, f.err
	}
	return nil, collector.ErrNotFound
}

func (f *fake) WaitFirstRefresh(ctx context.Context) error {
	if f.wait == nil {
		return nil
	}
	return f.wait(ctx)
}

func (f *fake) Ready() bool { return f.ready }

func (f *fake) Status() collector.Status {
	return collector.Status{Organizations: []collector.OrganizationStatus{{ID: "first"}, {ID: "org", Error: f.fault}}}
}

func withData() *fake {
	return &fake{ready: true, pages: map[[2]string]string{
		{"", ""}:      upstreamPage,
		{"org", ""}:   upstreamPage,
		{"org", "a"}:  serviceA,
		{"org", "é/"}: serviceA,
	}}
}

func families(text string) []*dto.MetricFamily {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	byName, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		panic(err)
	}
	out := make([]*dto.MetricFamily, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		out = append(out, byName[name])
	}
	return out
}

func own(text string) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return families(text), nil })
}

func handler(t *testing.T, o Options) http.Handler {
	t.Helper()
	h, err := NewHandler(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// serve serves over real HTTP until the test ends and returns the base URL.
func serve(t *testing.T, o Options) string {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.Config = NewServer(t.Context(), handler(t, o), log.NewNopLogger())
	s.Start()
	t.Cleanup(s.Close)
	return s.URL
}

type answer struct {
	code   int
	header http.Header
	length int64
	body   []byte
}

// do sends a request and takes the answer as it is on the wire.
func do(t *testing.T, method, url string, header http.Header) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(r.Header, header)
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, resp.ContentLength, body}
}

// series reads a page with Prometheus's own parser: values and types by
// series and family.
func series(t *testing.T, a answer) map[string]string {
	t.Helper()
	body := a.body
	switch e := a.header.Get("Content-Encoding"); e {
	case "":
	case "gzip":
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if body, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	case "zstd":
		z, err := zstd.NewReader(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		if body, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	default:
		t.Fatalf("Content-Encoding is %q", e)
	}
	p, err := textparse.New(body, a.header.Get("Content-Type"), labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]string)
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, body)
		}
		switch entry {
		case textparse.EntrySeries:
			_, _, v := p.Series()
			var l labels.Labels
			p.Labels(&l)
			out[l.String()] = strconv.FormatFloat(v, 'g', -1, 64)
		case textparse.EntryType:
			name, typ := p.Type()
			out["# TYPE "+string(name)] = string(typ)
		}
	}
}

func TestFormatsAndEncodings(t *testing.T) {
	url := serve(t, Options{Collector: withData(), Own: own(ownPage)})
	values := map[string]string{
		`{__name__="PostgresServer_CPUSeconds_Total", mode="user", postgres_service="a"}`: "12.5",
		`{__name__="PostgresServer_CPUSeconds_Total", mode="user", postgres_service="b"}`: "99",
		`{__name__="PostgresServer_CacheHitRatio", postgres_service="a"}`:                 "99.5",
		`{__name__="own_things_total"}`:                                                   "3",
	}
	classic := map[string]string{
		"# TYPE PostgresServer_CPUSeconds_Total": "counter",
		"# TYPE PostgresServer_CacheHitRatio":    "gauge",
		"# TYPE own_things_total":                "counter",
	}
	openMetrics := map[string]string{
		"# TYPE PostgresServer_CPUSeconds_Total": "unknown",
		"# TYPE PostgresServer_CacheHitRatio":    "gauge",
		"# TYPE own_things":                      "counter",
	}
	formats := []struct {
		name, accept, contentType string
		types                     map[string]string
	}{
		{"nothing asked", "", "text/plain", classic},
		{"text", "text/plain;version=0.0.4", "text/plain", classic},
		{"protobuf", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited", "application/vnd.google.protobuf", classic},
		{"openmetrics", "application/openmetrics-text;version=1.0.0", "application/openmetrics-text", openMetrics},
		{"openmetrics or text", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5", "text/plain", classic},
	}
	tags := make(map[string]string)
	for _, f := range formats {
		for _, encoding := range []string{"", "gzip", "zstd"} {
			t.Run(f.name+"/"+encoding, func(t *testing.T) {
				h := http.Header{}
				if f.accept != "" {
					h.Set("Accept", f.accept)
				}
				if encoding != "" {
					h.Set("Accept-Encoding", encoding)
				}
				a := do(t, "GET", url+"/metrics", h)
				if a.code != http.StatusOK {
					t.Fatalf("code %d: %s", a.code, a.body)
				}
				if got := a.header.Get("Content-Type"); !strings.HasPrefix(got, f.contentType) {
					t.Errorf("Content-Type is %q, not %q", got, f.contentType)
				}
				if got := a.header.Get("Content-Encoding"); got != encoding {
					t.Errorf("Content-Encoding is %q, not %q", got, encoding)
				}
				if a.length != int64(len(a.body)) {
					t.Errorf("Content-Length is %d, the body has %d", a.length, len(a.body))
				}
				if got := a.header.Get("Vary"); got != "Accept, Accept-Encoding" {
					t.Errorf("Vary is %q", got)
				}
				if got := a.header.Get("Cache-Control"); got != "no-cache" {
					t.Errorf("Cache-Control is %q", got)
				}
				want := maps.Clone(values)
				maps.Copy(want, f.types)
				if diff := cmp.Diff(want, series(t, a)); diff != "" {
					t.Errorf("page (-want +got):\n%s", diff)
				}

				tag := a.header.Get("ETag")
				if !regexp.MustCompile(`^(W/)?"[^"]+"$`).MatchString(tag) {
					t.Errorf("ETag is %q", tag)
				}
				kind := a.header.Get("Content-Type") + a.header.Get("Content-Encoding")
				if other, ok := tags[tag]; ok && other != kind {
					t.Errorf("%s and %s share ETag %s", kind, other, tag)
				}
				tags[tag] = kind

				head := do(t, "HEAD", url+"/metrics", h)
				if head.code != http.StatusOK || len(head.body) != 0 || head.length != a.length {
					t.Errorf("HEAD: code %d, %d bytes, Content-Length %d; GET's was %d", head.code, len(head.body), head.length, a.length)
				}
				a.header.Del("Date")
				head.header.Del("Date")
				if diff := cmp.Diff(a.header, head.header); diff != "" {
					t.Errorf("HEAD's header differs (-GET +HEAD):\n%s", diff)
				}

				for _, condition := range []string{tag, "W/" + strings.TrimPrefix(tag, "W/"), `"x", ` + tag, "*"} {
					h.Set("If-None-Match", condition)
					a := do(t, "GET", url+"/metrics", h)
					if a.code != http.StatusNotModified || len(a.body) != 0 {
						t.Errorf("If-None-Match %s: code %d, %d bytes", condition, a.code, len(a.body))
					}
					if a.header.Get("ETag") != tag || a.header.Get("Vary") == "" || a.header.Get("Content-Type") != "" {
						t.Errorf("If-None-Match %s: header %v", condition, a.header)
					}
				}
				h.Set("If-None-Match", `"another"`)
				if a := do(t, "GET", url+"/metrics", h); a.code != http.StatusOK {
					t.Errorf("If-None-Match of another page: code %d", a.code)
				}
			})
		}
	}
}

// TestEqualTagsMeanEqualBytes, whichever exporter of a pair is asked, and whatever it
// has been asked before.
func TestEqualTagsMeanEqualBytes(t *testing.T) {
	one, other := serve(t, Options{Collector: withData(), Own: own(ownPage)}), serve(t, Options{Collector: withData(), Own: own(ownPage)})
	bytesOf := map[string]string{} // by tag
	for range 2 {
		for _, url := range []string{one, other} {
			for _, path := range []string{"/metrics", "/v1/organizations/org/postgres/prometheus", "/v1/organizations/org/postgres/a/prometheus"} {
				for _, accept := range []string{"text/plain", "application/openmetrics-text;version=1.0.0", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"} {
					for _, encoding := range []string{"identity", "gzip", "zstd"} {
						a := do(t, http.MethodGet, url+path, http.Header{"Accept": {accept}, "Accept-Encoding": {encoding}})
						tag := a.header.Get("ETag")
						if strings.HasPrefix(tag, "W/") || tag == "" {
							t.Fatalf("%s, %s, %s: tag %q is not a strong one", path, accept, encoding, tag)
						}
						if known, ok := bytesOf[tag]; ok && known != string(a.body) {
							t.Errorf("%s, %s, %s: other bytes under tag %s", path, accept, encoding, tag)
						}
						bytesOf[tag] = string(a.body)
					}
				}
			}
		}
	}
	if want := 3 * 3 * 3; len(bytesOf) != want {
		t.Errorf("%d tags for %d pages", len(bytesOf), want)
	}
}

func TestPreferOpenMetrics(t *testing.T) {
	url := serve(t, Options{Collector: withData(), PreferOpenMetrics: true})
	a := do(t, "GET", url+"/metrics", http.Header{"Accept": {"application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}})
	if got := a.header.Get("Content-Type"); !strings.HasPrefix(got, "application/openmetrics-text") {
		t.Errorf("Content-Type is %q", got)
	}
	if series(t, a)["# TYPE PostgresServer_CPUSeconds_Total"] != "unknown" {
		t.Errorf("page:\n%s", a.body)
	}
}

// TestAnswers pins the code and the body of every kind of answer that is not
// a page.
func TestAnswers(t *testing.T) {
	outage := &fake{err: &collector.UnavailableError{Reason: "no metrics since 5m0s"}, fault: "upstream\nrefuses the key"}
	early := &fake{err: &collector.UnavailableError{Reason: "not yet"}}
	broken := &fake{err: errors.New("disk on fire")}
	for _, test := range []struct {
		name         string
		collector    *fake
		own          prometheus.Gatherer
		method, path string
		code         int
		body         string // in whole; "" for any
		allow        string
	}{
		{name: "organization", path: "/v1/organizations/org/postgres/prometheus", code: 200},
		{name: "service", path: "/v1/organizations/org/postgres/a/prometheus", code: 200},
		{name: "escaped service", path: "/v1/organizations/org/postgres/%C3%A9%2F/prometheus", code: 200},
		{name: "unknown organization", path: "/v1/organizations/x/postgres/prometheus", code: 404, body: "unknown organization or service\n"},
		{name: "unknown service", path: "/v1/organizations/org/postgres/x/prometheus", code: 404, body: "unknown organization or service\n"},
		{name: "long service", path: "/v1/organizations/org/postgres/" + strings.Repeat("x", 30000) + "/prometheus", code: 404, body: "unknown organization or service\n"},
		{name: "list of services", path: "/v1/organizations/org/postgres", code: 404},
		{name: "unknown path", path: "/metric", code: 404},
		{name: "slash", path: "/metrics/", code: 404},
		{name: "traversal", path: "/metrics/../../etc/passwd", code: 404, body: "no such page\n"},
		{name: "escaped traversal", path: "/%2e%2e/%2e%2e/etc/passwd", code: 404},
		{name: "doubled slash", path: "//metrics", code: 404, body: "no such page\n"},
		{name: "profiling", path: "/debug/pprof/", code: 404},

		{name: "outage, everything without own", collector: outage, path: "/metrics", code: 503, body: "upstream refuses the key\n"},
		{name: "outage, everything with own", collector: outage, own: own(ownPage), path: "/metrics", code: 200, body: ownPage},
		{name: "outage, organization", collector: outage, own: own(ownPage), path: "/v1/organizations/org/postgres/prometheus", code: 503, body: "no metrics since 5m0s\n"},
		{name: "outage, service", collector: outage, own: own(ownPage), path: "/v1/organizations/org/postgres/a/prometheus", code: 503, body: "no metrics since 5m0s\n"},
		{name: "outage, healthy", collector: outage, path: "/-/healthy", code: 200, body: "healthy\n"},
		{name: "outage, ready", collector: outage, path: "/-/ready", code: 503, body: "not ready: upstream refuses the key\n"},
		{name: "early, everything without own", collector: early, path: "/metrics", code: 503, body: "nothing has been heard from upstream yet\n"},
		{name: "early, ready", collector: early, path: "/-/ready", code: 503, body: "not ready: nothing has been heard from upstream yet\n"},
		{name: "empty organization", collector: &fake{ready: true}, path: "/metrics", code: 200},
		{name: "broken", collector: broken, path: "/v1/organizations/org/postgres/prometheus", code: 500, body: "disk on fire\n"},

		{name: "healthy", path: "/-/healthy", code: 200, body: "healthy\n"},
		{name: "healthy, HEAD", method: "HEAD", path: "/-/healthy", code: 200},
		{name: "ready", path: "/-/ready", code: 200, body: "ready\n"},

		{name: "reload by POST", method: "POST", path: "/-/reload", code: 200, body: "reloaded\n"},
		{name: "reload by PUT", method: "PUT", path: "/-/reload", code: 200, body: "reloaded\n"},
		{name: "reload by GET", path: "/-/reload", code: 405, allow: "POST, PUT"},
		{name: "post to metrics", method: "POST", path: "/metrics", code: 405, allow: "GET, HEAD"},
		{name: "put to a service", method: "PUT", path: "/v1/organizations/org/postgres/a/prometheus", code: 405, allow: "GET, HEAD"},
		{name: "delete healthy", method: "DELETE", path: "/-/healthy", code: 405, allow: "GET, HEAD"},
		{name: "patch landing", method: "PATCH", path: "/", code: 405, allow: "GET, HEAD"},
		{name: "odd method", method: "BREW", path: "/metrics", code: 405, allow: "GET, HEAD"},
		{name: "options", method: "OPTIONS", path: "/metrics", code: 405, allow: "GET, HEAD"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.collector == nil {
				test.collector = withData()
			}
			if test.method == "" {
				test.method = "GET"
			}
			url := serve(t, Options{Collector: test.collector, Own: test.own})
			a := do(t, test.method, url+test.path, nil)
			if a.code != test.code {
				t.Errorf("code %d, not %d; body %.200q", a.code, test.code, a.body)
			}
			if test.body != "" && string(a.body) != test.body {
				t.Errorf("body %.200q, not %q", a.body, test.body)
			}
			if got := a.header.Get("Allow"); got != test.allow {
				t.Errorf("Allow is %q, not %q", got, test.allow)
			}
			if a.header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("X-Content-Type-Options is missing from %v", a.header)
			}
			if a.code >= 400 && !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") {
				t.Errorf("Content-Type of an error is %q", a.header.Get("Content-Type"))
			}
			if a.code >= 400 && test.method != "HEAD" && strings.Count(string(a.body), "\n") != 1 {
				t.Errorf("error of more than one line: %q", a.body)
			}
		})
	}
}

// TestPlain bounds and cleans what may quote the client.
func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"a\r\nSet-Cookie: b":           "a  Set-Cookie: b\n",
		"\x1b[31mred\x7f":              " [31mred \n",
		"\xff":                         "\uFFFD\n",
		strings.Repeat("x", 501):       strings.Repeat("x", 500) + "…\n",
		strings.Repeat("x", 499) + "é": strings.Repeat("x", 499) + "\uFFFD…\n",
	} {
		w := httptest.NewRecorder()
		plain(w, 400, in)
		if got := w.Body.String(); got != want {
			t.Errorf("%.20q: %q, not %q", in, got, want)
		}
		if got := w.Header().Get("Content-Length"); got != strconv.Itoa(len(want)) {
			t.Errorf("%.20q: Content-Length %s, not %d", in, got, len(want))
		}
	}
}

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
	s.Config = NewServer(ctx, handler(t, Options{Collector: f, Own: own(ownPage)}), log.NewNopLogger())
	s.Start()
	defer s.Close()
	go func() {
		<-waiting
		cancel()
	}()
	a := do(t, "GET", s.URL+"/metrics", http.Header{"X-Prometheus-Scrape-Timeout-Seconds": {"3600"}})
	if a.code != http.StatusOK || string(a.body) != ownPage {
		t.Errorf("code %d, body %q", a.code, a.body)
	}
}

func TestOwnMetricsAreGatheredAtMostOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gathered := 0
		h := handler(t, Options{Collector: withData(), Own: prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
			gathered++
			return families(fmt.Sprintf("# TYPE own gauge\nown %d\n", gathered)), nil
		})})
		scrape := func() string {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
			return w.Body.String()
		}
		for range 1000 {
			if body := scrape(); !strings.Contains(body, "\nown 1\n") {
				t.Fatalf("page:\n%s", body)
			}
		}
		<-time.After(time.Second)
		if body := scrape(); !strings.Contains(body, "\nown 2\n") {
			t.Errorf("page after a second:\n%s", body)
		}
	})
}

// lines collects what is logged.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func TestBrokenOwnMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged lines
		var fail atomic.Bool
		h := handler(t, Options{
			Collector: withData(),
			Logger:    log.NewLogfmtLogger(&logged),
			Own: prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
				if fail.Load() {
					return families(ownPage), errors.New("one collector failed")
				}
				return families(ownPage + "more 1\n"), nil
			}),
		})
		scrape := func() string {
			<-time.After(time.Second)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
			if w.Code != http.StatusOK {
				t.Errorf("code %d", w.Code)
			}
			return w.Body.String()
		}
		scrape()
		fail.Store(true)
		for range 5 {
			body := scrape()
			if !strings.Contains(body, "own_things_total 3") || strings.Contains(body, "\nmore 1") || !strings.Contains(body, "CacheHitRatio") {
				t.Errorf("page:\n%s", body)
			}
		}
		fail.Store(false)
		scrape()
		want := `level=error msg="the exporter's own metrics are incomplete" err="one collector failed"
level=info msg="the exporter's own metrics are complete again"
`
		if got := logged.String(); got != want {
			t.Errorf("log:\n%s", got)
		}
	})
}

func TestScrapesAddNoLogLine(t *testing.T) {
	var logged lines
	h := handler(t, Options{Collector: withData(), Own: own(ownPage), Logger: log.NewLogfmtLogger(&logged)})
	for range 1000 {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/metrics", nil))
	}
	if logged.String() != "" {
		t.Errorf("log:\n%s", logged.String())
	}
}

func TestReload(t *testing.T) {
	var active, calls atomic.Int32
	fail := make(chan error, 1)
	url := serve(t, Options{Collector: withData(), Reload: func() error {
		if active.Add(1) > 1 {
			t.Error("two reloads at once")
		}
		defer active.Add(-1)
		calls.Add(1)
		select {
		case err := <-fail:
			return err
		default:
			return nil
		}
	}})
	fail <- errors.New("line 3: no such action \"drp\"\nsee the documentation")
	a := do(t, "POST", url+"/-/reload", nil)
	if want := "reload failed, the running configuration stays: line 3: no such action \"drp\" see the documentation\n"; a.code != 500 || string(a.body) != want {
		t.Errorf("code %d, body %q", a.code, a.body)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if a := do(t, "POST", url+"/-/reload", nil); a.code != http.StatusOK {
				t.Errorf("code %d, body %q", a.code, a.body)
			}
		})
	}
	wg.Wait()
	do(t, "GET", url+"/-/reload", nil)
	if got := calls.Load(); got != 21 {
		t.Errorf("%d reloads", got)
	}
}

// TestOperatorsHeadersStand: exporter-toolkit sets what the web configuration
// asks for before the handler is called.
func TestOperatorsHeadersStand(t *testing.T) {
	w := httptest.NewRecorder()
	w.Header().Set("X-Frame-Options", "sameorigin")
	handler(t, Options{Collector: withData()}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if got := w.Header().Get("X-Frame-Options"); got != "sameorigin" {
		t.Errorf("X-Frame-Options is %q", got)
	}
}

func TestCheckTelemetryPath(t *testing.T) {
	for p, want := range map[string]string{
		"/metrics":      "",
		"/a/b":          "",
		"/v2/metrics":   "",
		"metrics":       `path "metrics" must begin with /`,
		"":              `path "" must begin with /`,
		"/":             `path / is the status page, choose another such as /metrics`,
		"/metrics/":     `path "/metrics/" must be written "/metrics"`,
		"/a/../metrics": `path "/a/../metrics" must be written "/metrics"`,
		"/{x}":          `path "/{x}" must not hold any of {}%?# or white space`,
		"/a b":          `path "/a b" must not hold any of {}%?# or white space`,
		"/-/metrics":    `path "/-/metrics" is not free: /- is used by the exporter itself`,
		"/v1/x":         `path "/v1/x" is not free: /v1 is used by the exporter itself`,
		"/sd":           `path "/sd" is not free: /sd is used by the exporter itself`,
	} {
		got := ""
		if err := CheckTelemetryPath(p); err != nil {
			got = err.Error()
		} else {
			handler(t, Options{Collector: withData(), TelemetryPath: p})
		}
		if got != want {
			t.Errorf("%q: %q, not %q", p, got, want)
		}
	}
	if _, err := NewHandler(Options{Collector: withData(), TelemetryPath: "/{"}); err == nil {
		t.Error("a handler with a bad path")
	}
}

func TestHugeHeaders(t *testing.T) {
	url := serve(t, Options{Collector: withData()})
	a := do(t, "GET", url+"/metrics", http.Header{"X-Much": {strings.Repeat("x", 100<<10)}})
	if a.code != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("code %d", a.code)
	}
}

// pipe is the server's end of a connection.
type pipe struct {
	net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipe) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.Conn.Close()
}

// watched is a listener whose connections tell when the server closes them.
type watched struct {
	*pipenet.Listener
	accepted chan *pipe
}

func (w watched) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	p := &pipe{Conn: c, closed: make(chan struct{})}
	w.accepted <- p
	return p, nil
}

// servePipes serves o in the test's bubble and returns how to connect: the
// client's end, and what is closed when the server lets go.
func servePipes(t *testing.T, o Options) func() (client net.Conn, gone <-chan struct{}) {
	t.Helper()
	l := watched{pipenet.Listen(), make(chan *pipe)}
	s := NewServer(t.Context(), handler(t, o), log.NewNopLogger())
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	return func() (net.Conn, <-chan struct{}) {
		client, err := l.DialContext(t.Context(), "tcp", "test")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		return client, (<-l.accepted).closed
	}
}

// TestSlowReader has clients that ask and never read: they are let go in the
// time they announced, within bounds, and hinder nobody.
func TestSlowReader(t *testing.T) {
	for _, test := range []struct {
		name, header string
		want         time.Duration
	}{
		{"silent", "", writeTimeout},
		{"ten seconds", "X-Prometheus-Scrape-Timeout-Seconds: 10\r\n", writeTimeout},
		{"ninety seconds", "X-Prometheus-Scrape-Timeout-Seconds: 90\r\n", 90 * time.Second},
		{"an hour", "X-Prometheus-Scrape-Timeout-Seconds: 3600\r\n", maxAnnounced},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				connect := servePipes(t, Options{Collector: withData()})
				slow, gone := connect()
				start := time.Now()
				if _, err := io.WriteString(slow, "GET /metrics HTTP/1.1\r\nHost: x\r\n"+test.header+"\r\n"); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()

				other, _ := connect()
				if _, err := io.WriteString(other, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				resp, err := http.ReadResponse(bufio.NewReader(other), nil)
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Fatalf("another client: %v, %v", resp, err)
				}
				resp.Body.Close()

				<-gone
				if got := time.Since(start); got != test.want {
					t.Errorf("let go after %s, not %s", got, test.want)
				}
			})
		})
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
		if got := time.Since(start); got != maxPatience || resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("code %d after %s", resp.StatusCode, got)
		}
	})
}

// TestSlowRequest is a client that never finishes its header.
func TestSlowRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		connect := servePipes(t, Options{Collector: withData()})
		c, _ := connect()
		start := time.Now()
		if _, err := io.WriteString(c, "GET /metrics HTTP/1.1\r\nX-Slow: "); err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadAll(c)
		if got := time.Since(start); got != readTimeout {
			t.Errorf("let go after %s, not %s", got, readTimeout)
		}
	})
}

func TestIdleConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		connect := servePipes(t, Options{Collector: withData()})
		c, _ := connect()
		if _, err := io.WriteString(c, "GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		b := bufio.NewReader(c)
		resp, err := http.ReadResponse(b, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadAll(resp.Body)
		resp.Body.Close()
		start := time.Now()
		_, _ = io.ReadAll(b)
		if got := time.Since(start); got != idleTimeout {
			t.Errorf("let go after %s, not %s", got, idleTimeout)
		}
	})
}

func TestManyScrapers(t *testing.T) {
	url := serve(t, Options{Collector: withData(), Own: own(ownPage)})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			encoding := []string{"", "gzip", "zstd"}[i%3]
			for range 5 {
				a := do(t, "GET", url+"/metrics", http.Header{"Accept-Encoding": {encoding}})
				if n := len(series(t, a)); n != 7 {
					t.Errorf("%d entries on the page", n)
				}
			}
		})
	}
	wg.Wait()
}

func TestServerLog(t *testing.T) {
	var logged lines
	l := ServerLog(log.NewLogfmtLogger(&logged))
	l.Printf("http: TLS handshake error from 192.0.2.1:3: EOF")
	l.Printf("http: panic serving 192.0.2.1:3: no")
	want := `level=debug msg="HTTP server" err="http: TLS handshake error from 192.0.2.1:3: EOF"
level=error msg="HTTP server" err="http: panic serving 192.0.2.1:3: no"
`
	if logged.String() != want {
		t.Errorf("log:\n%s", logged.String())
	}
}

func TestAnnounced(t *testing.T) {
	for _, s := range []string{"", "0", "-1", "NaN", "1e-9", "0.001", "3", "119.9", "120", "1e300", "Inf"} {
		h := http.Header{"X-Prometheus-Scrape-Timeout-Seconds": {s}}
		d, p := announced(h), patience(h)
		if d < 0 || d > maxAnnounced || p < 0 || p > d || math.Signbit(p.Seconds()) {
			t.Errorf("%q: announced %s, patience %s", s, d, p)
		}
	}
}
