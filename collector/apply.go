package collector

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
)

// Apply replaces what is polled, before Run or during it. Organizations that did not
// change go on undisturbed. One that did keeps its data: new rules, labels and
// selections are applied to what is held without a request, before Apply returns. One
// that is gone takes its data along. On an error nothing changes.
func (c *Collector) Apply(organizations []Organization) error {
	configs := make([]Organization, len(organizations))
	for i, o := range organizations {
		configs[i] = o.normalized()
	}
	if err := check(configs); err != nil {
		return err
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	pollers := c.match(configs)
	kept := slices.Clone(pollers)
	clients := make([]*api.Client, len(configs))
	for i, config := range configs {
		p := pollers[i]
		if p != nil && p.applied.same(&config) {
			continue
		}
		if p == nil {
			p = newPoller(c, &config)
			pollers[i] = p
		}
		if kept[i] != nil && sameAPI(&p.applied.API, &config.API) {
			continue
		}
		cfg := config.API
		cfg.Hooks = c.health.hooks(p.label)
		client, err := api.New(cfg)
		if err != nil {
			for _, made := range clients[:i] {
				if made != nil {
					made.Close()
				}
			}
			return fmt.Errorf("organization %q: %w", cmp.Or(config.Name, config.ID), err)
		}
		clients[i] = client
	}

	for _, p := range c.pollers {
		if !slices.Contains(kept, p) {
			c.end(p)
		}
	}
	for i, p := range pollers {
		if kept[i] == nil {
			p.apply(&configs[i], clients[i])
		}
	}
	c.pollers = pollers
	c.arrange()
	for i, p := range pollers {
		switch {
		case kept[i] == nil:
			if configs[i].ID != "" {
				c.health.begin(configs[i].ID)
			}
			c.start(p)
		case !p.applied.same(&configs[i]):
			p.reload(&configs[i], clients[i])
		}
		p.applied = &configs[i]
	}
	return nil
}

// match returns the poller that each organization has already, nil for none: by its
// id, which may be written down or have been found, or by its name for one whose id is
// to be found.
func (c *Collector) match(configs []Organization) []*poller {
	pollers := make([]*poller, len(configs))
	find := func(i int, is func(*poller) bool) {
		n := slices.IndexFunc(c.pollers, func(p *poller) bool { return !slices.Contains(pollers, p) && is(p) })
		if pollers[i] == nil && n >= 0 {
			pollers[i] = c.pollers[n]
		}
	}
	for i, o := range configs {
		if o.ID != "" {
			find(i, func(p *poller) bool { return p.identity.Load().ID == o.ID })
		}
	}
	for i, o := range configs {
		if o.ID == "" {
			find(i, func(p *poller) bool { return p.applied.Name == o.Name })
		}
	}
	return pollers
}

// arrange makes the snapshot hold a view for each poller, in order.
func (c *Collector) arrange() {
	for {
		old := c.snapshot.Load()
		views := make([]*organizationView, len(c.pollers))
		for i, p := range c.pollers {
			if views[i] = old.of(p); views[i] == nil {
				views[i] = p.published
			}
		}
		if c.snapshot.CompareAndSwap(old, newSnapshot(c, views)) {
			return
		}
	}
}

// start lets a poller poll, if the collector is running.
func (c *Collector) start(p *poller) {
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
	identity := p.identity.Load()
	c.health.end(identity.ID)
	c.health.end(identity.Name)
}
