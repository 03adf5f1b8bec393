package web

import (
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are about the HTTP surface itself.
type Metrics struct {
	panics           prometheus.Counter
	partialDiscovery prometheus.Counter
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "clickhouse_postgres_exporter_http_panics_total",
			Help: "Requests that a bug of the exporter kept from being answered; the log has the stack.",
		}),
		partialDiscovery: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "clickhouse_postgres_exporter_discovery_partial_total",
			Help: "Answers of service discovery that leave out an organization, whose key is refused.",
		}),
	}
	r.MustRegister(m.panics, m.partialDiscovery)
	return m
}

// catchPanics logs and counts panics of next, and cuts the answer off, as net/http would.
func (m *Metrics) catchPanics(next http.Handler, logger log.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if v != http.ErrAbortHandler { //nolint:errorlint // is not an error but what was panicked with
				m.panics.Inc()
				level.Error(logger).Log("msg", "Panic while answering a request: this is a bug, please report it",
					"method", r.Method, "path", r.URL.Path, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			}
			panic(http.ErrAbortHandler)
		}()
		next.ServeHTTP(w, r)
	})
}
