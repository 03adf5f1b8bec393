package e2e

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// demoFleet starts a simulated upstream that has something to show for every
// panel, and that moves every second.
func demoFleet(t *testing.T) (*simulator.Simulator, []string) {
	t.Helper()
	sim, environment := upstream(t, simulator.Config{Services: 12, Seed: 1, RefreshInterval: time.Second})
	services := sim.Services()
	for i, s := range services {
		sim.SetTags(s.ID, simulator.Tag{Key: "team", Value: []string{"payments", "search"}[i%2]})
	}
	sim.SetState(services[3].ID, "stopped")
	// Names are not unique.
	sim.Rename(services[5].ID, services[4].Name)
	return sim, environment
}

// TestDashboardsShowARunningExporter runs every query of every dashboard in a
// real Prometheus that scraped the real exporter.
func TestDashboardsShowARunningExporter(t *testing.T) {
	queries := panelQueries(t)
	for name, c := range map[string]struct {
		exporters int
		flags     []string
		scrape    string // in the words of scrape_config
	}{
		"one exporter":           {exporters: 1},
		"HA pair":                {exporters: 2},
		"honor_labels":           {exporters: 1, scrape: "honor_labels: true"},
		"without inlined labels": {exporters: 1, flags: []string{"--enrich.labels="}},
		"everything inlined": {exporters: 2, flags: []string{
			"--enrich.labels=name,region,size,state,provider,version,ha-type,is-primary,tag:team",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			sim, environment := demoFleet(t)
			var jobs []job
			for i := range c.exporters {
				e := startExporter(t, environment, append(slices.Clone(everything), c.flags...)...)
				jobs = append(jobs, job{name: fmt.Sprintf("exporter-%d", i), target: e.address, settings: c.scrape})
			}
			p := startServer(t, jobs...)
			p.awaitCollectors(t, c.exporters)
			at := p.settled(t, len(jobs))

			var service simulator.Service
			for _, s := range sim.Services() {
				if s.State == "running" {
					service = s
				}
			}
			for _, q := range queries {
				if v := p.queryAt(t, fill(q.expr, nil), at); len(v) == 0 {
					t.Errorf("%s returns nothing: %s", q, fill(q.expr, nil))
				}
				if q.dashboard != "service" || q.variable {
					continue
				}
				// One service was chosen, and its panels are about it alone.
				for _, s := range p.queryAt(t, fill(q.expr, map[string]string{"service": service.ID}), at) {
					if id := s.Metric.Get("postgres_service"); id != "" && id != service.ID {
						t.Errorf("%s is about %s, not the chosen service: %s", q, id, s.Metric)
					}
				}
			}
			complete(t, p, at, sim)
		})
	}
}

// complete fails the test unless the fleet's table has every service exactly
// once, whatever it is called.
func complete(t *testing.T, p *server, at time.Time, sim *simulator.Simulator) {
	t.Helper()
	for _, q := range panelQueries(t) {
		if q.dashboard != "fleet" || q.panel != "What needs attention first A" {
			continue
		}
		rows := make(map[string]int)
		for _, s := range p.queryAt(t, fill(q.expr, nil), at) {
			rows[s.Metric.Get("postgres_service")]++
		}
		for _, s := range sim.Services() {
			if rows[s.ID] != 1 {
				t.Errorf("service %s (%s, %s) has %d lines, want 1", s.ID, s.Name, s.State, rows[s.ID])
			}
		}
		if len(rows) != len(sim.Services()) {
			t.Errorf("%d services shown, there are %d", len(rows), len(sim.Services()))
		}
		return
	}
	t.Error("the fleet's table is gone")
}

// The metrics in an HA pair, with labels inlined or not, after a rename: what
// the panels show of a fleet is always the same.
func TestDashboardsAreIndifferent(t *testing.T) {
	plain := newSynthetic(t, synthetic{instances: []string{"a"}})
	for name, c := range map[string]synthetic{
		"HA pair":             {instances: []string{"a", "b"}},
		"HA pair, other jobs": {instances: []string{"a", "b"}, jobs: true},
		"inlined labels":      {instances: []string{"a"}, inlined: true},
		"HA pair, one inlines": {
			instances: []string{"a", "b"}, inlined: true, onlyFirst: true,
		},
		"renamed a while ago":   {instances: []string{"a", "b"}, renamed: 30 * time.Minute},
		"renamed just now":      {instances: []string{"a", "b"}, renamed: 90 * time.Second},
		"one saw a rename only": {instances: []string{"a", "b"}, renamed: 90 * time.Second, onlyFirst: true},
		"all have one name":     {instances: []string{"a"}, oneName: true},
	} {
		t.Run(name, func(t *testing.T) {
			other := newSynthetic(t, c)
			for _, q := range panelQueries(t) {
				if q.dashboard == "exporter" {
					continue // tells exporters apart, as it should
				}
				want, got := plain.show(t, q), other.show(t, q)
				if c.renamed != 0 {
					// The history is in two pieces, so that rates and predictions
					// may differ. What there is may not.
					for k := range want {
						want[k] = 0
					}
					for k := range got {
						got[k] = 0
					}
				}
				if !maps.EqualFunc(got, want, near) {
					t.Errorf("%s shows\n%v\ninstead of\n%v", q, got, want)
				}
				if len(want) == 0 {
					t.Errorf("%s shows nothing: %s", q, q.expr)
				}
			}
		})
	}
}

func near(a, b float64) bool {
	return a == b || math.Abs(a-b) <= 1e-6*math.Max(math.Abs(a), math.Abs(b)) || math.IsNaN(a) && math.IsNaN(b)
}

// synthetic describes what some exporters of one organization could have been
// scraped for over six hours.
type synthetic struct {
	instances []string
	jobs      bool          // each exporter is of a job of its own
	inlined   bool          // the inventory is in every series' labels
	renamed   time.Duration // how long ago all services were renamed
	onlyFirst bool          // the first exporter alone inlines, or saw the rename
	oneName   bool          // all services have the same name
}

// storedFleet is a storage filled with a synthetic fleet.
type storedFleet struct {
	*server
	end time.Time
}

// show returns what a query yields at the end of the stored time, by labels
// without the service's name, since that changes.
func (s *storedFleet) show(t *testing.T, q panelQuery) map[string]float64 {
	t.Helper()
	expr := fill(q.expr, map[string]string{"__rate_interval": "5m"})
	shown := make(map[string]float64)
	for _, sample := range s.queryAt(t, expr, s.end) {
		key := labels.NewBuilder(sample.Metric).Del("postgres_service_name").Labels().String()
		if _, ok := shown[key]; ok && !q.variable {
			t.Errorf("%s shows %s twice", q, key)
		}
		shown[key] = sample.F
	}
	return shown
}

func newSynthetic(t *testing.T, c synthetic) *storedFleet {
	t.Helper()
	s := &storedFleet{server: startServer(t), end: time.Unix(1_800_000_000, 0)}
	a := s.db.Appender(context.Background())
	const minutes = 6 * 60
	add := func(at time.Time, v float64, name string, pairs ...string) {
		l := labels.NewBuilder(labels.FromStrings(pairs...)).Set(model.MetricNameLabel, name).Labels()
		if _, err := a.Append(0, l, at.UnixMilli(), v); err != nil {
			t.Fatalf("%s: %v", l, err)
		}
	}
	for n := range minutes + 1 {
		at := s.end.Add(time.Duration(n-minutes) * time.Minute)
		x := float64(n)
		for i, instance := range c.instances {
			job := "exporter"
			if c.jobs {
				job += instance
			}
			scraped := []string{"instance", instance, "job", job}
			for metric, v := range map[string]float64{"limit": 20, "usage": 5} {
				add(at, v, "clickhouse_postgres_organization_quota_"+metric,
					append([]string{"clickhouse_org", "org", "quota", "postgres-services-per-organization"}, scraped...)...)
			}
			for id := range 5 {
				name := fmt.Sprintf("name-%d", id)
				if c.oneName {
					name = "name"
				}
				if c.renamed != 0 && at.After(s.end.Add(-c.renamed)) && (i == 0 || !c.onlyFirst) {
					name += "-new"
				}
				who := append([]string{
					"clickhouse_org", "org", "postgres_service", fmt.Sprintf("id-%d", id), "postgres_service_name", name,
				}, scraped...)
				with := func(more ...string) []string { return append(slices.Clone(who), more...) }
				region, size := fmt.Sprintf("region-%d", id%2), fmt.Sprintf("size-%d", id%3)
				running := id != 4
				state := "running"
				if !running {
					state = "stopped"
				}
				add(at, 1, "clickhouse_postgres_service_info", with("postgres_region", region, "postgres_size", size,
					"postgres_provider", "aws", "postgres_version", "18", "postgres_ha_type", "none", "postgres_is_primary", "true")...)
				add(at, 1, "clickhouse_postgres_service_state", with("state", state)...)
				if id > 0 { // a service without tags has no such series
					add(at, 1, "clickhouse_postgres_service_tag", with("key", "team", "value", fmt.Sprintf("team-%d", id%2))...)
				}
				add(at, 1.7e9, "clickhouse_postgres_service_created_timestamp_seconds", who...)
				add(at, 1e11, "clickhouse_postgres_service_storage_size_bytes", who...)
				add(at, float64(at.Unix()-3600), "clickhouse_postgres_service_last_backup_timestamp_seconds", who...)
				add(at, float64(at.Unix()-7*86400), "clickhouse_postgres_service_earliest_restore_timestamp_seconds", who...)
				add(at, 7, "clickhouse_postgres_service_retained_backups", who...)
				add(at, 1, "clickhouse_postgres_service_up", who...)
				add(at, float64(at.Unix()-20), "clickhouse_postgres_service_metrics_last_success_timestamp_seconds", who...)
				add(at, float64(at.Unix()-40), "clickhouse_postgres_service_metrics_last_change_timestamp_seconds", who...)
				add(at, 100, "clickhouse_postgres_service_setting", with("name", "max_connections")...)

				if c.inlined && (i == 0 || !c.onlyFirst) {
					who = with("postgres_region", region, "postgres_size", size, "postgres_state", state)
				}
				add(at, 1, "PostgresServiceInfo", with("postgres_status", state, "postgres_version", "18")...)
				if !running {
					continue
				}
				k := float64(id + 1)
				for metric, v := range map[string]float64{
					"PostgresServer_CPUCores": 2 * k, "PostgresServer_MemoryLimitBytes": 8e9, "PostgresServer_StorageLimitBytes": 1e11,
					"PostgresServer_MemoryUsedPercent": 20 * k, "PostgresServer_MemoryCachePercent": 10,
					"PostgresServer_FilesystemUsedPercent": 15*k + x/100, "PostgresServer_CacheHitRatio": 100 - 4*k,
					"PostgresServer_DiskReads_Total": 60 * k * x, "PostgresServer_DiskWrites_Total": 120 * k * x,
					"PostgresServer_NetworkReceiveBytes_Total": 6e5 * k * x, "PostgresServer_NetworkTransmitBytes_Total": 6e6 * k * x,
					"PostgresServer_TuplesFetched_Total": 6e4 * k * x, "PostgresServer_TuplesInserted_Total": 600 * k * x,
					"PostgresServer_TuplesUpdated_Total": 300 * k * x, "PostgresServer_TuplesDeleted_Total": 60 * k * x,
					"PostgresServer_TransactionsCommitted_Total": 3000 * k * x, "PostgresServer_TransactionsRolledBack_Total": 60 * x,
					"PostgresServer_Deadlocks_Total": math.Floor(x / 10 * k),
				} {
					add(at, v, metric, who...)
				}
				for mode, share := range map[string]float64{"user": 10, "system": 5, "iowait": 3, "idle": 102} {
					add(at, share*k*x, "PostgresServer_CPUSeconds_Total", with("mode", mode)...)
				}
				for connection, v := range map[string]float64{"active": 3 * k, "idle": 10 * k} {
					add(at, v, "PostgresServer_ActiveConnections", with("state", connection)...)
				}
				for _, database := range []string{"postgres", "app"} {
					add(at, 1e9*k, "PostgresServer_DatabaseSizeBytes", with("database", database)...)
				}
			}
		}
	}
	if err := a.Commit(); err != nil {
		t.Fatal(err)
	}
	return s
}
