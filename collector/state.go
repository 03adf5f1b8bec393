package collector

import (
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

// state is all that a poller has learned from upstream.
type state struct {
	facts
	planner *schedule.Planner

	discoverAt  time.Time // when to look for the organization, zero for not at all
	discovering bool

	listed     map[string]api.Service // the list that was believed, before selection
	tombstones map[string]time.Time   // when a service left the list

	services map[string]*service // by id; "" for series that name none

	parser    *exposition.Parser             // of the organization's page
	page      map[string]*exposition.Metrics // that page, by service, as long as it is young enough
	pageAt    time.Time                      // when it came
	pageBytes int
	pageOK    bool // the latest attempt brought it

	whole      *service         // for details of the organization
	notOffered [numDetails]bool // has been said of a detail

	overBudget bool // the refresh period that the budget allows exceeds MaxAge
	downgraded bool // some family's type was not known
}

// facts are what views show of an organization as it is held.
type facts struct {
	discovery, list, organizationPage, servicePages condition
	details                                         [numDetails]condition

	inventory    *inventory.Inventory // nil before the first list
	organization *exposition.Block    // what there is to say of the organization as a whole
	unconfirmed  bool                 // the latest list was empty, and is not believed yet

	pageRefused bool      // upstream will not give the organization's page
	metricsAt   time.Time // when metrics last came, from whichever endpoint
	metricsErr  error     // why the latest attempt at the organization's page, or else at a service's, failed
	pollTook    time.Duration
}

// noMetrics tells whether the inventory has no service that could have metrics: such
// are not asked for any.
func (f *facts) noMetrics() bool {
	return f.inventory != nil && !slices.ContainsFunc(f.inventory.IDs, func(id string) bool {
		return inventory.HasMetrics(f.inventory.Services[id].State)
	})
}

// startOver forgets everything that was read of the organization.
func (p *poller) startOver(now time.Time) {
	p.state = &state{
		tombstones: map[string]time.Time{},
		services:   map[string]*service{},
		whole:      &service{},
		parser:     exposition.NewParser(inventory.ServiceLabel),
	}
	if p.id() == "" {
		p.state.discoverAt = now
	}
	p.startPlan(now)
	p.publish(now)
}

// startPlan begins to plan requests, before there is a list.
func (p *poller) startPlan(now time.Time) {
	p.state.planner = schedule.New(p.plan(), now)
	if ids, only := p.config.named(); only {
		// Named services can be read even if the list never can.
		services := make([]schedule.Service, len(ids))
		for i, id := range ids {
			services[i].ID = id
		}
		p.state.planner.SetServices(now, services, len(ids))
	}
}

// service is what is held of one service that the list or the metrics name. It must be
// comparable.
type service struct {
	id    string
	entry *inventory.Service // nil if the list does not name it

	details [numDetails]*details // nil before the first attempt

	err         error               // why its own page could not be had, nil if it could
	metrics     *exposition.Metrics // the newest; nil before the first, and when too old
	fetchedAt   time.Time           // zero before the first
	changedAt   time.Time           // when the program first saw these values
	utilization utilization
	own         bool               // they came from the service's own page
	parser      *exposition.Parser // of its own page
	pageBytes   int                // of its own page

	// What follows from all that, see derive.
	block  *exposition.Block // the metrics as they are served
	listed *exposition.Block // what the inventory says
	memo   *memo             // of its page
}

// service returns what is held of a service, which from now on is something.
func (p *poller) service(id string) *service {
	s := p.state.services[id]
	if s == nil {
		s = &service{id: id, memo: &memo{off: p.c.options.NoMemo}}
		p.state.services[id] = s
	}
	return s
}

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
	if changed || p.c.options.NoMemo {
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
		added = inventory.InlineLabels(p.config.EnrichLabels, &s.entry.Service, s.detail(hostnameDetail).hostname)
	}
	if s.metrics == nil {
		s.block = nil
	} else {
		s.block = exposition.Expose(s.metrics, added, p.rules, p.last(s.block))
	}
	if s.entry == nil {
		s.listed = nil
	} else {
		s.listed = p.inventoryBlock(s)
	}
}

// last returns what was made the last time, if it may be used again.
func (p *poller) last(b *exposition.Block) *exposition.Block {
	if p.c.options.NoMemo {
		return nil
	}
	return b
}
