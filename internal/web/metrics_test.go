package web

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
)

// buggy is a collector with a bug.
type buggy struct{ *fake }

func (buggy) Page(string, string) ([]*exposition.Document, error) { panic("index\nout of range") }

// TestPanic: a bug costs its request only, is counted, and told in one line with the
// stack.
func TestPanic(t *testing.T) {
	var logged lines
	registry := prometheus.NewRegistry()
	logger := log.NewLogfmtLogger(&logged)
	s := httptest.NewUnstartedServer(nil)
	s.Config = NewServer(t.Context(), handler(t, Options{Collector: buggy{withData()}, Metrics: NewMetrics(registry), Logger: logger}), logger)
	s.Start()
	t.Cleanup(s.Close)
	for range 2 {
		resp, err := s.Client().Get(s.URL + "/metrics")
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		if err == nil {
			t.Error("an answer")
		}
	}
	if a := do(t, http.MethodGet, s.URL+"/-/healthy", nil); a.code != http.StatusOK {
		t.Errorf("afterwards: code %d", a.code)
	}
	if got := total(t, registry, "clickhouse_postgres_exporter_http_panics_total"); got != 2 {
		t.Errorf("%v counted", got)
	}
	text := logged.String()
	if strings.Count(text, "\n") != 2 || strings.Count(text, `level=error msg="Panic while answering a request: this is a bug, please report it" method=GET path=/metrics panic="index\nout of range" stack="goroutine `) != 2 ||
		!strings.Contains(text, "buggy.Page") {
		t.Errorf("log:\n%s", text)
	}
}
