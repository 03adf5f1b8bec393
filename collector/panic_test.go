package collector

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// A panic while a response is taken in costs its organization what was read, and
// nobody else anything.
func TestPanic(t *testing.T) {
	const panics = "clickhouse_postgres_exporter_panics_total"
	for _, endpoint := range []api.Endpoint{
		api.EndpointOrganizations, api.EndpointServices, api.EndpointOrganizationMetrics, api.EndpointServiceMetrics,
	} {
		t.Run(string(endpoint), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				second := simulator.New(simulator.Config{Services: 2, Seed: 99})
				other := Organization{ID: second.Config().OrganizationID, API: upstream(t, second)}
				others := second.Config().OrganizationID
				var panicking atomic.Bool
				panicking.Store(endpoint == api.EndpointOrganizations)
				b := newBench(t, simulator.Config{
					Services: 30, OrgMetricsLimit: 20,
					RateLimit: simulator.DefaultRateLimit, RateWindow: simulator.DefaultRateWindow,
				}, func(o *Options, org *Organization) {
					org.ID = ""
					o.Organizations = []Organization{other}
					o.onResponse = func(p *poller, r *response) {
						if p.id() != others && endpoint == r.endpoint && panicking.Load() {
							panic("injected")
						}
					}
				})
				if endpoint != api.EndpointOrganizations {
					b.refreshed()
					b.pass(3 * time.Minute)
					b.want(panics, "0")
					panicking.Store(true)
					b.sim.ResetRequests()
				}
				for range 10 {
					b.pass(30 * time.Second)
					if n := len(ids(b.upstreamSeries(), others)); n < 60 {
						t.Fatalf("%d series of the other organization", n)
					}
				}
				panicking.Store(false)
				if n := b.sim.Count("", -1); n > 10*8 {
					t.Errorf("%d requests in 5 minutes of panics", n)
				}
				if lines := b.logs.lines("level=error", "panic=injected", "stack=", "panic_test.go"); len(lines) != 1 {
					t.Errorf("want one line, got %q", lines)
				}
				b.pass(3 * time.Minute)
				if got := b.own(panics); endpoint != api.EndpointOrganizations && (got == "" || got == "0") {
					t.Errorf("%s = %q", panics, got)
				}
				b.want("clickhouse_postgres_up", "1")
				if n := len(ids(b.upstreamSeries(), "PostgresServiceInfo", b.sim.Config().OrganizationID)); n != 30 {
					t.Errorf("%d services are exported after the panics", n)
				}
				if n := b.sim.Count("", 429); n != 0 {
					t.Errorf("%d requests were refused by the rate limit", n)
				}
			})
		})
	}
}
