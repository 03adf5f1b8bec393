package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	httpconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	_ "github.com/prometheus/prometheus/discovery/http" // registers http_sd_configs
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/tsdb"
)

// server is a Prometheus without its web interface: scrape manager, storage
// and query engine.
type server struct {
	db      *tsdb.DB
	engine  *promql.Engine
	manager *scrape.Manager // nil until it scrapes
	log     *syncBuffer
}

// job is one scrape job: a name, where to scrape, and settings in the words
// of prometheus.yml's scrape_config.
type job struct {
	name, target string
	settings     string
}

// startServer scrapes the jobs once a second until the test ends.
func startServer(t *testing.T, jobs ...job) *server {
	t.Helper()
	var text strings.Builder
	text.WriteString("global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n")
	targets := make(map[string][]*targetgroup.Group)
	for _, j := range jobs {
		fmt.Fprintf(&text, "  - job_name: %s\n", j.name)
		for line := range strings.Lines(strings.TrimSpace(j.settings)) {
			fmt.Fprintf(&text, "    %s\n", strings.TrimRight(line, "\n"))
		}
		targets[j.name] = []*targetgroup.Group{{
			Source:  j.name,
			Targets: []model.LabelSet{{model.AddressLabel: model.LabelValue(j.target)}},
		}}
	}
	s := newServer(t)
	cfg, err := config.Load(text.String(), s.logger())
	if err != nil {
		t.Fatalf("prometheus refuses the configuration: %v\n%s", err, text.String())
	}
	manager, err := scrape.NewManager(&scrape.Options{
		DiscoveryReloadInterval: model.Duration(10 * time.Millisecond),
		EnableZstdScrape:        true,
	}, s.logger(), nil, nil, s.db, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if err := manager.ApplyConfig(cfg); err != nil {
		t.Fatal(err)
	}
	sets := make(chan map[string][]*targetgroup.Group)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = manager.Run(sets)
	}()
	sets <- targets
	t.Cleanup(func() {
		manager.Stop()
		<-done
	})
	s.manager = manager
	return s
}

// newServer returns a server that scrapes nothing yet.
func newServer(t *testing.T) *server {
	t.Helper()
	options := tsdb.DefaultOptions()
	options.EnableExemplarStorage = true
	db, err := tsdb.Open(t.TempDir(), slog.New(slog.DiscardHandler), nil, options, tsdb.NewDBStats())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return &server{
		db:  db,
		log: &syncBuffer{},
		engine: promql.NewEngine(promql.EngineOpts{
			MaxSamples:           50_000_000,
			Timeout:              time.Minute,
			LookbackDelta:        5 * time.Minute,
			EnableAtModifier:     true,
			EnableNegativeOffset: true,
			Parser:               parser.NewParser(parser.Options{}),
		}),
	}
}

func (s *server) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// startConfigured is a Prometheus with a whole configuration file, service
// discovery included, that connects as options say.
func startConfigured(t *testing.T, text string, options ...httpconfig.HTTPClientOption) *server {
	t.Helper()
	s := newServer(t)
	logger := s.logger()
	cfg, err := config.Load(text, logger)
	if err != nil {
		t.Fatalf("prometheus refuses the configuration: %v\n%s", err, text)
	}
	registry := prometheus.NewRegistry()
	mechanisms, err := discovery.CreateAndRegisterSDMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	found := discovery.NewManager(ctx, logger, registry, mechanisms, discovery.Updatert(100*time.Millisecond), discovery.HTTPClientOptions(options...))
	manager, err := scrape.NewManager(&scrape.Options{
		DiscoveryReloadInterval: model.Duration(100 * time.Millisecond),
		HTTPClientOptions:       options,
	}, logger, nil, nil, s.db, registry)
	if err != nil {
		t.Fatal(err)
	}
	if err := manager.ApplyConfig(cfg); err != nil {
		t.Fatal(err)
	}
	mechanismsOf := make(map[string]discovery.Configs)
	for _, c := range cfg.ScrapeConfigs {
		mechanismsOf[c.JobName] = c.ServiceDiscoveryConfigs
	}
	if err := found.ApplyConfig(mechanismsOf); err != nil {
		t.Fatal(err)
	}
	discovering, scraping := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(discovering)
		_ = found.Run()
	}()
	go func() {
		defer close(scraping)
		_ = manager.Run(found.SyncCh())
	}()
	t.Cleanup(func() {
		cancel()
		manager.Stop()
		<-discovering
		<-scraping
	})
	s.manager = manager
	return s
}

// query evaluates an expression now.
func (s *server) query(t *testing.T, expr string) promql.Vector {
	t.Helper()
	q, err := s.engine.NewInstantQuery(context.Background(), s.db, nil, expr, time.Now())
	if err != nil {
		t.Fatalf("query %s: %v", expr, err)
	}
	defer q.Close()
	r := q.Exec(context.Background())
	v, err := r.Vector()
	if err != nil {
		t.Fatalf("query %s: %v", expr, err)
	}
	return append(promql.Vector(nil), v...)
}

// scalar evaluates an expression that yields at most one sample; absent is
// reported as ok=false.
func (s *server) scalar(t *testing.T, expr string) (value float64, ok bool) {
	t.Helper()
	v := s.query(t, expr)
	switch len(v) {
	case 0:
		return 0, false
	case 1:
		return v[0].F, true
	}
	t.Fatalf("query %s: %d samples where at most one was expected", expr, len(v))
	return 0, false
}

// awaitScrapes returns once every job has been scraped successfully at least
// n times more.
func (s *server) awaitScrapes(t *testing.T, n int, jobs ...job) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for _, j := range jobs {
		from := time.Now()
		for {
			seconds := int(time.Since(from).Seconds()) + 1
			if v, ok := s.scalar(t, fmt.Sprintf("sum_over_time(up{job=%q}[%ds])", j.name, seconds)); ok && int(v) >= n {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("job %s: not scraped %d times within a minute; log:\n%s", j.name, n, s.log.tail(4000))
			}
			<-time.After(50 * time.Millisecond)
		}
	}
}

// withoutTarget drops what Prometheus itself added to a series.
func withoutTarget(l labels.Labels) labels.Labels {
	return labels.NewBuilder(l).Del("job", "instance").Labels()
}
