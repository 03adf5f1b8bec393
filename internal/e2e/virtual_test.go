package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	httpconfig "github.com/prometheus/common/config"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/config"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/pipenet"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/web"
)

// virtualNetwork is where programs in a synctest bubble find each other: listeners by the
// addresses that clients dial.
type virtualNetwork map[string]*pipenet.Listener

func (n virtualNetwork) dial(ctx context.Context, network, address string) (net.Conn, error) {
	l, ok := n[address]
	if !ok {
		return nil, fmt.Errorf("nobody listens at %s", address)
	}
	return l.DialContext(ctx, network, address)
}

// serve has a handler answer at some addresses until the test ends.
func (n virtualNetwork) serve(t *testing.T, server *http.Server, addresses ...string) {
	t.Helper()
	l := pipenet.Listen()
	for _, address := range addresses {
		n[address] = l
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // ends by Close
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
}

// prepareResolver makes what net's resolver has only one of outside of any bubble: in
// one, only that bubble could use it. Prometheus looks up the name of its own host.
func prepareResolver() { _, _ = net.LookupHost("localhost") }

// virtualUpstream serves a simulated organization at upstream.test:80.
func virtualUpstream(t *testing.T, n virtualNetwork, c simulator.Config) *simulator.Simulator {
	t.Helper()
	c.Seed, c.RateLimit = 1, simulator.DefaultRateLimit
	sim := simulator.New(c)
	n.serve(t, &http.Server{Handler: sim}, "upstream.test:80")
	return sim
}

// virtualExporter runs all of the exporter but main in the test's bubble, with flags
// given by their names and values.
func virtualExporter(t *testing.T, n virtualNetwork, sim *simulator.Simulator, flags map[string]string, addresses ...string) {
	t.Helper()
	organizations := configured(t, sim, flags)
	for i := range organizations {
		transport := &http.Transport{DialContext: n.dial}
		t.Cleanup(transport.CloseIdleConnections)
		organizations[i].API.Transport = transport
	}
	c, err := collector.New(collector.Options{Logger: log.NewNopLogger(), Organizations: organizations})
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c, versioncollector.NewCollector(config.Program))
	handler, err := web.NewHandler(web.Options{Collector: c, ExporterMetrics: registry, Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	n.serve(t, web.NewServer(ctx, handler, log.NewNopLogger()), addresses...)
}

// configured returns what the exporter polls with these flags, and the defaults of all
// others.
func configured(t *testing.T, sim *simulator.Simulator, flags map[string]string) []collector.Organization {
	t.Helper()
	c := config.New()
	for _, s := range c.Settings() {
		if s.Default != "" {
			if err := s.Value.Set(s.Default); err != nil {
				t.Fatal(err)
			}
		}
	}
	environment := map[string]string{
		config.EnvURL:       "http://upstream.test",
		config.EnvKeyID:     sim.Config().KeyID,
		config.EnvKeySecret: sim.Config().KeySecret,
	}
	for _, s := range c.Settings() {
		if v, ok := flags[s.Flag]; ok {
			environment[s.Variables()[0]] = v
		}
	}
	if len(environment) != 3+len(flags) {
		t.Fatalf("there are no flags like some of %v", flags)
	}
	err := c.Environment(config.CommandServe, func(name string) (string, bool) { v, ok := environment[name]; return v, ok })
	if err == nil {
		err = c.Complete()
	}
	if err != nil {
		t.Fatal(err)
	}
	organizations, err := config.NewLoader(c).Load()
	if err != nil {
		t.Fatal(err)
	}
	return organizations
}

// virtualPrometheus runs a Prometheus with a configuration and our rules.
type virtualPrometheus struct {
	*server
	rules *rules.Manager
}

func startVirtual(t *testing.T, n virtualNetwork, text string) *virtualPrometheus {
	t.Helper()
	s := startConfigured(t, text, httpconfig.WithDialContextFunc(n.dial))
	cfg, err := promconfig.Load(text, s.logger())
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(deployed("rules", "*.yml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("rules: %v, %v", files, err)
	}
	m := rules.NewManager(&rules.ManagerOptions{
		QueryFunc:  rules.EngineQueryFunc(s.engine, s.db),
		NotifyFunc: func(context.Context, string, ...*rules.Alert) {},
		Context:    t.Context(),
		Appendable: s.db,
		Queryable:  s.db,
		Logger:     s.logger(),
		Registerer: prometheus.NewRegistry(),
		Parser:     parser.NewParser(parser.Options{}),
	})
	if err := m.Update(time.Duration(cfg.GlobalConfig.EvaluationInterval), files, labels.EmptyLabels(), "", nil); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Run()
	}()
	t.Cleanup(func() {
		m.Stop()
		<-done
	})
	return &virtualPrometheus{server: s, rules: m}
}

// pass lets time go by.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// checkRules fails the test for rules that could not be evaluated.
func (p *virtualPrometheus) checkRules(t *testing.T) {
	t.Helper()
	for _, g := range p.rules.RuleGroups() {
		for _, r := range g.Rules() {
			if r.LastError() != nil {
				t.Errorf("%s: %v", r.Name(), r.LastError())
			}
		}
	}
	if log := p.log.String(); strings.Contains(log, "level=WARN") || strings.Contains(log, "level=ERROR") {
		t.Errorf("prometheus complains:\n%s", p.log.tail(4000))
	}
}

// raised is an alert that was pending or fired, and at how many evaluations.
type raised struct {
	name, labels string
	times        float64
}

func (r raised) String() string { return fmt.Sprintf("%s, %v times", r.labels, r.times) }

// alerts returns what was pending or fired within the last d.
func (p *virtualPrometheus) alerts(t *testing.T, d time.Duration) []raised {
	t.Helper()
	var all []raised
	for _, s := range p.query(t, fmt.Sprintf("count_over_time(ALERTS[%ds])", int(d.Seconds()))) {
		all = append(all, raised{s.Metric.Get("alertname"), s.Metric.String(), s.F})
	}
	return all
}
