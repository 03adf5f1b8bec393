package collector

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

func TestDiscovery(t *testing.T) {
	without := func(_ *Options, org *Organization) { org.ID = "" }
	t.Run("one organization", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, simulator.Config{Services: 1}, without)
			if _, err := b.c.Page(b.sim.Config().OrganizationID, ""); !errors.As(err, new(*UnavailableError)) {
				t.Errorf("page before the discovery: %v", err)
			}
			b.refreshed()
			b.want("clickhouse_postgres_up", "1")
			if o := b.c.Status().Organizations[0]; o.ID != b.sim.Config().OrganizationID || o.Name != b.sim.Config().OrganizationName {
				t.Errorf("status: %+v", o)
			}
			if n := b.sim.Count("organizations", -1); n != 1 {
				t.Errorf("%d requests to find the organization", n)
			}
		})
	})
	t.Run("none, then one", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, simulator.Config{Services: 1}, without)
			heal := b.sim.SetFault(simulator.Fault{Endpoints: []string{"organizations"}, Mutate: func([]byte) []byte {
				return []byte(`{"status":200,"requestId":"r","result":[]}`)
			}})
			b.refreshed()
			if b.c.Ready() {
				t.Error("ready without an organization")
			}
			b.pass(5 * time.Minute)
			if lines := b.logs.lines("no_organization"); len(lines) != 1 {
				t.Errorf("want one line, got %q", lines)
			}
			if o := b.c.Status().Organizations[0]; !strings.Contains(o.Error, "sees no organization") {
				t.Errorf("status: %+v", o)
			}
			if got := b.health()["clickhouse_postgres_up"]; got != "0" {
				t.Errorf("up = %q", got)
			}
			heal()
			b.pass(2 * time.Minute)
			b.want("clickhouse_postgres_up", "1")
			if !b.c.Ready() {
				t.Error("not ready")
			}
		})
	})
	t.Run("several", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, simulator.Config{Services: 1}, without)
			b.sim.SetFault(simulator.Fault{Endpoints: []string{"organizations"}, Mutate: func([]byte) []byte {
				return []byte(`{"status":200,"requestId":"r","result":[{"id":"a","name":"A"},{"id":"b","name":"B"}]}`)
			}})
			b.refreshed()
			if lines := b.logs.lines("sees 2 organizations: set the organization id"); len(lines) != 1 {
				t.Errorf("want one line, got %q", b.logs.lines())
			}
		})
	})
}

func TestApply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		second := simulator.New(simulator.Config{Services: 2, Seed: 99})
		other := Organization{ID: second.Config().OrganizationID, API: upstream(t, second)}
		var first Organization
		b := newBench(t, simulator.Config{Services: 2}, func(o *Options, org *Organization) {
			first = *org
			o.Organizations = []Organization{other}
		})
		b.refreshed()
		b.pass(10 * time.Minute)
		kept := b.c.pollers[1]
		b.sim.SetFault(simulator.Fault{Status: 500}) // no request is to help
		second.ResetRequests()

		changed := first
		changed.Rules = rules(t, `[{source_labels: [__name__], regex: PostgresServer_CPUCores, action: drop}]`)
		changed.EnrichLabels = nil
		if err := b.c.Apply([]Organization{changed, other}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		all := ids(b.upstreamSeries(), b.sim.Config().OrganizationID)
		if len(all) < 60 || len(ids(b.upstreamSeries(), b.sim.Config().OrganizationID, "postgres_region")) != 0 ||
			len(ids(b.upstreamSeries(), b.sim.Config().OrganizationID, "CPUCores")) != 0 {
			t.Errorf("series after new rules: %q", all)
		}
		if b.c.pollers[1] != kept {
			t.Error("an organization that did not change was disturbed")
		}

		bad := changed
		bad.API.BaseURL = "ftp://nowhere"
		if err := b.c.Apply([]Organization{other, bad}); err == nil || !strings.Contains(err.Error(), "--api.url") {
			t.Errorf("a bad configuration: %v", err)
		}
		if diff := cmp.Diff(all, ids(b.upstreamSeries(), b.sim.Config().OrganizationID)); diff != "" {
			t.Errorf("a bad configuration changed something:\n%s", diff)
		}

		if err := b.c.Apply([]Organization{other}); err != nil {
			t.Fatal(err)
		}
		if found := ids(b.series(), b.sim.Config().OrganizationID); len(found) != 0 {
			t.Errorf("series of an organization that was removed: %q", found)
		}
		for id := range b.health() {
			if strings.Contains(id, b.sim.Config().OrganizationID) {
				t.Errorf("health of an organization that was removed: %s", id)
			}
		}
		b.sim.ClearFaults()
		if err := b.c.Apply([]Organization{other, first}); err != nil {
			t.Fatal(err)
		}
		b.refreshed()
		if len(ids(b.upstreamSeries(), b.sim.Config().OrganizationID)) < 60 {
			t.Error("no series of an organization that was added")
		}
		b.pass(2 * time.Minute) // at the learned rhythm they are up to a minute apart
		if n := second.Count("organization_metrics", 200); n < 3 {
			t.Errorf("%d polls of the organization that stayed", n)
		}
	})
}

func TestConfigurationErrors(t *testing.T) {
	cfg := api.Config{Credentials: api.StaticCredentials("k", "s"), Budget: api.NewBudget(api.BudgetConfig{Requests: 8})}
	for _, tt := range []struct {
		organizations []Organization
		want          string
	}{
		{nil, "no organization to poll: configure at least one"},
		{[]Organization{{ID: "a", API: cfg}, {ID: "a", Name: "b", API: cfg}}, "organization id a is configured twice: keep one of them"},
		{[]Organization{{API: cfg}, {API: cfg}}, "two organizations have neither a name nor an id: give each of them one"},
		{[]Organization{{Name: "x", API: cfg}, {Name: "x", API: cfg}}, `two organizations are called "x": give each of them a name of its own`},
		{[]Organization{{Name: "x"}}, `organization "x" has no rate budget: this is a bug`},
	} {
		if _, err := New(Options{Organizations: tt.organizations}); err == nil || err.Error() != tt.want {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
}
