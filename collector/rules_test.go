package collector

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

func TestReservedFamilies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 2}, func(o *Options, _ *Organization) {
			o.Reserved = []string{"go_goroutines"}
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
  regex: PostgresServer_CPUCores
  action: drop`,
			func(t *testing.T, b *bench, all map[string]string) {
				if found := ids(all, "PostgresServer_CPUCores"); len(found) != 0 {
					t.Errorf("not dropped: %q", found)
				}
				b.want("clickhouse_postgres_exporter_series_dropped_total", "3", `reason="rule"`)
			},
		}, {
			"none apply to the program's own series", `
- source_labels: [__name__]
  regex: PostgresServer_CPUCores
  action: keep
- regex: postgres_service_name|clickhouse_org
  action: labeldrop`,
			func(t *testing.T, b *bench, all map[string]string) {
				own := ids(all, "clickhouse_postgres_")
				if want := ids(withoutRules(t), "clickhouse_postgres_"); !slices.Equal(own, want) {
					t.Errorf("the program's own series (-want +got):\n%s", cmp.Diff(want, own))
				}
				if n := len(all) - len(own); n != 3 {
					t.Errorf("%d series of upstream's", n)
				}
				dropped := len(b.sim.Series(time.Now())) - 3
				b.want("clickhouse_postgres_exporter_series_dropped_total", strconv.Itoa(dropped), `reason="rule"`)
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
				if n := len(ids(all, "PostgresServer_CPUCores{", `__tmp_live="running"`)); n != 3 {
					t.Errorf("%d series have the label that Prometheus would leave them", n)
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

// withoutRules returns the page of three services without rules.
func withoutRules(t *testing.T) map[string]string {
	t.Helper()
	b := newBench(t, simulator.Config{Services: 3}, nil)
	b.refreshed()
	return b.series()
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

// Names that the program's own series have in some format are its own, too: a family
// must not come twice.
func TestReservedSampleNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 2}, func(o *Options, _ *Organization) {
			o.Reserved = []string{"own_summary", "own_histogram", "own_counter_total", "own_gauge"}
		})
		reserved := []string{
			`own_summary{quantile="1"}`, "own_summary_sum", "own_summary_count", "own_summary_created", "own_summary_total",
			"own_histogram", `own_histogram_bucket{le="1"}`, "own_histogram_sum", "own_histogram_count", "own_histogram_created",
			"own_counter", "own_counter_total", "own_counter_created",
			"own_gauge", "own_gauge_total",
			"clickhouse_postgres_up", "clickhouse_postgres_services", "clickhouse_postgres_service_up_total",
			"clickhouse_postgres_exporter_poll_duration_seconds_sum",
		}
		free := []string{"own", "own_total", "own_gauges", "own_gaug", "clickhouse_postgres_upper", "clickhouse_postgres"}
		b.sim.SetFault(simulator.Fault{Endpoints: []string{"organization_metrics"}, Mutate: func(page []byte) []byte {
			page = bytes.Clone(page)
			for _, series := range slices.Concat(reserved, free) {
				page = append(page, series+" 4711\n"...)
			}
			return page
		}})
		b.refreshed()
		all := b.series()
		for _, series := range reserved {
			if all[series] == "4711" {
				t.Errorf("upstream's %s", series)
			}
		}
		for _, series := range free {
			if all[series] != "4711" {
				t.Errorf("no %s", series)
			}
		}
		b.want("clickhouse_postgres_exporter_series_dropped_total", strconv.Itoa(len(reserved)), `reason="reserved"`)
	})
}
