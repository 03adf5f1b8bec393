package e2e

import (
	"cmp"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

func deployed(file ...string) string {
	return filepath.Join(append([]string{"..", "..", "deploy", "prometheus"}, file...)...)
}

// ruleSet evaluates the rules on what a server has scraped.
type ruleSet struct {
	server *server
	rules  []rulefmt.Rule                      // those that record first
	latest map[string]map[string]labels.Labels // recorded at the last evaluation, by rule
}

// loadRules reads the rules as a real Prometheus does.
func loadRules(t *testing.T, s *server) *ruleSet {
	t.Helper()
	files, err := filepath.Glob(deployed("rules", "*.yml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("rules: %v, err %v", files, err)
	}
	r := &ruleSet{server: s, latest: make(map[string]map[string]labels.Labels)}
	for _, file := range files {
		groups, errs := rulefmt.ParseFile(file, false, model.LegacyValidation, parser.NewParser(parser.Options{}), promslog.NewNopLogger())
		for _, err := range errs {
			t.Errorf("%s: %v", file, err)
		}
		for _, g := range groups.Groups {
			r.rules = append(r.rules, g.Rules...)
		}
	}
	slices.SortStableFunc(r.rules, func(a, b rulefmt.Rule) int { return cmp.Compare(len(a.Alert), len(b.Alert)) })
	return r
}

// evaluate records what is to be recorded, now, and marks as stale what is no
// longer, as a real Prometheus does.
func (r *ruleSet) evaluate(t *testing.T) {
	t.Helper()
	r.evaluateAt(t, time.Now())
}

func (r *ruleSet) evaluateAt(t *testing.T, now time.Time) {
	t.Helper()
	for _, rule := range r.rules {
		if rule.Record == "" {
			continue
		}
		// Each rule sees what those before it recorded.
		a := r.server.db.Appender(t.Context())
		add := func(l labels.Labels, v float64) {
			if _, err := a.Append(0, l, now.UnixMilli(), v); err != nil {
				t.Errorf("%s: %v", l, err)
			}
		}
		latest := make(map[string]labels.Labels)
		for _, s := range r.server.queryAt(t, rule.Expr, now) {
			l := labels.NewBuilder(s.Metric).Set(model.MetricNameLabel, rule.Record).Labels()
			latest[l.String()] = l
			add(l, s.F)
		}
		for key, l := range r.latest[rule.Record] {
			if _, ok := latest[key]; !ok {
				add(l, math.Float64frombits(value.StaleNaN))
			}
		}
		r.latest[rule.Record] = latest
		if err := a.Commit(); err != nil {
			t.Fatal(err)
		}
	}
}

// holds tells for which series an alert's condition holds now, however long
// it would have to hold before the alert fires.
func (r *ruleSet) holds(t *testing.T, alert string) promql.Vector {
	t.Helper()
	return r.holdsAt(t, alert, time.Now())
}

func (r *ruleSet) holdsAt(t *testing.T, alert string, at time.Time) promql.Vector {
	t.Helper()
	for _, rule := range r.rules {
		if rule.Alert == alert {
			return r.server.queryAt(t, rule.Expr, at)
		}
	}
	t.Fatalf("no alert %s", alert)
	return nil
}

// await evaluates until the condition of an alert holds.
func (r *ruleSet) await(t *testing.T, alert string) promql.Vector {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		r.evaluate(t)
		if v := r.holds(t, alert); len(v) > 0 {
			return v
		}
		<-time.After(200 * time.Millisecond)
	}
	t.Errorf("%s does not come", alert)
	return nil
}

// Every metric and label value that the alerts go by is what the exporter
// really exports when the thing happens.
func TestAlertsSeeWhatHappens(t *testing.T) {
	sim, environment := upstream(t, simulator.Config{Services: 6, Seed: 1, RefreshInterval: time.Second})
	file := filepath.Join(t.TempDir(), "config.yml")
	if err := os.WriteFile(file, []byte("metric_relabel_configs: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := slices.DeleteFunc(slices.Clone(quick), func(f string) bool { return strings.HasPrefix(f, "--metrics.max-age=") })
	e := startExporter(t, environment, append(flags, "--config.file="+file, "--metrics.max-age=3s")...)
	j := job{name: "exporter", target: e.address}
	p := startServer(t, j)
	p.awaitScrapes(t, 2, j)
	r := loadRules(t, p)
	r.evaluate(t)
	services := sim.Services()
	about := func(v promql.Vector) string {
		if len(v) == 0 {
			return ""
		}
		return v[0].Metric.Get("postgres_service")
	}

	sim.SetState(services[0].ID, "unavailable")
	if id := about(r.await(t, "ClickHousePostgresServiceUnavailable")); id != services[0].ID {
		t.Errorf("service %s is said to be unavailable, not %s", id, services[0].ID)
	}
	sim.SetState(services[1].ID, "a state of the future")
	if id := about(r.await(t, "ClickHousePostgresServiceNotRunning")); id != services[1].ID {
		t.Errorf("service %s is said not to run, not %s", id, services[1].ID)
	}

	if err := os.WriteFile(file, []byte("no: configuration\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post("http://"+e.address+"/-/reload", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	r.await(t, "ClickHousePostgresConfigReloadFailed")

	clearFault := sim.SetFault(simulator.Fault{
		Endpoints: []string{"organization_metrics"}, Mutate: simulator.MalformedLine,
	})
	r.await(t, "ClickHousePostgresPagesRefused")
	clearFault()

	sim.RotateKey(sim.Config().KeyID, "another secret")
	r.await(t, "ClickHousePostgresKeyRejected")
	r.await(t, "ClickHousePostgresOrganizationDown")
}

func TestAlertSeesRefusals(t *testing.T) {
	_, environment := upstream(t, simulator.Config{Services: 2, Seed: 1, RateLimit: 1, RateWindow: time.Second})
	// Told that it may do more than it may.
	e := startExporter(t, environment, quick...)
	j := job{name: "exporter", target: e.address}
	p := startServer(t, j)
	p.awaitScrapes(t, 2, j)
	loadRules(t, p).await(t, "ClickHousePostgresAPIRateLimited")
}

// Every metric that a rule or a panel names is exported, so that a metric that
// is renamed in the code is not forgotten here.
func TestEveryMetricExists(t *testing.T) {
	_, environment := demoFleet(t)
	e := startExporter(t, environment, everything...)
	p := startServer(t, job{name: "exporter", target: e.address})
	p.awaitCollectors(t, 1)
	at := p.settled(t, 1)
	r := loadRules(t, p)

	exprs := make(map[string]string)
	for _, rule := range r.rules {
		exprs[rule.Record+rule.Alert] = rule.Expr
	}
	for _, q := range panelQueries(t) {
		exprs[q.String()] = fill(q.expr, nil)
	}
	// Series that come into being when there is something to count.
	rare := []string{
		"clickhouse_postgres_exporter_api_request_failures_total",
		"clickhouse_postgres_exporter_pages_refused_total",
		"clickhouse_postgres_exporter_series_dropped_total",
	}
	missing := make(map[string][]string)
	for where, expr := range exprs {
		parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		for _, selector := range parser.ExtractSelectors(parsed) {
			for _, m := range selector {
				if m.Name != model.MetricNameLabel || strings.Contains(m.Value, ":") || m.Value == "ALERTS" || slices.Contains(rare, m.Value) {
					continue
				}
				if len(p.queryAt(t, "{"+m.String()+"}", at)) == 0 {
					missing[m.Value] = append(missing[m.Value], where)
				}
			}
		}
	}
	for name, where := range missing {
		t.Errorf("%s is not exported; used by %s", name, strings.Join(where, "; "))
	}
}

// TestSampleConfigsScrape gives each sample to a Prometheus with service
// discovery. Only the exporter's address, and the organization's id where a
// user has to fill it in, are put in their places, and the pace is raised.
func TestSampleConfigsScrape(t *testing.T) {
	sim, environment := upstream(t, simulator.Config{Services: 6, Seed: 1, RefreshInterval: time.Second})
	e := startExporter(t, environment, quick...)
	for file, jobs := range map[string][]string{
		"prometheus.yml":             {"clickhouse-postgres"},
		"prometheus-http-sd.yml":     {"clickhouse-postgres", "clickhouse-postgres-exporter"},
		"prometheus-vendor-path.yml": {"managed-postgres", "clickhouse-postgres-exporter"},
	} {
		t.Run(file, func(t *testing.T) {
			text, err := os.ReadFile(deployed(file))
			if err != nil {
				t.Fatal(err)
			}
			replaced := strings.NewReplacer(
				"exporter:9924", e.address,
				"<ORG_ID>", sim.Config().OrganizationID,
				"scrape_interval: 30s", "scrape_interval: 1s", "scrape_interval: 60s", "scrape_interval: 1s",
				"scrape_timeout: 10s", "scrape_timeout: 1s",
				"refresh_interval: 1m", "refresh_interval: 1s",
			).Replace(string(text))
			p := startConfigured(t, replaced)
			targets := len(jobs)
			if file == "prometheus-http-sd.yml" {
				targets = len(sim.Services()) + 1
			}
			at := p.settled(t, targets)

			for _, s := range sim.Services() {
				v := p.queryAt(t, fmt.Sprintf(`PostgresServer_CPUCores{job=%q, postgres_service=%q}`, jobs[0], s.ID), at)
				if len(v) != 1 {
					t.Errorf("%d series of service %s, want 1: %v", len(v), s.ID, v)
				}
				if file == "prometheus-http-sd.yml" {
					if v := p.queryAt(t, fmt.Sprintf(`up{job=%q, instance=%q} == 1`, jobs[0], s.ID), at); len(v) != 1 {
						t.Errorf("service %s is no target of its own that is up: %v", s.ID, v)
					}
				}
			}
			if v := p.queryAt(t, `clickhouse_postgres_exporter_build_info`, at); len(v) != 1 {
				t.Errorf("%d series of the exporter's own, want 1", len(v))
			}
			// Nothing comes twice.
			if v := p.queryAt(t, `count by (postgres_service) (PostgresServer_CPUCores) > 1`, at); len(v) > 0 {
				t.Errorf("scraped twice: %v", v)
			}
			r := loadRules(t, p)
			r.evaluateAt(t, at)
			if v := p.queryAt(t, "postgres_service:disk_until_read_only:bytes", at); len(v) != len(sim.Services()) {
				t.Errorf("rules find %d services, want %d", len(v), len(sim.Services()))
			}
			if v := r.holdsAt(t, "ClickHousePostgresExporterDown", at); len(v) > 0 {
				t.Error("the exporter is said to be down")
			}
		})
	}
}
