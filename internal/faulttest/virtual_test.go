//go:build linux

package faulttest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/pipenet"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/web"
)

// virtual is everything but package main, in a synctest bubble, where hours pass in no time.
type virtual struct {
	t       *testing.T
	sim     *simulator.Simulator
	handler http.Handler
	encoder exposition.Encoder
	log     *output
	refused atomic.Bool // upstream's port is closed

	mu    sync.Mutex
	times []time.Time // of requests
	conns map[net.Conn]struct{}
}

// newVirtual starts a collector with the default settings. Call it in a bubble.
func newVirtual(t *testing.T, config simulator.Config) *virtual {
	t.Helper()
	config.Seed, config.KeyID, config.KeySecret = 11, keyID, secret
	v := &virtual{t: t, sim: simulator.New(config), log: &output{}, conns: map[net.Conn]struct{}{}}
	listener := pipenet.Listen()
	server := &http.Server{ErrorLog: discard(), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v.mu.Lock()
		v.times = append(v.times, time.Now())
		v.mu.Unlock()
		v.sim.ServeHTTP(w, r)
	})}
	go server.Serve(listener) //nolint:errcheck // ends by Close
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		if v.refused.Load() {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
		}
		client, err := listener.DialContext(ctx, network, address)
		if err == nil {
			v.mu.Lock()
			v.conns[client] = struct{}{}
			v.mu.Unlock()
		}
		return client, err
	}}
	labels, err := inventory.ParseEnrichLabels([]string{"region,size,state"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := collector.New(collector.Options{
		Logger: log.NewLogfmtLogger(v.log),
		Organizations: []collector.Organization{{
			ID: v.sim.Config().OrganizationID, EnrichLabels: labels,
			CollectInventory: true, CollectState: true, CollectTags: true, CollectServiceHealth: true,
			API: api.Config{
				BaseURL: "http://upstream.test", Transport: transport,
				Credentials: api.StaticCredentials(keyID, secret),
				Budget:      api.NewBudget(api.BudgetConfig{Requests: 8, Window: 10 * time.Second}),
			},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	v.handler, err = web.NewHandler(web.Options{Collector: c, ExporterMetrics: registry, Encoder: &v.encoder, Name: "test"})
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
		v.sim.ClearFaults()
		transport.CloseIdleConnections()
		server.Close()
		if found := leak(v.log.String()); found != "" {
			t.Errorf("the secret is in the log:\n%s", found)
		}
		synctest.Wait()
	})
	v.pass(30 * time.Second)
	return v
}

func (v *virtual) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// down closes upstream's port and all connections.
func (v *virtual) down() {
	v.refused.Store(true)
	v.mu.Lock()
	defer v.mu.Unlock()
	for c := range v.conns {
		_ = c.Close()
	}
	clear(v.conns)
}

func (v *virtual) get(path string) (int, string) {
	v.t.Helper()
	w := httptest.NewRecorder()
	v.handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	if found := leak(w.Body.String()); found != "" {
		v.t.Errorf("%s leaks the secret:\n%s", path, found)
	}
	return w.Code, w.Body.String()
}

func (v *virtual) scrape() page {
	v.t.Helper()
	code, body := v.get("/metrics")
	p, err := parse(body)
	if code != http.StatusOK || err != nil {
		v.t.Fatalf("%d, %v", code, err)
	}
	return p
}

// requests returns the number of requests in each of the last minutes.
func (v *virtual) requests(minutes int) []int {
	v.mu.Lock()
	defer v.mu.Unlock()
	counts := make([]int, minutes)
	for _, at := range v.times {
		if ago := int(time.Since(at) / time.Minute); ago < minutes {
			counts[minutes-1-ago]++
		}
	}
	return counts
}

// TestOutageOfAnHour has upstream fail for an hour: the last good data is served for five minutes,
// then it is gone, and its age is still reported; everything is back within two minutes of
// upstream's return.
func TestOutageOfAnHour(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		begin  func(*virtual)
		reason string
		lists  bool
	}{
		"connection refused":      {func(v *virtual) { v.down() }, "connect", true},
		"black hole":              {func(v *virtual) { v.sim.SetFault(simulator.Fault{Hang: true}) }, "timeout", true},
		"500":                     {func(v *virtual) { v.sim.SetFault(simulator.Status(500)) }, "server_error", true},
		"HTML for metrics only":   {func(v *virtual) { v.onMetrics(simulator.HTML()) }, "content_type", false},
		"empty metrics only":      {func(v *virtual) { v.onMetrics(simulator.EmptyBody()) }, "empty", false},
		"malformed metrics only":  {func(v *virtual) { v.onMetrics(simulator.Fault{Mutate: simulator.MalformedLine}) }, "parse", false},
		"one byte a second, only": {func(v *virtual) { v.onMetrics(simulator.Fault{BytesPerSecond: 1}) }, "timeout", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				v := newVirtual(t, simulator.Config{Services: 12})
				v.pass(10 * time.Minute)
				before := v.scrape()
				if len(before.upstream()) < 300 {
					t.Fatalf("%d series", len(before.upstream()))
				}
				tt.begin(v)
				v.pass(4 * time.Minute)
				if diff := relabelled(before.upstream(), v.scrape().upstream()); diff != "" {
					t.Errorf("after four minutes:\n%s", diff)
				}
				v.pass(2*time.Minute + 10*time.Second)
				p := v.scrape()
				if n := len(p.upstream()); n > 0 {
					t.Errorf("%d series after more than six minutes", n)
				}
				for _, path := range []string{"/v1/organizations/" + v.sim.Config().OrganizationID + "/postgres/prometheus"} {
					if code, body := v.get(path); code != http.StatusServiceUnavailable {
						t.Errorf("%s: %d %.200s", path, code, body)
					}
				}
				v.pass(54 * time.Minute)
				p = v.scrape()
				if len(p.upstream()) > 0 || !p.is("clickhouse_postgres_up", 0) || !p.is("clickhouse_postgres_service_up", 0) {
					t.Errorf("after an hour:\n%s", p.health())
				}
				if age := float64(time.Now().Unix()) - p.sum(successName); age < 3590 || age > 3800 {
					t.Errorf("the reported age of the data is %v s", age)
				}
				if age := float64(time.Now().Unix()) - p.sum(listedName); tt.lists != (age > 3590) {
					t.Errorf("the reported age of the inventory is %v s", age)
				}
				if diff := relabelled(before.find("clickhouse_postgres_service_info"), p.find("clickhouse_postgres_service_info")); diff != "" {
					t.Errorf("inventory:\n%s", diff)
				}
				if code, _ := v.get("/-/healthy"); code != http.StatusOK {
					t.Errorf("liveness: %d", code)
				}
				if lines := v.log.lines("level=warn", "endpoint="+organizationMetrics); len(lines) != 1 {
					t.Errorf("want one line in an hour, got %q", lines)
				}
				if lines := v.log.lines("level=warn"); len(lines) > 3 {
					t.Errorf("log: %q", lines)
				}

				v.refused.Store(false)
				v.sim.ClearFaults()
				v.pass(2 * time.Minute)
				p = v.scrape()
				if diff := relabelled(before.upstream(), p.upstream()); diff != "" || !p.is("clickhouse_postgres_up", 1) {
					t.Errorf("two minutes after the outage:\n%s\n%s", diff, v.log)
				}
				if n := v.sim.Count("", http.StatusTooManyRequests); n > 0 {
					t.Errorf("%d requests over the limit", n)
				}
			})
		})
	}
}

func (v *virtual) onMetrics(f simulator.Fault) {
	f.Endpoints = []string{organizationMetrics, "service_metrics"}
	v.sim.SetFault(f)
}

// TestListFailsForAnHour changes no label, and metrics go on.
func TestListFailsForAnHour(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newVirtual(t, simulator.Config{Services: 12})
		v.pass(5 * time.Minute)
		before := v.scrape()
		v.sim.SetFault(simulator.Fault{Endpoints: []string{services}, Status: 500})
		for range 60 {
			v.pass(time.Minute)
			p := v.scrape()
			if diff := relabelled(before.upstream(), p.upstream()); diff != "" {
				t.Fatalf("labels changed:\n%s", diff)
			}
			if age := float64(time.Now().Unix()) - p.sum(successName); age > 70 {
				t.Fatalf("data is %v s old", age)
			}
		}
		p := v.scrape()
		if age := float64(time.Now().Unix()) - p.sum(listedName); age < 3590 {
			t.Errorf("the reported age of the inventory is %v s", age)
		}
		if !p.is("clickhouse_postgres_up", 0) || !p.is("clickhouse_postgres_service_up", 1) {
			t.Errorf("%s", p.health())
		}
		if lines := v.log.lines("level=warn"); len(lines) != 1 {
			t.Errorf("log: %q", lines)
		}
	})
}

// TestStorm answers 429 for an hour: requests become fewer and never more, whatever the header
// says, and even a reset in 30 years ends with the storm.
func TestStorm(t *testing.T) {
	t.Parallel()
	for _, reset := range []string{"", "0", "0.2", "1000000000", "soon"} {
		t.Run("reset "+reset, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				v := newVirtual(t, simulator.Config{Services: 12})
				v.pass(10 * time.Minute)
				usual := v.requests(5)[3]
				v.sim.SetFault(simulator.TooManyRequests(reset, ""))
				v.pass(time.Hour)
				counts := v.requests(60)
				most := usual
				for i, n := range counts {
					if n > max(most, 1) {
						t.Fatalf("%d requests in minute %d of the storm, %d before: %v", n, i, most, counts)
					}
					if i >= 5 {
						most = 2 // pauses have reached their bound by then
					}
				}
				p := v.scrape()
				if !p.is("clickhouse_postgres_up", 0) || len(p.upstream()) > 0 || p.sum("clickhouse_postgres_exporter_api_rate_limit_refusals_total") < 20 {
					t.Errorf("%s", p.health())
				}
				if lines := v.log.lines("level=warn"); len(lines) > 3 {
					t.Errorf("log: %q", lines)
				}
				v.sim.ClearFaults()
				v.pass(5 * time.Minute)
				if p := v.scrape(); !p.is("clickhouse_postgres_up", 1) || len(p.upstream()) < 300 {
					t.Errorf("five minutes after the storm:\n%s", p.health())
				}
			})
		})
	}
}
