package collector

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

// snapshot is everything there is to serve at one moment. Immutable; documents are
// made when first asked for.
type snapshot struct {
	collector     *Collector
	organizations []*organizationView
	page          func() []*exposition.Document // of everything
}

func newSnapshot(c *Collector, organizations []*organizationView) *snapshot {
	s := &snapshot{collector: c, organizations: organizations}
	s.page = sync.OnceValue(func() []*exposition.Document {
		if len(organizations) == 1 {
			return []*exposition.Document{organizations[0].main(), organizations[0].health()}
		}
		var mainParts, healthParts []exposition.Part
		for _, v := range organizations {
			mainParts = v.parts(mainParts)
			healthParts = append(healthParts, exposition.Part{Block: v.healthBlock()})
		}
		main, _ := c.mainMemo.merge(mainParts)
		health, _ := c.healthMemo.merge(healthParts)
		return []*exposition.Document{main, health}
	})
	return s
}

// of returns the view of a poller's organization, nil if the poller has been removed.
func (s *snapshot) of(p *poller) *organizationView {
	for _, v := range s.organizations {
		if v.poller == p {
			return v
		}
	}
	return nil
}

// organization returns the view of the organization with that id, nil if there is
// none.
func (s *snapshot) organization(id string) *organizationView {
	for _, v := range s.organizations {
		if v.id == id && id != "" {
			return v
		}
	}
	return nil
}

// with returns the snapshot after the view of one poller's organization was replaced.
// A poller that has been removed changes nothing.
func (s *snapshot) with(v *organizationView) *snapshot {
	views := slices.Clone(s.organizations)
	for i, old := range views {
		if old.poller == v.poller {
			views[i] = v
		}
	}
	return newSnapshot(s.collector, views)
}

// publish makes a view part of what readers see.
func (c *Collector) publish(v *organizationView) {
	for {
		old := c.snapshot.Load()
		if c.snapshot.CompareAndSwap(old, old.with(v)) {
			return
		}
	}
}

// current returns the present snapshot, without data that is too old.
func (c *Collector) current(now time.Time) *snapshot {
	s := c.snapshot.Load()
	if !slices.ContainsFunc(s.organizations, func(v *organizationView) bool { return v.expired(now) }) {
		return s
	}
	// The pollers see to expiry themselves; this is for those that are busy, and
	// for a machine that has just woken up. If somebody else publishes something
	// newer at the same time, so much the better.
	views := slices.Clone(s.organizations)
	for i, v := range views {
		if v.expired(now) {
			views[i] = v.expire(now)
		}
	}
	fresh := newSnapshot(c, views)
	c.snapshot.CompareAndSwap(s, fresh)
	return fresh
}

// memo is what was merged the last time, which is used again as far as it is the same.
// Safe for concurrent use.
type memo struct {
	off    bool // for tests: use nothing again
	mu     sync.Mutex
	last   *exposition.Document
	health *exposition.Metrics
	block  *exposition.Block // of health
}

// merge tells, too, whether the document is another one than the last time.
func (m *memo) merge(parts []exposition.Part) (doc *exposition.Document, changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	last := m.last
	if m.off {
		last = nil
	}
	m.last = exposition.Merge(last, parts...)
	return m.last, m.last != last
}

// organizationView is what one organization looks like at one moment. Immutable.
type organizationView struct {
	poller   *poller
	config   *Organization
	id       string // "" until discovered
	name     string
	services []*serviceView // sorted by id; nil before the first list was tried
	unnamed  *serviceView   // series that name no service, nil if there are none

	inventory   *inventory.Inventory // nil before the first list
	totals      *exposition.Block
	unconfirmed bool // the latest list was empty, and is not believed yet
	noMetrics   bool // no service can have metrics now
	up          bool
	bytes       int // of the pages that are held
	plan        schedule.Summary
	next        schedule.Request // zero if nothing is planned

	discovery, list, organizationPage, servicePages condition

	metricsAt  time.Time // see state
	metricsErr error
	pollTook   time.Duration

	// What follows from the services.
	expires time.Time // when the first data becomes too old, zero if there is none
	series  int       // upstream's series held
	unknown int       // services that only the metrics name

	main        func() *exposition.Document // upstream's series and the inventory
	health      func() *exposition.Document // of services
	healthBlock func() *exposition.Block
}

// lazily has the documents made when they are first asked for.
func (v *organizationView) lazily() {
	p := v.poller
	v.main = sync.OnceValue(func() *exposition.Document {
		doc, changed := p.mainMemo.merge(v.parts(nil))
		if changed {
			p.c.health.drop(v.label(), dropDuplicate, doc.Duplicates())
		}
		return doc
	})
	v.healthBlock = sync.OnceValue(func() *exposition.Block { return p.healthMemo.healthBlock(v.services) })
	v.health = sync.OnceValue(func() *exposition.Document {
		doc, _ := p.healthMemo.merge([]exposition.Part{{Block: v.healthBlock()}})
		return doc
	})
}

// summarize fills in what follows from the services.
func (v *organizationView) summarize() {
	count := func(s *serviceView) {
		if s.block == nil {
			return
		}
		v.series += s.block.Series()
		if at := s.expires(); v.expires.IsZero() || at.Before(v.expires) {
			v.expires = at
		}
	}
	for _, s := range v.services {
		count(s)
		if s.entry == nil && v.inventory != nil {
			v.unknown++
		}
	}
	if v.unnamed != nil {
		count(v.unnamed)
	}
}

// expired tells whether some of the view's data has become too old.
func (v *organizationView) expired(now time.Time) bool {
	return !v.expires.IsZero() && reached(now, v.expires)
}

// expire returns the view without the data that is too old.
func (v *organizationView) expire(now time.Time) *organizationView {
	next := *v
	next.services, next.unnamed = nil, nil
	next.expires, next.series, next.unknown = time.Time{}, 0, 0
	for _, s := range v.services {
		if s.expired(now) {
			if s.entry == nil {
				continue // nothing is left of a service that only the metrics named
			}
			s = s.expire()
		}
		next.services = append(next.services, s)
	}
	if v.unnamed != nil && !v.unnamed.expired(now) {
		next.unnamed = v.unnamed
	}
	next.lazily()
	next.summarize()
	return &next
}

// service returns the view of a service, nil if there is none.
func (v *organizationView) service(id string) *serviceView {
	i, ok := slices.BinarySearchFunc(v.services, id, func(s *serviceView, id string) int { return strings.Compare(s.id, id) })
	if !ok {
		return nil
	}
	return v.services[i]
}

// parts appends the organization's blocks, all but the health of its services.
func (v *organizationView) parts(parts []exposition.Part) []exposition.Part {
	for _, s := range v.services {
		parts = s.parts(parts)
	}
	if v.unnamed != nil {
		parts = v.unnamed.parts(parts)
	}
	if v.totals != nil {
		parts = append(parts, exposition.Part{Block: v.totals})
	}
	return parts
}

// label is what the organization is called in metrics.
func (v *organizationView) label() string {
	if v.id != "" {
		return v.id
	}
	return v.name
}

// unavailable returns why there is no page of the organization, nil if there is
// one.
func (v *organizationView) unavailable(now time.Time) error {
	if v.noMetrics && v.list.ok() {
		return nil // no series, which is right
	}
	if v.metricsAt.IsZero() {
		why := "the first request has not been answered yet"
		if v.metricsErr != nil {
			why = v.metricsErr.Error()
		}
		return &UnavailableError{Reason: fmt.Sprintf("no metrics of organization %s: %s", v.id, why)}
	}
	if !v.expires.IsZero() {
		return nil // there are series
	}
	if !reached(now, v.metricsAt.Add(v.config.MaxAge)) {
		return nil // none, which is right for an organization without services
	}
	reason := fmt.Sprintf("the metrics of organization %s have expired: the last ones are %s old",
		v.id, age(now, v.metricsAt).Round(time.Second))
	if v.metricsErr != nil {
		reason += "; " + v.metricsErr.Error()
	}
	return &UnavailableError{Reason: reason}
}
