package collector

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

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
