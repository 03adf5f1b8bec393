package main

import (
	"maps"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// ownFamilies returns the families that are about services and organizations, and not
// upstream's.
func ownFamilies(t *testing.T, page string) map[string]*dto.MetricFamily {
	t.Helper()
	all := families(t, page)
	maps.DeleteFunc(all, func(name string, _ *dto.MetricFamily) bool {
		return !strings.HasPrefix(name, "clickhouse_postgres_") || strings.HasPrefix(name, "clickhouse_postgres_exporter_")
	})
	return all
}

// TestOwnSeries bounds how many series there are besides upstream's, and how many labels
// they have: one series with too many costs Prometheus the whole page.
func TestOwnSeries(t *testing.T) {
	e := start(t, nil, append(fast, "--demo")...)
	scrape := func() string { _, page := get(t, e.url("/metrics")); return page }
	awaitPage(t, scrape, func(page string) bool {
		f := families(t, page)
		// One is being created.
		return len(f["clickhouse_postgres_service_up"].GetMetric()) >= 11 && len(f["clickhouse_postgres_service_last_backup_timestamp_seconds"].GetMetric()) >= 8 &&
			f["clickhouse_postgres_organization_quota_limit"] != nil
	})
	services, most := map[string]int{}, 0
	for name, f := range ownFamilies(t, scrape()) {
		for _, m := range f.GetMetric() {
			if n := len(m.GetLabel()) + 1; n > 20 {
				t.Errorf("a series of %s has %d labels", name, n)
			}
			if id := label(m, "postgres_service"); id != "" {
				services[id]++
				most = max(most, services[id])
			}
		}
	}
	if len(services) != 12 || most > 12 {
		t.Errorf("series of services, of which 12 are wanted at most: %v", services)
	}
}

// TestSwitches switches each collector off, and chooses tags.
func TestSwitches(t *testing.T) {
	s, env := upstream(t, simulator.Config{Services: 3, States: map[string]float64{}})
	for _, v := range s.Services() {
		s.SetTags(v.ID, simulator.Tag{Key: "team", Value: "a"}, simulator.Tag{Key: "pii"})
	}
	all := map[string][]string{
		"inventory": {
			"clickhouse_postgres_organization_info", "clickhouse_postgres_service_created_timestamp_seconds", "clickhouse_postgres_service_info",
			"clickhouse_postgres_service_storage_size_bytes", "clickhouse_postgres_services",
		},
		"state":   {"clickhouse_postgres_service_state"},
		"tags":    {"clickhouse_postgres_service_tag"},
		"backups": {"clickhouse_postgres_service_last_backup_timestamp_seconds", "clickhouse_postgres_service_retained_backups"},
		"quotas":  {"clickhouse_postgres_organization_quota_limit", "clickhouse_postgres_organization_quota_usage"},
		"service-health": {
			"clickhouse_postgres_service_metrics_last_change_timestamp_seconds",
			"clickhouse_postgres_service_metrics_last_success_timestamp_seconds", "clickhouse_postgres_service_up",
		},
	}
	for off := range all {
		e := start(t, env, append(fast, "--no-collector."+off)...)
		names := []string{"clickhouse_postgres_up"}
		for name, families := range all {
			if name != off {
				names = append(names, families...)
			}
		}
		slices.Sort(names)
		awaitPage(t, func() string { _, page := get(t, e.url("/metrics")); return page }, func(page string) bool {
			got := slices.Sorted(maps.Keys(ownFamilies(t, page)))
			for _, name := range all[off] {
				if slices.Contains(got, name) {
					t.Errorf("%s without the collector %s", name, off)
				}
			}
			return t.Failed() || slices.Equal(got, names)
		})
	}
	for choice, tags := range map[string]int{"all": 6, "none": 0, "": 0, "team": 3, "pii, other": 3} {
		e := start(t, env, append(fast, "--inventory.tags="+choice)...)
		_, page := get(t, e.url("/metrics"))
		found := families(t, page)["clickhouse_postgres_service_tag"].GetMetric()
		if len(found) != tags {
			t.Errorf("%q: tags %v", choice, found)
		}
		for _, m := range found {
			if value := label(m, "value"); label(m, "key") == "team" && value != "a" || label(m, "key") == "pii" && value != "" {
				t.Errorf("%v", m)
			}
		}
	}
}
