package collector

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"
	"go.uber.org/goleak"
	"go.yaml.in/yaml/v2"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/pipenet"
)

var update = flag.Bool("update", false, "write the golden files")

// Names of the program's own series.
const (
	serviceInfoName    = "clickhouse_postgres_service_info"
	serviceStateName   = "clickhouse_postgres_service_state"
	serviceTagName     = "clickhouse_postgres_service_tag"
	serviceSettingName = "clickhouse_postgres_service_setting"
	serviceUpName      = "clickhouse_postgres_service_up"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// logs collects what is logged. Safe for concurrent use.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// lines returns the lines that hold all of the words, and forgets nothing.
func (l *logs) lines(words ...string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []string
	for line := range strings.Lines(l.buf.String()) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// bench is a simulator and a collector that polls it.
type bench struct {
	t    *testing.T
	sim  *simulator.Simulator
	c    *Collector
	logs *logs
	stop func()
}

// upstream serves a simulator in the bubble and returns the API configuration of a
// key of its own.
func upstream(t *testing.T, sim *simulator.Simulator) api.Config {
	t.Helper()
	listener := pipenet.Listen()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Compressing answers would take most of the time of a simulated hour.
		r.Header.Del("Accept-Encoding")
		sim.ServeHTTP(w, r)
	})}
	go server.Serve(listener) //nolint:errcheck // ends by Close
	transport := &http.Transport{DialContext: listener.DialContext}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
		synctest.Wait()
	})
	cfg := sim.Config()
	return api.Config{
		BaseURL:     "http://upstream.test",
		Credentials: api.StaticCredentials(cfg.KeyID, cfg.KeySecret),
		Budget:      api.NewBudget(api.BudgetConfig{Requests: 8, Window: 10 * time.Second}),
		Transport:   transport,
	}
}

// newBench starts a collector of a simulated organization. To be called in a
// synctest bubble.
func newBench(t *testing.T, cfg simulator.Config, edit func(*Options, *Organization)) *bench {
	t.Helper()
	if cfg.Seed == 0 {
		cfg.Seed = 7
	}
	b := &bench{t: t, sim: simulator.New(cfg), logs: &logs{}}
	labels, err := inventory.ParseEnrichLabels([]string{"region,size,state"})
	if err != nil {
		t.Fatal(err)
	}
	options := Options{Logger: log.NewLogfmtLogger(b.logs)}
	org := allOwn(Organization{Name: "bench", ID: b.sim.Config().OrganizationID, API: upstream(t, b.sim), EnrichLabels: labels})
	if edit != nil {
		edit(&options, &org)
	}
	options.Organizations = append([]Organization{org}, options.Organizations...)
	b.c, err = New(options)
	if err != nil {
		t.Fatal(err)
	}
	b.start()
	return b
}

// allOwn returns the organization with the program's own series that take no requests.
func allOwn(o Organization) Organization {
	o.CollectInventory, o.CollectState, o.CollectTags, o.CollectServiceHealth = true, true, true, true
	return o
}

func (b *bench) start() {
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := b.c.Run(ctx); err != nil {
			b.t.Error(err)
		}
	}()
	b.stop = func() {
		cancel()
		<-done
	}
	b.t.Cleanup(b.stop)
}

// poller returns that of an organization, by its place in the configuration.
func (b *bench) poller(i int) *poller { return (*b.c.pollers.Load())[i] }

// pass lets time pass.
func (b *bench) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// refreshed waits for the first refresh, and some time more for the budget to rest.
func (b *bench) refreshed() {
	b.t.Helper()
	if err := b.c.WaitFirstRefresh(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	synctest.Wait()
}

// text returns a page as text.
func (b *bench) text(org, service string) string {
	b.t.Helper()
	docs, err := b.c.Page(org, service)
	if err != nil {
		b.t.Fatalf("Page(%q, %q): %v", org, service, err)
	}
	return text(docs...)
}

func text(docs ...*exposition.Document) string {
	var page strings.Builder
	var encoder exposition.Encoder
	for _, chunk := range encoder.Encode(exposition.Text, exposition.Identity, docs...).Chunks {
		page.Write(chunk)
	}
	return page.String()
}

// series returns the series of a page and their values.
func series(page string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		end := strings.LastIndexByte(line, ' ')
		all[line[:end]] = line[end+1:]
	}
	return all
}

func (b *bench) series() map[string]string {
	b.t.Helper()
	return series(b.text("", ""))
}

// upstreamSeries returns those series of the page that are upstream's.
func (b *bench) upstreamSeries() map[string]string {
	b.t.Helper()
	all := b.series()
	maps.DeleteFunc(all, func(id, _ string) bool { return !strings.HasPrefix(id, "Postgres") })
	return all
}

// ids returns the sorted identities of series that hold all of the words.
func ids(all map[string]string, words ...string) []string {
	var found []string
	for id := range all {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(id, w) }) {
			found = append(found, id)
		}
	}
	slices.Sort(found)
	return found
}

// health returns the collector's own metrics: name{labels} and value, counts of
// histograms among them.
func (b *bench) health() map[string]string {
	b.t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(b.c); err != nil {
		b.t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	return series(text(exposition.NewDocument(families)))
}

// own returns the value of one of the collector's own metrics of the simulated
// organization, "" if there is none.
func (b *bench) own(name string, labels ...string) string {
	b.t.Helper()
	id := fmt.Sprintf("%s{clickhouse_org=%q", name, b.sim.Config().OrganizationID)
	for _, l := range labels {
		id += "," + l
	}
	return b.health()[id+"}"]
}

func (b *bench) want(name, value string, labels ...string) {
	b.t.Helper()
	if got := b.own(name, labels...); got != value {
		b.t.Errorf("%s%v = %q, want %q", name, labels, got, value)
	}
}

func rules(t *testing.T, text string) []*relabel.Config {
	t.Helper()
	var list []*relabel.Config
	if err := yaml.UnmarshalStrict([]byte(text), &list); err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		r.NameValidationScheme = model.UTF8Validation
		if err := r.Validate(model.UTF8Validation); err != nil {
			t.Fatal(err)
		}
	}
	return list
}

// masked returns a page without the values that depend on when requests were made.
func masked(page string) string {
	return regexp.MustCompile(`(?m)^(\S*_metrics_last_\w+_timestamp_seconds\{.*\}) \S+$`).ReplaceAllString(page, "$1 <time>")
}

// expected returns the identity and value of every series that the simulator's
// organization page has at the moment, as the exporter is to show it.
func (b *bench) expected(inline func(simulator.Service) map[string]string) map[string]string {
	services := map[string]simulator.Service{}
	for _, s := range b.sim.Services() {
		services[s.ID] = s
	}
	all := map[string]string{}
	for _, s := range b.sim.Series(time.Now()) {
		labels := maps.Clone(s.Labels)
		for name, value := range inline(services[s.Labels["postgres_service"]]) {
			labels[name] = value
		}
		pairs := make([]string, 0, len(labels))
		for _, name := range slices.Sorted(maps.Keys(labels)) {
			pairs = append(pairs, fmt.Sprintf("%s=%q", name, labels[name]))
		}
		all[s.Name+"{"+strings.Join(pairs, ",")+"}"] = fmt.Sprint(s.Value)
	}
	return all
}

func byDefault(s simulator.Service) map[string]string {
	return map[string]string{"postgres_region": s.Region, "postgres_size": s.Size, "postgres_state": s.State}
}

// sorted returns the series with labels in order: where an inlined label stands is
// no part of a series' identity.
func sorted(all map[string]string) map[string]string {
	out := make(map[string]string, len(all))
	for id, value := range all {
		name, pairs, _ := strings.Cut(strings.TrimSuffix(id, "}"), "{")
		parts := strings.Split(pairs, `",`)
		for i := range parts {
			parts[i] = strings.TrimSuffix(parts[i], `"`) + `"`
		}
		slices.Sort(parts)
		out[name+"{"+strings.Join(parts, ",")+"}"] = value
	}
	return out
}

func identities(all map[string]string) []string { return slices.Sorted(maps.Keys(sorted(all))) }
