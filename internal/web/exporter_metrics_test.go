package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
)

// TestExporterMetricsAtMostOnceASecond: they are gathered and encoded once, however many
// scrape.
func TestExporterMetricsAtMostOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{fake: fake{ready: true}}
		p.publish(t)
		gathered := 0
		var encoder exposition.Encoder
		h := handler(t, Options{Collector: p, Encoder: &encoder, ExporterMetrics: prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
			gathered++
			return families(fmt.Sprintf("# TYPE own gauge\nown %d\n", gathered)), nil
		})})
		scrape := func() string {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
			return w.Body.String()
		}
		for range 100 {
			if body := scrape(); !strings.Contains(body, "\nown 1\n") {
				t.Fatalf("page:\n%s", body)
			}
		}
		// The page has been encoded by publish.
		if got := encoder.Encoded(); got != 1 {
			t.Errorf("%d documents encoded", got)
		}
		<-time.After(time.Second)
		if body := scrape(); !strings.Contains(body, "\nown 2\n") {
			t.Errorf("page after a second:\n%s", body)
		}
		if got := encoder.Encoded(); got != 2 || gathered != 2 {
			t.Errorf("%d documents encoded, gathered %d times", got, gathered)
		}
	})
}

func TestBrokenExporterMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged lines
		var fail atomic.Bool
		h := handler(t, Options{
			Collector: withData(),
			Logger:    log.NewLogfmtLogger(&logged),
			ExporterMetrics: prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
				if fail.Load() {
					return families(exporterPage), errors.New("one collector failed")
				}
				return families(exporterPage + "more 1\n"), nil
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
		want := `level=error msg="Failed to gather some of the exporter's own metrics" err="one collector failed"
level=info msg="The exporter's own metrics are complete again"
`
		if got := logged.String(); got != want {
			t.Errorf("log:\n%s", got)
		}
	})
}
