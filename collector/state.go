package collector

import (
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

// state is all that a poller has learned from upstream.
type state struct {
	facts
	planner *schedule.Planner

	discoverAt  time.Time // when to look for the organization, zero for not at all
	discovering bool

	listed      []api.Service        // the list that was believed, before selection
	totalsRules *exposition.Rules    // that were applied to totals
	excluded    map[string]struct{}  // listed, but of another shard or not selected
	tombstones  map[string]time.Time // when a service left the list

	services map[string]*service // by id; "" for series that name none

	parser    *exposition.Parser             // of the organization's page
	page      map[string]*exposition.Metrics // that page, by service, as long as it is young enough
	pageAt    time.Time                      // when it came
	pageBytes int
	pageTried bool

	hostnames, settings condition // of the calls for details

	overBudget bool // the refresh period that the budget allows exceeds MaxAge
	downgraded bool // some family's type was not known
}

// facts are what views show of an organization as it is held.
type facts struct {
	name string // as upstream has it, if that is known

	discovery, list, organizationPage, servicePages condition

	inventory   *inventory.Inventory // nil before the first list
	totals      *exposition.Block    // the organization's services by state
	unconfirmed bool                 // the latest list was empty, and is not believed yet

	pageRefused bool      // upstream will not give the organization's page
	metricsAt   time.Time // when metrics last came, from whichever endpoint
	metricsErr  error     // why the latest attempt at the organization's page, or else at a service's, failed
	pollTook    time.Duration
}

// noMetrics tells whether the inventory has no service that could have metrics: such
// are not asked for any.
func (f *facts) noMetrics() bool {
	return f.inventory != nil && !slices.ContainsFunc(f.inventory.IDs, func(id string) bool {
		return inventory.ActivityOf(f.inventory.Services[id].State) != inventory.NoMetrics
	})
}

// startOver forgets everything that was read of the organization.
func (p *poller) startOver(now time.Time) {
	p.state = &state{
		excluded:   map[string]struct{}{},
		tombstones: map[string]time.Time{},
		services:   map[string]*service{},
		parser:     exposition.NewParser(inventory.ServiceLabel),
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
