package collector

import (
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// What was computed before may be used again; that it is changes no byte of any page,
// whatever happens between.
func TestNothingThatIsRememberedShows(t *testing.T) {
	t.Parallel()
	history := func(t *testing.T, noMemo bool) []string {
		var pages []string
		synctest.Test(t, func(t *testing.T) {
			var org Organization
			b := newBench(t, simulator.Config{Services: 12, OrgMetricsLimit: 8, CapMode: simulator.CapTruncateRotating}, func(o *Options, config *Organization) {
				o.NoMemo = noMemo
				config.Timestamps = true
				// Lists and retries come at random moments.
				config.InventoryInterval = 24 * time.Hour
				config.API.MaxRetries = -1
				org = *config
			})
			cfg := org.API
			cfg.Budget = api.NewBudget(api.BudgetConfig{Requests: 1000})
			lists, err := api.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			step := func(change func()) {
				t.Helper()
				change()
				list, err := lists.Services(t.Context(), org.ID)
				if err != nil {
					t.Fatal(err)
				}
				p := b.poller(0)
				applied := make(chan struct{})
				p.reloads <- func() {
					p.setInventory(inventory.ByID(list), time.Now())
					p.publish(time.Now())
					close(applied)
				}
				<-applied
				for range 3 {
					b.pass(31 * time.Second)
					take := func(org, service string) {
						docs, err := b.c.Page(org, service)
						if err != nil {
							pages = append(pages, "none")
							return
						}
						pages = append(pages, masked(text(docs...)))
					}
					take("", "")
					take(org.ID, "")
					for _, s := range b.c.Status().Organizations[0].Services {
						take(org.ID, s.ID)
					}
				}
			}
			reload := func() {
				if err := b.c.Apply([]Organization{org}); err != nil {
					t.Fatal(err)
				}
			}
			b.pass(time.Minute)
			services := b.sim.Services()
			step(func() {})
			step(func() { b.sim.Delete(services[3].ID) })
			step(func() { b.sim.SetState(services[4].ID, "restarting"); b.sim.SetState(services[5].ID, "stopped") })
			step(func() { b.sim.Rename(services[6].ID, "renamed"); b.sim.Resize(14) })
			step(func() { b.sim.SetTags(services[7].ID, simulator.Tag{Key: "team", Value: "b"}) })
			step(func() { org.EnrichLabels = nil; reload() })
			step(func() {
				org.Rules = rules(t, `[{source_labels: [__name__], regex: PostgresServer_CPU.*, action: drop}]`)
				reload()
			})
			step(func() {
				var err error
				if org.EnrichLabels, err = inventory.ParseEnrichLabels([]string{"state,tag:team"}); err != nil {
					t.Fatal(err)
				}
				org.Rules = nil
				reload()
			})
			step(func() { org.Shard = inventory.Shard{Index: 0, Count: 2}; reload() })
			step(func() { org.Shard = inventory.Shard{}; reload() })
			heal := b.sim.SetFault(simulator.Fault{Endpoints: []string{"organization_metrics", "service_metrics"}, Status: 503})
			step(func() { b.sim.SetState(services[4].ID, "running") })
			step(func() { b.pass(6 * time.Minute) })
			step(heal)
		})
		return pages
	}
	with, without := history(t, false), history(t, true)
	if len(with) < 400 || len(with) != len(without) {
		t.Fatalf("%d and %d pages", len(with), len(without))
	}
	for i := range with {
		if diff := cmp.Diff(without[i], with[i]); diff != "" {
			t.Fatalf("page %d of %d (-without +with what is remembered):\n%s", i, len(with), diff)
		}
	}
	distinct := map[string]bool{}
	for _, page := range with {
		distinct[page] = true
	}
	if n := len(slices.Collect(maps.Keys(distinct))); n < 100 {
		t.Errorf("only %d different pages", n)
	}
}
