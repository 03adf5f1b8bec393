package command

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/config"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/pipenet"
)

// configured returns the default configuration of an exporter of sim, which it serves in
// the bubble.
func configured(t *testing.T, sim *simulator.Simulator) *config.Config {
	t.Helper()
	listener := pipenet.Listen()
	server := &http.Server{Handler: sim}
	go server.Serve(listener) //nolint:errcheck // ends by Close
	transport := &http.Transport{DialContext: listener.DialContext}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
		synctest.Wait()
	})
	c := config.New()
	for _, settings := range [][]config.Setting{c.Settings(), c.CommandSettings(config.CommandCheck), c.CommandSettings(config.CommandOnce)} {
		for _, s := range settings {
			if s.Default == "" {
				continue
			}
			if err := s.Value.Set(s.Default); err != nil {
				t.Fatal(err)
			}
		}
	}
	key := sim.Config()
	c.Organization.Simulate("http://upstream.test", key.OrganizationID, api.StaticCredentials(key.KeyID, key.KeySecret))
	c.Organization.API.Transport = transport
	return c
}

// beside starts an exporter of a fleet that it reads service by service, with all of its
// part of the rate limit, and waits until it is busy with that.
func beside(t *testing.T, services int) (*simulator.Simulator, *config.Config) {
	t.Helper()
	sim := simulator.New(simulator.Config{
		Services: services, Seed: 1, OrgMetricsLimit: 10, CapMode: simulator.CapReject,
		RateLimit: simulator.DefaultRateLimit, RateWindow: simulator.DefaultRateWindow,
	})
	c := configured(t, sim)
	organizations, err := config.NewLoader(c).Load()
	if err != nil {
		t.Fatal(err)
	}
	exporter, err := collector.New(collector.Options{Organizations: organizations, Logger: log.NewNopLogger()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = exporter.Run(ctx) // returns when told to, without an error
	}()
	t.Cleanup(func() {
		cancel()
		<-stopped
	})
	<-time.After(time.Minute)
	return sim, c
}

// TestCheckBesideExporter: a check takes what a busy exporter leaves of the rate limit,
// so that neither of them is refused.
func TestCheckBesideExporter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim, c := beside(t, 130)
		for range 10 {
			var out bytes.Buffer
			begun := time.Now()
			err := Check(t.Context(), c, &out)
			if err != nil || !strings.HasSuffix(out.String(), "The exporter works with this API key.\n") {
				t.Errorf("error %v\n%s", err, &out)
			}
			if want := "This takes about 25s, since a running exporter keeps its part of the rate limit.\n"; !strings.HasPrefix(out.String(), want) {
				t.Errorf("no %q in\n%s", want, &out)
			}
			if took := time.Since(begun); took > 26*time.Second {
				t.Errorf("took %s", took)
			}
			<-time.After(7 * time.Second)
		}
		if n := sim.Count("", http.StatusTooManyRequests); n != 0 {
			t.Errorf("%d requests refused", n)
		}
	})
}

// TestCheckWaits: where others use up the rate limit, a check waits as it is told.
func TestCheckWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim, c := beside(t, 12)
		sim.SetFault(simulator.Fault{
			Endpoints: []string{"services"}, Status: http.StatusTooManyRequests, Count: 3, Header: http.Header{"X-Ratelimit-Reset": {"3"}},
		})
		var out bytes.Buffer
		err := Check(t.Context(), c, &out)
		const warning = " refused, since other programs use up the rate limit of the key: lower --api.rate-use, or give them a key of their own\n"
		if err != nil || !strings.Contains(out.String(), warning) {
			t.Errorf("error %v\n%s", err, &out)
		}
	})
}

// TestOnceBesideExporter: a page is complete also if requests for it are refused.
func TestOnceBesideExporter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim, c := beside(t, 30)
		for _, endpoint := range []string{"services", "service_metrics"} {
			// Of the exporter's requests and of those for the page.
			sim.SetFault(simulator.Fault{Endpoints: []string{endpoint}, Status: http.StatusTooManyRequests, Count: 10, Probability: 0.3})
		}
		c.Once.Timeout = time.Hour
		var out bytes.Buffer
		if err := Once(t.Context(), c, &out, log.NewNopLogger()); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(out.String(), "\nPostgresServiceInfo{"); n != 30 {
			t.Errorf("%d services", n)
		}
	})
}
