package collector

import (
	"maps"
	"slices"
	"time"

	"github.com/go-kit/log/level"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

const (
	tombstoneAge   = 5 * time.Minute // for how long metrics of a service that has left the list are ignored
	emptyPageGrace = 3 * time.Minute // for how long a service that turned running may have no metrics yet
)

// takeList takes in the response to a call for the list of services.
func (p *poller) takeList(r *response, now time.Time) error {
	st := p.state
	if r.err == nil && len(r.services) == 0 && len(st.listed) > 0 && !st.unconfirmed {
		st.unconfirmed = true
		level.Warn(p.logger).Log("msg", "The list of services is empty although it was not before; waiting for the next list to confirm it",
			"services", len(st.listed))
		return nil
	}
	p.observe(&st.list, now, r.err, api.EndpointServices, "Inventory read")
	if r.err != nil {
		return r.err
	}
	st.unconfirmed = false
	p.setInventory(inventory.ByID(r.services), now)
	return nil
}

// setInventory makes the services of a list, as far as the configuration wants them,
// the inventory, and applies it to all that is held.
func (p *poller) setInventory(list map[string]api.Service, readAt time.Time) {
	st := p.state
	st.listed = list
	services := maps.Clone(list)
	maps.DeleteFunc(services, func(id string, s api.Service) bool {
		return !p.config.Selection.Match(s) || !p.config.Shard.Owns(id)
	})
	st.inventory = st.inventory.Next(services, readAt)
	p.dropServices(readAt)
	for id, entry := range st.inventory.Services {
		delete(st.tombstones, id)
		p.service(id).entry = entry
	}
	p.applyToHeld()

	planned := make([]schedule.Service, 0, len(st.inventory.IDs))
	for _, id := range st.inventory.IDs {
		planned = append(planned, schedule.Service{ID: id, Activity: activityOf(st.inventory.Services[id].State)})
	}
	st.planner.SetServices(time.Now(), planned, len(list))
}

// applyToHeld applies the configuration and the inventory to the metrics that are held.
func (p *poller) applyToHeld() {
	st := p.state
	p.expire(time.Now(), st.planner.Summary())
	for id, s := range st.services {
		if !p.exports(id, s.fetchedAt) {
			delete(st.services, id)
		}
	}
	for id, m := range st.page {
		if !p.exports(id, st.pageAt) {
			continue
		}
		if s := p.service(id); s.fetchedAt.IsZero() {
			p.setMetrics(s, m, st.pageAt, false)
		}
	}
	for _, s := range st.services {
		p.derive(s)
	}
}

// dropServices forgets the services that the inventory does not have any more.
func (p *poller) dropServices(now time.Time) {
	st := p.state
	for id, s := range st.services {
		if s.entry == nil || st.inventory.Services[id] != nil {
			continue
		}
		delete(st.services, id)
		if _, listed := st.listed[id]; !listed {
			st.tombstones[id] = now
		}
	}
	// As long as the page that is held has a service, it must not bring it back.
	for id, left := range st.tombstones {
		if st.page[id] == nil && reached(now, left.Add(tombstoneAge)) {
			delete(st.tombstones, id)
		}
	}
}

// exports tells whether series of a service, from a page of that time, are wanted:
// not of services that were left out by choice or belong to another shard, nor of
// one that has just left the list.
func (p *poller) exports(id string, pageAt time.Time) bool {
	st := p.state
	if _, listed := st.listed[id]; listed {
		return st.inventory.Services[id] != nil
	}
	if left, gone := st.tombstones[id]; gone && pageAt.Before(left.Add(tombstoneAge)) {
		return false
	}
	if id == "" {
		// Series of no service are for the first shard, or they would come twice.
		return p.config.Shard.Count <= 1 || p.config.Shard.Index == 0
	}
	if ids, only := p.config.named(); only && st.inventory == nil {
		return slices.Contains(ids, id)
	}
	// Nothing is known of the service that a selection could be held against.
	return p.config.Selection == nil && p.config.Shard.Owns(id)
}

// activityOf returns what can be expected of a service's metrics in a state, "" where
// that is not known.
func activityOf(state string) schedule.Activity {
	switch {
	case state == inventory.StateRunning, state == "":
		return schedule.Running
	case state == inventory.StateStopped:
		return schedule.Stopped
	case !inventory.HasMetrics(state):
		return schedule.NoMetrics
	}
	return schedule.Changing
}
