package collector

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// Apply replaces what is polled, before Run or during it. Organizations that did not
// change go on undisturbed. One that did keeps its data: new rules, labels and
// selections are applied to what is held without a request, before Apply returns. One
// that is gone takes its data along. On an error nothing changes.
func (c *Collector) Apply(organizations []Organization) error {
	configs := make([]*Organization, len(organizations))
	for i, o := range organizations {
		configs[i] = o.normalized()
	}
	if err := check(configs); err != nil {
		return err
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	last := *c.pollers.Load()
	clients, err := c.replace(configs)
	if err != nil {
		return err
	}
	pollers := *c.pollers.Load()
	for _, p := range last {
		if !slices.Contains(pollers, p) {
			c.end(p)
		}
	}
	for i, p := range pollers {
		switch {
		case !slices.Contains(last, p):
			c.start(p)
		case !p.applied.same(configs[i]):
			p.reload(configs[i], clients[i])
		}
		p.applied = configs[i]
	}
	return nil
}

// replace makes the pollers those of the configurations. It returns the clients of
// those that need another one.
func (c *Collector) replace(configs []*Organization) ([]*api.Client, error) {
	c.claims.Lock()
	defer c.claims.Unlock()
	pollers := c.match(configs)
	clients := make([]*api.Client, len(configs))
	for i, config := range configs {
		p := pollers[i]
		if p != nil && sameAPI(&p.applied.API, &config.API) {
			continue
		}
		if p == nil {
			p = newPoller(c, config)
		}
		cfg := config.API
		cfg.Hooks = c.health.hooks(p.id)
		client, err := api.New(cfg)
		if err != nil {
			if name := cmp.Or(config.Name, config.ID); name != "" {
				err = fmt.Errorf("organization %q: %w", name, err)
			}
			return nil, err
		}
		clients[i] = client
		if pollers[i] == nil {
			p.apply(config, client)
			pollers[i] = p
		}
	}
	c.pollers.Store(&pollers)
	return clients, nil
}

// match returns the poller that each organization has already, nil for none: by its
// id, which may be written down or have been found, or by its name for one whose id is
// to be found.
func (c *Collector) match(configs []*Organization) []*poller {
	last, pollers := *c.pollers.Load(), make([]*poller, len(configs))
	for _, byID := range []bool{true, false} {
		for i, o := range configs {
			n := slices.IndexFunc(last, func(p *poller) bool {
				same := p.applied.Name == o.Name
				if byID {
					same = p.id() == o.ID
				}
				return same && byID == (o.ID != "") && !slices.Contains(pollers, p)
			})
			if n >= 0 {
				pollers[i] = last[n]
			}
		}
	}
	return pollers
}

// claim makes a discovered organization a poller's, unless another polls it.
func (c *Collector) claim(p *poller, found *api.Organization) bool {
	c.claims.Lock()
	defer c.claims.Unlock()
	for _, other := range *c.pollers.Load() {
		if other != p && other.id() == found.ID {
			return false
		}
	}
	p.identity.Store(found)
	return true
}

// start lets a poller poll, if the collector is running.
func (c *Collector) start(p *poller) {
	c.health.begin(p.id())
	if c.ctx == nil {
		return
	}
	ctx, cancel := context.WithCancel(c.ctx)
	p.stop = cancel
	c.running.Go(func() { p.run(ctx) })
}

// end makes a poller stop, waits until it has, and drops its counters.
func (c *Collector) end(p *poller) {
	if p.stop == nil {
		p.client.Close()
	} else {
		p.stop()
		<-p.done
	}
	c.health.end(p.id())
}

// takeOrganizations takes in which organizations the key can see. It is asked again
// until there is the one to poll.
func (p *poller) takeOrganizations(r *response, now time.Time) {
	p.state.discovering = false
	err := r.err
	if err == nil {
		err = p.found(r.list, now)
	}
	p.state.discoverAt = time.Time{}
	p.observe(&p.state.discovery, now, err, api.EndpointOrganizations, "Organization found")
	if err != nil {
		p.state.discoverAt = now.Add(min(p.config.MetricsInterval, p.config.InventoryInterval))
		p.tried()
	}
}

// found makes the one organization of the list the poller's.
func (p *poller) found(list []api.Organization, now time.Time) error {
	switch len(list) {
	case 0:
		return &refusedError{"no_organization", "the API key sees no organization: give the key access to one, or set " + p.config.Names.OrganizationID}
	case 1:
	default:
		text := fmt.Sprintf("the API key sees %d organizations: set %s to the one to export", len(list), p.config.Names.OrganizationID)
		return &refusedError{"several_organizations", text}
	}
	was, found := p.id(), list[0]
	found.ID = inventory.CanonicalID(found.ID)
	if !p.c.claim(p, &found) {
		text := fmt.Sprintf("the organization that the API key sees, %s, is already polled: configure it only once", found.ID)
		return &refusedError{"duplicate_organization", text}
	}
	if was != found.ID {
		if was != "" { // the key is another one
			p.c.health.end(was)
			p.startOver(now)
		}
		p.c.health.begin(found.ID)
	}
	p.identify()
	return nil
}
