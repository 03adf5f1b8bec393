package collector

import (
	"cmp"
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
)

const stateRunning = "running"

// knownStates are the states that upstream documents.
func knownStates() []string {
	return []string{
		"creating", "deleting", "finalizing_restore", "replaying_wal", "restarting",
		"restoring_backup", stateRunning, "stopped", "unavailable",
	}
}

// maxNewStates bounds how many undocumented states become part of every service's
// state set; any further one appears at the services that are in it only.
const maxNewStates = 20

// inventory is the last list of services that was believed. Immutable.
type inventory struct {
	services  map[string]*record // by id
	ids       []string           // sorted
	states    []string           // known ones, and every other one seen so far
	counts    map[string]int     // services by state
	totals    *exposition.Block  // counts as series
	fetchedAt time.Time
}

// record is what the inventory knows of one service. Immutable, and kept from list
// to list while nothing about the service changes, so that pointers tell changes.
type record struct {
	api.Service
	hostname string
	settings []setting
	inline   []labels.Label
	// epoch changes when inline does: series rewritten under the same epoch need
	// not be rewritten again.
	epoch uint32
	// runningSince is when the service was first seen running, zero if it already
	// was when the program first saw the organization.
	runningSince time.Time
	series       *exposition.Block // the service's inventory metrics
	states       int               // how many states the state set had when series was made
}

func (r *record) running() bool { return r != nil && r.State == stateRunning }

// sameService tells whether two answers say the same of a service. Tags must be
// sorted.
func sameService(a, b *api.Service) bool {
	return a.ID == b.ID && a.Name == b.Name && a.Provider == b.Provider && a.Region == b.Region &&
		a.PostgresVersion == b.PostgresVersion && a.Size == b.Size && a.HAType == b.HAType &&
		a.State == b.State && a.StorageGiB == b.StorageGiB && a.IsPrimary == b.IsPrimary &&
		a.CreatedAt.Equal(b.CreatedAt) && slices.Equal(a.Tags, b.Tags)
}

// canonical returns the services by id, each once and with sorted tags: upstream's
// order means nothing.
func canonical(list []api.Service) map[string]api.Service {
	services := make(map[string]api.Service, len(list))
	for _, s := range list {
		if _, twice := services[s.ID]; twice || s.ID == "" {
			continue
		}
		s.Tags = slices.Clone(s.Tags)
		sort.SliceStable(s.Tags, func(i, j int) bool { return s.Tags[i].Key < s.Tags[j].Key })
		services[s.ID] = s
	}
	return services
}

// inventoryChange is what a new inventory means for the data held.
type inventoryChange struct {
	removed []string // ids that are gone
	labels  bool     // some service's labels changed, or a service came
}

// nextInventory returns the inventory after a list. All of previous, which may be
// nil, that did not change is used again, unless everything has to be made again.
func (w *worker) nextInventory(previous *inventory, services map[string]api.Service, fetchedAt time.Time, again bool) (*inventory, inventoryChange) {
	var change inventoryChange
	inv := &inventory{
		services:  make(map[string]*record, len(services)),
		ids:       make([]string, 0, len(services)),
		fetchedAt: fetchedAt,
		states:    knownStates(),
	}
	if previous != nil {
		inv.states = previous.states
		for _, id := range previous.ids {
			if _, stays := services[id]; !stays {
				change.removed = append(change.removed, id)
			}
		}
	}
	for id, s := range services {
		inv.ids = append(inv.ids, id)
		if s.State != "" && !slices.Contains(inv.states, s.State) && len(inv.states) < len(knownStates())+maxNewStates {
			inv.states = append(slices.Clone(inv.states), s.State)
		}
	}
	slices.Sort(inv.ids)

	for _, id := range inv.ids {
		s := services[id]
		var old *record
		if previous != nil {
			old = previous.services[id]
		}
		r := w.nextRecord(old, s, inv, previous != nil, again)
		if old == nil || old.epoch != r.epoch {
			change.labels = true
		}
		inv.services[id] = r
	}
	inv.count()
	if previous != nil && !again && maps.Equal(previous.counts, inv.counts) {
		inv.totals = previous.totals
	} else {
		inv.totals = w.inventoryTotals(inv.counts)
	}
	return inv, change
}

// count fills in the services by state.
func (inv *inventory) count() {
	inv.counts = make(map[string]int, len(inv.states))
	for _, state := range inv.states {
		inv.counts[state] = 0
	}
	for _, r := range inv.services {
		inv.counts[cmp.Or(r.State, "unknown")]++
	}
}

// nextRecord returns the record of a service after a list; old itself if nothing
// changed and it need not be made again.
func (w *worker) nextRecord(old *record, s api.Service, inv *inventory, seenBefore, again bool) *record {
	hostname, settings := w.hostnames[s.ID], w.settings[s.ID]
	if old != nil && !again && old.hostname == hostname && slices.Equal(old.settings, settings) &&
		sameService(&old.Service, &s) && old.states == len(inv.states) {
		return old
	}
	r := &record{Service: s, hostname: hostname, settings: settings, states: len(inv.states)}
	r.inline = inlineLabels(w.config.EnrichLabels, &s, hostname)
	if old != nil && slices.Equal(old.inline, r.inline) {
		r.epoch = old.epoch
	} else {
		w.epochs++
		r.epoch = w.epochs
	}
	if r.running() {
		switch {
		case old.running():
			r.runningSince = old.runningSince
		case seenBefore:
			r.runningSince = inv.fetchedAt
		}
	}
	r.series = w.inventorySeries(r, inv.states)
	return r
}
