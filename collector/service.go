package collector

import (
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// service is what is held of one service that the list or the metrics name. It must be
// comparable.
type service struct {
	id    string
	entry *inventory.Service // nil if the list does not name it

	details *details // what only calls for the service tell

	// Why its own page and its details could not be had, nil if they could.
	err, hostnameErr, settingsErr error

	metrics     *exposition.Metrics // the newest; nil before the first, and when too old
	fetchedAt   time.Time           // zero before the first
	changedAt   time.Time           // when the program first saw these values
	utilization utilization
	own         bool               // they came from the service's own page
	onPage      bool               // the newest organization page names it
	parser      *exposition.Parser // of its own page
	pageBytes   int                // of its own page

	// What follows from all that, see derive.
	block      *exposition.Block // the metrics as they are served
	listed     *exposition.Block // what the inventory says
	listedFrom listedInput
	memo       *memo // of its page
}

// listedInput is all that the series of what the inventory says follow from. How many
// states there are tells which: they only ever become more.
type listedInput struct {
	org     string
	entry   *inventory.Service
	details *details
	states  int
	rules   *exposition.Rules
}

// details is what only calls for one service tell. Immutable.
type details struct {
	hostname string
	settings []inventory.Setting
}

// service returns what is held of a service, which from now on is something.
func (p *poller) service(id string) *service {
	s := p.state.services[id]
	if s == nil {
		s = &service{id: id, details: &details{}, memo: &memo{off: p.c.noMemo}}
		p.state.services[id] = s
	}
	return s
}

// forget drops what is held of a service.
func (p *poller) forget(id string) { delete(p.state.services, id) }

// name returns what upstream's list, or else its metrics call the service.
func (s *service) name() string {
	if s.entry != nil {
		return s.entry.Name
	}
	return s.metrics.Label(inventory.NameLabel)
}

// setMetrics makes metrics the newest of a service, and tells whether they differ from
// those before.
func (p *poller) setMetrics(s *service, m *exposition.Metrics, at time.Time, own bool) (changed bool) {
	changed = !m.Equal(s.metrics)
	if changed {
		s.changedAt = at
		s.utilization = newUtilization(m, s.utilization)
	}
	if changed || p.c.noMemo {
		s.metrics = m
	}
	s.fetchedAt, s.own = at, own
	if !own {
		s.parser, s.pageBytes, s.err = nil, 0, nil
	}
	p.derive(s)
	return changed
}

// expire drops a service's metrics, but not when they came.
func (s *service) expire() {
	s.metrics, s.block, s.parser, s.pageBytes = nil, nil, nil, 0
}

// derive makes what is served of a service anew. What did not change stays the same.
func (p *poller) derive(s *service) {
	var added []labels.Label
	if s.entry != nil {
		added = inventory.InlineLabels(p.config.EnrichLabels, &s.entry.Service, s.details.hostname)
	}
	if s.metrics == nil {
		s.block = nil
	} else {
		s.block = exposition.Expose(s.metrics, added, p.rules, p.last(s.block))
	}
	if s.entry == nil {
		s.listed, s.listedFrom = nil, listedInput{}
		return
	}
	input := listedInput{org: p.label(), entry: s.entry, details: s.details, states: len(p.state.inventory.States), rules: p.ownRules}
	if s.listed == nil || input != s.listedFrom || p.c.noMemo {
		s.listed, s.listedFrom = p.expose(inventoryGauges(&input, p.state.inventory.States), s.listed), input
	}
}

// expose makes a block of series of the program's own, to which the user's rules apply
// as they apply to upstream's; last is the one before, or nil.
func (p *poller) expose(gauges []exposition.Gauge, last *exposition.Block) *exposition.Block {
	return exposition.Expose(exposition.NewMetrics(gauges), nil, p.ownRules, p.last(last))
}

// last returns what was made the last time, if it may be used again.
func (p *poller) last(b *exposition.Block) *exposition.Block {
	if p.c.noMemo {
		return nil
	}
	return b
}
