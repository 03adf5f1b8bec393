package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// panelQuery is one query of a dashboard.
type panelQuery struct {
	dashboard, panel, expr string
	variable               bool // fills a variable
}

func (q panelQuery) String() string { return q.dashboard + ": " + q.panel }

// panelQueries returns every query of every dashboard, with those that fill
// variables.
func panelQueries(t *testing.T) []panelQuery {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "deploy", "grafana", "dashboards", "*.json"))
	if err != nil || len(files) < 3 {
		t.Fatalf("dashboards: %v, err %v", files, err)
	}
	var all []panelQuery
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			Templating struct {
				List []struct {
					Name, Type string
					Query      json.RawMessage
				}
			}
			Panels []struct {
				Title   string
				Targets []struct{ RefID, Expr string }
			}
		}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		for _, v := range d.Templating.List {
			if v.Type != "query" {
				continue
			}
			var q struct{ Query string }
			if err := json.Unmarshal(v.Query, &q); err != nil {
				t.Fatal(err)
			}
			all = append(all, panelQuery{name, "variable " + v.Name, variableExpr(t, q.Query), true})
		}
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				all = append(all, panelQuery{name, p.Title + " " + q.RefID, q.Expr, false})
			}
		}
	}
	if len(all) < 100 {
		t.Fatalf("only %d queries found", len(all))
	}
	return all
}

// variableExpr translates what Grafana asks for a variable into PromQL whose
// result has series if and only if the variable has values.
func variableExpr(t *testing.T, query string) string {
	t.Helper()
	if inner, ok := strings.CutPrefix(query, "label_values("); ok {
		at := strings.LastIndex(inner, ",")
		label := strings.TrimSpace(strings.TrimSuffix(inner[at+1:], ")"))
		return fmt.Sprintf("group by (%s) (%s)", label, inner[:at])
	}
	if inner, ok := strings.CutPrefix(query, "label_names("); ok {
		return "group(" + inner
	}
	if inner, ok := strings.CutPrefix(query, "query_result("); ok {
		return strings.TrimSuffix(inner, ")")
	}
	t.Fatalf("variable query %q is of an unknown kind", query)
	return ""
}

var variableUse = regexp.MustCompile(`\$([a-zA-Z_]\w*)`) // $1 is a regular expression's

// fill puts values in the place of the variables, as Grafana does. Those that
// are not given are All.
func fill(expr string, values map[string]string) string {
	return variableUse.ReplaceAllStringFunc(expr, func(use string) string {
		name := strings.TrimPrefix(use, "$")
		if v, ok := values[name]; ok {
			return v
		}
		switch name {
		case "__rate_interval":
			return "1m"
		case "top":
			return "50"
		case "tag":
			return "tag_team"
		}
		return ".*"
	})
}

// queryAt evaluates an expression at a moment of the past.
func (s *server) queryAt(t *testing.T, expr string, at time.Time) promql.Vector {
	t.Helper()
	q, err := s.engine.NewInstantQuery(t.Context(), s.db, nil, expr, at)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	defer q.Close()
	v, err := q.Exec(t.Context()).Vector()
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	return slices.Clone(v)
}

// settled returns a moment at which that many targets were up. What a query
// yields for it does not change any more, however slow the machine is and
// whatever scrape fails afterwards.
func (s *server) settled(t *testing.T, targets int) time.Time {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
		// By then every scrape that had begun has ended, since it may take a second.
		at := time.Now().Add(-2 * time.Second)
		if len(s.queryAt(t, "up == 1 and sum_over_time(up[1m]) >= 3", at)) == targets {
			return at
		}
	}
	t.Fatalf("want %d targets that are up, there are: %v\n%s", targets, s.query(t, "up"), s.log.tail(4000))
	return time.Time{}
}

// settings serves what the exporter's optional collector of settings would,
// for the services of an exporter's page.
func settings(t *testing.T, exporter string) (target string) {
	t.Helper()
	line := regexp.MustCompile(`(?m)^PostgresServer_CPUCores\{(.*)\} `)
	var page bytes.Buffer
	for deadline := time.Now().Add(time.Minute); page.Len() == 0 && time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
		r, err := http.Get("http://" + exporter + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range line.FindAllSubmatch(body, -1) {
			fmt.Fprintf(&page, "clickhouse_postgres_service_setting{%s,name=\"max_connections\"} 500\n", m[1])
		}
	}
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = w.Write(page.Bytes())
	}))
	t.Cleanup(ts.Close)
	return strings.TrimPrefix(ts.URL, "http://")
}

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
				e := startExporter(t, environment, append(slices.Clone(quick), c.flags...)...)
				if i == 0 {
					jobs = append(jobs, job{name: "settings", target: settings(t, e.address), settings: "honor_labels: true"})
				}
				jobs = append(jobs, job{name: fmt.Sprintf("exporter-%d", i), target: e.address, settings: c.scrape})
			}
			p := startServer(t, jobs...)
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
				for _, st := range []string{"running", "stopped", "unavailable"} {
					v := 0.0
					if st == state {
						v = 1
					}
					add(at, v, "clickhouse_postgres_service_state", with("state", st)...)
				}
				if id > 0 { // a service without tags has no such series
					add(at, 1, "clickhouse_postgres_service_tags_info", with("tag_team", fmt.Sprintf("team-%d", id%2))...)
				}
				add(at, 1.7e9, "clickhouse_postgres_service_created_timestamp_seconds", who...)
				add(at, 1e11, "clickhouse_postgres_service_storage_size_bytes", who...)
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

// vendorQueries are what a dashboard for upstream's own endpoint asks: by the
// documented names and labels, and by the service's name, as its variable
// does. They stand in for the dashboard that ClickHouse publishes, which is
// not part of this project.
var vendorQueries = []string{
	// The variable Service.
	`group by (postgres_service_name) (PostgresServiceInfo)`,
	// The table of services.
	`PostgresServiceInfo{postgres_service_name=~".*"}`,
	`PostgresServer_CPUCores{postgres_service_name=~".*"}`,
	`PostgresServer_MemoryLimitBytes{postgres_service_name=~".*"}`,
	`PostgresServer_StorageLimitBytes{postgres_service_name=~".*"}`,
	// Processor, in percent of the cores, and by mode.
	`100 * sum by (postgres_service_name) (rate(PostgresServer_CPUSeconds_Total{postgres_service_name=~".*", mode!="idle"}[1m])) / on (postgres_service_name) PostgresServer_CPUCores{postgres_service_name=~".*"}`,
	`sum by (mode) (rate(PostgresServer_CPUSeconds_Total{postgres_service_name=~".*"}[1m]))`,
	`PostgresServer_MemoryUsedPercent{postgres_service_name=~".*"}`,
	`PostgresServer_MemoryCachePercent{postgres_service_name=~".*"}`,
	`PostgresServer_FilesystemUsedPercent{postgres_service_name=~".*"}`,
	`PostgresServer_MemoryUsedPercent{postgres_service_name=~".*"} * PostgresServer_MemoryLimitBytes{postgres_service_name=~".*"} / 100`,
	`sum by (postgres_service_name, state) (PostgresServer_ActiveConnections{postgres_service_name=~".*"})`,
	`sum by (postgres_service_name) (rate(PostgresServer_TransactionsCommitted_Total{postgres_service_name=~".*"}[1m]))`,
	`rate(PostgresServer_TransactionsRolledBack_Total{postgres_service_name=~".*"}[1m]) / (rate(PostgresServer_TransactionsCommitted_Total{postgres_service_name=~".*"}[1m]) + rate(PostgresServer_TransactionsRolledBack_Total{postgres_service_name=~".*"}[1m]))`,
	`rate(PostgresServer_TuplesFetched_Total{postgres_service_name=~".*"}[1m])`,
	`rate(PostgresServer_TuplesInserted_Total{postgres_service_name=~".*"}[1m])`,
	`rate(PostgresServer_TuplesUpdated_Total{postgres_service_name=~".*"}[1m])`,
	`rate(PostgresServer_TuplesDeleted_Total{postgres_service_name=~".*"}[1m])`,
	`rate(PostgresServer_DiskReads_Total{postgres_service_name=~".*"}[1m])`,
	`rate(PostgresServer_DiskWrites_Total{postgres_service_name=~".*"}[1m])`,
	`rate(PostgresServer_NetworkReceiveBytes_Total{postgres_service_name=~".*"}[1m])`,
	`rate(PostgresServer_NetworkTransmitBytes_Total{postgres_service_name=~".*"}[1m])`,
	`sum by (postgres_service_name, database) (PostgresServer_DatabaseSizeBytes{postgres_service_name=~".*"})`,
	`increase(PostgresServer_Deadlocks_Total{postgres_service_name=~".*"}[1m])`,
	`PostgresServer_CacheHitRatio{postgres_service_name=~".*"}`,
}

// A dashboard made for upstream's endpoint shows the same with the exporter as
// its source: Prometheus scrapes upstream as its vendor documents, and the
// exporter by the same path, and every query yields the same series.
func TestVendorStyleQueries(t *testing.T) {
	// Values stand still, so that the two scrapes can be compared.
	sim, environment := upstream(t, simulator.Config{Services: 6, Seed: 1})
	e := startExporter(t, environment, quick...)
	c := sim.Config()
	direct := httptest.NewServer(sim)
	defer direct.Close()
	path := fmt.Sprintf("metrics_path: /v1/organizations/%s/postgres/prometheus\nhonor_labels: true", c.OrganizationID)
	fromUpstream := job{
		name: "managed-postgres", target: strings.TrimPrefix(direct.URL, "http://"),
		settings: path + fmt.Sprintf("\nbasic_auth: {username: %q, password: %q}", c.KeyID, c.KeySecret),
	}
	fromExporter := job{name: "managed-postgres", target: e.address, settings: path}
	vendor, ours := startServer(t, fromUpstream), startServer(t, fromExporter)
	atVendor, atOurs := vendor.settled(t, 1), ours.settled(t, 1)

	inlined := []string{"postgres_region", "postgres_size", "postgres_state", "instance", "job"}
	shown := func(v promql.Vector) map[string]float64 {
		m := make(map[string]float64)
		for _, s := range v {
			m[labels.NewBuilder(s.Metric).Del(inlined...).Labels().String()] = s.F
		}
		return m
	}
	for _, expr := range vendorQueries {
		want, got := shown(vendor.queryAt(t, expr, atVendor)), shown(ours.queryAt(t, expr, atOurs))
		if len(want) == 0 {
			t.Errorf("upstream itself has nothing for %s", expr)
		}
		if !maps.EqualFunc(got, want, near) {
			t.Errorf("%s yields\n%v\ninstead of\n%v", expr, got, want)
		}
	}
}
