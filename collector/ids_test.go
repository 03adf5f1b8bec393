package collector

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// Upstream takes ids in whichever case, and so may what it says of them be. They are
// one id, and exported as one.
func TestIDsOfEitherCase(t *testing.T) {
	shout := func(endpoint, id string) simulator.Fault {
		return simulator.Fault{Endpoints: []string{endpoint}, Mutate: func(body []byte) []byte {
			return bytes.ReplaceAll(body, []byte(id), []byte(strings.ToUpper(id)))
		}}
	}
	only := func(t *testing.T, id string) *inventory.Selection {
		t.Helper()
		s, err := inventory.NewSelection([]inventory.Filter{{IDs: []string{strings.ToUpper(id)}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for name, change := range map[string]struct {
		config func(t *testing.T, id string, o *Organization)
		sim    func(sim *simulator.Simulator, id string)
	}{
		"organization, configured": {config: func(_ *testing.T, _ string, o *Organization) { o.ID = strings.ToUpper(o.ID) }},
		"organization, discovered": {
			config: func(_ *testing.T, _ string, o *Organization) { o.ID = "" },
			sim: func(sim *simulator.Simulator, _ string) {
				sim.SetFault(shout("organizations", sim.Config().OrganizationID))
			},
		},
		"organization, on its page": {sim: func(sim *simulator.Simulator, _ string) {
			sim.SetFault(shout("organization_metrics", sim.Config().OrganizationID))
		}},
		"service, in the list": {sim: func(sim *simulator.Simulator, id string) { sim.SetFault(shout("services", id)) }},
		"service, on the page": {sim: func(sim *simulator.Simulator, id string) { sim.SetFault(shout("organization_metrics", id)) }},
		"service, selected":    {config: func(t *testing.T, id string, o *Organization) { o.Selection = only(t, id) }},
		"service, on a page too": {
			config: func(t *testing.T, id string, o *Organization) { o.Selection = only(t, id) },
			sim:    func(sim *simulator.Simulator, id string) { sim.SetFault(shout("service_metrics", id)) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := simulator.Config{Services: 3, Seed: 5}
				sim := simulator.New(cfg)
				org, id := sim.Config().OrganizationID, sim.Services()[1].ID
				b := newBench(t, cfg, func(_ *Options, o *Organization) {
					if change.config != nil {
						change.config(t, id, o)
					}
				})
				if change.sim != nil {
					change.sim(b.sim, id)
				}
				b.refreshed()
				b.pass(2 * time.Minute)
				all := b.series()
				for _, upper := range []string{strings.ToUpper(org), strings.ToUpper(id)} {
					if found := ids(all, upper); len(found) != 0 {
						t.Errorf("an id in upper case: %q", found[0])
					}
				}
				got := ids(all, "Postgres", org, id, "postgres_region=")
				if len(got) < 30 || len(ids(all, serviceInfoName, org, id)) != 1 || len(ids(all, serviceUpName, org, id)) != 1 {
					t.Errorf("series of the service: %q", got)
				}
				b.want("clickhouse_postgres_up", "1")
				b.want("clickhouse_postgres_exporter_unknown_services", "0")
				want := b.text(org, id)
				if diff := cmp.Diff(want, b.text(strings.ToUpper(org), strings.ToUpper(id))); diff != "" {
					t.Errorf("pages by ids in lower and in upper case differ:\n%s", diff)
				}
				if !strings.Contains(want, "\nPostgresServiceInfo{") {
					t.Errorf("the service's page: %s", want)
				}
			})
		})
	}
	cfg := api.Config{Credentials: api.StaticCredentials("k", "s"), Budget: api.NewBudget(api.BudgetConfig{Requests: 8})}
	want := "organization id abc is configured twice: keep one of them"
	if _, err := New(Options{Organizations: []Organization{{ID: "abc", API: cfg}, {ID: "ABC", Name: "b", API: cfg}}}); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
