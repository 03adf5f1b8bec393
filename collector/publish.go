package collector

import (
	"slices"
	"time"

	"github.com/go-kit/log/level"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

// view returns what the worker last published, an empty view if it is no longer
// part of the collector.
func (w *worker) view() *view {
	for _, v := range w.c.snapshot.Load().views {
		if v.worker == w {
			return v
		}
	}
	return &view{worker: w}
}

// publish makes the worker's state what readers see.
func (w *worker) publish(now time.Time) {
	plan := w.plan.Summary()
	pageWanted := false
	for id, s := range w.samples {
		if s.block == nil {
			continue
		}
		if !reached(now, s.fetchedAt.Add(w.ttl(id))) {
			pageWanted = pageWanted || !s.own && w.apart[id] == nil
			continue
		}
		if w.inventory == nil || w.inventory.services[id] == nil {
			w.forget(id)
			continue
		}
		// The moment stays known, the memory does not.
		w.samples[id] = &sample{fetchedAt: s.fetchedAt, changedAt: s.changedAt, own: s.own}
		delete(w.apart, id)
		delete(w.ownBytes, id)
	}
	if w.pageHeld && !pageWanted && reached(now, w.pageAt.Add(max(w.config.MaxAge, plan.Period*5/2))) {
		w.source, w.pageHeld, w.pageBytes = exposition.NewSource(), false, 0
	}
	if plan.OrganizationCall == schedule.CallNever && w.paging.tried {
		// It is not asked for any more, so that it cannot recover either.
		w.paging = condition{lastSuccess: w.paging.lastSuccess}
		if w.sweeping.err == nil {
			w.measureErr = nil
		}
	}
	w.observePeriod(plan)
	w.c.publish(w.newView(now, plan))
	w.refreshed()
}

// observePeriod says once when the budget is too small to keep metrics as young as
// they are meant to be, and once when that is over.
func (w *worker) observePeriod(plan schedule.Summary) {
	if plan.OrganizationCall != schedule.CallNever && (!w.pageTried || w.paging.err != nil && resultOf(w.paging.err) != schedule.ResultRefused) {
		return // what the organization's page covers is not known, or it is in trouble
	}
	period := plan.Period.Round(time.Second)
	switch {
	case !w.slow && plan.Period > w.config.MaxAge:
		w.slow = true
		level.Warn(w.logger).Log("msg", "the rate budget is too small to read every service's metrics within --metrics.max-age, so that they are served for longer; ask ClickHouse support for a raised limit and set --api.rate-limit to it, divide the services among exporters (shards, organizations) with an API key each, or select fewer services",
			"uncovered_services", plan.Uncovered, "period", period, "max_age", w.config.MaxAge)
	case w.slow && plan.Period <= w.config.MaxAge*9/10: // well below, lest it is said again and again
		w.slow = false
		level.Info(w.logger).Log("msg", "the rate budget suffices again to read every service's metrics within --metrics.max-age",
			"uncovered_services", plan.Uncovered, "period", period, "max_age", w.config.MaxAge)
	}
}

// refreshed closes first once the first refresh has ended.
func (w *worker) refreshed() {
	if !w.listing.tried {
		return
	}
	if w.pageTried || w.sweeping.tried || w.mute() {
		w.firstOnce.Do(func() { close(w.first) })
	}
}

// mute tells whether the inventory has no service that could have metrics: such are
// not asked for any.
func (w *worker) mute() bool {
	if w.inventory == nil {
		return false
	}
	for _, r := range w.inventory.services {
		if inventory.ActivityOf(r.State) != inventory.NoMetrics {
			return false
		}
	}
	return true
}

// ttl returns for how long a service's metrics are served: a service that is read
// rarely, because the budget allows no more, must not vanish between two readings.
func (w *worker) ttl(id string) time.Duration {
	return max(w.config.MaxAge, w.plan.Period(id)*5/2)
}

// newView makes the view of the present state, using again what did not change.
func (w *worker) newView(now time.Time, plan schedule.Summary) *view {
	last := w.view()
	v := &view{worker: w, name: w.name, inventory: w.inventory}
	if id := w.id.Load(); id != nil {
		v.id = *id
	}
	v.state = workerState{
		up: w.up(), found: w.found, listing: w.listing, paging: w.paging, sweeping: w.sweeping,
		measuredAt: w.measuredAt, measureErr: w.measureErr, maxAge: w.config.MaxAge,
		bytes: w.pageBytes, plan: plan, mute: w.mute(), unconfirmed: w.unconfirmed,
		pollTook: w.pollTook,
	}
	if r, ok := w.plan.Next(now); ok {
		v.state.next = r
	}
	for _, n := range w.ownBytes {
		v.state.bytes += n
	}
	if w.listing.tried || w.unconfirmed {
		ids := w.serviceIDs()
		v.services = make([]*serviceView, 0, len(ids))
		var made slab
		for _, id := range ids {
			v.services = append(v.services, w.newServiceView(id, last.service(id), &made))
		}
		if s := w.samples[""]; s != nil && s.block != nil {
			v.unnamed = &serviceView{sample: s, block: s.block, ttl: w.ttl(""), document: &lazyDocument{}}
			if w.config.Timestamps {
				v.unnamed.stamp = s.changedAt
			}
			if last.unnamed != nil && last.unnamed.sample == s {
				v.unnamed.document = last.unnamed.document
			}
		}
	}
	v.index(last.health)
	if v.document = last.document; v.document == nil || !v.sameSeries(last) {
		v.document = &lazyDocument{}
	}
	return v
}

// serviceIDs returns the ids of all services that the inventory or the metrics name,
// sorted. The caller must not change them.
func (w *worker) serviceIDs() []string {
	var ids []string
	if w.inventory != nil {
		ids = w.inventory.ids
	}
	known := len(ids)
	for id := range w.samples {
		if id != "" && (w.inventory == nil || w.inventory.services[id] == nil) {
			ids = append(slices.Clip(ids), id)
		}
	}
	if len(ids) > known {
		slices.Sort(ids)
	}
	return ids
}

// newServiceView makes the view of one service, of which last is the one before or
// nil.
func (w *worker) newServiceView(id string, last *serviceView, made *slab) *serviceView {
	s := serviceView{id: id, sample: w.samples[id], ttl: w.ttl(id), name: w.unknownNames[id]}
	if w.inventory != nil {
		if s.record = w.inventory.services[id]; s.record != nil {
			s.name = s.record.Name
		}
	}
	if err := w.failed[id]; err != nil {
		s.failed = err.Error()
	}
	if s.sample != nil && s.sample.block != nil {
		s.block = s.sample.block
		if w.config.Timestamps {
			s.stamp = s.sample.changedAt
		}
		if s.sample.own {
			s.up = s.failed == ""
		} else {
			_, onPage := w.onPage[id]
			s.up = w.paging.ok() && onPage
		}
	}
	if last != nil {
		if s.document = last.document; s == *last {
			return last
		}
		if s.sameSeries(last) {
			return made.add(s)
		}
	}
	s.document = nil
	return made.add(s)
}

// slab allocates views of services many at a time: most refreshes change all of
// them.
type slab struct {
	free []slabEntry
	size int // of the last allocation
}

type slabEntry struct {
	view     serviceView
	document lazyDocument
}

// add returns s in memory that will not move, with a document of its own if it has
// none.
func (m *slab) add(s serviceView) *serviceView {
	const most = 256
	if len(m.free) == 0 {
		// What lives long must not keep much else alive that does not.
		m.size = min(max(2*m.size, 1), most)
		m.free = make([]slabEntry, m.size)
	}
	e := &m.free[0]
	m.free = m.free[1:]
	e.view = s
	if s.document == nil {
		e.view.document = &e.document
	}
	return &e.view
}

// up tells whether the latest calls for the list and for metrics worked.
func (w *worker) up() bool {
	if !w.listing.ok() {
		return false
	}
	if w.paging.tried && resultOf(w.paging.err) != schedule.ResultRefused {
		return w.paging.err == nil
	}
	if w.mute() {
		return true
	}
	// Read service by service: up as long as some can be read.
	for _, s := range w.samples {
		if s.own && s.block != nil {
			return w.inventory != nil && len(w.failed) < len(w.inventory.ids)
		}
	}
	return false
}
