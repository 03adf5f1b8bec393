package collector

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
)

// snapshot is everything there is to serve at one moment. Immutable, except that
// documents are made when first asked for.
type snapshot struct {
	views    []*view
	document *lazyDocument // of everything
	merger   *merger       // for that
}

// with returns the snapshot after the view of one worker's organization was
// replaced. A worker that is not part of the snapshot has been removed: nothing
// changes.
func (s *snapshot) with(v *view) *snapshot {
	next := &snapshot{views: make([]*view, len(s.views)), document: s.document, merger: s.merger}
	for i, old := range s.views {
		if next.views[i] = old; old.worker == v.worker {
			next.views[i] = v
			if v.document != old.document {
				next.document = &lazyDocument{}
			}
		}
	}
	return next
}

// expired tells whether some of the snapshot's data has become too old.
func (s *snapshot) expired(now time.Time) bool {
	for _, v := range s.views {
		if v.expired(now) {
			return true
		}
	}
	return false
}

// expire returns the snapshot without the data that is too old.
func (s *snapshot) expire(now time.Time) *snapshot {
	views := make([]*view, len(s.views))
	for i, v := range s.views {
		if views[i] = v; v.expired(now) {
			views[i] = v.expire(now)
		}
	}
	return &snapshot{views: views, document: &lazyDocument{}, merger: s.merger}
}

// organization returns the view of the organization with that id, nil if there is
// none.
func (s *snapshot) organization(id string) *view {
	for _, v := range s.views {
		if v.id == id && id != "" {
			return v
		}
	}
	return nil
}

// everything returns the document of all organizations.
func (s *snapshot) everything() *exposition.Document {
	if len(s.views) == 1 {
		return s.views[0].page()
	}
	return s.document.get(func() *exposition.Document {
		var parts []exposition.Part
		for _, v := range s.views {
			parts = v.parts(parts)
		}
		return s.merger.merge(parts)
	})
}

// merger merges the same blocks again and again, in newer versions. Safe for
// concurrent use.
type merger struct {
	mu sync.Mutex
	m  exposition.Merger
}

func (m *merger) merge(parts []exposition.Part) *exposition.Document {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.m.Merge(parts...)
}

// lazyDocument is a document made when first asked for. Safe for concurrent use.
type lazyDocument struct {
	once sync.Once
	doc  *exposition.Document
}

func (l *lazyDocument) get(build func() *exposition.Document) *exposition.Document {
	l.once.Do(func() { l.doc = build() })
	return l.doc
}

// view is what one organization looks like at one moment. Immutable.
type view struct {
	worker   *worker
	id       string // "" until discovered
	name     string
	services []*serviceView // sorted by id; nil before the first list was tried
	unnamed  *serviceView   // series that name no service, nil if there are none

	inventory *heldInventory // nil before the first list
	state     workerState

	// What follows from the services, filled by index.
	expires time.Time // when the first data becomes too old, zero if there is none
	series  int       // upstream's series held
	unknown int       // services that only the metrics name
	health  *serviceHealth

	document *lazyDocument
}

// serviceView is what one service looks like at one moment. Immutable.
type serviceView struct {
	id     string
	name   string
	record *record // nil if the inventory does not name it
	sample *sample // nil before the first metrics
	// block holds the sample's series, nil if there are none or they are too old.
	block  *exposition.Block
	ttl    time.Duration // how long block is served after the sample was fetched
	stamp  time.Time     // the timestamp for block's samples, zero for none
	up     bool          // the latest attempt to get its metrics brought them
	failed string        // why its own page could not be had, "" if it could

	document *lazyDocument
}

// sameSeries tells whether the two have the same series, with their values.
func (s *serviceView) sameSeries(o *serviceView) bool {
	return s.name == o.name && s.sample == o.sample && s.up == o.up &&
		s.record == o.record && s.block == o.block && s.stamp.Equal(o.stamp)
}

// parts appends the service's blocks, all but its health.
func (s *serviceView) parts(parts []exposition.Part) []exposition.Part {
	if s.block != nil {
		parts = append(parts, exposition.Part{Block: s.block, Timestamp: s.stamp})
	}
	if s.record != nil && s.record.series != nil {
		parts = append(parts, exposition.Part{Block: s.record.series})
	}
	return parts
}

func (s *serviceView) page(w *worker) *exposition.Document {
	return s.document.get(func() *exposition.Document {
		health := newServiceHealth(w, []*serviceView{s}, nil)
		return exposition.Merge(append(s.parts(nil), exposition.Part{Block: health.block()})...)
	})
}

// tooOld tells whether the service's data must not be served any more.
func (s *serviceView) tooOld(now time.Time) bool {
	return s.block != nil && reached(now, s.sample.fetchedAt.Add(s.ttl))
}

// expire returns the service without its data.
func (s *serviceView) expire() *serviceView {
	next := *s
	next.block, next.stamp, next.up = nil, time.Time{}, false
	next.document = &lazyDocument{}
	return &next
}

// expired tells whether some of the view's data has become too old.
func (v *view) expired(now time.Time) bool {
	return !v.expires.IsZero() && reached(now, v.expires)
}

// expire returns the view without the data that is too old.
func (v *view) expire(now time.Time) *view {
	next := &view{
		worker: v.worker, id: v.id, name: v.name, inventory: v.inventory, state: v.state,
		document: &lazyDocument{},
	}
	for _, s := range v.services {
		if s.tooOld(now) {
			if s.record == nil {
				continue // nothing is left of a service that only the metrics named
			}
			s = s.expire()
		}
		next.services = append(next.services, s)
	}
	if v.unnamed != nil && !v.unnamed.tooOld(now) {
		next.unnamed = v.unnamed
	}
	next.index(v.health)
	return next
}

// service returns the view of a service, nil if there is none.
func (v *view) service(id string) *serviceView {
	i, ok := slices.BinarySearchFunc(v.services, id, func(s *serviceView, id string) int { return strings.Compare(s.id, id) })
	if !ok {
		return nil
	}
	return v.services[i]
}

// index fills what follows from the services; last is their health as it was, or
// nil.
func (v *view) index(last *serviceHealth) {
	v.health = newServiceHealth(v.worker, v.services, last)
	count := func(s *serviceView) {
		if s.block == nil {
			return
		}
		v.series += s.block.Series()
		if at := s.sample.fetchedAt.Add(s.ttl); v.expires.IsZero() || at.Before(v.expires) {
			v.expires = at
		}
	}
	for _, s := range v.services {
		count(s)
		if s.record == nil && v.inventory != nil {
			v.unknown++
		}
	}
	if v.unnamed != nil {
		count(v.unnamed)
	}
}

// sameSeries tells whether a document made for o would also do for v.
func (v *view) sameSeries(o *view) bool {
	if v.health != o.health || len(v.services) != len(o.services) || (v.unnamed == nil) != (o.unnamed == nil) ||
		v.unnamed != nil && v.unnamed.document != o.unnamed.document || v.totals() != o.totals() {
		return false
	}
	for i, s := range v.services {
		if s.document != o.services[i].document {
			return false
		}
	}
	return true
}

// totals returns the block of the organization's services by state, nil if there is
// none.
func (v *view) totals() *exposition.Block {
	if v.inventory == nil {
		return nil
	}
	return v.inventory.totals
}

// parts appends the organization's blocks.
func (v *view) parts(parts []exposition.Part) []exposition.Part {
	for _, s := range v.services {
		parts = s.parts(parts)
	}
	if v.unnamed != nil {
		parts = v.unnamed.parts(parts)
	}
	if totals := v.totals(); totals != nil {
		parts = append(parts, exposition.Part{Block: totals})
	}
	if v.health != nil {
		parts = append(parts, exposition.Part{Block: v.health.block()})
	}
	return parts
}

// page returns the organization's document.
func (v *view) page() *exposition.Document {
	return v.document.get(func() *exposition.Document {
		doc := v.worker.merger.merge(v.parts(nil))
		v.worker.c.health.drop(v.label(), dropDuplicate, doc.Duplicates())
		return doc
	})
}

// label is what the organization is called in metrics.
func (v *view) label() string {
	if v.id != "" {
		return v.id
	}
	return v.name
}

// unavailable returns why there is no page of the organization, nil if there is
// one.
func (v *view) unavailable(now time.Time) error {
	st := &v.state
	if st.mute && st.listing.ok() {
		return nil // no series, which is right
	}
	if st.measuredAt.IsZero() {
		why := "the first request has not been answered yet"
		if st.measureErr != nil {
			why = st.measureErr.Error()
		}
		return &UnavailableError{Reason: fmt.Sprintf("no metrics of organization %s: %s", v.id, why)}
	}
	if !v.expires.IsZero() {
		return nil // there are series
	}
	if !reached(now, st.measuredAt.Add(st.maxAge)) {
		return nil // none, which is right for an organization without services
	}
	reason := fmt.Sprintf("the metrics of organization %s have expired: the last ones are %s old",
		v.id, age(now, st.measuredAt).Round(time.Second))
	if st.measureErr != nil {
		reason += "; " + st.measureErr.Error()
	}
	return &UnavailableError{Reason: reason}
}

// unavailable returns why there is no page of the service, nil if there is one.
func (s *serviceView) unavailable(v *view, now time.Time) error {
	if s.block != nil {
		return nil
	}
	why := s.failed
	if why == "" && v.state.measureErr != nil {
		why = v.state.measureErr.Error()
	}
	if s.sample == nil {
		// A service that is being created has no metrics yet, and that is not an
		// outage: what the inventory says is the whole answer.
		if s.record != nil && !s.record.running() && !reached(now, v.inventory.fetchedAt.Add(v.state.maxAge)) {
			return nil
		}
		if why == "" {
			why = "upstream has not been asked yet, or its answer leaves the service out"
		}
		return &UnavailableError{Reason: fmt.Sprintf("no metrics of service %s: %s", s.id, why)}
	}
	reason := fmt.Sprintf("the metrics of service %s have expired: the last ones are %s old",
		s.id, age(now, s.sample.fetchedAt).Round(time.Second))
	if why != "" {
		reason += "; " + why
	}
	return &UnavailableError{Reason: reason}
}
