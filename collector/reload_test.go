package collector

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

func TestDiscovery(t *testing.T) {
	without := func(_ *Options, org *Organization) { org.ID, org.Name = "", "" }
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
			name := b.sim.Config().OrganizationName
			if info := ids(b.series(), "clickhouse_postgres_organization_info{", b.sim.Config().OrganizationID, fmt.Sprintf("name=%q", name)); len(info) != 1 {
				t.Errorf("info: %q", ids(b.series(), "clickhouse_postgres_organization_info"))
			}
			if lines := b.logs.lines("Inventory read", "org="+b.sim.Config().OrganizationID, "org_name=", name); len(lines) != 1 {
				t.Errorf("log: %q", b.logs.lines())
			}
		})
	})
	t.Run("its name, where its id is given", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, simulator.Config{Services: 1}, func(_ *Options, org *Organization) { org.Name = "" })
			b.refreshed()
			if found := ids(b.series(), "clickhouse_postgres_organization_info"); len(found) != 0 {
				t.Errorf("info before the name is known: %q", found)
			}
			b.pass(time.Hour)
			name := b.sim.Config().OrganizationName
			if info := ids(b.series(), "clickhouse_postgres_organization_info{", fmt.Sprintf("name=%q", name)); len(info) != 1 {
				t.Errorf("info: %q", info)
			}
			if o := b.c.Status().Organizations[0]; o.Name != name {
				t.Errorf("status: %+v", o)
			}
			if n := b.sim.Count("organizations", -1); n != 1 {
				t.Errorf("%d requests for the name", n)
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
			if _, err := b.c.Page("", ""); err != nil {
				t.Error(err)
			}
			if found := ids(b.health(), "clickhouse_org="); len(found) != 0 {
				t.Errorf("series of an organization without an id: %q", found)
			}
			if got := b.health()["clickhouse_postgres_exporter_undiscovered_organizations"]; got != "1" {
				t.Errorf("%q organizations without an id", got)
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
		kept := b.poller(1)
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
		if b.poller(1) != kept {
			t.Error("an organization that did not change was disturbed")
		}

		bad := changed
		bad.API.BaseURL = "ftp://nowhere"
		if err := b.c.Apply([]Organization{other, bad}); err == nil || !strings.Contains(err.Error(), "base URL must be") {
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

// A reload while the organization is still being looked for touches nothing that the
// poller is at work on.
func TestReloadDuringDiscovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var org Organization
		b := newBench(t, simulator.Config{Services: 1}, func(_ *Options, o *Organization) {
			o.ID = ""
			org = *o
		})
		b.sim.SetFault(simulator.Fault{Endpoints: []string{"organizations"}, Latency: time.Second})
		for i := range 300 {
			org.Timestamps = i%10 == 0 // and is applied as well
			if err := b.c.Apply([]Organization{org}); err != nil {
				t.Fatal(err)
			}
			<-time.After(10 * time.Millisecond)
		}
		b.pass(time.Minute)
		b.want("clickhouse_postgres_up", "1")
	})
}

// The id of an organization that was found may be written down, and taken out again.
func TestReloadOfAnID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var org Organization
		b := newBench(t, simulator.Config{Services: 3}, func(_ *Options, o *Organization) {
			o.ID, o.Name = "", "shop"
			org = *o
		})
		b.refreshed()
		b.pass(3 * time.Minute)
		before := b.upstreamSeries()
		if len(before) < 90 {
			t.Fatalf("%d series", len(before))
		}
		for _, id := range []string{b.sim.Config().OrganizationID, ""} {
			org.ID = id
			if err := b.c.Apply([]Organization{org}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, b.upstreamSeries()); diff != "" {
				t.Errorf("id %q (-before +after):\n%s", id, diff)
			}
		}
		b.pass(3 * time.Minute)
		b.want("clickhouse_postgres_up", "1")
		if n := b.sim.Count("organizations", -1); n != 2 {
			t.Errorf("the organization was looked for %d times", n)
		}
	})
}

// A key of another organization takes nothing of the former one along.
func TestReloadOfAKeyOfAnotherOrganization(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		second := simulator.New(simulator.Config{Services: 2, Seed: 99})
		var org Organization
		b := newBench(t, simulator.Config{Services: 2}, func(_ *Options, o *Organization) {
			o.ID = ""
			org = *o
		})
		b.refreshed()
		b.pass(time.Minute)
		org.API = upstream(t, second)
		if err := b.c.Apply([]Organization{org}); err != nil {
			t.Fatal(err)
		}
		b.pass(time.Minute)
		all, health := b.series(), b.health()
		if n := len(ids(all, b.sim.Config().OrganizationID)) + len(ids(health, b.sim.Config().OrganizationID)); n != 0 {
			t.Errorf("%d series of the former organization", n)
		}
		if n := len(ids(all, "Postgres", second.Config().OrganizationID)); n < 60 {
			t.Errorf("%d series of the new organization", n)
		}
	})
}

// Looking for the organization is tried again as soon as metrics would be.
func TestDiscoveryIsTriedAgainSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 3}, func(_ *Options, o *Organization) {
			o.ID, o.InventoryInterval = "", time.Hour
		})
		b.sim.SetFault(simulator.Fault{Endpoints: []string{"organizations"}, Status: 503, Count: 3}) // one call with its retries
		b.pass(2 * time.Minute)
		if n := len(b.upstreamSeries()); n < 90 {
			t.Errorf("%d series two minutes after three 503 at start", n)
		}
	})
}
