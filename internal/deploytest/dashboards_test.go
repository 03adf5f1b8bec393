package deploytest

import (
	"encoding/json"
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

var grafana = filepath.Join("..", "..", "deploy", "grafana")

// The parts of a Grafana dashboard that the tests look at.
type (
	dashboard struct {
		UID           string
		Title         string
		Description   string
		SchemaVersion int
		Templating    struct{ List []variable }
		Panels        []panel
	}
	variable struct {
		Name, Label, Type, Regex, AllValue string
		Query                              json.RawMessage // an object, or a string
		IncludeAll, Multi                  bool
	}
	panel struct {
		ID                       int
		Type, Title, Description string
		GridPos                  struct{ X, Y, W, H int }
		Datasource               datasource
		Targets                  []target
		FieldConfig              struct {
			Defaults struct {
				Unit  string
				Links []link
			}
			Overrides []struct {
				Matcher    struct{ ID, Options string }
				Properties []struct {
					ID    string
					Value json.RawMessage
				}
			}
		}
		Options         map[string]any
		Transformations []struct{ ID string }
		Panels          []panel
	}
	datasource struct{ Type, UID string }
	target     struct {
		RefID          string
		Datasource     datasource
		Expr           string
		Format         string
		Instant, Range bool
		Interval       string
	}
	link struct{ Title, URL string }
)

func loadDashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(grafana, "dashboards", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards found, err %v", err)
	}
	all := make(map[string]dashboard)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		all[filepath.Base(f)] = d
	}
	return all
}

// all returns the panels with those inside collapsed rows.
func (d dashboard) all() []panel {
	var ps []panel
	for _, p := range d.Panels {
		ps = append(ps, p)
		ps = append(ps, p.Panels...)
	}
	return ps
}

// links returns a panel's data links, those of table columns included.
func (p panel) links(t *testing.T) []link {
	t.Helper()
	links := slices.Clone(p.FieldConfig.Defaults.Links)
	for _, o := range p.FieldConfig.Overrides {
		for _, property := range o.Properties {
			if property.ID != "links" {
				continue
			}
			var more []link
			if err := json.Unmarshal(property.Value, &more); err != nil {
				t.Fatal(err)
			}
			links = append(links, more...)
		}
	}
	return links
}

// query returns a query variable's expression.
func (v variable) query(t *testing.T) string {
	t.Helper()
	var q struct{ Query string }
	if err := json.Unmarshal(v.Query, &q); err != nil {
		t.Fatalf("variable %s: %v", v.Name, err)
	}
	return q.Query
}

var (
	variableUse = regexp.MustCompile(`\$([a-zA-Z_]\w*)`) // $1 is a regular expression's
	// What Grafana knows without being told.
	builtinVariables = []string{"__rate_interval", "__interval", "__range"}
)

// substitute puts values in the place of variables, as Grafana does.
func substitute(expr string) string {
	return variableUse.ReplaceAllStringFunc(expr, func(use string) string {
		switch strings.TrimPrefix(use, "$") {
		case "__rate_interval", "__interval", "__range":
			return "5m"
		case "top":
			return "10"
		case "tag":
			return "tag_team"
		}
		return ".*"
	})
}

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

func TestDashboardQueriesParse(t *testing.T) {
	promql := parser.NewParser(parser.Options{})
	for file, d := range loadDashboards(t) {
		names := slices.Clone(builtinVariables)
		for _, v := range d.Templating.List {
			names = append(names, v.Name)
		}
		exprs := make(map[string]string)
		for _, p := range d.all() {
			for _, q := range p.Targets {
				exprs[p.Title+" "+q.RefID] = q.Expr
			}
		}
		for _, v := range d.Templating.List {
			if v.Type == "query" {
				exprs["variable "+v.Name] = innerQuery(t, v.query(t))
			}
		}
		for where, expr := range exprs {
			for _, use := range variableUse.FindAllStringSubmatch(expr, -1) {
				if !slices.Contains(names, use[1]) {
					t.Errorf("%s: %s: $%s is not a variable of the dashboard", file, where, use[1])
				}
			}
			e, err := promql.ParseExpr(substitute(expr))
			if err != nil {
				t.Errorf("%s: %s: %v\n%s", file, where, err, expr)
				continue
			}
			checkJoins(t, file+": "+where, e)
		}
		// No service has a tag: the variable is empty then.
		for where, expr := range exprs {
			if _, err := promql.ParseExpr(substitute(strings.ReplaceAll(expr, "$tag", ""))); err != nil {
				t.Errorf("%s: %s without any tag: %v", file, where, err)
			}
		}
	}
}

// checkJoins fails for joins on what is not an identity.
func checkJoins(t *testing.T, where string, e parser.Expr) {
	t.Helper()
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		b, ok := n.(*parser.BinaryExpr)
		if !ok || b.VectorMatching == nil || !b.VectorMatching.On {
			return nil
		}
		for _, l := range b.VectorMatching.MatchingLabels {
			if !slices.Contains([]string{"clickhouse_org", "postgres_service", "job", "instance"}, l) {
				t.Errorf("%s: joins on %s, which is no identity", where, l)
			}
		}
		return nil
	})
}

// innerQuery returns the PromQL within label_values(…, label) and the like.
func innerQuery(t *testing.T, query string) string {
	t.Helper()
	if inner, ok := strings.CutPrefix(query, "label_values("); ok {
		at := strings.LastIndex(inner, ",")
		if at < 0 || !strings.HasSuffix(inner, ")") {
			t.Fatalf("not label_values(selector, label): %s", query)
		}
		return inner[:at]
	}
	for _, function := range []string{"query_result(", "label_names("} {
		if inner, ok := strings.CutPrefix(query, function); ok {
			return strings.TrimSuffix(inner, ")")
		}
	}
	t.Fatalf("not a query for a variable: %s", query)
	return ""
}

func TestDashboardVariables(t *testing.T) {
	dashboards := loadDashboards(t)
	for file, want := range map[string][]string{
		"fleet.json":    {"datasource", "organization", "region", "size", "state", "service", "top", "tag"},
		"service.json":  {"datasource", "organization", "region", "size", "state", "service"},
		"exporter.json": {"datasource", "organization", "instance"},
	} {
		var got []string
		for _, v := range dashboards[file].Templating.List {
			got = append(got, v.Name)
			if v.Label == "" {
				t.Errorf("%s: variable %s has no label", file, v.Name)
			}
			if v.Multi && (!v.IncludeAll || v.AllValue != ".*") {
				t.Errorf("%s: variable %s: All must match what was not in the list too", file, v.Name)
			}
			if v.Type == "query" && v.Name != "instance" && strings.Contains(v.query(t), "PostgresServe") {
				t.Errorf("%s: variable %s is filled from metrics, not from the inventory", file, v.Name)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: variables %v, want %v", file, got, want)
		}
	}
}

// The variable Service shows names and stands for ids. Grafana applies its
// regex to lines like these.
func TestServiceVariable(t *testing.T) {
	for _, file := range []string{"fleet.json", "service.json"} {
		for _, v := range loadDashboards(t)[file].Templating.List {
			if v.Name != "service" {
				continue
			}
			re, err := regexp.Compile(strings.Trim(v.Regex, "/"))
			if err != nil {
				t.Fatal(err)
			}
			for line, want := range map[string][2]string{
				`{postgres_service="67b4bc12",postgres_service_name="my postgres"} 1 1782000000000`: {"67b4bc12", "my postgres"},
				`{postgres_service="67b4bc12",postgres_service_name="a \"b\", c"} 1 1782000000000`:  {"67b4bc12", `a \"b\", c`},
				`{postgres_service="67b4bc12",postgres_service_name=""} 1 1782000000000`:            {"67b4bc12", ""},
			} {
				m := re.FindStringSubmatch(line)
				if m == nil {
					t.Errorf("%s: %s does not match %s", file, v.Regex, line)
					continue
				}
				if got := [2]string{m[re.SubexpIndex("value")], m[re.SubexpIndex("text")]}; got != want {
					t.Errorf("%s: %s yields %q, want %q", file, line, got, want)
				}
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
