package web

import (
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
)

// ownMaxAge is how old the exporter's own metrics on a page may be. It bounds
// what many scrapers at once can cost.
const ownMaxAge = time.Second

// ownMetrics renders the exporter's own metrics, at most once per ownMaxAge.
type ownMetrics struct {
	gatherer prometheus.Gatherer
	logger   log.Logger

	mu       sync.Mutex
	made     time.Time
	current  *exposition.Document
	lastFail string // so that a lasting failure is told once
}

// document returns the newest metrics. What fails to be gathered is missing from
// them, and told in the log.
func (o *ownMetrics) document() *exposition.Document {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.current != nil && time.Since(o.made) < ownMaxAge {
		return o.current
	}
	families, err := o.gatherer.Gather() // on an error, what could be gathered
	o.report(err)
	o.current, o.made = exposition.NewDocument(families), time.Now()
	return o.current
}

func (o *ownMetrics) report(err error) {
	fail := ""
	if err != nil {
		fail = err.Error()
	}
	if fail == o.lastFail {
		return
	}
	o.lastFail = fail
	if err != nil {
		level.Error(o.logger).Log("msg", "the exporter's own metrics are incomplete", "err", err)
		return
	}
	level.Info(o.logger).Log("msg", "the exporter's own metrics are complete again")
}
