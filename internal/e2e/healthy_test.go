package e2e

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// setup is a way to run exporters and to scrape them.
type setup struct {
	services    int                          // 12 unless given
	exporters   map[string]map[string]string // flags by address; one with the defaults unless given
	config      string                       // Prometheus's
	copies      int                          // of each series of a service that are stored; one unless given
	minutes     int                          // 20 unless given
	notices     []string                     // alerts that are expected
	connections bool                         // max_connections is known
}

// setups are all that is documented: each sample, each example in the documentation,
// and variations that these describe.
func setups(t *testing.T) map[string]setup {
	t.Helper()
	all := make(map[string]setup)
	for _, file := range []string{
		"prometheus/prometheus.yml", "prometheus/prometheus-http-sd.yml", "prometheus/prometheus-vendor-path.yml",
		"kubernetes/sidecar/prometheus.yml",
	} {
		all[file] = setup{config: read(t, "deploy", filepath.FromSlash(file))}
	}
	for where, text := range examples(t, "yaml") {
		if strings.Contains(text, "scrape_configs:") {
			all[where] = setup{config: text}
		}
	}
	if len(all) < 6 {
		t.Fatalf("only %d configurations found: %v", len(all), slices.Collect(maps.Keys(all)))
	}

	two := strings.Replace(all["prometheus/prometheus.yml"].config, "[exporter:9924]", "[exporter:9924, exporter-b:9924]", 1)
	all["pair"] = setup{config: two, copies: 2, exporters: map[string]map[string]string{
		"exporter:9924":   {"api.replicas": "2"},
		"exporter-b:9924": {"api.replicas": "2"},
	}}
	all["shards"] = setup{config: two, services: 150, exporters: map[string]map[string]string{
		"exporter:9924":   {"api.replicas": "2", "shard.count": "2", "shard.index": "0"},
		"exporter-b:9924": {"api.replicas": "2", "shard.count": "2", "shard.index": "1"},
	}}
	one := all["prometheus/prometheus.yml"].config
	all["with settings"] = setup{config: one, connections: true, exporters: map[string]map[string]string{
		"exporter:9924": {"collector.settings": "true", "settings.assume": "max_connections=500"},
	}}
	all["without exporter metrics"] = setup{config: strings.ReplaceAll(all["prometheus/prometheus-http-sd.yml"].config, "/metrics/exporter", "/nothing")}
	// Large enough for a period of a quarter of an hour, within which nothing changes.
	slowly := strings.NewReplacer("_interval: 30s", "_interval: 1m")
	all["700 services"] = setup{config: slowly.Replace(one), services: 700, minutes: 45, notices: []string{"ClickHousePostgresBudgetTooSmall"}}
	all["700 services, each a target"] = setup{
		config: slowly.Replace(all["prometheus/prometheus-http-sd.yml"].config), services: 700, minutes: 45,
		exporters: map[string]map[string]string{"exporter:9924": {"metrics.max-age": "20m"}}, // which accepts it
	}
	return all
}

// A fleet that is well raises no alert, whatever is scraped and how, also of an exporter
// that has just started: nothing is pending even. Every rule and every documented query
// has a result, and no series is stored twice.
func TestHealthyFleet(t *testing.T) {
	queries := examples(t, "promql")
	if len(queries) < 4 {
		t.Fatalf("only %d queries found", len(queries))
	}
	prepareResolver()
	for name, s := range setups(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				if s.services == 0 {
					s.services = 12
				}
				n := make(virtualNetwork)
				sim := virtualUpstream(t, n, simulator.Config{Services: s.services})
				for _, v := range sim.Services() {
					// As documented examples have them.
					sim.SetTags(v.ID, simulator.Tag{Key: "team", Value: "payments"}, simulator.Tag{Key: "Environment", Value: "production"})
				}
				for _, v := range sim.Series(time.Now()) {
					if v.Name == "PostgresServer_StorageLimitBytes" {
						// Some would be between 85 and 90 % full for years.
						sim.SetFreeDisk(v.Labels["postgres_service"], v.Value/2)
					}
				}
				sim.Refresh()
				if s.exporters == nil {
					virtualExporter(t, n, sim, nil, "exporter:9924", "localhost:9924", "127.0.0.1:9924")
				}
				for address, flags := range s.exporters {
					virtualExporter(t, n, sim, flags, address)
				}
				p := startVirtual(t, n, strings.ReplaceAll(s.config, "<ORG_ID>", sim.Config().OrganizationID))
				d := time.Duration(max(s.minutes, 20)) * time.Minute
				pass(d)

				p.checkRules(t)
				for _, a := range p.alerts(t, d) {
					if !slices.Contains(s.notices, a.name) {
						t.Error(a)
					}
				}
				if v := p.query(t, "PostgresServer_CPUCores"); len(v) != s.services*max(s.copies, 1) {
					t.Errorf("%d services are stored, want %d", len(v), s.services)
				}
				p.checkRecords(t, s.services, s.connections)
				p.checkCopies(t, `postgres_service!=""`, max(s.copies, 1))
				p.checkCopies(t, `postgres_service=""`, max(len(s.exporters), 1))
				for where, q := range queries {
					q = strings.NewReplacer("<id>", sim.Services()[0].ID, "<org>", sim.Config().OrganizationID).Replace(q)
					// What is only the case if something is wrong would hide that the rest fails.
					if len(p.query(t, comparison.ReplaceAllString(q, ">= 0"))) == 0 {
						t.Errorf("%s has no result:\n%s", where, q)
					}
				}
			})
		})
	}
}

// checkRecords fails the test unless each rule has recorded one series for each service,
// that does not tell exporters apart.
func (p *virtualPrometheus) checkRecords(t *testing.T, services int, connections bool) {
	t.Helper()
	for _, g := range p.rules.RuleGroups() {
		for _, r := range g.Rules() {
			if !strings.Contains(r.Name(), ":") {
				continue
			}
			want := services
			if r.Name() == "postgres_service:connections:percent" && !connections {
				want = 0
			}
			count := make(map[string]int)
			for _, s := range p.query(t, "last_over_time("+r.Name()+"[30m])") {
				count[s.Metric.Get("postgres_service")]++
				if s.Metric.Has("instance") || s.Metric.Has("job") {
					t.Errorf("%s tells exporters apart: %s", r.Name(), s.Metric)
				}
			}
			if len(count) != want {
				t.Errorf("%s has %d services, want %d", r.Name(), len(count), want)
			}
			for id, n := range count {
				if n != 1 {
					t.Errorf("%s has %d series of service %s", r.Name(), n, id)
				}
			}
		}
	}
}

var comparison = regexp.MustCompile(`[<>]=? [0-9]+`)

// checkCopies fails the test for series that are stored more often.
func (p *virtualPrometheus) checkCopies(t *testing.T, matcher string, want int) {
	t.Helper()
	copies := make(map[string]int)
	for _, s := range p.query(t, `{__name__=~"Postgres.*|clickhouse_postgres_.*", `+matcher+`}`) {
		copies[labels.NewBuilder(s.Metric).Del("job", "instance").Labels().String()]++
	}
	for series, n := range copies {
		if n > want {
			t.Errorf("%s is stored %d times", series, n)
		}
	}
}

// read returns a file of the repository.
func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{"..", ".."}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// examples returns the code of a language in all of the documentation, by file and
// number.
func examples(t *testing.T, language string) map[string]string {
	t.Helper()
	block := regexp.MustCompile("(?ms)^( *)```" + language + "\n(.*?)^ *```")
	all := make(map[string]string)
	err := fs.WalkDir(os.DirFS(filepath.Join("..", "..")), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".md" {
			return err
		}
		for i, m := range block.FindAllStringSubmatch(read(t, filepath.FromSlash(path)), -1) {
			all[path+" "+string(rune('1'+i))] = strings.ReplaceAll("\n"+m[2], "\n"+m[1], "\n")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
