package collector

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

// oneByOne is an organization whose page is refused.
func oneByOne(services int) simulator.Config {
	return simulator.Config{Services: services, OrgMetricsLimit: 1, CapMode: simulator.CapReject}
}

// What is held must follow the fleet, whichever way it is read.
func TestChurnOfServicesThatAreReadOneByOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, oneByOne(20), nil)
		b.refreshed()
		for range 100 {
			b.sim.Resize(0)
			b.sim.Resize(20)
			b.pass(2 * time.Minute)
		}
		b.pass(time.Hour)
		b.stop()
		st := b.poller(0).state
		if len(st.services) != 20 || len(st.tombstones) != 0 {
			t.Errorf("%d services and %d tombstones are held of 20 services", len(st.services), len(st.tombstones))
		}
	})
}

// A service that has just been created has no metrics yet, which is no trouble.
func TestNewServiceIsNoTrouble(t *testing.T) {
	for offset := time.Duration(0); offset < time.Minute; offset += 5 * time.Second {
		synctest.Test(t, func(t *testing.T) {
			cfg := oneByOne(3)
			cfg.CreateDelay = 10 * time.Second
			b := newBench(t, cfg, nil)
			b.refreshed()
			b.pass(5*time.Minute + offset)
			sim := b.sim.Config()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/organizations/"+sim.OrganizationID+"/postgres",
				strings.NewReader(`{"name":"new","provider":"aws","region":"us-east-1","size":"r6gd.medium"}`))
			r.Header.Set("Content-Type", "application/json")
			r.SetBasicAuth(sim.KeyID, sim.KeySecret)
			w := httptest.NewRecorder()
			b.sim.ServeHTTP(w, r)
			if w.Code != http.StatusOK {
				t.Fatal(w.Code, w.Body)
			}
			for range 36 {
				b.pass(5 * time.Second)
				for _, s := range b.c.Status().Organizations[0].Services {
					if s.Error != "" {
						t.Fatalf("%s (%s): %s", s.Name, s.State, s.Error)
					}
				}
			}
			if lines := b.logs.lines("level=warn"); len(lines) != 0 {
				t.Errorf("log: %q", lines)
			}
			if n := len(ids(b.upstreamSeries(), `postgres_service_name="new"`)); n < 30 {
				t.Errorf("%d series of the new service", n)
			}
		})
	}
}

// Whether a service is up is not known before there has been an attempt to read it.
func TestUpIsAbsentBeforeTheFirstAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, oneByOne(40), nil)
		fail := b.sim.Services()[7].ID
		b.sim.SetFault(simulator.Fault{Endpoints: []string{"service_metrics"}, ServiceIDs: []string{fail}, Status: 500})
		absent := 0
		for range 70 {
			b.pass(time.Second)
			all := b.series()
			for _, s := range b.c.Status().Organizations[0].Services {
				want, up := "", ids(all, serviceUpName+"{", s.ID)
				switch {
				case s.Error != "":
					want = "0"
				case !s.LastSuccess.IsZero():
					want = "1"
				default:
					absent++
				}
				if got := append(up, ""); all[got[0]] != want {
					t.Fatalf("%s: up is %q, want %q: %+v", s.ID, all[got[0]], want, s)
				}
			}
		}
		if n := len(ids(b.series(), serviceUpName+"{")); n != 40 || absent < 40 {
			t.Errorf("%d services have been asked for, %d times one had not", n, absent)
		}
	})
	// Where the organization's page fails, all have been.
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 3}, nil)
		b.sim.SetFault(simulator.Fault{Endpoints: []string{"organization_metrics"}, Status: 500})
		b.refreshed()
		all := b.series()
		up := ids(all, serviceUpName+"{")
		if len(up) != 3 || all[up[0]]+all[up[1]]+all[up[2]] != "000" {
			t.Errorf("up: %q", up)
		}
	})
}

// Since when the organization's page is refused does not change with each refusal.
func TestSinceWhenThePageIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, oneByOne(20), nil)
		b.refreshed()
		first := b.c.Status().Organizations[0].Metrics
		b.pass(30 * time.Minute)
		later := b.c.Status().Organizations[0].Metrics
		if first.Error == "" || !later.Since.Equal(first.Since) {
			t.Errorf("refused since %s, half an hour later since %s", first.Since, later.Since)
		}
	})
}

// A key may be allowed to read the services and not the organization's page.
func TestPageThatTheKeyMayNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 5}, nil)
		heal := b.sim.SetFault(simulator.Fault{Endpoints: []string{"organization_metrics"}, Status: http.StatusForbidden})
		b.refreshed()
		for range 10 {
			b.pass(time.Minute)
			if n := len(ids(b.upstreamSeries(), "PostgresServiceInfo")); n != 5 {
				t.Fatalf("%d services are exported", n)
			}
			b.want("clickhouse_postgres_up", "1")
		}
		o := b.c.Status().Organizations[0]
		if o.MetricsCall != schedule.CallRefused || o.Error != "" || o.Metrics.OK || !strings.Contains(o.Metrics.Error, "403") {
			t.Errorf("status: %+v", o)
		}
		if lines := b.logs.lines("level=warn"); len(lines) != 0 {
			t.Errorf("warnings: %q", lines)
		}
		if lines := b.logs.lines("each service's page instead"); len(lines) != 1 {
			t.Errorf("want one line about it, got %q", lines)
		}
		heal()
		b.pass(3 * time.Minute)
		if o := b.c.Status().Organizations[0]; o.MetricsCall != schedule.CallRegularly || !o.Metrics.OK {
			t.Errorf("status after the permission was given: %+v", o)
		}
	})
	// A key that may read nothing is in trouble.
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 5}, nil)
		b.refreshed()
		b.sim.SetFault(simulator.Fault{Status: http.StatusForbidden})
		b.pass(3 * time.Minute)
		b.want("clickhouse_postgres_up", "0")
		if o := b.c.Status().Organizations[0]; !strings.Contains(o.Error, "403") {
			t.Errorf("status: %+v", o)
		}
	})
}

// When the organization's page is asked for no more, since one service is left, that
// service stays up.
func TestTheLastServiceStaysUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 2}, nil)
		b.refreshed()
		b.pass(5 * time.Minute)
		b.sim.Resize(1)
		for range 400 {
			b.pass(200 * time.Millisecond)
			all := b.series()
			if up := ids(all, serviceUpName, b.sim.Services()[0].ID); len(up) != 1 || all[up[0]] != "1" {
				t.Fatalf("the service is not up: %q", up)
			}
		}
	})
}
