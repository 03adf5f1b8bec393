package e2e

import (
	"fmt"
	"maps"
	"math"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// upstream starts a simulated upstream whose values stand still for the
// test's life, so that what Prometheus stored can be compared exactly.
func upstream(t *testing.T, config simulator.Config) (sim *simulator.Simulator, environment []string) {
	t.Helper()
	if config.RefreshInterval == 0 {
		config.RefreshInterval = 24 * time.Hour
	}
	sim = simulator.New(config)
	ts := httptest.NewServer(sim)
	t.Cleanup(ts.Close)
	config = sim.Config()
	return sim, []string{
		"CLICKHOUSE_API_URL=" + ts.URL,
		"CLICKHOUSE_CLOUD_API_KEY=" + config.KeyID,
		"CLICKHOUSE_CLOUD_API_SECRET=" + config.KeySecret,
	}
}

// quick are the flags under which the exporter follows the simulated upstream
// within a second.
var quick = []string{
	"--api.rate-limit=1000", "--api.rate-use=1000",
	"--metrics.interval=1s", "--inventory.interval=1s", "--metrics.max-age=30s",
}

// everything are these, and all collectors with what they need.
var everything = append(slices.Clone(quick), "--collector.settings", "--settings.assume=max_connections=500")

// formats are the scrape jobs of one target, one for each format that
// Prometheus can be told to insist on, and what it asks for by itself.
func formats(target string) []job {
	of := func(name, protocols string) job {
		return job{name: name, target: target, settings: "honor_labels: true\nscrape_protocols: [" + protocols + "]"}
	}
	return []job{
		of("text", "PrometheusText0.0.4"),
		of("text-utf8", "PrometheusText1.0.0"),
		of("openmetrics", "OpenMetricsText1.0.0"),
		of("protobuf", "PrometheusProto"),
		{name: "default", target: target, settings: "honor_labels: true"},
		{name: "protobuf-first", target: target, settings: "honor_labels: true\nscrape_native_histograms: true"},
	}
}

func TestEverySeriesArrivesInEveryFormat(t *testing.T) {
	sim, environment := upstream(t, simulator.Config{Services: 20, Seed: 7})
	e := startExporter(t, environment, quick...)
	jobs := formats(e.address)
	p := startServer(t, jobs...)
	p.awaitScrapes(t, 2, jobs...)

	want := make(map[string]float64)
	for _, s := range sim.Series(time.Now()) {
		want[identity(s.Name, s.Labels)] = s.Value
	}
	if len(want) < 20*30 {
		t.Fatalf("the simulator expects only %d series", len(want))
	}
	for _, j := range jobs {
		t.Run(j.name, func(t *testing.T) {
			got := make(map[string]float64)
			for _, s := range p.query(t, fmt.Sprintf(`{__name__=~"Postgres.*",job=%q}`, j.name)) {
				region, size, state := s.Metric.Get("postgres_region"), s.Metric.Get("postgres_size"), s.Metric.Get("postgres_state")
				if region == "" || size == "" || state == "" {
					t.Errorf("%s lacks an inventory label", s.Metric)
				}
				l := labels.NewBuilder(withoutTarget(s.Metric)).Del("postgres_region", "postgres_size", "postgres_state").Labels()
				got[identity(l.Get(model.MetricNameLabel), l.Map())] = s.F
			}
			compare(t, got, want)
			if v := p.query(t, fmt.Sprintf(`{__name__=~".*_[Tt]otal_total",job=%q}`, j.name)); len(v) > 0 {
				t.Errorf("renamed by the format: %s", v[0].Metric)
			}
			up, ok := p.scalar(t, fmt.Sprintf(`clickhouse_postgres_up{job=%q}`, j.name))
			if !ok || up != 1 {
				t.Errorf("clickhouse_postgres_up = %v (%t), want 1", up, ok)
			}
		})
	}
	if out := p.log.String(); strings.Contains(out, "level=WARN") || strings.Contains(out, "level=ERROR") {
		t.Errorf("prometheus complains:\n%s", complaints(out))
	}
}

// TestTypesSurviveNegotiation holds the metadata that Prometheus keeps of each
// target against upstream's TYPE lines: a scraper that accepts several formats
// must get one that can say all of them.
func TestTypesSurviveNegotiation(t *testing.T) {
	sim, environment := upstream(t, simulator.Config{Services: 2, Seed: 7})
	e := startExporter(t, environment, quick...)
	jobs := formats(e.address)
	p := startServer(t, jobs...)
	p.awaitScrapes(t, 2, jobs...)

	types := make(map[string]string)
	for _, s := range sim.Series(time.Now()) {
		types[s.Name] = s.Type
	}
	for name, targets := range p.manager.TargetsActive() {
		for metric, want := range types {
			if name == "openmetrics" && want == "counter" {
				want = "unknown" // a counter that does not end in _total has no other name there
			}
			metadata, ok := targets[0].GetMetadata(metric)
			if !ok || string(metadata.Type) != want {
				t.Errorf("%s: TYPE of %s is %q (known %t), want %q", name, metric, metadata.Type, ok, want)
			}
		}
	}
}

// identity is a series' name and labels in one canonical string.
func identity(name string, l map[string]string) string {
	var b strings.Builder
	b.WriteString(name)
	for _, k := range slices.Sorted(maps.Keys(l)) {
		if k != model.MetricNameLabel && l[k] != "" {
			fmt.Fprintf(&b, ",%s=%q", k, l[k])
		}
	}
	return b.String()
}

// compare fails the test for every series that is missing, unexpected or of
// another value.
func compare(t *testing.T, got, want map[string]float64) {
	t.Helper()
	for id, w := range want {
		g, ok := got[id]
		if !ok {
			t.Errorf("missing: %s", id)
		} else if math.Float64bits(g) != math.Float64bits(w) {
			t.Errorf("%s = %v, want %v", id, g, w)
		}
	}
	for id := range got {
		if _, ok := want[id]; !ok {
			t.Errorf("not upstream's: %s", id)
		}
	}
}

// complaints filters a log for warnings and errors.
func complaints(log string) string {
	var b strings.Builder
	for line := range strings.Lines(log) {
		if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") {
			b.WriteString(line)
		}
	}
	return b.String()
}
