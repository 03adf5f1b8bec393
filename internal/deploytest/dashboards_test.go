package deploytest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

func TestDashboards(t *testing.T) {
	dashboards := loadDashboards(t)
	// These are addresses that users have bookmarked.
	uids := map[string]string{
		"fleet.json":    "clickhouse-postgres-fleet",
		"service.json":  "clickhouse-postgres-service",
		"exporter.json": "clickhouse-postgres-exporter",
	}
	for file, uid := range uids {
		if got := dashboards[file].UID; got != uid {
			t.Errorf("%s: uid %q, want %q", file, got, uid)
		}
	}
	if len(dashboards) != len(uids) {
		t.Errorf("%d dashboards, want %d", len(dashboards), len(uids))
	}
	known := []string{"stat", "table", "timeseries", "bargauge", "state-timeline"}
	for file, d := range dashboards {
		t.Run(file, func(t *testing.T) {
			if d.Title == "" || d.Description == "" || len(d.UID) > 40 {
				t.Errorf("title %q, description %q, uid %q", d.Title, d.Description, d.UID)
			}
			if d.SchemaVersion != 41 {
				t.Errorf("schema version %d, want Grafana 12's", d.SchemaVersion)
			}
			ids := make(map[int]string)
			for _, p := range d.all() {
				if other, ok := ids[p.ID]; ok || p.ID <= 0 {
					t.Errorf("panels %q and %q both have id %d", other, p.Title, p.ID)
				}
				ids[p.ID] = p.Title
				if p.Title == "" {
					t.Errorf("panel %d has no title", p.ID)
				}
				if p.Type == "row" {
					continue
				}
				if !slices.Contains(known, p.Type) {
					t.Errorf("%s: unknown type %q", p.Title, p.Type)
				}
				if !strings.HasSuffix(p.Description, ".") {
					t.Errorf("%s: description %q is no sentence", p.Title, p.Description)
				}
				if p.FieldConfig.Defaults.Unit == "" {
					t.Errorf("%s: no unit", p.Title)
				}
				checkTargets(t, p)
				checkColumns(t, p)
			}
			checkGrid(t, d)
		})
	}
}

func checkTargets(t *testing.T, p panel) {
	t.Helper()
	chosen := datasource{"prometheus", "${datasource}"}
	if p.Datasource != chosen {
		t.Errorf("%s: data source %v is not the chosen one", p.Title, p.Datasource)
	}
	if len(p.Targets) == 0 {
		t.Errorf("%s: no query", p.Title)
	}
	refs := make(map[string]bool)
	for _, q := range p.Targets {
		if q.RefID == "" || refs[q.RefID] {
			t.Errorf("%s: refId %q is empty or not unique", p.Title, q.RefID)
		}
		refs[q.RefID] = true
		if q.Datasource != chosen {
			t.Errorf("%s %s: data source %v is not the chosen one", p.Title, q.RefID, q.Datasource)
		}
		if q.Instant == q.Range {
			t.Errorf("%s %s: must be either instant or range", p.Title, q.RefID)
		}
		if strings.Contains(q.Expr, "$__rate_interval") && q.Interval != "1m" {
			t.Errorf("%s %s: a rate needs a minimal step of one minute, or its windows miss upstream's refreshes", p.Title, q.RefID)
		}
	}
}

// checkColumns holds a table's columns against its queries, and its order
// against its columns.
func checkColumns(t *testing.T, p panel) {
	t.Helper()
	if p.Type != "table" {
		return
	}
	titles := make(map[string]bool)
	for _, o := range p.FieldConfig.Overrides {
		if ref, ok := strings.CutPrefix(o.Matcher.Options, "Value #"); ok {
			if !slices.ContainsFunc(p.Targets, func(q target) bool { return q.RefID == ref }) {
				t.Errorf("%s: column %q is of no query", p.Title, o.Matcher.Options)
			}
		}
		for _, property := range o.Properties {
			if property.ID == "displayName" {
				if titles[string(property.Value)] {
					t.Errorf("%s: two columns are titled %s", p.Title, property.Value)
				}
				titles[string(property.Value)] = true
			}
		}
	}
	if sortBy, ok := p.Options["sortBy"].([]any); ok {
		for _, by := range sortBy {
			if title := by.(map[string]any)["displayName"]; !titles[fmt.Sprintf("%q", title)] {
				t.Errorf("%s: ordered by %q, which is no column", p.Title, title)
			}
		}
	}
	if !slices.ContainsFunc(p.Transformations, func(tr struct{ ID string }) bool { return tr.ID == "merge" }) {
		t.Errorf("%s: queries are not merged into lines", p.Title)
	}
}

func checkGrid(t *testing.T, d dashboard) {
	t.Helper()
	taken := make(map[[2]int]string)
	for _, p := range d.Panels {
		g := p.GridPos
		if g.W <= 0 || g.H <= 0 || g.X < 0 || g.Y < 0 || g.X+g.W > 24 {
			t.Errorf("%s: at %+v, outside of the grid", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other, ok := taken[[2]int{x, y}]; ok {
					t.Fatalf("%s and %s overlap at %d,%d", p.Title, other, x, y)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}

// Every data link leads to a dashboard that is there, and sets variables that
// it has.
func TestDashboardLinks(t *testing.T) {
	dashboards := loadDashboards(t)
	variables := make(map[string][]string)
	for _, d := range dashboards {
		for _, v := range d.Templating.List {
			variables[d.UID] = append(variables[d.UID], v.Name)
		}
	}
	address := regexp.MustCompile(`^/d/([\w-]+)\?`)
	setting := regexp.MustCompile(`[?&]var-(\w+)=`)
	toService := 0
	for file, d := range dashboards {
		for _, p := range d.all() {
			for _, l := range p.links(t) {
				m := address.FindStringSubmatch(l.URL)
				if m == nil || variables[m[1]] == nil {
					t.Errorf("%s: %s: link to %s, which is no dashboard of ours", file, p.Title, l.URL)
					continue
				}
				for _, s := range setting.FindAllStringSubmatch(l.URL, -1) {
					if !slices.Contains(variables[m[1]], s[1]) {
						t.Errorf("%s: %s: link sets %s, which %s does not have", file, p.Title, s[1], m[1])
					}
				}
				for _, part := range []string{"var-service=", "var-organization=", "${__url_time_range}", "${datasource:queryparam}"} {
					if !strings.Contains(l.URL, part) {
						t.Errorf("%s: %s: link without %s", file, p.Title, part)
					}
				}
				if file == "fleet.json" {
					toService++
				}
			}
		}
	}
	if toService == 0 {
		t.Error("no link from the fleet to a service")
	}
}

// documented are upstream's metrics.
var documented = []string{
	"PostgresServiceInfo",
	"PostgresServer_CPUCores",
	"PostgresServer_MemoryLimitBytes",
	"PostgresServer_StorageLimitBytes",
	"PostgresServer_CPUSeconds_Total",
	"PostgresServer_MemoryUsedPercent",
	"PostgresServer_MemoryCachePercent",
	"PostgresServer_FilesystemUsedPercent",
	"PostgresServer_DiskReads_Total",
	"PostgresServer_DiskWrites_Total",
	"PostgresServer_NetworkReceiveBytes_Total",
	"PostgresServer_NetworkTransmitBytes_Total",
	"PostgresServer_TuplesFetched_Total",
	"PostgresServer_TuplesInserted_Total",
	"PostgresServer_TuplesUpdated_Total",
	"PostgresServer_TuplesDeleted_Total",
	"PostgresServer_TransactionsCommitted_Total",
	"PostgresServer_TransactionsRolledBack_Total",
	"PostgresServer_Deadlocks_Total",
	"PostgresServer_ActiveConnections",
	"PostgresServer_CacheHitRatio",
	"PostgresServer_DatabaseSizeBytes",
}

func TestServiceDashboardIsComplete(t *testing.T) {
	shown := make(map[string]bool)
	promql := parser.NewParser(parser.Options{})
	for _, p := range loadDashboards(t)["service.json"].all() {
		for _, q := range p.Targets {
			e, err := promql.ParseExpr(substitute(q.Expr))
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range parser.ExtractSelectors(e) {
				for _, m := range s {
					if m.Name == "__name__" {
						shown[m.Value] = true
					}
				}
			}
		}
	}
	for _, name := range documented {
		if !shown[name] {
			t.Errorf("no panel shows %s", name)
		}
	}
	for name := range shown {
		if strings.HasPrefix(name, "Postgres") && !slices.Contains(documented, name) {
			t.Errorf("upstream has no %s", name)
		}
	}
}

func TestGrafanaProvisioning(t *testing.T) {
	var sources struct {
		APIVersion  int `yaml:"apiVersion"`
		Datasources []struct{ Name, UID, Type, URL string }
	}
	var providers struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []struct {
			Name, Type string
			Options    struct{ Path string }
		}
	}
	for file, into := range map[string]any{
		"datasources/prometheus.yml":         &sources,
		"dashboards/clickhouse-postgres.yml": &providers,
	} {
		text, err := os.ReadFile(filepath.Join(grafana, "provisioning", file))
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(text, into); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	if sources.APIVersion != 1 || len(sources.Datasources) != 1 || sources.Datasources[0].Type != "prometheus" || sources.Datasources[0].URL == "" {
		t.Errorf("data sources: %+v", sources)
	}
	if providers.APIVersion != 1 || len(providers.Providers) != 1 || providers.Providers[0].Type != "file" || providers.Providers[0].Options.Path == "" {
		t.Errorf("dashboard providers: %+v", providers)
	}
}
