package collector

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

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
