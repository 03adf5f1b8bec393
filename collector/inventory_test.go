package collector

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

func TestInventoryOutageChangesNoLabel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 5}, nil)
		b.refreshed()
		before := identities(b.series())
		last := b.own("clickhouse_postgres_exporter_inventory_last_success_timestamp_seconds")

		heal := b.sim.SetFault(simulator.Fault{Endpoints: []string{"services"}, Status: 503})
		for range 10 {
			b.pass(time.Minute)
			if diff := cmp.Diff(before, identities(b.series())); diff != "" {
				t.Fatalf("series (-before +during):\n%s", diff)
			}
		}
		if b.sim.Count("services", 503) < 10 {
			t.Fatalf("the list failed only %d times", b.sim.Count("services", 503))
		}
		b.want("clickhouse_postgres_up", "0")
		b.want("clickhouse_postgres_exporter_inventory_last_success_timestamp_seconds", last)
		if lines := b.logs.lines("endpoint=services", "level=warn"); len(lines) != 1 {
			t.Errorf("want one line about the outage, got %q", lines)
		}

		heal()
		b.pass(2 * time.Minute)
		b.want("clickhouse_postgres_up", "1")
		if diff := cmp.Diff(before, identities(b.series())); diff != "" {
			t.Errorf("series (-before +after):\n%s", diff)
		}
		if lines := b.logs.lines("endpoint=services", "works again", "after="); len(lines) != 1 {
			t.Errorf("want one line about the recovery, got %q", lines)
		}
	})
}

func TestChangesShowAtTheNextRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 4}, nil)
		b.refreshed()
		services := b.sim.Services()
		renamed, stopped, tagged, deleted := services[0].ID, services[1].ID, services[2].ID, services[3].ID
		const oneRefresh = 70 * time.Second

		b.sim.Rename(renamed, "a new name")
		b.sim.SetState(stopped, "stopped")
		b.sim.SetTags(tagged, simulator.Tag{Key: "Environment", Value: "production"})
		b.sim.Delete(deleted)
		b.pass(oneRefresh)

		all := b.series()
		if found := ids(all, "clickhouse_postgres_service_info", renamed, `postgres_service_name="a new name"`); len(found) != 1 {
			t.Errorf("renamed service: %q", ids(all, "clickhouse_postgres_service_info", renamed))
		}
		for _, id := range ids(all, stopped, "Postgres") {
			if !strings.Contains(id, `postgres_state="stopped"`) {
				t.Errorf("series with the former state: %s", id)
			}
		}
		if found := ids(all, serviceStateName, stopped); len(found) != 1 || !strings.Contains(found[0], `state="stopped"`) || all[found[0]] != "1" {
			t.Errorf("state: %q, want one series", found)
		}
		if found := ids(all, serviceTagName, tagged); len(found) != 1 || !strings.Contains(found[0], `key="Environment"`) || !strings.Contains(found[0], `value="production"`) {
			t.Errorf("tagged service: %q", found)
		}
		if found := ids(all, deleted); len(found) != 0 {
			t.Errorf("series of the deleted service: %q", found)
		}
		org := b.sim.Config().OrganizationID
		if _, err := b.c.Page(org, deleted); !errors.Is(err, ErrNotFound) {
			t.Errorf("page of the deleted service: %v, want %v", err, ErrNotFound)
		}

		b.sim.Resize(4) // one more: another one than the deleted
		created := b.sim.Services()[3].ID
		b.pass(2 * oneRefresh)
		if found := ids(b.upstreamSeries(), created, "postgres_region="); len(found) == 0 {
			t.Error("no series of the new service")
		}
	})
}

// A deleted service stays in upstream's metrics until they are renewed.
func TestDeletedServiceIsGoneBeforeItsMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 3, RefreshInterval: time.Hour}, nil)
		b.refreshed()
		id := b.sim.Services()[1].ID
		b.sim.Delete(id)
		b.pass(70 * time.Second)
		for range 6 {
			if found := ids(b.series(), id); len(found) != 0 {
				t.Fatalf("series of the deleted service: %q", found)
			}
			b.pass(30 * time.Second)
		}
		// If upstream goes on to report it, then its inventory is what is wrong.
		b.pass(5 * time.Minute)
		if found := ids(b.upstreamSeries(), id); len(found) == 0 {
			t.Error("a service that upstream reports for minutes after its deletion stays hidden")
		}
		b.want("clickhouse_postgres_exporter_unknown_services", "1")
	})
}

// withoutService returns a fault by which the list leaves a service out.
func withoutService(id string) simulator.Fault {
	return simulator.Fault{Endpoints: []string{"services"}, Mutate: func(body []byte) []byte {
		var list struct {
			Result    []map[string]any `json:"result"`
			RequestID string           `json:"requestId"`
			Status    int              `json:"status"`
		}
		if err := json.Unmarshal(body, &list); err != nil {
			panic(err)
		}
		list.Result = slices.DeleteFunc(list.Result, func(s map[string]any) bool { return s["id"] == id })
		body, err := json.Marshal(list)
		if err != nil {
			panic(err)
		}
		return body
	}}
}

func TestUnknownService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var id string
		var heal func()
		b := newBench(t, simulator.Config{Services: 3}, func(_ *Options, _ *Organization) {})
		id = b.sim.Services()[2].ID
		heal = b.sim.SetFault(withoutService(id))
		b.refreshed()
		found := ids(b.upstreamSeries(), id)
		if len(found) < 30 {
			t.Fatalf("%d series of the unknown service", len(found))
		}
		for _, s := range found {
			if strings.Contains(s, "postgres_region=") {
				t.Errorf("labels of an unknown service: %s", s)
			}
		}
		b.want("clickhouse_postgres_exporter_unknown_services", "1")
		name := b.sim.Services()[2].Name
		if up := ids(b.series(), serviceUpName, id, fmt.Sprintf("%s=%q", inventory.NameLabel, name)); len(up) != 1 {
			t.Errorf("health of the unknown service: %q", up)
		}
		if _, err := b.c.Page(b.sim.Config().OrganizationID, id); err != nil {
			t.Errorf("page of the unknown service: %v", err)
		}

		heal()
		b.pass(70 * time.Second)
		b.want("clickhouse_postgres_exporter_unknown_services", "0")
		for _, s := range ids(b.upstreamSeries(), id) {
			if !strings.Contains(s, "postgres_region=") {
				t.Errorf("without its labels: %s", s)
			}
		}
	})
}

// A service that a list leaves out comes back with what the page that is held says of
// it.
func TestServiceThatOneListLeavesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 3}, nil)
		b.refreshed()
		id := b.sim.Services()[1].ID
		before := ids(b.upstreamSeries(), id)
		b.sim.SetFault(simulator.Fault{Endpoints: []string{"organization_metrics", "service_metrics"}, Status: 503})
		heal := b.sim.SetFault(withoutService(id))
		b.pass(70 * time.Second)
		if found := ids(b.series(), id); len(found) != 0 {
			t.Errorf("series of a service that is not listed: %q", found)
		}
		heal()
		b.pass(70 * time.Second)
		if diff := cmp.Diff(before, ids(b.upstreamSeries(), id)); diff != "" {
			t.Errorf("series (-before +after):\n%s", diff)
		}
	})
}

func TestEmptyList(t *testing.T) {
	t.Run("once is a hiccup", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, simulator.Config{Services: 3}, nil)
			b.refreshed()
			before := identities(b.series())
			fault := simulator.EmptyList()
			fault.Endpoints, fault.Count = []string{"services"}, 1
			b.sim.SetFault(fault)
			for range 20 {
				b.pass(10 * time.Second)
				if diff := cmp.Diff(before, identities(b.series())); diff != "" {
					t.Fatalf("series (-before +after):\n%s", diff)
				}
			}
			if lines := b.logs.lines("empty", "confirm"); len(lines) != 1 {
				t.Errorf("want one line about the empty list, got %q", lines)
			}
		})
	})
	t.Run("twice is believed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, simulator.Config{Services: 3}, nil)
			b.refreshed()
			b.sim.Resize(0)
			b.pass(140 * time.Second)
			if found := ids(b.series(), inventory.ServiceLabel+"="); len(found) != 0 {
				t.Errorf("series of services that are gone: %q", found)
			}
			b.want("clickhouse_postgres_up", "1")
		})
	})
	t.Run("from the start is no error", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, simulator.Config{Services: 0}, nil)
			b.refreshed()
			b.pass(10 * time.Minute)
			if !b.c.Ready() {
				t.Error("not ready")
			}
			b.want("clickhouse_postgres_up", "1")
			if o := b.c.Status().Organizations[0]; !o.InventoryKnown || len(o.Services) != 0 || o.Error != "" {
				t.Errorf("status: %+v", o)
			}
			if _, err := b.c.Page(b.sim.Config().OrganizationID, ""); err != nil {
				t.Errorf("page: %v", err)
			}
			if lines := b.logs.lines("level=warn"); len(lines) != 0 {
				t.Errorf("warnings: %q", lines)
			}
		})
	})
}

func TestHostname(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 3}, func(_ *Options, o *Organization) {
			var err error
			if o.EnrichLabels, err = inventory.ParseEnrichLabels([]string{"hostname"}); err != nil {
				t.Fatal(err)
			}
		})
		b.refreshed()
		b.pass(5 * time.Minute)
		for _, s := range b.sim.Services() {
			want := fmt.Sprintf("postgres_hostname=%q", s.Hostname)
			if s.Hostname == "" || len(ids(b.upstreamSeries(), s.ID)) != len(ids(b.upstreamSeries(), s.ID, want)) {
				t.Errorf("want %s in %q", want, ids(b.upstreamSeries(), s.ID))
			}
		}
		b.pass(time.Hour)
		if n := b.sim.Count("service", 200); n != 3 {
			t.Errorf("%d requests for hostnames, want one a service", n)
		}
	})
}

func TestRestartPublishesNoSeriesWithoutItsLabels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 2}, nil)
		b.sim.SetFault(simulator.Fault{Endpoints: []string{"services"}, Latency: 20 * time.Second, Count: 1})
		for range 60 {
			b.pass(time.Second)
			for _, id := range ids(b.upstreamSeries()) {
				if !strings.Contains(id, "postgres_region=") {
					t.Fatalf("without labels: %s", id)
				}
			}
		}
		if len(b.upstreamSeries()) == 0 {
			t.Error("no series")
		}
	})
}

func TestListThatNeverWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 2}, nil)
		b.sim.SetFault(simulator.Fault{Endpoints: []string{"services"}, Status: 500})
		b.pass(2 * time.Minute)
		if len(b.upstreamSeries()) < 60 {
			t.Error("metrics are held back because of the list")
		}
		if o := b.c.Status().Organizations[0]; o.InventoryKnown || o.Inventory.OK || o.Inventory.Error == "" {
			t.Errorf("status: %+v", o)
		}
	})
}

// Services move in and out of a truncated page, and their labels change meanwhile.
func TestLabelsOfServicesThatLeftThePage(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(b *bench, id string)
		label  string
	}{
		"state": {func(b *bench, id string) { b.sim.SetState(id, "restarting") }, `postgres_state="restarting"`},
		"tag":   {func(b *bench, id string) { b.sim.SetTags(id, simulator.Tag{Key: "team", Value: "new"}) }, `postgres_tag_team="new"`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, simulator.Config{Services: 60, OrgMetricsLimit: 20, CapMode: simulator.CapTruncateRotating}, func(_ *Options, o *Organization) {
					var err error
					if o.EnrichLabels, err = inventory.ParseEnrichLabels([]string{"state,tag:team"}); err != nil {
						t.Fatal(err)
					}
					// So little that the services' own pages do not come in between.
					o.API.Budget = api.NewBudget(api.BudgetConfig{Requests: 2, Window: 30 * time.Second})
				})
				b.pass(time.Hour)
				// Those whose series are those of a page that is no longer the newest.
				p := b.poller(0)
				b.stop()
				changed := map[string]time.Time{}
				for id, s := range p.state.services {
					if !s.fetchedAt.IsZero() && p.state.page[id] == nil && !s.own {
						changed[id] = s.fetchedAt
					}
				}
				if len(changed) < 5 {
					t.Fatalf("only %d services left the page", len(changed))
				}
				for id := range changed {
					tt.change(b, id)
				}
				list, err := p.client.Services(t.Context(), p.id())
				if err != nil {
					t.Fatal(err)
				}
				now := time.Now()
				p.setInventory(inventory.ByID(list), now)
				p.publish(now)
				for id, at := range changed {
					of := ids(b.upstreamSeries(), id)
					if with := ids(b.upstreamSeries(), id, tt.label); len(of) < 30 || len(with) != len(of) {
						t.Errorf("%d of %d series have the new label", len(with), len(of))
					}
					if s := p.state.services[id]; !s.fetchedAt.Equal(at) {
						t.Errorf("the data's age changed: %s, was %s", s.fetchedAt, at)
					}
				}
				before := map[string]*exposition.Block{}
				for id, s := range p.state.services {
					before[id] = s.block
				}
				p.setInventory(inventory.ByID(list), now)
				for id, s := range p.state.services {
					if s.block != before[id] {
						t.Error("labelled again although nothing changed")
					}
				}
				b.want("clickhouse_postgres_exporter_unknown_services", "0")
			})
		})
	}
}

func TestNewState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 2}, nil)
		b.refreshed()
		id := b.sim.Services()[0].ID
		b.sim.SetState(id, "migrating")
		for _, want := range []int{1, 0} {
			b.pass(2 * time.Minute)
			all := b.series()
			if found := ids(all, serviceStateName, id, `state="migrating"`); len(found) != want {
				t.Errorf("services in the new state: %q, want %d", found, want)
			}
			if found := ids(all, "clickhouse_postgres_services{", `state="migrating"`); len(found) != want {
				t.Errorf("numbers of services in the new state: %q, want %d", found, want)
			}
			b.sim.SetState(id, "running")
		}
	})
}

func TestSelectionAndShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 12}, func(_ *Options, o *Organization) {
			o.Shard = inventory.Shard{Index: 1, Count: 2}
		})
		b.refreshed()
		all := b.series()
		for _, s := range b.sim.Services() {
			owned := inventory.Shard{Index: 1, Count: 2}.Owns(s.ID)
			if got := len(ids(all, s.ID)) > 0; got != owned {
				t.Errorf("service %s is exported: %t, owned: %t", s.ID, got, owned)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		var id string
		b := newBench(t, simulator.Config{Services: 5, Seed: 8}, func(_ *Options, o *Organization) {
			id = simulator.New(simulator.Config{Services: 5, Seed: 8}).Services()[3].ID
			var err error
			if o.Selection, err = inventory.NewSelection([]inventory.Filter{{IDs: []string{id}}}, nil); err != nil {
				t.Fatal(err)
			}
		})
		b.refreshed()
		b.pass(5 * time.Minute)
		if all := b.series(); len(ids(all, "postgres_service=")) != len(ids(all, id)) || len(ids(all, id, "Postgres")) < 30 {
			t.Errorf("series: %q", ids(all))
		}
		if n := b.sim.Count("organization_metrics", -1); n != 0 {
			t.Errorf("%d requests for the organization's page", n)
		}
	})
}

// What is held must follow the fleet, whether anybody scrapes or not.
func TestChurnLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 20}, nil)
		b.refreshed()
		for range 100 {
			b.sim.Resize(0)
			b.sim.Resize(20)
			b.pass(time.Minute)
		}
		b.pass(20 * time.Minute)
		b.stop()
		st := b.poller(0).state
		if n := len(st.services); n != 20 {
			t.Errorf("%d services are held", n)
		}
		if n := len(st.tombstones); n != 0 {
			t.Errorf("%d tombstones", n)
		}
	})
}
