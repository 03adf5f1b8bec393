package collector

import (
	"slices"
	"time"

	"github.com/go-kit/log/level"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
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
	plan := w.plan.Plan()
	for id, s := range w.samples {
		if s.block == nil || !reached(now, s.fetchedAt.Add(w.ttl(id))) {
			continue
		}
		if w.inventory == nil || w.inventory.services[id] == nil {
			w.forget(id)
			continue
		}
		// The moment stays known, the memory does not.
		w.samples[id] = &sample{fetchedAt: s.fetchedAt, changedAt: s.changedAt, own: s.own}
		delete(w.own, id)
		delete(w.ownBytes, id)
	}
	if !w.pageAt.IsZero() && reached(now, w.pageAt.Add(max(w.config.MaxAge, plan.Period*5/2))) {
		w.source, w.pageAt, w.pageBytes = exposition.NewSource(), time.Time{}, 0
	}
	if plan.OrganizationCall == CallNever && w.paging.tried {
		// It is not asked for any more, so that it cannot recover either.
		w.paging = condition{lastSuccess: w.paging.lastSuccess}
		if w.sweeping.err == nil {
			w.measureErr = nil
		}
	}
	if slow := plan.Uncovered > 0 && plan.Period > w.config.MaxAge; slow != w.slow {
		w.slow = slow
		if slow {
			level.Warn(w.logger).Log("msg", "the rate budget allows the services' own pages to be read only rarely; ask support for a raised limit and set it, split the fleet by organization, or select services",
				"services", plan.Uncovered, "period", plan.Period.Round(time.Second), "max_age", w.config.MaxAge)
		} else {
			level.Info(w.logger).Log("msg", "the refresh period is short enough again", "services", plan.Uncovered, "period", plan.Period.Round(time.Second))
		}
	}
	w.c.publish(w.newView(now, plan))
	w.refreshed()
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
		if classOf(r.State) != classMute {
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
func (w *worker) newView(now time.Time, plan Plan) *view {
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
		ids := make([]string, 0, len(w.samples))
		if w.inventory != nil {
			ids = append(ids, w.inventory.ids...)
		}
		for id := range w.samples {
			if id != "" && (w.inventory == nil || w.inventory.services[id] == nil) {
				ids = append(ids, id)
			}
		}
		slices.Sort(ids)
		v.services = make([]*serviceView, 0, len(ids))
		for _, id := range ids {
			v.services = append(v.services, w.newServiceView(id, last.byID[id]))
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
	v.index()
	if v.document = last.document; v.document == nil || !v.sameSeries(last) {
		v.document = &lazyDocument{}
	}
	return v
}

// newServiceView makes the view of one service, of which last is the one before or
// nil.
func (w *worker) newServiceView(id string, last *serviceView) *serviceView {
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
		s.health, s.document = last.health, last.document
		if s == *last {
			return last
		}
		if last.name == s.name && last.sample == s.sample && last.up == s.up &&
			last.record == s.record && last.block == s.block && last.stamp.Equal(s.stamp) {
			return &s
		}
	}
	s.health, s.document = w.healthBlock(&s), &lazyDocument{}
	return &s
}

// up tells whether the latest calls for the list and for metrics worked.
func (w *worker) up() bool {
	if !w.listing.ok() {
		return false
	}
	if w.paging.tried && resultOf(w.paging.err) != ResultRefused {
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

// healthBlock makes the health metrics of one service. The user's rules do not apply
// to them: a rule that keeps a few metrics must not blind those who watch.
func (w *worker) healthBlock(s *serviceView) *exposition.Block {
	ids := w.ids(s.id, s.name)
	up := 0.0
	if s.up {
		up = 1
	}
	list := []gauge{{
		name:   serviceUpName,
		help:   "Whether the latest request for a Postgres service's metrics brought them.",
		labels: ids, value: up,
	}}
	if s.sample != nil {
		list = append(list, gauge{
			name:   serviceLastSuccessName,
			help:   "When a Postgres service's metrics were last read, in seconds since 1970.",
			labels: ids, value: unixSeconds(s.sample.fetchedAt),
		}, gauge{
			name:   serviceLastChangeName,
			help:   "When a Postgres service's metrics were first seen to have the values they have, in seconds since 1970.",
			labels: ids, value: unixSeconds(s.sample.changedAt),
		})
	}
	return newBlock(list)
}
