package collector

import (
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// takeOrganizations takes in which organizations the key can see. It is asked again
// until there is the one to poll.
func (p *poller) takeOrganizations(r *response, now time.Time) {
	p.state.discovering = false
	err := r.err
	if err == nil {
		err = p.found(r.list, now)
	}
	p.state.discoverAt = time.Time{}
	p.observe(&p.state.discovery, now, err, api.EndpointOrganizations, "organization found")
	if err != nil {
		p.state.discoverAt = now.Add(min(p.config.MetricsInterval, p.config.InventoryInterval))
		p.firstOnce.Do(func() { close(p.first) })
	}
}

// found makes the one organization of the list the poller's.
func (p *poller) found(list []api.Organization, now time.Time) error {
	switch len(list) {
	case 0:
		return &refusedError{"no_organization", "the API key sees no organization: give the key access to one, or set the organization id"}
	case 1:
	default:
		text := fmt.Sprintf("the API key sees %d organizations: set the organization id to the one to export", len(list))
		return &refusedError{"several_organizations", text}
	}
	was, id := p.identity.Load(), inventory.CanonicalID(list[0].ID)
	if was.ID != id {
		if !p.c.claim(p, id) {
			text := fmt.Sprintf("the organization that the API key sees, %s, is polled already: configure it once", id)
			return &refusedError{"duplicate_organization", text}
		}
		if was.ID != "" { // the key is another one
			p.c.health.end(was.ID)
			p.startOver(now)
		}
		p.c.health.begin(id)
	}
	p.state.name = list[0].Name
	return nil
}
