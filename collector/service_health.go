package collector

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
)

// serviceHealth is the health metrics of some services. The user's rules do not
// apply to them: a rule that keeps a few metrics must not blind those who watch.
// Immutable, except that the block is made when first asked for: most of what is
// published is replaced before anybody has seen it.
type serviceHealth struct {
	series *healthSeries
	values []float64

	once sync.Once
	made *exposition.Block
}

// healthSeries is which series there are, for all the serviceHealth that differ in
// nothing but values.
type healthSeries struct {
	org   string
	of    []healthKey
	block atomic.Pointer[exposition.Block] // some version of them, nil until one is made
}

// healthKey is what the series of one service's health follow from.
type healthKey struct {
	id, name string
	sampled  bool // metrics have come at some time
}

// healthFamily is one of the health metrics.
type healthFamily struct {
	name, help string
	always     bool // or else only of services of which metrics have come
	value      func(*serviceView) float64
}

// healthFamilies are sorted by name, which is the order of a block's values.
func healthFamilies() []healthFamily {
	return []healthFamily{
		{
			name:  serviceLastChangeName,
			help:  "When a Postgres service's metrics were first seen to have the values they have, in seconds since 1970.",
			value: func(s *serviceView) float64 { return unixSeconds(s.sample.changedAt) },
		},
		{
			name:  serviceLastSuccessName,
			help:  "When a Postgres service's metrics were last read, in seconds since 1970.",
			value: func(s *serviceView) float64 { return unixSeconds(s.sample.fetchedAt) },
		},
		{
			name: serviceUpName, always: true,
			help: "Whether the latest request for a Postgres service's metrics brought them.",
			value: func(s *serviceView) float64 {
				if s.up {
					return 1
				}
				return 0
			},
		},
	}
}

// newServiceHealth makes the health metrics of services; last is what it made the
// last time, or nil. As long as the services are the same, only values are made.
func newServiceHealth(w *worker, services []*serviceView, last *serviceHealth) *serviceHealth {
	families := healthFamilies()
	h := &serviceHealth{values: make([]float64, 0, len(families)*len(services))}
	for _, f := range families {
		for _, s := range services {
			if f.always || s.sample != nil {
				h.values = append(h.values, f.value(s))
			}
		}
	}
	if last != nil && last.series.org == w.label() && slices.EqualFunc(last.series.of, services, healthKey.same) {
		if slices.Equal(last.values, h.values) {
			return last
		}
		h.series = last.series
		return h
	}
	h.series = &healthSeries{org: w.label(), of: make([]healthKey, len(services))}
	for i, s := range services {
		h.series.of[i] = healthKey{s.id, s.name, s.sample != nil}
	}
	return h
}

// block returns the metrics. Safe for concurrent use.
func (h *serviceHealth) block() *exposition.Block {
	h.once.Do(func() {
		if some := h.series.block.Load(); some != nil {
			h.made = some.WithValues(h.values)
			return
		}
		list := make([]gauge, 0, len(h.values))
		for _, f := range healthFamilies() {
			for _, k := range h.series.of {
				if f.always || k.sampled {
					list = append(list, gauge{name: f.name, help: f.help, labels: idLabels(h.series.org, k.id, k.name), value: h.values[len(list)]})
				}
			}
		}
		h.made = newBlock(list)
		h.series.block.Store(h.made)
	})
	return h.made
}

func (k healthKey) same(s *serviceView) bool {
	return k.id == s.id && k.name == s.name && k.sampled == (s.sample != nil)
}
