package collector

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"github.com/go-kit/log/level"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

// takeAnyList takes in the answer to a list call.
func (w *worker) takeAnyList(a answer, now time.Time) error {
	if a.err == nil && len(a.services) == 0 && len(w.listed) > 0 && !w.unconfirmed {
		// A fleet does not vanish by one empty answer; an upstream that has lost
		// its database for a moment would look the same.
		w.unconfirmed = true
		level.Warn(w.logger).Log("msg", "the list of services is empty although it was not before; waiting for the next one to confirm it",
			"services", len(w.listed))
		return nil
	}
	w.observe(&w.listing, now, a.err, a.request.Endpoint, "inventory read")
	if a.err != nil {
		return a.err
	}
	w.unconfirmed = false
	w.takeList(a.services, now, false)
	return nil
}

// takeList makes a list of services the inventory; again says that it is not a new
// list, but has to be looked at anew.
func (w *worker) takeList(list []api.Service, fetchedAt time.Time, again bool) {
	w.listed = list
	services := inventory.ByID(list)
	total := len(services)
	excluded := map[string]struct{}{}
	for id, s := range services {
		if !w.config.Selection.Match(s) || !w.config.Shard.Owns(id) {
			excluded[id] = struct{}{}
			delete(services, id)
		}
	}
	reselected := false
	for id := range w.excluded {
		if _, still := excluded[id]; !still {
			reselected = true
		}
	}
	w.excluded = excluded

	inv, change := w.nextInventory(w.inventory, services, fetchedAt, again)
	w.inventory = inv
	w.rewriter.inventory = inv.services
	for _, id := range change.removed {
		w.forget(id)
		if _, out := excluded[id]; !out {
			w.tombstones[id] = fetchedAt
		}
	}
	for id := range excluded {
		w.forget(id)
	}
	for id := range services {
		delete(w.tombstones, id)
		delete(w.unknownNames, id)
	}
	for id := range w.samples {
		if inv.services[id] == nil && !w.exports(id, w.samples[id].fetchedAt) {
			w.forget(id)
		}
	}
	if change.labels || reselected || again {
		w.rewrite()
	}

	planned := make([]schedule.Service, 0, len(inv.ids))
	for _, id := range inv.ids {
		planned = append(planned, schedule.Service{ID: id, Activity: inventory.ActivityOf(inv.services[id].State)})
	}
	w.plan.SetServices(time.Now(), planned, total)
}

// forget drops what is held of a service.
func (w *worker) forget(id string) {
	delete(w.samples, id)
	delete(w.apart, id)
	delete(w.ownBytes, id)
	delete(w.failed, id)
	delete(w.hostnames, id)
	delete(w.settings, id)
	for _, d := range w.details {
		delete(d.failed, id)
	}
	delete(w.unknownNames, id)
}

// exports tells whether series of a service, from a page of that time, are wanted:
// not of services that were left out by choice or belong to another shard, nor of
// one that has just left the inventory.
func (w *worker) exports(id string, pageAt time.Time) bool {
	if w.inventory != nil && w.inventory.services[id] != nil {
		return true
	}
	if _, out := w.excluded[id]; out {
		return false
	}
	if buried, dead := w.tombstones[id]; dead && pageAt.Before(buried.Add(tombstoneAge)) {
		return false
	}
	if id == "" {
		// Series of no service are for the first shard, lest they come twice.
		return w.config.Shard.Count <= 1 || w.config.Shard.Index == 0
	}
	// Nothing is known of the service that a selection could be held against.
	return w.config.Selection == nil && w.config.Shard.Owns(id)
}

// rewrite applies the rules and the inventory to the pages held once more.
func (w *worker) rewrite() {
	if w.pageHeld {
		w.rewriter.only = ""
		if page, err := w.source.Rewrite(w.rewriter); err == nil {
			for _, id := range page.Groups() {
				old := w.samples[id]
				switch {
				case !w.exports(id, w.pageAt):
				case old == nil:
					w.newSample(id, page.Block(id), w.pageAt, false)
				case old.block != nil && !old.own:
					w.relabelled(id, old, page.Block(id))
				}
			}
		}
	}
	for id, source := range w.apart {
		old := w.samples[id]
		if old == nil || old.block == nil {
			continue
		}
		w.rewriter.only = id
		if page, err := source.Rewrite(w.rewriter); err == nil && page.Block(id) != nil {
			w.relabelled(id, old, page.Block(id))
		}
	}
}

// part gives a service that the organization's newest page leaves out a source of its
// own, so that its series can still be labelled anew.
func (w *worker) part(id string) {
	s := w.samples[id]
	source := w.source.Left(id)
	if source == nil || s == nil || s.block == nil || s.own {
		return
	}
	w.apart[id] = source
	if page, err := source.Rewrite(w.rewriter); err == nil {
		// The same series; but those of the page would keep all of it in memory.
		w.relabelled(id, s, page.Block(id))
	}
}

// relabelled replaces the series of a sample by the same ones with other labels.
func (w *worker) relabelled(id string, old *sample, block *exposition.Block) {
	epoch := w.rewriter.Epoch(id)
	if block == old.block && epoch == old.epoch {
		return
	}
	next := *old
	next.block, next.epoch = block, epoch
	w.samples[id] = &next
}

// hasSeries tells whether a page holds anything but comments.
func hasSeries(page []byte) bool {
	for len(page) > 0 {
		line, rest, _ := bytes.Cut(page, []byte{'\n'})
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return true
		}
		page = rest
	}
	return false
}

// mayBeEmpty tells whether an organization's page without series is believable.
func (w *worker) mayBeEmpty(now time.Time) bool {
	if w.inventory == nil {
		return false
	}
	for id, r := range w.inventory.services {
		if !r.running() {
			continue
		}
		justStarted := !r.runningSince.IsZero() && age(now, r.runningSince) < emptyPageGrace
		if w.samples[id] != nil || !justStarted {
			return false
		}
	}
	return true
}

// decode has a source decode a page. What one page has taught, that upstream ends
// them with a line feed, holds for those of new sources too: without one at its end a
// page has been cut, maybe within a value.
func (w *worker) decode(source *exposition.Source, p *api.Page) (*exposition.Page, error) {
	ends := bytes.HasSuffix(p.Body, []byte{'\n'})
	if w.lineFeed && !ends && len(p.Body) > 0 {
		return nil, &refusedError{"parse", "the metrics page breaks off before the end of its last line: it has been cut on its way, the last good page is kept"}
	}
	page, err := source.Decode(p.Body, p.ContentType, w.rewriter)
	w.lineFeed = w.lineFeed || err == nil && ends
	return page, err
}

// takePage takes in the answer to a call for the organization's page.
func (w *worker) takePage(a answer, now time.Time, outcome *schedule.Outcome) error {
	w.pageTried = true
	err := a.err
	if err == nil && !hasSeries(a.page.Body) && !w.mayBeEmpty(now) {
		err = &refusedError{"empty", "the organization's metrics page is empty, which the list of services does not explain: upstream is in trouble, the last good page is kept"}
	}
	var page *exposition.Page
	if err == nil {
		w.rewriter.only = ""
		page, err = w.decode(w.source, a.page)
	}
	if err != nil && resultOf(err) == schedule.ResultRefused && w.inventory != nil && len(w.inventory.ids) > 1 {
		// Upstream may refuse the page of an organization with too many services:
		// then every service's own page is read, and nothing is wrong.
		if w.paging.err == nil {
			level.Info(w.logger).Log("msg", "upstream refuses the organization's metrics page; reading the services' own pages instead", "err", err)
		}
		w.paging = condition{tried: true, err: err, reason: reason(err), since: now, lastSuccess: w.paging.lastSuccess}
		w.onPage = map[string]struct{}{}
		return err
	}
	w.observe(&w.paging, now, err, a.request.Endpoint, "metrics read")
	w.measureErr = err
	if err != nil {
		return err
	}
	at := a.receivedAt(now)
	w.measuredAt = at
	w.c.health.dropped(w.label(), page.Stats())
	w.pageHeld, w.pageAt, w.pageBytes = true, at, page.Stats().Bytes
	onPage := make(map[string]struct{}, len(page.Groups()))
	for _, id := range page.Groups() {
		onPage[id] = struct{}{}
		if id != "" {
			outcome.Services = append(outcome.Services, id)
		}
		if w.exports(id, at) && w.newSample(id, page.Block(id), at, false) {
			outcome.Changed = true
		}
	}
	w.onPage = onPage
	// What the inventory does not know lives only as long as upstream names it.
	for id := range w.samples {
		if _, named := onPage[id]; named {
			continue
		}
		if w.inventory == nil || w.inventory.services[id] == nil {
			w.forget(id)
			outcome.Changed = true
			continue
		}
		w.part(id)
	}
	for id := range w.unknownNames {
		if _, named := onPage[id]; !named {
			delete(w.unknownNames, id)
		}
	}
	for id, buried := range w.tombstones {
		if !at.Before(buried.Add(tombstoneAge)) {
			delete(w.tombstones, id)
		}
	}
	return nil
}

// newSample makes a block the newest metrics of a service, and tells whether they
// differ from the last.
func (w *worker) newSample(id string, block *exposition.Block, at time.Time, own bool) (changed bool) {
	old := w.samples[id]
	next := &sample{block: block, epoch: w.rewriter.Epoch(id), fetchedAt: at, changedAt: at, own: own}
	if old != nil && old.block != nil && old.block.Fingerprint() == block.Fingerprint() {
		next.changedAt, next.figures = old.changedAt, old.figures
	} else {
		var was figures
		if old != nil {
			was = old.figures
		}
		next.figures = newFigures(block, was)
	}
	w.samples[id] = next
	if !own {
		delete(w.apart, id)
		delete(w.ownBytes, id)
		delete(w.failed, id)
	}
	return next.changedAt.Equal(at)
}

// takeServicePage takes in the answer to a call for a service's own page.
func (w *worker) takeServicePage(a answer, now time.Time, outcome *schedule.Outcome) error {
	id, err := a.request.Service, a.err
	if w.inventory != nil && w.inventory.services[id] == nil {
		return err // the service has gone in the meantime
	}
	if err == nil && !hasSeries(a.page.Body) && w.inventory != nil && w.inventory.services[id].running() {
		err = &refusedError{"empty", "the service's metrics page is empty although it is running: upstream is in trouble, the last good page is kept"}
	}
	var page *exposition.Page
	source := w.apart[id]
	if err == nil {
		if old := w.samples[id]; source == nil || old == nil || !old.own {
			source = exposition.NewSource()
		}
		w.rewriter.only = id
		page, err = w.decode(source, a.page)
	}
	if err != nil {
		w.failed[id] = err
		if resultOf(err) != schedule.ResultRefused && (!w.pageTried || w.paging.err != nil) {
			w.measureErr = err
		}
		w.observeSweep(now)
		return err
	}
	delete(w.failed, id)
	w.observeSweep(now)
	if !w.paging.tried || w.paging.err != nil {
		w.measureErr = nil
	}
	at := a.receivedAt(now)
	w.measuredAt = at
	w.c.health.dropped(w.label(), page.Stats())
	if block := page.Block(id); block != nil {
		outcome.Changed = w.newSample(id, block, at, true)
		w.apart[id], w.ownBytes[id] = source, page.Stats().Bytes
	}
	outcome.Services = []string{id}
	return nil
}

// observeSweep keeps the condition of the services' own pages.
func (w *worker) observeSweep(now time.Time) {
	w.observeEach(&w.sweeping, w.failed, now, api.EndpointServiceMetrics,
		"a service's own metrics page cannot be read; its last good one is served until it is too old",
		"every service's own metrics page can be read again")
}

// observeEach keeps the condition of calls that are made for one service after the
// other: it fails from the first service for which one fails until none does, so that
// one service in trouble does not make a line at every turn.
func (w *worker) observeEach(c *condition, failed map[string]error, now time.Time, endpoint api.Endpoint, trouble, relief string) {
	var err error
	if len(failed) > 0 {
		err = failed[slices.Min(slices.Collect(maps.Keys(failed)))]
		if c.err != nil {
			c.err = err
			return
		}
	}
	next, changed, lasted := c.observe(now, err)
	*c = next
	switch changed {
	case nowFailing:
		level.Warn(w.logger).Log("msg", trouble, "endpoint", endpoint, "reason", next.reason, "err", err)
	case recovered:
		level.Info(w.logger).Log("msg", relief, "endpoint", endpoint, "after", lasted.Round(time.Second))
	}
}
