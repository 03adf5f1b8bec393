package deploytest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

var deployed = filepath.Join("..", "..", "deploy", "prometheus")

type rule struct {
	Record, Alert, Expr string
	For                 string
	Labels, Annotations map[string]string
}

// load reads a YAML file, and refuses what the type does not have.
func load(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func glob(t *testing.T, pattern ...string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(append([]string{deployed}, pattern...)...))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files for %s, err %v", pattern, err)
	}
	return files
}

// loadRules returns all rules, alerts and recorded series, by their names.
func loadRules(t *testing.T) map[string]rule {
	t.Helper()
	all := make(map[string]rule)
	for _, file := range glob(t, "rules", "*.yml") {
		var f struct {
			Groups []struct {
				Name  string
				Rules []rule
			}
		}
		load(t, file, &f)
		for _, g := range f.Groups {
			for _, r := range g.Rules {
				name := r.Record + r.Alert
				if _, ok := all[name]; ok {
					t.Errorf("%s: there are two rules %s", file, name)
				}
				all[name] = r
			}
		}
	}
	return all
}

// sections returns the runbook's sections by anchor.
func sections(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deployed, "RUNBOOK.md"))
	if err != nil {
		t.Fatal(err)
	}
	heading := regexp.MustCompile(`(?m)^#{1,3} (.+)$`)
	at := heading.FindAllStringSubmatchIndex(string(text), -1)
	all := make(map[string]string)
	for i, m := range at {
		end := len(text)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		// As GitHub makes anchors, of headings that are words.
		all[strings.ToLower(strings.ReplaceAll(string(text[m[2]:m[3]]), " ", "-"))] = string(text[m[1]:end])
	}
	return all
}

func TestAlerts(t *testing.T) {
	const runbook = "https://github.com/ClickHouse/clickhouse_postgres_exporter/blob/main/deploy/prometheus/RUNBOOK.md#"
	promql := parser.NewParser(parser.Options{})
	sections := sections(t)
	alerts := 0
	for name, r := range loadRules(t) {
		e, err := promql.ParseExpr(r.Expr)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checkJoins(t, name, e)
		if r.Alert == "" {
			continue
		}
		alerts++
		checkThreshold(t, name, r.Expr)
		if !strings.HasPrefix(name, "ClickHousePostgres") {
			t.Errorf("%s could be anybody's alert", name)
		}
		if !slices.Contains([]string{"info", "warning", "critical"}, r.Labels["severity"]) {
			t.Errorf("%s: severity %q", name, r.Labels["severity"])
		}
		for _, a := range []string{"summary", "description"} {
			if r.Annotations[a] == "" {
				t.Errorf("%s: no %s", name, a)
			}
		}
		anchor, ok := strings.CutPrefix(r.Annotations["runbook_url"], runbook)
		if !ok || anchor != strings.ToLower(name) {
			t.Errorf("%s: runbook_url %q", name, r.Annotations["runbook_url"])
		}
		section, ok := sections[anchor]
		if !ok {
			t.Errorf("%s: no section in the runbook", name)
		}
		for _, part := range []string{"**Meaning.**", "**Impact.**", "**Diagnosis.**", "**Remedy.**"} {
			if !strings.Contains(section, part) {
				t.Errorf("%s: its section in the runbook has no %s", name, part)
			}
		}
	}
	if alerts < 20 {
		t.Errorf("%d alerts found", alerts)
	}
}

// checkThreshold fails unless an alert's threshold can be found and changed by whoever
// does not know the alert: the only number that a line compares with at its end is at
// the end of the whole expression.
func checkThreshold(t *testing.T, name, expr string) {
	t.Helper()
	expr = strings.TrimSuffix(expr, "\n")
	found := regexp.MustCompile(`(?m)[<>=]=? *-?[0-9.e]+$`).FindAllStringIndex(expr, -1)
	if len(found) > 1 || len(found) == 1 && found[0][1] != len(expr) {
		t.Errorf("%s: numbers to compare with at %v, want one at the end:\n%s", name, found, expr)
	}
	withoutNumber := []string{
		"ClickHousePostgresExporterDown", "ClickHousePostgresExporterReplicaDown",
		"ClickHousePostgresServiceUnavailable", "ClickHousePostgresServiceNotRunning",
	}
	if (len(found) == 0) != slices.Contains(withoutNumber, name) {
		t.Errorf("%s: the threshold is at %v:\n%s", name, found, expr)
	}
}

// maxRecorded is how many recorded series a service costs at most.
const maxRecorded = 8

// The runbook has no sections on alerts that are gone, and its links lead
// somewhere.
func TestRunbook(t *testing.T) {
	rules := loadRules(t)
	names := make(map[string]bool)
	for name := range rules {
		names[strings.ToLower(name)] = true
	}
	sections := sections(t)
	link := regexp.MustCompile(`\(#([\w-]+)\)`)
	mention := regexp.MustCompile("`(ClickHousePostgres[A-Z]\\w+|postgres_service\\w*:[\\w:]+)`")
	for anchor, section := range sections {
		if strings.HasPrefix(anchor, "clickhousepostgres") && !names[anchor] {
			t.Errorf("there is no alert for section %s", anchor)
		}
		for _, m := range link.FindAllStringSubmatch(section, -1) {
			if _, ok := sections[m[1]]; !ok {
				t.Errorf("%s links to %s, which does not exist", anchor, m[1])
			}
		}
		for _, m := range mention.FindAllStringSubmatch(section, -1) {
			if _, ok := rules[m[1]]; !ok {
				t.Errorf("%s mentions %s, which does not exist", anchor, m[1])
			}
		}
	}
}

// What is recorded is used, and what is used is recorded.
func TestRecordingRules(t *testing.T) {
	promql := parser.NewParser(parser.Options{})
	rules := loadRules(t)
	used := make(map[string]bool)
	for name, r := range rules {
		e, err := promql.ParseExpr(r.Expr)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, s := range parser.ExtractSelectors(e) {
			for _, m := range s {
				if m.Name == "__name__" && strings.Contains(m.Value, ":") {
					used[m.Value] = true
				}
			}
		}
		for _, a := range r.Annotations {
			for _, m := range regexp.MustCompile(`postgres_service\w*:[\w:]+`).FindAllString(a, -1) {
				used[m] = true
			}
		}
	}
	recorded := 0
	for name, r := range rules {
		if r.Record == "" {
			continue
		}
		recorded++
		if !strings.HasPrefix(name, "postgres_service:") {
			t.Errorf("%s: more than one series for a service", name)
		}
	}
	if recorded > maxRecorded {
		t.Errorf("%d series are recorded for each service, want %d at most", recorded, maxRecorded)
	}
	for name := range used {
		if rules[name].Record == "" {
			t.Errorf("%s is used, but not recorded", name)
		}
	}
	for name, r := range rules {
		if r.Record != "" && !used[name] {
			t.Errorf("%s is recorded, but not used", name)
		}
	}
}

// Every alert has a unit test in which it fires, with all its text, and one in
// which it does not.
func TestEveryAlertIsTested(t *testing.T) {
	fires, quiet := make(map[string]bool), make(map[string]bool)
	for _, file := range glob(t, "tests", "*.yml") {
		var f struct {
			RuleFiles          []string `yaml:"rule_files"`
			EvaluationInterval string   `yaml:"evaluation_interval"`
			Tests              []struct {
				Name        string
				Interval    string
				InputSeries []struct{ Series, Values string } `yaml:"input_series"`
				Alerts      []struct {
					EvalTime string `yaml:"eval_time"`
					Alert    string `yaml:"alertname"`
					Expected []struct {
						Labels      map[string]string `yaml:"exp_labels"`
						Annotations map[string]string `yaml:"exp_annotations"`
					} `yaml:"exp_alerts"`
				} `yaml:"alert_rule_test"`
				Exprs []any `yaml:"promql_expr_test"`
			}
		}
		load(t, file, &f)
		for _, test := range f.Tests {
			for _, a := range test.Alerts {
				if len(a.Expected) == 0 {
					quiet[a.Alert] = true
				}
				for _, e := range a.Expected {
					fires[a.Alert] = true
					for _, text := range e.Annotations {
						if strings.Contains(text, "<no value>") || strings.Contains(text, "%!") {
							t.Errorf("%s: %s: text is %q", file, a.Alert, text)
						}
					}
				}
			}
		}
	}
	for name, r := range loadRules(t) {
		if r.Alert != "" && (!fires[name] || !quiet[name]) {
			t.Errorf("%s: tested firing %t, not firing %t", name, fires[name], quiet[name])
		}
	}
}

// promtool runs Prometheus's own tool, where there is one.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	tool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("promtool is missing: apt-get install prometheus")
		}
		t.Skip("promtool is not installed")
	}
	if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestPromtoolCheckRules(t *testing.T) {
	promtool(t, append([]string{"check", "rules"}, glob(t, "rules", "*.yml")...)...)
}

func TestPromtoolTestRules(t *testing.T) {
	promtool(t, append([]string{"test", "rules"}, glob(t, "tests", "*.yml")...)...)
}

func TestPromtoolCheckConfig(t *testing.T) {
	promtool(t, append([]string{"check", "config"}, glob(t, "prometheus*.yml")...)...)
}
