package collector

import (
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

// state is all that a poller has learned from upstream.
type state struct {
	planner *schedule.Planner

	foundName   string    // the organization's, as upstream has it
	discoverAt  time.Time // when to look for the organization, zero for not at all
	discovering bool

	listed      []api.Service // the list that was believed, before selection
	inventory   *inventory.Inventory
	totals      *exposition.Block    // the organization's services by state
	totalsRules *exposition.Rules    // that were applied to them
	excluded    map[string]struct{}  // listed, but of another shard or not selected
	tombstones  map[string]time.Time // when a service left the list
	unconfirmed bool                 // the latest list was empty and must be confirmed

	services map[string]*service // by id; "" for series that name none

	parser    *exposition.Parser             // of the organization's page
	page      map[string]*exposition.Metrics // that page, by service, as long as it is young enough
	pageAt    time.Time                      // when it came
	pageBytes int
	pageTried bool

	details map[api.Endpoint]*condition // of the calls for a service that are no pages

	discovery, list, organizationPage, servicePages condition

	pageRefused bool      // upstream will not give the organization's page
	metricsAt   time.Time // when metrics last came, from whichever endpoint
	metricsErr  error     // why the latest attempt at the organization's page, or else at a service's, failed
	pollTook    time.Duration

	overBudget bool // the refresh period that the budget allows exceeds MaxAge
	downgraded bool // some family's type was not known
}

// startOver forgets everything that was read of the organization.
func (p *poller) startOver(now time.Time) {
	p.state = &state{
		excluded:   map[string]struct{}{},
		tombstones: map[string]time.Time{},
		services:   map[string]*service{},
		parser:     exposition.NewParser(inventory.ServiceLabel),
		details:    map[api.Endpoint]*condition{},
	}
	st := p.state
	st.planner = schedule.New(p.plan(), now)
	if p.identity.Load().ID == "" {
		st.discoverAt = now
	}
	if ids, only := p.config.Selection.OnlyIDs(); only {
		// Named services can be read even if the list never can.
		var named []schedule.Service
		for _, id := range ids {
			if p.config.Shard.Owns(id) {
				named = append(named, schedule.Service{ID: id})
			}
		}
		st.planner.SetServices(now, named, len(ids))
	}
	p.publish(now)
}
