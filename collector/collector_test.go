package collector

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

// expected returns the identity and value of every series that the simulator's
// organization page has at the moment, as the exporter is to show it.
func (b *bench) expected(inline func(simulator.Service) map[string]string) map[string]string {
	services := map[string]simulator.Service{}
	for _, s := range b.sim.Services() {
		services[s.ID] = s
	}
	all := map[string]string{}
	for _, s := range b.sim.Series(time.Now()) {
		labels := maps.Clone(s.Labels)
		for name, value := range inline(services[s.Labels["postgres_service"]]) {
			labels[name] = value
		}
		pairs := make([]string, 0, len(labels))
		for _, name := range slices.Sorted(maps.Keys(labels)) {
			pairs = append(pairs, fmt.Sprintf("%s=%q", name, labels[name]))
		}
		all[s.Name+"{"+strings.Join(pairs, ",")+"}"] = fmt.Sprint(s.Value)
	}
	return all
}

func byDefault(s simulator.Service) map[string]string {
	return map[string]string{"postgres_region": s.Region, "postgres_size": s.Size, "postgres_state": s.State}
}

// sorted returns the series with labels in order: where an inlined label stands is
// no part of a series' identity.
func sorted(all map[string]string) map[string]string {
	out := make(map[string]string, len(all))
	for id, value := range all {
		name, pairs, _ := strings.Cut(strings.TrimSuffix(id, "}"), "{")
		parts := strings.Split(pairs, `",`)
		for i := range parts {
			parts[i] = strings.TrimSuffix(parts[i], `"`) + `"`
		}
		slices.Sort(parts)
		out[name+"{"+strings.Join(parts, ",")+"}"] = value
	}
	return out
}

func identities(all map[string]string) []string { return slices.Sorted(maps.Keys(sorted(all))) }

func TestGoldenPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 2, Seed: 3}, nil)
		id := b.sim.Services()[0].ID
		b.sim.SetTags(id, simulator.Tag{Key: "team", Value: `a "b"`}, simulator.Tag{Key: "critical"})
		b.refreshed()

		org := b.sim.Config().OrganizationID
		for file, page := range map[string]string{
			"everything.prom": b.text("", ""),
			"service.prom":    b.text(org, id),
		} {
			got := []byte(masked(page))
			path := filepath.Join("testdata", file)
			if *update {
				if err := os.MkdirAll("testdata", 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", file, diff)
			}
		}
		if b.text(org, "") != b.text("", "") {
			t.Error("the page of the only organization is not the page of everything")
		}
	})
}

func TestEverySeriesWithItsLabelsAndValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 40, States: map[string]float64{"stopped": .2}}, nil)
		b.refreshed()
		compare := func() {
			t.Helper()
			want, got := sorted(b.expected(byDefault)), sorted(b.upstreamSeries())
			if len(want) < 500 {
				t.Fatalf("only %d series to compare", len(want))
			}
			if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
				t.Errorf("series (-want +got):\n%s", diff)
			}
		}
		compare()
		b.pass(10 * time.Minute)
		compare()
		b.want("clickhouse_postgres_up", "1")
		b.want("clickhouse_postgres_exporter_unknown_services", "0")
		if n := b.sim.Count("", 429); n != 0 {
			t.Errorf("%d requests were refused by the rate limit", n)
		}
	})
}

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
		for id, want := range map[string]string{"running": "0", "stopped": "1"} {
			found := ids(all, "clickhouse_postgres_service_state", stopped, fmt.Sprintf("state=%q", id))
			if len(found) != 1 || all[found[0]] != want {
				t.Errorf("state %s: %q, want one series of value %s", id, found, want)
			}
		}
		if found := ids(all, "clickhouse_postgres_service_tags_info", tagged, `tag_Environment="production"`); len(found) != 1 {
			t.Errorf("tagged service: %q", ids(all, "clickhouse_postgres_service_tags_info"))
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

func TestEmptyList(t *testing.T) {
	t.Run("once is a hiccup", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, simulator.Config{Services: 3}, nil)
			b.refreshed()
			before := identities(b.series())
			fault := simulator.EmptyList()
			fault.Count = 1
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

func TestStaleDataVanishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 3}, nil)
		b.refreshed()
		org, id := b.sim.Config().OrganizationID, b.sim.Services()[0].ID
		b.sim.SetFault(simulator.Fault{Endpoints: []string{"organization_metrics", "service_metrics"}, Status: 500})
		b.pass(4 * time.Minute)
		before := identities(b.upstreamSeries())
		if len(before) < 100 {
			t.Fatalf("%d series before they are too old", len(before))
		}
		b.want("clickhouse_postgres_up", "0")
		if all := b.series(); all[ids(all, serviceUpName, id)[0]] != "0" {
			t.Error("the service is up although its metrics cannot be read")
		}

		b.pass(2 * time.Minute)
		if found := b.upstreamSeries(); len(found) != 0 {
			t.Errorf("%d series that are too old", len(found))
		}
		all := b.series()
		for _, name := range []string{serviceInfoName, serviceUpName, serviceLastSuccessName} {
			if len(ids(all, name+"{", id)) != 1 {
				t.Errorf("no %s", name)
			}
		}
		b.want("clickhouse_postgres_exporter_series", "0")
		var unavailable *UnavailableError
		for _, service := range []string{"", id} {
			_, err := b.c.Page(org, service)
			if !errors.As(err, &unavailable) || !strings.Contains(unavailable.Reason, "expired") ||
				!strings.Contains(unavailable.Reason, "500") {
				t.Errorf("page of service %q: %v", service, err)
			}
		}
		if lines := b.logs.lines("endpoint=organization_metrics"); len(lines) != 2 { // read, fails
			t.Errorf("log: %q", lines)
		}

		b.sim.ClearFaults()
		b.pass(2 * time.Minute)
		if diff := cmp.Diff(before, identities(b.upstreamSeries())); diff != "" {
			t.Errorf("series (-before +after):\n%s", diff)
		}
		b.want("clickhouse_postgres_up", "1")
	})
}

// Expiry must not depend on a worker that runs, nor on anybody asking.
func TestExpiryIsCheckedWhenServing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 2}, nil)
		b.refreshed()
		b.stop()
		b.pass(4 * time.Minute)
		if len(b.upstreamSeries()) == 0 {
			t.Fatal("data is gone too soon")
		}
		b.pass(2 * time.Minute)
		if n := len(b.upstreamSeries()); n != 0 {
			t.Errorf("%d series that are too old", n)
		}
		if len(ids(b.series(), serviceInfoName)) != 2 {
			t.Error("the inventory is gone, too")
		}
	})
}

func TestRefusedPages(t *testing.T) {
	mutate := func(f func([]byte) []byte) simulator.Fault { return simulator.Fault{Mutate: f} }
	for _, tt := range []struct {
		name   string
		fault  simulator.Fault
		reason string
	}{
		{"HTML", simulator.HTML(), "content_type"},
		{"JSON", simulator.JSON(), "content_type"},
		{"wrong type", simulator.WrongContentType("image/png"), "content_type"},
		{"nothing", simulator.EmptyBody(), "empty"},
		{"only comments", mutate(func([]byte) []byte { return []byte("# TYPE a gauge\n\n") }), "empty"},
		{"malformed line", mutate(simulator.MalformedLine), "parse"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, simulator.Config{Services: 3}, nil)
				b.refreshed()
				before := sorted(b.upstreamSeries())
				tt.fault.Endpoints = []string{"organization_metrics"}
				b.sim.SetFault(tt.fault)
				b.pass(100 * time.Second)
				if diff := cmp.Diff(before, sorted(b.upstreamSeries())); diff != "" {
					t.Errorf("the last good page is not kept (-before +after):\n%s", diff)
				}
				if n := b.own("clickhouse_postgres_exporter_pages_refused_total", `endpoint="organization_metrics"`, fmt.Sprintf("reason=%q", tt.reason)); n == "" || n == "0" {
					t.Errorf("not counted: %v", b.health())
				}
				b.want("clickhouse_postgres_up", "0")
				if lines := b.logs.lines("level=warn", "reason="+tt.reason); len(lines) != 1 {
					t.Errorf("want one line, got %q of %q", lines, b.logs.lines())
				}
			})
		})
	}
}

func TestEmptyPageIsRightWhenNothingRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 2, States: map[string]float64{"creating": 1}}, nil)
		b.sim.SetFault(simulator.Fault{Endpoints: []string{"organization_metrics"}, Mutate: func([]byte) []byte { return nil }})
		b.refreshed()
		b.pass(2 * time.Minute)
		b.want("clickhouse_postgres_up", "1")
		if len(ids(b.series(), serviceStateName, `state="creating"`)) != 2 {
			t.Error("no inventory")
		}
		org, id := b.sim.Config().OrganizationID, b.sim.Services()[0].ID
		if _, err := b.c.Page(org, id); err != nil {
			t.Errorf("page of a service that is being created: %v", err)
		}
	})
}

func TestReservedFamilies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 2}, func(o *Options, _ *Organization) {
			o.ReservedNames = []string{"go_goroutines"}
		})
		b.sim.SetFault(simulator.Fault{Endpoints: []string{"organization_metrics"}, Mutate: func(page []byte) []byte {
			return append(bytes.Clone(page), `
# TYPE clickhouse_postgres_service_info gauge
clickhouse_postgres_service_info{postgres_service="x"} 5
# TYPE go_goroutines gauge
go_goroutines 5
# TYPE clickhouse_postgres_exporter_anything gauge
clickhouse_postgres_exporter_anything 5
# TYPE up gauge
up{postgres_service="x"} 5
# TYPE go_threads gauge
go_threads 5
`...)
		}})
		b.refreshed()
		all := b.series()
		for id, value := range all {
			if value == "5" && !strings.HasPrefix(id, "up{") && !strings.HasPrefix(id, "go_threads") && !strings.HasPrefix(id, "Postgres") {
				t.Errorf("%s %s", id, value)
			}
		}
		if len(ids(all, "go_threads"))+len(ids(all, `up{postgres_service="x"}`)) < 2 {
			t.Error("families that are not the program's own are missing")
		}
		b.want("clickhouse_postgres_exporter_series_dropped_total", "3", `reason="reserved"`)
	})
}

func TestRules(t *testing.T) {
	for _, tt := range []struct {
		name  string
		rules string
		check func(t *testing.T, b *bench, all map[string]string)
	}{
		{
			"rename", `
- source_labels: [__name__]
  regex: PostgresServer_(.*)
  target_label: __name__
  replacement: pg_$1`,
			func(t *testing.T, _ *bench, all map[string]string) {
				if n := len(ids(all, "PostgresServer_")); n != 0 {
					t.Errorf("%d series have the former name", n)
				}
				if n := len(ids(all, "pg_CPUSeconds_Total{", "postgres_region=")); n != 3*8 {
					t.Errorf("%d series have the new name", n)
				}
			},
		}, {
			"drop", `
- source_labels: [__name__]
  regex: PostgresServer_CPUCores|clickhouse_postgres_service_info
  action: drop`,
			func(t *testing.T, b *bench, all map[string]string) {
				if found := append(ids(all, "PostgresServer_CPUCores"), ids(all, serviceInfoName)...); len(found) != 0 {
					t.Errorf("not dropped: %q", found)
				}
				b.want("clickhouse_postgres_exporter_series_dropped_total", "3", `reason="rule"`)
			},
		}, {
			"keep leaves health alone", `
- source_labels: [__name__]
  regex: PostgresServer_CPUCores
  action: keep`,
			func(t *testing.T, _ *bench, all map[string]string) {
				if len(ids(all, "Postgres")) != 3 || len(ids(all, serviceInfoName)) != 0 || len(ids(all, serviceUpName)) != 3 {
					t.Errorf("series: %q", ids(all))
				}
			},
		}, {
			"merge", `
- regex: postgres_.*
  action: labeldrop`,
			func(t *testing.T, b *bench, all map[string]string) {
				if n := len(ids(all, "PostgresServer_CPUSeconds_Total{")); n != 8 {
					t.Errorf("%d series, want one a mode", n)
				}
				if n := b.own("clickhouse_postgres_exporter_series_dropped_total", `reason="duplicate"`); n == "0" {
					t.Error("no duplicate counted")
				}
			},
		}, {
			"no name left", `
- source_labels: [__name__]
  regex: PostgresServer_CPUCores
  target_label: __name__
  replacement: ""`,
			func(t *testing.T, b *bench, all map[string]string) {
				if len(ids(all, "CPUCores")) != 0 {
					t.Error("not dropped")
				}
				b.want("clickhouse_postgres_exporter_series_dropped_total", "3", `reason="invalid"`)
			},
		}, {
			"into a name of our own", `
- source_labels: [__name__]
  regex: PostgresServer_CPUCores
  target_label: __name__
  replacement: clickhouse_postgres_up`,
			func(t *testing.T, b *bench, all map[string]string) {
				if len(ids(all, "clickhouse_postgres_up{")) != 0 {
					t.Error("not refused")
				}
				b.want("clickhouse_postgres_exporter_series_dropped_total", "3", `reason="reserved"`)
			},
		}, {
			"by an inventory label", `
- source_labels: [postgres_state]
  regex: (running)
  target_label: __tmp_live
- source_labels: [__tmp_live]
  regex: running
  target_label: live
  replacement: "yes"`,
			func(t *testing.T, _ *bench, all map[string]string) {
				if n := len(ids(all, "PostgresServer_CPUCores{", `live="yes"`)); n != 3 {
					t.Errorf("%d series have the label", n)
				}
				if found := ids(all, "__tmp"); len(found) != 0 {
					t.Errorf("scratch labels are left: %q", found)
				}
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, simulator.Config{Services: 3}, func(_ *Options, o *Organization) { o.Rules = rules(t, tt.rules) })
				b.refreshed()
				tt.check(t, b, b.series())
			})
		})
	}
}

func TestOwnLabelsOfUpstreamWin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 2}, nil)
		b.sim.SetFault(simulator.Fault{Endpoints: []string{"organization_metrics"}, Mutate: func(page []byte) []byte {
			return bytes.ReplaceAll(page, []byte("PostgresServer_CPUCores{"), []byte(`PostgresServer_CPUCores{postgres_region="upstream's",postgres_size="",`))
		}})
		b.refreshed()
		found := ids(b.upstreamSeries(), "PostgresServer_CPUCores{", b.sim.Services()[0].ID)
		if len(found) != 1 || !strings.Contains(found[0], `postgres_region="upstream's"`) ||
			!strings.Contains(found[0], fmt.Sprintf("postgres_size=%q", b.sim.Services()[0].Size)) {
			t.Errorf("series: %q", found)
		}
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

func TestOneOrganizationDoesNotDelayAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		second := simulator.New(simulator.Config{Services: 2, Seed: 99})
		b := newBench(t, simulator.Config{Services: 2}, func(o *Options, _ *Organization) {
			o.Organizations = []Organization{{ID: second.Config().OrganizationID, API: upstream(t, second)}}
		})
		b.sim.SetFault(simulator.Fault{Hang: true})
		b.pass(10 * time.Minute)
		if n := len(ids(b.upstreamSeries(), second.Config().OrganizationID)); n < 60 {
			t.Errorf("%d series of the organization that works", n)
		}
		if n := second.Count("organization_metrics", 200); n < 15 {
			t.Errorf("%d polls in 10 minutes of the organization that works", n)
		}
		if !b.c.Ready() {
			t.Error("not ready")
		}
		if _, err := b.c.Page(second.Config().OrganizationID, ""); err != nil {
			t.Error(err)
		}
		if _, err := b.c.Page(b.sim.Config().OrganizationID, ""); !errors.As(err, new(*UnavailableError)) {
			t.Errorf("page of the organization that hangs: %v", err)
		}
		if _, err := b.c.Page("nobody's", ""); !errors.Is(err, ErrNotFound) {
			t.Errorf("page of an unknown organization: %v", err)
		}
		b.sim.ClearFaults()
		b.pass(3 * time.Minute)
		if n := len(ids(b.upstreamSeries(), b.sim.Config().OrganizationID)); n < 60 {
			t.Errorf("%d series of the organization that recovered", n)
		}
	})
}

func TestNeverTwoOfAKindInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 2}, nil)
		b.sim.SetFault(simulator.Fault{Latency: 29 * time.Second})
		b.pass(30 * time.Minute)
		last := map[string]time.Time{}
		for _, r := range b.sim.Requests() {
			thing := r.Endpoint + " " + r.ServiceID
			if gap := r.Time.Sub(last[thing]); gap < 29*time.Second {
				t.Errorf("a request to %s %s after the one before, which took longer", thing, gap)
			}
			last[thing] = r.Time
		}
		if len(last) < 2 {
			t.Errorf("requests: %v", last)
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
		kept := b.c.workers[1]
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
		if b.c.workers[1] != kept {
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

func TestMoreServicesThanTheOrganizationPageHolds(t *testing.T) {
	for _, tt := range []struct {
		name string
		mode simulator.CapMode
	}{{"truncated", simulator.CapTruncate}, {"rotating", simulator.CapTruncateRotating}, {"refused", simulator.CapReject}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, simulator.Config{
					Services: 130, CapMode: tt.mode,
					RateLimit: simulator.DefaultRateLimit, RateWindow: simulator.DefaultRateWindow,
				}, nil)
				b.refreshed()
				b.pass(10 * time.Minute)
				check := func() {
					t.Helper()
					want := slices.Sorted(maps.Keys(sorted(b.expected(byDefault))))
					if diff := cmp.Diff(want, identities(b.upstreamSeries())); diff != "" {
						t.Errorf("series (-want +got):\n%s", diff)
					}
				}
				for range 6 {
					check()
					b.pass(97 * time.Second)
				}
				if n := b.sim.Count("", 429); n != 0 {
					t.Errorf("%d requests were refused by the rate limit", n)
				}
				b.want("clickhouse_postgres_up", "1")
				if lines := b.logs.lines("level=warn"); len(lines) != 0 {
					t.Errorf("warnings: %q", lines)
				}
				b.sim.Resize(80)
				b.pass(3 * time.Minute)
				check()
			})
		})
	}
}

// When the budget is too small to keep data young, the user has to know.
func TestRefreshPeriodLongerThanMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 70, CapMode: simulator.CapReject, OrgMetricsLimit: 50}, func(_ *Options, o *Organization) {
			o.API.Budget = api.NewBudget(api.BudgetConfig{Requests: 1, Window: 10 * time.Second})
		})
		b.pass(time.Hour)
		if lines := b.logs.lines("level=warn", "max_age=5m0s", "period="); len(lines) != 1 {
			t.Errorf("want one warning, got %q", lines)
		}
		// Nothing is dropped only because it is read so rarely.
		for range 10 {
			b.pass(5 * time.Minute)
			if n := len(ids(b.upstreamSeries(), "PostgresServiceInfo")); n != 70 {
				t.Errorf("%d services are exported", n)
			}
		}
		if o := b.c.Status().Organizations[0]; o.RefreshSeconds <= 300 || o.MetricsCall != schedule.CallRefused || !o.Up {
			t.Errorf("status: %v s, %s, up %t, %s", o.RefreshSeconds, o.MetricsCall, o.Up, o.Error)
		}
		b.sim.Resize(5)
		b.pass(time.Hour)
		if lines := b.logs.lines("suffices again"); len(lines) != 1 {
			t.Errorf("want one line about the relief, got %q", lines)
		}
		// And once more when it begins again.
		b.sim.Resize(70)
		b.pass(time.Hour)
		if lines := b.logs.lines("level=warn", "--api.rate-limit"); len(lines) != 2 {
			t.Errorf("want a second warning, got %q", lines)
		}
	})
}

// What the organization's page covers is known only once it has been answered, and in
// an outage the budget is not what is wrong.
func TestNoWarningOfTheBudgetWithoutCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 240}, nil) // 140 of them by themselves
		b.pass(20 * time.Minute)
		heal := b.sim.SetFault(simulator.Fault{Endpoints: []string{"organization_metrics", "service_metrics"}, Status: 503})
		b.pass(20 * time.Minute)
		if period := b.planned(); period <= 300 {
			t.Errorf("while the organization's page fails, %v s are planned: too little for this test", period)
		}
		heal()
		b.pass(20 * time.Minute)
		if lines := b.logs.lines("--metrics.max-age"); len(lines) != 0 {
			t.Errorf("log: %q", lines)
		}
		b.want("clickhouse_postgres_exporter_uncovered_services", "140")
		if period := b.planned(); period < 140/.8 || period > 300 {
			t.Errorf("%v s are planned", period)
		}
	})
}

// The plan is exported from the first moment on, whatever upstream does.
func TestThePlanIsAlwaysExported(t *testing.T) {
	for name, fault := range map[string]simulator.Fault{
		"well": {Endpoints: []string{"service_state"}}, "down": {Status: 500}, "silent": {Hang: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sim := simulator.New(simulator.Config{Services: 3})
				sim.SetFault(fault)
				id := sim.Config().OrganizationID
				for _, org := range []Organization{{ID: id}, {Name: id}} { // known, and to be found
					logs := &logs{}
					org.API = upstream(t, sim)
					c, err := New(Options{Organizations: []Organization{org}})
					if err != nil {
						t.Fatal(err)
					}
					b := &bench{t: t, sim: sim, c: c, logs: logs}
					check := func() {
						t.Helper()
						b.want("clickhouse_postgres_exporter_planned_refresh_period_seconds", "30")
						if got := b.own("clickhouse_postgres_exporter_uncovered_services"); got != "0" && got != "3" {
							t.Errorf("%q services are uncovered", got)
						}
					}
					check()
					b.start()
					for range 5 {
						synctest.Wait()
						check()
						b.pass(time.Minute)
					}
					b.stop()
				}
			})
		})
	}
}

// With a short interval, data expires at the age that was asked for.
func TestMaxAgeOfShortIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 3}, func(_ *Options, o *Organization) {
			o.MetricsInterval, o.MaxAge = 2*time.Second, 10*time.Second
		})
		b.refreshed()
		for range 600 {
			b.pass(time.Second)
			if n := len(ids(b.upstreamSeries(), "PostgresServiceInfo")); n != 3 {
				t.Fatalf("%d services are exported", n)
			}
		}
		b.sim.SetFault(simulator.Fault{Endpoints: []string{"organization_metrics", "service_metrics"}, Status: 503})
		b.pass(5 * time.Second)
		if len(b.upstreamSeries()) == 0 {
			t.Error("gone too soon")
		}
		b.pass(7 * time.Second)
		if n := len(b.upstreamSeries()); n != 0 {
			t.Errorf("%d series that are older than 10 s", n)
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
				w := b.c.workers[0]
				b.stop()
				changed := map[string]time.Time{}
				for id, s := range w.samples {
					if w.apart[id] != nil && !s.own {
						changed[id] = s.fetchedAt
					}
				}
				if len(changed) < 5 {
					t.Fatalf("only %d services left the page", len(changed))
				}
				for id := range changed {
					tt.change(b, id)
				}
				list, err := w.client.Services(t.Context(), w.label())
				if err != nil {
					t.Fatal(err)
				}
				now := time.Now()
				w.takeList(list, now, false)
				w.publish(now)
				for id, at := range changed {
					of := ids(b.upstreamSeries(), id)
					if with := ids(b.upstreamSeries(), id, tt.label); len(of) < 30 || len(with) != len(of) {
						t.Errorf("%d of %d series have the new label", len(with), len(of))
					}
					if s := w.samples[id]; !s.fetchedAt.Equal(at) {
						t.Errorf("the data's age changed: %s, was %s", s.fetchedAt, at)
					}
				}
				before := maps.Clone(w.samples)
				w.rewrite()
				if !maps.Equal(before, w.samples) {
					t.Error("labelled again although nothing changed")
				}
				if n := len(w.unknownNames); n != 0 {
					t.Errorf("%d unknown services", n)
				}
			})
		})
	}
}

func TestOneServiceWhosePageFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 8, OrgMetricsLimit: 5}, nil)
		b.refreshed()
		b.pass(3 * time.Minute)
		covered := b.sim.Covered(time.Now())
		var id string
		for _, s := range b.sim.Services() {
			if !slices.Contains(covered, s.ID) {
				id = s.ID
			}
		}
		heal := b.sim.SetFault(simulator.Fault{Endpoints: []string{"service_metrics"}, ServiceIDs: []string{id}, Status: 500})
		b.pass(20 * time.Minute)
		all := b.series()
		if n := len(ids(all, "PostgresServiceInfo")); n != 7 {
			t.Errorf("%d services are exported, want all but one", n)
		}
		for _, up := range ids(all, serviceUpName) {
			if want := map[bool]string{true: "0", false: "1"}[strings.Contains(up, id)]; all[up] != want {
				t.Errorf("%s %s, want %s", up, all[up], want)
			}
		}
		b.want("clickhouse_postgres_up", "1")
		if lines := b.logs.lines("level=warn", "endpoint=service_metrics"); len(lines) != 1 {
			t.Errorf("want one line, got %q", lines)
		}
		var unavailable *UnavailableError
		if _, err := b.c.Page(b.sim.Config().OrganizationID, id); !errors.As(err, &unavailable) || !strings.Contains(unavailable.Reason, "500") {
			t.Errorf("page of the service: %v", err)
		}
		heal()
		b.pass(20 * time.Minute)
		if n := len(ids(b.series(), "PostgresServiceInfo")); n != 8 {
			t.Errorf("%d services are exported", n)
		}
		if lines := b.logs.lines("can be read again"); len(lines) != 1 {
			t.Errorf("want one line, got %q", lines)
		}
	})
}

func TestNewState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 2}, nil)
		b.refreshed()
		id := b.sim.Services()[0].ID
		b.sim.SetState(id, "migrating")
		for _, want := range []string{"1", "0"} {
			b.pass(2 * time.Minute)
			all := b.series()
			found := ids(all, serviceStateName, `state="migrating"`)
			if len(found) != 2 {
				t.Errorf("state sets with the new state: %q", found)
			}
			for _, s := range found {
				if strings.Contains(s, id) && all[s] != want {
					t.Errorf("%s %s, want %s", s, all[s], want)
				}
			}
			b.sim.SetState(id, "running")
		}
	})
}

func TestServicesOfOneName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 3}, nil)
		for _, s := range b.sim.Services() {
			b.sim.Rename(s.ID, "twin")
		}
		b.refreshed()
		b.pass(2 * time.Minute)
		if want := slices.Sorted(maps.Keys(sorted(b.expected(byDefault)))); !slices.Equal(want, identities(b.upstreamSeries())) {
			t.Errorf("series (-want +got):\n%s", cmp.Diff(want, identities(b.upstreamSeries())))
		}
		b.want("clickhouse_postgres_exporter_series_dropped_total", "0", `reason="duplicate"`)
	})
}

// A budget begins anew with each start, so that starts are where it is overrun.
func TestADayOfRestartsWithinTheRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{
			Services: 3, RateLimit: simulator.DefaultRateLimit, RateWindow: simulator.DefaultRateWindow,
		}, nil)
		org := b.c.workers[0].config
		restart := func() {
			b.stop()
			org.API.Budget = api.NewBudget(api.BudgetConfig{Requests: 8, Window: 10 * time.Second})
			var err error
			if b.c, err = New(Options{Organizations: []Organization{org}}); err != nil {
				t.Fatal(err)
			}
			b.start()
		}
		for hour := range 24 {
			b.pass(40 * time.Minute)
			for i := range 30 { // a crash loop, of another rhythm each time
				b.pass(time.Duration(300+170*hour+37*i) * time.Millisecond)
				restart()
			}
			b.pass(15 * time.Minute)
			restart()
		}
		b.pass(5 * time.Minute)
		if n := b.sim.Count("", 429); n != 0 {
			t.Errorf("%d of %d requests were refused by the rate limit", n, b.sim.Count("", -1))
		}
		if len(ids(b.series(), "PostgresServiceInfo")) != 3 {
			t.Error("services are missing")
		}
	})
}

// Bytes are made once for each document, so that a document must not be made again
// for nothing.
func TestDocumentsAreMadeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		second := simulator.New(simulator.Config{Services: 2, Seed: 99})
		b := newBench(t, simulator.Config{Services: 3}, func(o *Options, _ *Organization) {
			o.Organizations = []Organization{{ID: second.Config().OrganizationID, API: upstream(t, second)}}
		})
		b.refreshed()
		org := b.sim.Config().OrganizationID
		pages := [][2]string{{"", ""}, {org, ""}, {org, b.sim.Services()[0].ID}}
		take := func() (docs []*exposition.Document) {
			for _, p := range pages {
				doc, err := b.c.Page(p[0], p[1])
				if err != nil {
					t.Fatal(err)
				}
				docs = append(docs, doc)
			}
			return docs
		}
		for _, sim := range []*simulator.Simulator{b.sim, second} {
			sim.SetFault(simulator.Fault{Endpoints: []string{"organization_metrics", "service_metrics"}, Status: 500})
		}
		b.pass(2 * time.Minute) // the first failure shows in service_up
		before := take()
		snapshot := b.c.snapshot.Load()
		b.pass(2 * time.Minute)
		if b.c.snapshot.Load() == snapshot {
			t.Fatal("nothing was published")
		}
		if after := take(); !slices.Equal(before, after) {
			t.Error("documents were made again although nothing changed")
		}
		b.sim.ClearFaults()
		b.pass(2 * time.Minute)
		if after := take(); slices.Equal(before, after) {
			t.Error("documents are old")
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
		m := b.c.workers[0].memory
		if n := len(m.samples); n != 20 {
			t.Errorf("%d samples", n)
		}
		if n := len(m.tombstones) + len(m.unknownNames) + len(m.apart) + len(m.hostnames) + len(m.failed); n != 0 {
			t.Errorf("%d things are held of services that are gone", n)
		}
	})
}

func TestScrapesLogNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 2}, nil)
		b.refreshed()
		before := len(b.logs.lines())
		for range 1000 {
			b.c.Page("", "")                              //nolint:errcheck // only what it logs counts
			b.c.Page("x", "y")                            //nolint:errcheck // likewise
			b.c.Page(b.sim.Config().OrganizationID, "no") //nolint:errcheck // likewise
			b.c.Status()
		}
		if after := len(b.logs.lines()); after != before {
			t.Errorf("%d lines of log", after-before)
		}
	})
}

func TestNothingEmittedHoldsTheSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 2}, nil)
		b.refreshed()
		for _, fault := range simulator.Catalogue() {
			switch fault.Name {
			case "gzip bomb", "oversized body", "huge label", "many series":
				continue // gigabytes, under the race detector, that hold no secret either
			}
			if fault.Endpoints == nil {
				fault.Endpoints = []string{"organization_metrics", "service_metrics"}
			}
			clearFault := b.sim.SetFault(fault)
			b.pass(40 * time.Second)
			clearFault()
		}
		b.sim.RotateKey("other", "key")
		b.pass(3 * time.Minute)
		status, err := json.Marshal(b.c.Status())
		if err != nil {
			t.Fatal(err)
		}
		everything := strings.Join(b.logs.lines(), "\n") + b.text("", "") + string(status) + fmt.Sprint(b.health()) +
			fmt.Sprintf("%+v", b.c.workers[0].config)
		if strings.Contains(everything, b.sim.Config().KeySecret) {
			t.Error("the secret shows")
		}
		if !strings.Contains(everything, "unauthorized") {
			t.Error("the refused key does not show")
		}
	})
}

func TestMetricNamesFollowTheConventions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 2}, nil)
		b.refreshed()
		b.sim.SetFault(simulator.Fault{Status: 429})
		b.pass(time.Minute)
		b.sim.ClearFaults()
		b.sim.SetFault(simulator.HTML())
		b.pass(5 * time.Minute)

		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(b.c)
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		problems, err := promlint.NewWithMetricFamilies(families).Lint()
		if err != nil {
			t.Fatal(err)
		}
		page := b.text("", "")
		var own strings.Builder
		for line := range strings.Lines(page) {
			if strings.Contains(line, "clickhouse_postgres_") {
				own.WriteString(line)
			}
		}
		more, err := promlint.New(strings.NewReader(own.String())).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range append(problems, more...) {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
		seen := map[string]bool{}
		for _, f := range families {
			seen[f.GetName()] = true
		}
		for _, name := range []string{
			"clickhouse_postgres_up",
			"clickhouse_postgres_exporter_inventory_last_success_timestamp_seconds",
			"clickhouse_postgres_exporter_metrics_last_success_timestamp_seconds",
			"clickhouse_postgres_exporter_poll_duration_seconds",
			"clickhouse_postgres_exporter_api_requests_total",
			"clickhouse_postgres_exporter_api_request_failures_total",
			"clickhouse_postgres_exporter_api_rate_limit_refusals_total",
			"clickhouse_postgres_exporter_api_rate_limit_waits_total",
			"clickhouse_postgres_exporter_api_rate_limit_wait_seconds_total",
			"clickhouse_postgres_exporter_api_budget_requests",
			"clickhouse_postgres_exporter_api_budget_used_requests",
			"clickhouse_postgres_exporter_series",
			"clickhouse_postgres_exporter_page_bytes",
			"clickhouse_postgres_exporter_series_dropped_total",
			"clickhouse_postgres_exporter_pages_refused_total",
			"clickhouse_postgres_exporter_unknown_services",
			"clickhouse_postgres_exporter_uncovered_services",
			"clickhouse_postgres_exporter_planned_refresh_period_seconds",
			"clickhouse_postgres_exporter_metrics_max_age_seconds",
		} {
			if !seen[name] {
				t.Errorf("no %s", name)
			}
		}
	})
}

// The explicit timestamp of a sample is when the program first saw its value: between
// two refreshes scrapes see the very same sample again, and when data expires, its
// series vanish like any other.
func TestTimestamps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 6, OrgMetricsLimit: 4, CapMode: simulator.CapTruncateRotating, Phase: 20 * time.Second}, func(_ *Options, o *Organization) { o.Timestamps = true })
		b.refreshed()
		type stamped struct {
			value string
			at    time.Time
		}
		last := map[string]stamped{} // by series
		repeated, moved := 0, 0
		for range 100 {
			b.pass(7 * time.Second)
			now := time.Now()
			seen := map[string]time.Time{}
			for _, s := range b.c.Status().Organizations[0].Services {
				seen[s.ID] = s.LastChange
			}
			for line := range strings.Lines(b.text("", "")) {
				end := strings.LastIndex(line, "}")
				if end < 0 || line[0] == '#' {
					continue
				}
				id, fields := line[:end+1], strings.Fields(line[end+1:])
				if !strings.HasPrefix(id, "Postgres") {
					if len(fields) != 1 {
						t.Fatalf("the program's own series with a timestamp: %s", line)
					}
					continue
				}
				if len(fields) != 2 {
					t.Fatalf("without a timestamp: %s", line)
				}
				ms, err := strconv.ParseInt(fields[1], 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				at := time.UnixMilli(ms)
				_, service, _ := strings.Cut(id, `postgres_service="`)
				service, _, _ = strings.Cut(service, `"`)
				if !at.Equal(seen[service].Truncate(time.Millisecond)) {
					t.Fatalf("the timestamp of %s is %s, its values were first seen at %s", id, at, seen[service])
				}
				was, ok := last[id]
				switch {
				case at.After(now), ok && at.Before(was.at):
					t.Fatalf("%s: timestamp %s after %s, at %s", id, at, was.at, now)
				case ok && at.Equal(was.at) && fields[0] != was.value:
					t.Fatalf("%s: two values, %s and %s, of one time", id, was.value, fields[0])
				case ok && at.Equal(was.at):
					repeated++
				case ok:
					moved++
				}
				last[id] = stamped{fields[0], at}
			}
		}
		if len(last) < 200 || repeated < moved || moved < 5*len(last) {
			t.Errorf("%d series, %d samples seen again, %d new ones", len(last), repeated, moved)
		}
		b.sim.SetFault(simulator.Fault{Endpoints: []string{"organization_metrics", "service_metrics"}, Status: 503})
		b.pass(6 * time.Minute)
		if n := len(b.upstreamSeries()); n != 0 {
			t.Errorf("%d series that are too old", n)
		}
	})
}

// badKey is a key that cannot be had, as when its file is gone.
type badKey struct{}

func (badKey) Credentials() (api.Credentials, error) {
	return api.Credentials{}, errors.New("open key: no such file")
}
func (badKey) Invalidate() {}

// What fails before a request is sent is counted as well.
func TestUnusableKeyIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 2}, func(_ *Options, o *Organization) { o.API.Credentials = badKey{} })
		b.pass(5 * time.Minute)
		n, err := strconv.Atoi(b.own("clickhouse_postgres_exporter_api_request_failures_total", `endpoint="services"`, `reason="credentials"`))
		if err != nil || n < 4 || n > 15 {
			t.Errorf("%d failures: %v", n, b.health())
		}
		if got := b.sim.Count("", -1); got != 0 {
			t.Errorf("%d requests without a key", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 2}, func(_ *Options, o *Organization) {
			o.ID, o.Name, o.API.Credentials = "", "acme", badKey{}
		})
		b.pass(5 * time.Minute)
		if n := b.health()[`clickhouse_postgres_exporter_api_request_failures_total{clickhouse_org="acme",endpoint="organizations",reason="credentials"}`]; n == "" {
			t.Errorf("not counted: %v", b.health())
		}
	})
}

// Over real connections, as the program runs.
func TestRealHTTP(t *testing.T) {
	sim := simulator.New(simulator.Config{Services: 30, Seed: 1})
	server := httptest.NewServer(sim)
	defer server.Close()
	cfg := sim.Config()
	c, err := New(Options{Organizations: []Organization{{
		API: api.Config{
			BaseURL: server.URL, Credentials: api.StaticCredentials(cfg.KeyID, cfg.KeySecret),
			Budget: api.NewBudget(api.BudgetConfig{Requests: 1000, Window: 10 * time.Second}),
		},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	if c.Ready() {
		t.Error("ready before anything happened")
	}
	if err := c.WaitFirstRefresh(ctx); err != nil {
		t.Fatal(err)
	}
	if !c.Ready() {
		t.Errorf("not ready: %+v", c.Status())
	}
	doc, err := c.Page(cfg.OrganizationID, "")
	if err != nil {
		t.Fatal(err)
	}
	if want := len(sim.Series(time.Now())); doc.Series() < want {
		t.Errorf("%d series, want more than %d", doc.Series(), want)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWaitFirstRefreshIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 1}, nil)
		b.sim.SetFault(simulator.Fault{Hang: true})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := b.c.WaitFirstRefresh(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
		if doc, err := b.c.Page("", ""); err != nil || doc == nil {
			t.Errorf("the page of everything: %v", err)
		}
	})
}

var _ exposition.Rewriter = (*rewriter)(nil)
