package web

import (
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are about the HTTP interface itself.
type Metrics struct {
	panics           prometheus.Counter
	partialDiscovery prometheus.Counter
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "clickhouse_postgres_exporter_http_panics_total",
			Help: "Total number of HTTP requests aborted by a bug in the exporter; the log has the stack trace.",
		}),
		partialDiscovery: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "clickhouse_postgres_exporter_discovery_partial_total",
			Help: "Total number of service discovery responses without the targets of an organization, because its API key is refused.",
		}),
	}
	r.MustRegister(m.panics, m.partialDiscovery)
	return m
}

// recoverPanics logs and counts panics of next, and aborts the response, as net/http
// would.
func (m *Metrics) recoverPanics(next http.Handler, logger log.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if v != http.ErrAbortHandler { //nolint:errorlint // a panic value, not an error
				m.panics.Inc()
				level.Error(logger).Log("msg", "Panic while serving a request: this is a bug, please report it",
					"method", r.Method, "path", r.URL.Path, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			}
			panic(http.ErrAbortHandler)
		}()
		next.ServeHTTP(w, r)
	})
}
