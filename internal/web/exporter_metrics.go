package web

import (
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
)

// exporterMetricsMaxAge is how old the exporter's own metrics on a page may be. It
// bounds what many scrapers at once can cost.
const exporterMetricsMaxAge = time.Second

// exporterMetrics are the metrics about the exporter itself. They are gathered, and
// encoded in each form, at most once per exporterMetricsMaxAge.
type exporterMetrics struct {
	gatherer prometheus.Gatherer
	logger   log.Logger

	mu         sync.Mutex
	gatheredAt time.Time
	latest     *exposition.Document
	lastError  string // so that a lasting failure is logged once
}

// document returns the newest metrics. Those that cannot be gathered are missing, and
// the log says why.
func (m *exporterMetrics) document() *exposition.Document {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.latest != nil && time.Since(m.gatheredAt) < exporterMetricsMaxAge {
		return m.latest
	}
	families, err := m.gatherer.Gather() // on an error, what could be gathered
	m.logError(err)
	m.latest, m.gatheredAt = exposition.NewDocument(families), time.Now()
	return m.latest
}

func (m *exporterMetrics) logError(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == m.lastError {
		return
	}
	m.lastError = text
	if err != nil {
		level.Error(m.logger).Log("msg", "Failed to gather some of the exporter's own metrics", "err", err)
		return
	}
	level.Info(m.logger).Log("msg", "The exporter's own metrics are complete again")
}
