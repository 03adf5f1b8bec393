package collector

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// maxNewStates bounds how many undocumented states become part of every service's
// state set; any further one appears at the services that are in it only.
const maxNewStates = 20

// heldInventory is the last list of services that was believed. Immutable.
type heldInventory struct {
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
	settings []inventory.Setting
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

func (r *record) running() bool { return r != nil && r.State == inventory.StateRunning }

// inventoryChange is what a new inventory means for the data held.
type inventoryChange struct {
	removed []string // ids that are gone
	labels  bool     // some service's labels changed, or a service came
}

// nextInventory returns the inventory after a list. All of previous, which may be
// nil, that did not change is used again, unless everything has to be made again.
func (w *worker) nextInventory(previous *heldInventory, services map[string]api.Service, fetchedAt time.Time, again bool) (*heldInventory, inventoryChange) {
	var change inventoryChange
	inv := &heldInventory{
		services:  make(map[string]*record, len(services)),
		ids:       make([]string, 0, len(services)),
		fetchedAt: fetchedAt,
		states:    inventory.States(),
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
		if s.State != "" && !slices.Contains(inv.states, s.State) && len(inv.states) < len(inventory.States())+maxNewStates {
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
func (inv *heldInventory) count() {
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
func (w *worker) nextRecord(old *record, s api.Service, inv *heldInventory, seenBefore, again bool) *record {
	hostname, settings := w.hostnames[s.ID], w.settings[s.ID]
	if old != nil && !again && old.hostname == hostname && slices.Equal(old.settings, settings) &&
		inventory.Same(&old.Service, &s) && old.states == len(inv.states) {
		return old
	}
	r := &record{Service: s, hostname: hostname, settings: settings, states: len(inv.states)}
	r.inline = inventory.InlineLabels(w.config.EnrichLabels, &s, hostname)
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
