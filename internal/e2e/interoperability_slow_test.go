//go:build slow

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

const (
	telegraf        = "github.com/influxdata/telegraf/cmd/telegraf"
	telegrafVersion = "v1.37.2"
	telegrafParts   = "custom,inputs.prometheus,outputs.file,parsers.prometheus,serializers.json"

	victoriaMetrics        = "github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics"
	victoriaMetricsVersion = "v0.0.0-20250718125606-9d9bea03485e" // the only one that the module proxy has
)

// built returns a program that takes minutes to build. It is built in an empty directory,
// as a file of its own name there, and kept between runs.
func built(t *testing.T, name, version string, build func(run func(command ...string))) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	cache = filepath.Join(cache, "clickhouse_postgres_exporter", "e2e", name+"-"+version)
	program := filepath.Join(cache, name)
	if _, err := os.Stat(program); err == nil {
		return program
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(cache, "build")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	begin := time.Now()
	build(func(command ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
		}
	})
	if err := os.Rename(filepath.Join(dir, name), program); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s %s was built in %s", name, version, time.Since(begin).Round(time.Second))
	return program
}

// readTelegraf returns upstream's series of the lines of JSON that Telegraf has written.
func readTelegraf(file string) (*collection, error) {
	lines, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	c := &collection{repeated: true}
	for line := range strings.Lines(string(lines)) {
		if !strings.HasSuffix(line, "\n") {
			break // being written
		}
		var metric struct {
			Tags   map[string]string
			Fields map[string]float64
		}
		if err := json.Unmarshal([]byte(line), &metric); err != nil {
			return nil, fmt.Errorf("%s: %w", line, err)
		}
		for name, v := range metric.Fields {
			c.add(name, metric.Tags, v)
		}
	}
	return c, nil
}

// TestTelegraf has a Telegraf scrape the exporter in the format that it prefers and in
// each other that it can be told to ask for.
func TestTelegraf(t *testing.T) {
	program := built(t, "telegraf", telegrafVersion, func(run func(command ...string)) {
		run("go", "install", "-tags", telegrafParts, telegraf+"@"+telegrafVersion)
	})
	sim, environment := upstream(t, simulator.Config{Services: 20, Seed: 7})
	want := expected(t, sim)
	e := startExporter(t, environment, quick...)
	for _, f := range []struct{ name, media, settings string }{
		{name: "default", media: "application/vnd.google.protobuf"},
		{name: "text", media: "text/plain", settings: `http_headers = {"Accept" = "text/plain;version=0.0.4"}`},
		{name: "openmetrics", media: "application/openmetrics-text", settings: `http_headers = {"Accept" = "application/openmetrics-text;version=1.0.0"}`},
	} {
		t.Run(f.name, func(t *testing.T) {
			r := startRelay(t, e)
			dir := t.TempDir()
			config, output := filepath.Join(dir, "telegraf.conf"), filepath.Join(dir, "output.json")
			text := fmt.Sprintf(`
[agent]
  interval = "1s"
  flush_interval = "1s"
  omit_hostname = true
  skip_processors_after_aggregators = true
[[inputs.prometheus]]
  urls = ["http://%s/metrics"]
  metric_version = 2
  url_tag = ""
  %s
[[outputs.file]]
  files = [%q]
  data_format = "json"
`, r.address, f.settings, output)
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			log := startProgram(t, program, "--config", config)
			var c *collection
			eventually(t, time.Minute, func() (err error) {
				if c, err = readTelegraf(output); err == nil && len(c.values) < len(want) {
					err = fmt.Errorf("only %d series of %d", len(c.values), len(want))
				}
				return err
			})
			c.check(t, want)
			r.check(t, f.media)
			if strings.Contains(log.String(), " E! ") {
				t.Errorf("telegraf complains:\n%s", log.tail(4000))
			}
		})
	}
}

// TestVictoriaMetrics has a VictoriaMetrics scrape the exporter and asks it for all series.
func TestVictoriaMetrics(t *testing.T) {
	program := built(t, "victoria-metrics", victoriaMetricsVersion, func(run func(command ...string)) {
		run("go", "mod", "init", "scratch")
		run("go", "get", victoriaMetrics+"@"+victoriaMetricsVersion)
		run("go", "build", "-o", "victoria-metrics", victoriaMetrics)
	})
	sim, environment := upstream(t, simulator.Config{Services: 20, Seed: 7})
	want := expected(t, sim)
	e := startExporter(t, environment, quick...)
	r := startRelay(t, e)
	dir := t.TempDir()
	file := filepath.Join(dir, "scrape.yml")
	config := fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: exporter
    static_configs: [{targets: [%q]}]
`, r.address)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	log := startProgram(t, program,
		"-httpListenAddr="+address, "-storageDataPath="+filepath.Join(dir, "data"),
		"-promscrape.config="+file, "-search.latencyOffset=1s", "-search.disableCache")
	stored(t, address, `{__name__=~"Postgres.*"}`, want).check(t, want)
	r.check(t, "text/plain")
	awaitUp(t, address, r.address)
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "\terror\t") || strings.Contains(line, "cannot scrape") || strings.Contains(line, "cannot parse") {
			t.Errorf("victoria-metrics complains: %s", line)
		}
	}
}
