//go:build soak && linux

package faulttest

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// verify scrapes and checks until stop.
func (w *walk) verify(stop <-chan struct{}) {
	ticker := time.NewTicker(2 * time.Second)
	defer ticker.Stop()
	for n := 1; ; n++ {
		select {
		case <-stop:
			return
		case <-w.e.ended:
			return
		case <-ticker.C:
		}
		w.remember()
		started := time.Now()
		code, body, err := w.e.try(http.MethodGet, "/metrics")
		took := time.Since(started)
		w.tally(ourselves, func(t *tally) { t.scrapes++; t.slowest = max(t.slowest, took) })
		p, malformed := parse(body)
		if err = cmp.Or(err, malformed); err != nil || code != http.StatusOK {
			w.tally(ourselves, func(t *tally) { t.failed++ })
			w.problem(started, "scrape: %d, %v", code, err)
			continue
		}
		if took > 5*time.Second {
			w.problem(started, "a scrape took %s", took)
		}
		g := glimpse{reader: ourselves, at: started, expected: w.stable, complete: true, up: p.is("clickhouse_postgres_up", 1), health: p.health()}
		for _, s := range p.upstream() {
			g.add(w, s)
		}
		w.check(g)
		w.checkInventory(started, p)
		w.discover()
		if n%30 == 0 {
			w.mark()
		}
		if n%10 == 0 {
			w.e.browse()
		}
	}
}

// discover checks that discovery has every service that exists, and is sure of it unless the list
// was empty.
func (w *walk) discover() {
	at := time.Now()
	code, body, err := w.e.try(http.MethodGet, "/sd")
	if w.emptied(time.Now()) && (code == http.StatusOK || code == http.StatusServiceUnavailable) {
		return
	}
	if err != nil || code != http.StatusOK {
		w.problem(at, "discovery: %d, %v: %.200s", code, err, body)
		return
	}
	w.mu.Lock()
	certain, possible := w.targets(at)
	strict := w.calm(at) > soakCalm
	w.mu.Unlock()
	if !strict {
		certain = w.stable
	}
	for _, id := range certain {
		if !strings.Contains(body, id) {
			w.problem(at, "discovery leaves out service %s", id)
		}
	}
	for _, m := range serviceID.FindAllString(strings.ReplaceAll(body, w.u.org, ""), -1) {
		if strict && !possible[m] {
			w.problem(at, "discovery has service %s, which upstream no longer has", m)
		}
	}
}

// emptied reports whether an empty list may have an effect at a moment.
func (w *walk) emptied(at time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.touched(at.Add(-soakBelief), at, "empty list")
}

// remember records upstream's values at the present refresh.
func (w *walk) remember() {
	now := time.Now()
	tick := w.u.Refreshed(now)
	list := w.list(now)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lists = append(w.lists, list)
	w.lists = slices.DeleteFunc(w.lists, func(l listing) bool { return now.Sub(l.at) > soakFresh+soakSettled })
	if w.history[tick] != nil {
		return
	}
	all := map[string]map[string]float64{}
	for _, s := range w.u.Series(now) {
		id := s.Labels["postgres_service"]
		if all[id] == nil {
			all[id] = map[string]float64{}
		}
		all[id][identity(s.Name, s.Labels)] = s.Value
	}
	w.history[tick] = all
	for old := range w.history {
		if now.Sub(old) > soakExpiry+4*soakSlack {
			delete(w.history, old)
		}
	}
}

// ourselves is the name of the test as a reader.
const ourselves = "the test's own scraper"

// glimpse is what a reader got of upstream's series at a moment.
type glimpse struct {
	reader   string
	target   string // if the reader has several
	at       time.Time
	expected []string                      // services that must be there as long as their data is good
	services map[string]map[string]float64 // values by service and identity
	complete bool                          // it shows all services
	up       bool                          // the exporter says that all is well
	health   string                        // what it says, if known
}

// add adds a series, unless a fault made it.
func (g *glimpse) add(w *walk, s series) {
	if !w.families[s.name()] {
		return
	}
	id := s.labels.Get("postgres_service")
	if g.services == nil {
		g.services = map[string]map[string]float64{}
	}
	if g.services[id] == nil {
		g.services[id] = map[string]float64{}
	}
	g.services[id][s.identity()] = s.value
}

// check compares a glimpse with what upstream served: for each service, it must have all series of
// one recent refresh, and none older than before.
func (w *walk) check(g glimpse) {
	w.mu.Lock()
	calm, oldest := w.calm(g.at), soakExpiry+soakSlack
	if calm > soakCalm {
		oldest = soakFresh
	}
	var ticks []time.Time
	for tick := range w.history {
		if age := g.at.Sub(tick); age < oldest && age > -soakInterval {
			ticks = append(ticks, tick)
		}
	}
	expected := g.expected
	if g.complete && calm > soakCalm {
		expected = w.lasting(ticks, g.at)
	}
	slices.SortFunc(ticks, func(a, b time.Time) int { return b.Compare(a) })
	found, latest := map[string]time.Time{}, map[string]time.Time{}
	for id, got := range g.services {
		latest[id] = w.latest[g.reader+g.target+id]
		if i := slices.IndexFunc(ticks, func(tick time.Time) bool { return same(w.history[tick][id], got) }); i >= 0 {
			found[id] = ticks[i]
		}
	}
	good := w.lastGood(g.at)
	// An empty list is accepted when it comes twice.
	due := g.at.Sub(good) < soakMaxAge-soakSlack && !w.touched(g.at.Add(-soakBelief), g.at, "empty list")
	w.mu.Unlock()

	for id, got := range g.services {
		tick, ok := found[id]
		if !ok {
			w.problem(g.at, "%s, service %s: series that upstream did not have: %s", g.reader, id, w.differences(id, got))
		}
		last := latest[id]
		if ok && tick.Before(last) {
			w.problem(g.at, "%s, service %s: data of %s after that of %s", g.reader, id, tick.Format(time.TimeOnly), last.Format(time.TimeOnly))
		}
		w.tally(g.reader, func(t *tally) {
			t.values += len(got)
			switch {
			case !ok:
				t.wrong++
			case tick.Before(last):
				t.backward++
			default:
				t.oldest = max(t.oldest, g.at.Sub(tick))
				w.latest[g.reader+g.target+id] = tick
			}
		})
	}
	for _, id := range expected {
		if due && g.services[id] == nil {
			w.problem(g.at, "%s: no series of service %s although upstream gave some %s before", g.reader, id, g.at.Sub(good).Round(time.Second))
			w.tally(g.reader, func(t *tally) { t.missing++ })
		}
	}
	if calm > soakCalm && !g.up {
		w.problem(g.at, "%s: not up although nothing is wrong:\n%s", g.reader, g.health)
	}
}

// lasting returns the services that upstream had at all of some refreshes and on all recent lists:
// one that has left the list is gone, even if metrics still have it. The caller locks.
func (w *walk) lasting(ticks []time.Time, at time.Time) []string {
	var ids []string
	lists := w.recent(at)
	if len(ticks) > 0 {
		for id := range w.history[ticks[0]] {
			if !slices.ContainsFunc(ticks, func(t time.Time) bool { return w.history[t][id] == nil }) &&
				!slices.ContainsFunc(lists, func(l listing) bool { return l.services[id] == "" }) {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

func (w *walk) differences(id string, got map[string]float64) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	best := ""
	for tick, all := range w.history {
		var diffs []string
		for k, v := range got {
			if want, ok := all[id][k]; !ok || want != v {
				diffs = append(diffs, fmt.Sprintf("%s=%v want %v,%v", k, v, want, ok))
			}
		}
		for k := range all[id] {
			if _, ok := got[k]; !ok {
				diffs = append(diffs, "missing "+k)
			}
		}
		slices.Sort(diffs)
		text := fmt.Sprintf("%d differences from %s: %.600s", len(diffs), tick.Format(time.TimeOnly), strings.Join(diffs, "; "))
		if best == "" || len(text) < len(best) {
			best = text
		}
	}
	return best
}

func same(a, b map[string]float64) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

// lastGood returns when, before a moment, upstream last served the organization's metrics without a
// fault. The caller locks.
func (w *walk) lastGood(at time.Time) time.Time {
	const margin = 2 * time.Second
	for _, r := range slices.Backward(w.u.Requests()) {
		if r.Endpoint != organizationMetrics || r.Status != http.StatusOK || r.Fault != "" || at.Sub(r.Time) < margin {
			continue
		}
		if !slices.ContainsFunc(w.episodes, func(e episode) bool {
			return e.link && r.Time.After(e.from.Add(-margin)) && (e.to.IsZero() || r.Time.Before(e.to.Add(margin)))
		}) {
			return r.Time
		}
	}
	return time.Time{}
}
