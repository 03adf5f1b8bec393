package collector

import (
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

func TestNeverTwoOfAKindInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 2}, nil)
		b.sim.SetFault(simulator.Fault{Latency: 29 * time.Second})
		b.pass(30 * time.Minute)
		last := map[string]time.Time{}
		for _, r := range b.sim.Requests() {
			thing := r.Endpoint + " " + r.ServiceID
			if gap := r.Time.Sub(last[thing]); gap < 29*time.Second {
				t.Errorf("a request to %s %s after the one before, which took longer", thing, gap)
			}
			last[thing] = r.Time
		}
		if len(last) < 2 {
			t.Errorf("requests: %v", last)
		}
	})
}

func TestMoreServicesThanTheOrganizationPageHolds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		mode simulator.CapMode
	}{{"truncated", simulator.CapTruncate}, {"rotating", simulator.CapTruncateRotating}, {"refused", simulator.CapReject}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, simulator.Config{
					Services: 130, CapMode: tt.mode,
					RateLimit: simulator.DefaultRateLimit, RateWindow: simulator.DefaultRateWindow,
				}, nil)
				b.refreshed()
				b.pass(10 * time.Minute)
				check := func() {
					t.Helper()
					want := slices.Sorted(maps.Keys(sorted(b.expected(byDefault))))
					if diff := cmp.Diff(want, identities(b.upstreamSeries())); diff != "" {
						t.Errorf("series (-want +got):\n%s", diff)
					}
				}
				for range 6 {
					check()
					b.pass(97 * time.Second)
				}
				if n := b.sim.Count("", 429); n != 0 {
					t.Errorf("%d requests were refused by the rate limit", n)
				}
				b.want("clickhouse_postgres_up", "1")
				if lines := b.logs.lines("level=warn"); len(lines) != 0 {
					t.Errorf("warnings: %q", lines)
				}
				b.sim.Resize(80)
				b.pass(3 * time.Minute)
				check()
			})
		})
	}
}

// When the budget is too small to keep data young, the user has to know.
func TestRefreshPeriodLongerThanMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 70, CapMode: simulator.CapReject, OrgMetricsLimit: 50}, func(_ *Options, o *Organization) {
			o.API.Budget = api.NewBudget(api.BudgetConfig{Requests: 1, Window: 10 * time.Second})
		})
		b.pass(time.Hour)
		if lines := b.logs.lines("level=warn", "max_age=5m0s", "period="); len(lines) != 1 {
			t.Errorf("want one warning, got %q", lines)
		}
		// Nothing is dropped only because it is read so rarely.
		for range 10 {
			b.pass(5 * time.Minute)
			if n := len(ids(b.upstreamSeries(), "PostgresServiceInfo")); n != 70 {
				t.Errorf("%d services are exported", n)
			}
		}
		if o := b.c.Status().Organizations[0]; o.RefreshSeconds <= 300 || o.MetricsCall != schedule.CallRefused || !o.Up {
			t.Errorf("status: %v s, %s, up %t, %s", o.RefreshSeconds, o.MetricsCall, o.Up, o.Error)
		}
		b.sim.Resize(5)
		b.pass(time.Hour)
		if lines := b.logs.lines("sufficient again"); len(lines) != 1 {
			t.Errorf("want one line about the relief, got %q", lines)
		}
		// And once more when it begins again.
		b.sim.Resize(70)
		b.pass(time.Hour)
		if lines := b.logs.lines("level=warn", "set the rate limit"); len(lines) != 2 {
			t.Errorf("want a second warning, got %q", lines)
		}
	})
}

// What the organization's page covers is known only once it has been answered, and in
// an outage the budget is not what is wrong.
func TestNoWarningOfTheBudgetWithoutCause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 240}, nil) // 140 of them by themselves
		b.pass(20 * time.Minute)
		heal := b.sim.SetFault(simulator.Fault{Endpoints: []string{"organization_metrics", "service_metrics"}, Status: 503})
		b.pass(20 * time.Minute)
		if period := b.planned(); period <= 300 {
			t.Errorf("while the organization's page fails, %v s are planned: too little for this test", period)
		}
		heal()
		b.pass(20 * time.Minute)
		if lines := b.logs.lines("--metrics.max-age"); len(lines) != 0 {
			t.Errorf("log: %q", lines)
		}
		b.want("clickhouse_postgres_exporter_uncovered_services", "140")
		if period := b.planned(); period < 140/.8 || period > 300 {
			t.Errorf("%v s are planned", period)
		}
	})
}

// The plan is exported from the first moment on, whatever upstream does.
func TestThePlanIsAlwaysExported(t *testing.T) {
	for name, fault := range map[string]simulator.Fault{
		"well": {Endpoints: []string{"service_state"}}, "down": {Status: 500}, "silent": {Hang: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sim := simulator.New(simulator.Config{Services: 3})
				sim.SetFault(fault)
				c, err := New(Options{Organizations: []Organization{{ID: sim.Config().OrganizationID, API: upstream(t, sim)}}})
				if err != nil {
					t.Fatal(err)
				}
				b := &bench{t: t, sim: sim, c: c, logs: &logs{}}
				check := func() {
					t.Helper()
					b.want("clickhouse_postgres_exporter_planned_refresh_period_seconds", "30")
					if got := b.own("clickhouse_postgres_exporter_uncovered_services"); got != "0" && got != "3" {
						t.Errorf("%q services are uncovered", got)
					}
				}
				check()
				b.start()
				for range 5 {
					synctest.Wait()
					check()
					b.pass(time.Minute)
				}
			})
		})
	}
}

// A budget begins anew with each start, so that starts are where it is overrun.
func TestADayOfRestartsWithinTheRateLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{
			Services: 3, RateLimit: simulator.DefaultRateLimit, RateWindow: simulator.DefaultRateWindow,
		}, nil)
		org := *b.poller(0).config
		restart := func() {
			b.stop()
			org.API.Budget = api.NewBudget(api.BudgetConfig{Requests: 8, Window: 10 * time.Second})
			var err error
			if b.c, err = New(Options{Organizations: []Organization{org}}); err != nil {
				t.Fatal(err)
			}
			b.start()
		}
		for hour := range 24 {
			b.pass(40 * time.Minute)
			for i := range 30 { // a crash loop, of another rhythm each time
				b.pass(time.Duration(300+170*hour+37*i) * time.Millisecond)
				restart()
			}
			b.pass(15 * time.Minute)
			restart()
		}
		b.pass(5 * time.Minute)
		if n := b.sim.Count("", 429); n != 0 {
			t.Errorf("%d of %d requests were refused by the rate limit", n, b.sim.Count("", -1))
		}
		if len(ids(b.series(), "PostgresServiceInfo")) != 3 {
			t.Error("services are missing")
		}
	})
}
