package main

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
)

// checkGenerated compares what is between the two comments of a document that mark a
// generated block with what it should be, or, with -update, makes it so.
func checkGenerated(t *testing.T, file, name, want string) {
	t.Helper()
	document, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := fmt.Sprintf("<!-- %s: begin -->\n", name), fmt.Sprintf("<!-- %s: end -->\n", name)
	before, rest, found := strings.Cut(string(document), begin)
	got, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no lines %q and %q", file, begin, end)
	}
	if *update && got != want {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(before+begin+want+end+after), info.Mode()); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s is not up to date, run go test -run TestDocs -update . (-want +got)\n%s", file, diff)
	}
}

func TestDocsSettings(t *testing.T) {
	checkGenerated(t, "docs/flags.md", "flags", flagTables())
	checkGenerated(t, "docs/configuration.md", "configuration", keyTables())
}

// described returns the names of all metrics of the exporter's own registry.
func described(t *testing.T) map[string]bool {
	t.Helper()
	polling, err := collector.New(collector.Options{Organizations: []collector.Organization{{
		ID:  "x",
		API: api.Config{Credentials: api.StaticCredentials("id", "secret"), Budget: api.NewBudget(api.BudgetConfig{Requests: 1, Window: time.Second})},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	descriptions := make(chan *prometheus.Desc)
	go func() {
		defer close(descriptions)
		polling.Describe(descriptions)
	}()
	name := regexp.MustCompile(`fqName: "([^"]+)"`)
	names := map[string]bool{}
	for d := range descriptions {
		m := name.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("no name in %s", d)
		}
		names[m[1]] = true
	}
	return names
}

// TestDocsMetrics takes the metrics from a page that has all of them, those too
// that come into being with trouble only.
func TestDocsMetrics(t *testing.T) {
	s, env := upstream(t, simulator.Config{Services: 5, Seed: 1, RefreshInterval: 100 * time.Millisecond})
	s.SetTags(s.Services()[0].ID, simulator.Tag{Key: "team", Value: "growth"}, simulator.Tag{Key: "keep"})
	s.SetFault(simulator.Fault{Endpoints: []string{"organization_metrics"}, Skip: 1, Count: 1, Mutate: func(body []byte) []byte {
		return append(bytes.Clone(body), "nonsense{\n"...)
	}})
	s.SetFault(simulator.Fault{Endpoints: []string{"services"}, Skip: 1, Count: 1, Status: http.StatusForbidden})
	e := start(t, env, append(fast, "--metrics.interval=100ms", "--inventory.interval=100ms", "--collector.settings")...)

	want := described(t)
	for _, name := range []string{"build_info", "config_last_reload_successful", "config_last_reload_success_timestamp_seconds"} {
		want["clickhouse_postgres_exporter_"+name] = true
	}
	var own map[string]*dto.MetricFamily
	awaitPage(t, func() string { _, page := get(t, e.url("/metrics")); return page }, func(page string) bool {
		own = families(t, page)
		maps.DeleteFunc(own, func(name string, _ *dto.MetricFamily) bool { return !strings.HasPrefix(name, "clickhouse_postgres_") })
		for name := range want {
			if own[name] == nil {
				return false
			}
		}
		for _, name := range []string{
			"service_tag", "service_setting", "service_last_backup_timestamp_seconds", "service_retained_backups",
			"service_earliest_restore_timestamp_seconds", "organization_quota_limit", "organization_quota_usage",
		} {
			if own["clickhouse_postgres_"+name] == nil {
				return false
			}
		}
		return gauge(t, page, "clickhouse_postgres_up") == 1
	})

	var b strings.Builder
	b.WriteString("\n| name | type | labels | meaning |\n| --- | --- | --- | --- |\n")
	for _, name := range slices.Sorted(maps.Keys(own)) {
		f := own[name]
		labels := map[string]bool{}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = true
			}
		}
		if strings.HasSuffix(name, "_build_info") {
			labels["branch"], labels["version"] = true, true // which a test's binary lacks
		}
		cells := make([]string, 0, len(labels))
		for _, l := range slices.Sorted(maps.Keys(labels)) {
			cells = append(cells, code(l))
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", code(name), strings.ToLower(f.GetType().String()), strings.Join(cells, ", "), cell(f.GetHelp()))
	}
	b.WriteString("\n")
	checkGenerated(t, "docs/metrics.md", "metrics", b.String())
}
