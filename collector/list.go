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
	tombstoneAge     = 5 * time.Minute // for how long metrics of a service that has left the list are ignored
	emptyPageGrace   = 3 * time.Minute // for how long a service that turned running may have no metrics yet
	hostnameInterval = 6 * time.Hour   // how often a known hostname is asked for again
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
	p.observe(&st.list, now, r.err, r.request.Endpoint, "Inventory read")
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
	st.organization = p.organizationBlock()

	planned := make([]schedule.Service, 0, len(st.inventory.IDs))
	for _, id := range st.inventory.IDs {
		planned = append(planned, schedule.Service{ID: id, Activity: inventory.ActivityOf(st.inventory.Services[id].State)})
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

// planDetails returns the calls that the configuration wants made for each service,
// and drops what others that were made before have brought.
func (p *poller) planDetails() []schedule.Detail {
	var planned []schedule.Detail
	if p.config.CollectSettings {
		planned = append(planned, schedule.Detail{Endpoint: api.EndpointServiceConfig, Interval: p.config.SettingsInterval})
	}
	hostnames := p.config.wantsHostnames()
	if hostnames {
		planned = append(planned, schedule.Detail{Endpoint: api.EndpointService, Interval: hostnameInterval})
	}
	for _, s := range p.state.services {
		kept := *s.details
		if !p.config.CollectSettings {
			kept.settings, s.settings = nil, condition{}
		}
		if !hostnames {
			kept.hostname, s.hostname = "", condition{}
		}
		s.details = &kept
	}
	return planned
}

// takeDetail takes in what only a call for one service tells. Where that fails, what
// it last told stands, as the inventory does.
func (p *poller) takeDetail(r *response, now time.Time) {
	st, id, endpoint := p.state, r.request.Service, r.request.Endpoint
	if st.inventory == nil || st.inventory.Services[id] == nil {
		return // the service has gone in the meantime
	}
	s := st.services[id]
	next := *s.details
	calls, what := &st.settings, "settings"
	latest := func(s *service) *condition { return &s.settings }
	if endpoint == api.EndpointService {
		calls, what = &st.hostnames, "hostname"
		latest = func(s *service) *condition { return &s.hostname }
		next.hostname = r.detail.Hostname
	} else {
		next.settings = inventory.NumericSettings(r.config)
	}
	*latest(s) = condition{tried: true, err: r.err}
	p.observeEach(calls, func(s *service) error { return latest(s).err }, now, endpoint,
		"Cannot read a service's "+what+"; keeping what was read last", "Every service's "+what+" can be read again")
	if r.err == nil && (next.hostname != s.details.hostname || !slices.Equal(next.settings, s.details.settings)) {
		s.details = &next
		p.derive(s)
	}
}
