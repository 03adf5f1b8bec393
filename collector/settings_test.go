package collector

import (
	"fmt"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// configure changes settings of a service, as its owner would.
func (b *bench) configure(id, body string) {
	b.t.Helper()
	cfg := b.sim.Config()
	req := httptest.NewRequestWithContext(b.t.Context(), "PATCH",
		"/v1/organizations/"+cfg.OrganizationID+"/postgres/"+id+"/config", strings.NewReader(body))
	req.SetBasicAuth(cfg.KeyID, cfg.KeySecret)
	req.Header.Set("Content-Type", "application/json")
	answer := httptest.NewRecorder()
	b.sim.ServeHTTP(answer, req)
	if answer.Code != 200 {
		b.t.Fatalf("%d: %s", answer.Code, answer.Body)
	}
}

// settings returns the settings exported of a service and their values.
func (b *bench) settings(id string) map[string]string {
	b.t.Helper()
	found := map[string]string{}
	for series, value := range b.series() {
		if rest, ok := strings.CutPrefix(series, serviceSettingName+"{"); ok && strings.Contains(series, id) {
			_, name, _ := strings.Cut(rest, `,name="`)
			name, _, _ = strings.Cut(name, `"`)
			if _, twice := found[name]; twice {
				b.t.Errorf("%s is there twice", series)
			}
			found[name] = value
		}
	}
	return found
}

func collectSettings(_ *Options, o *Organization) { o.CollectSettings = true }

func TestSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{
			Services: 4, RateLimit: simulator.DefaultRateLimit, RateWindow: simulator.DefaultRateWindow,
		}, collectSettings)
		services := b.sim.Services()
		set, failing, deleted, silent := services[0].ID, services[1].ID, services[2].ID, services[3].ID
		b.configure(set, `{"pgConfig":{"max_connections":"321","work_mem":"64MB","random_page_cost":1.5},"pgBouncerConfig":{"default_pool_size":"20","pool_mode":"session"}}`)
		b.sim.SetState(silent, "creating")
		b.refreshed()
		if found := ids(b.series(), serviceSettingName); len(found) != 0 {
			t.Errorf("before they were read: %q", found)
		}
		b.pass(5 * time.Minute)

		want := map[string]string{"max_connections": "321", "random_page_cost": "1.5", "pgbouncer.default_pool_size": "20"}
		if diff := cmp.Diff(want, b.settings(set)); diff != "" {
			t.Errorf("settings (-want +got):\n%s", diff)
		}
		org := b.sim.Config().OrganizationID
		id := fmt.Sprintf("%s{clickhouse_org=%q,name=%q,postgres_service=%q,postgres_service_name=%q}",
			serviceSettingName, org, "max_connections", set, services[0].Name)
		if page := series(b.text(org, set)); page[id] != "321" {
			t.Errorf("no %s in %q", id, ids(page, serviceSettingName))
		}
		if found := b.settings(silent); len(found) != 0 {
			t.Errorf("of a service that is being created: %v", found)
		}
		// What is new takes no identity from what was there.
		info := ids(b.series(), serviceInfoName, set)
		if len(info) != 1 || !strings.Contains(info[0], fmt.Sprintf("postgres_hostname=%q", services[0].Hostname)) {
			t.Errorf("info: %q", info)
		}
		if found := ids(b.upstreamSeries(), "postgres_hostname"); len(found) != 0 {
			t.Errorf("a label that nobody asked for: %q", found[0])
		}

		before := b.settings(failing)
		b.configure(failing, `{"pgConfig":{"max_connections":77},"pgBouncerConfig":{}}`)
		b.configure(set, `{"pgConfig":{"max_connections":322,"random_page_cost":null},"pgBouncerConfig":{}}`)
		heal := b.sim.SetFault(simulator.Fault{Endpoints: []string{"service_config"}, ServiceIDs: []string{failing}, Status: 500})
		b.sim.Delete(deleted)
		b.pass(65 * time.Minute)
		want = map[string]string{"max_connections": "322", "pgbouncer.default_pool_size": "20"}
		if diff := cmp.Diff(want, b.settings(set)); diff != "" {
			t.Errorf("settings after a change (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(before, b.settings(failing)); diff != "" || len(before) == 0 {
			t.Errorf("settings that cannot be read (-before +after):\n%s", diff)
		}
		if found := b.settings(deleted); len(found) != 0 {
			t.Errorf("of a service that is gone: %v", found)
		}
		b.want("clickhouse_postgres_up", "1")
		if lines := b.logs.lines("level=warn", "endpoint=service_config", "reason=server_error"); len(lines) != 1 {
			t.Errorf("want one line, got %q", b.logs.lines("service_config"))
		}
		heal()
		b.pass(15 * time.Minute)
		if got := b.settings(failing)["max_connections"]; got != "77" {
			t.Errorf("max_connections = %s", got)
		}
		if lines := b.logs.lines("settings can be read again"); len(lines) != 1 {
			t.Errorf("want one line, got %q", b.logs.lines("service_config"))
		}

		b.sim.ResetRequests()
		b.pass(10 * time.Hour)
		if n := b.sim.Count("service_config", -1); n != 20 {
			t.Errorf("%d requests for the settings of two services in 10 hours", n)
		}
		if n := b.sim.Count("", 429); n != 0 {
			t.Errorf("%d requests were refused by the rate limit", n)
		}
	})
}

func TestSettingsAreOffByDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var org Organization
		b := newBench(t, simulator.Config{Services: 2}, func(_ *Options, o *Organization) {
			org = *o
			o.CollectSettings, o.SettingsInterval = true, 10*time.Minute
		})
		b.pass(5 * time.Minute)
		if n := len(ids(b.series(), serviceSettingName, `name="max_connections"`)); n != 2 {
			t.Fatalf("%d services with settings", n)
		}
		if err := b.c.Apply([]Organization{org}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		b.sim.ResetRequests()
		b.pass(time.Hour)
		all := b.series()
		if found := append(ids(all, serviceSettingName), ids(all, "postgres_hostname")...); len(found) != 0 {
			t.Errorf("switched off, but there: %q", found)
		}
		if n := b.sim.Count("service_config", -1) + b.sim.Count("service", -1); n != 0 {
			t.Errorf("%d requests for what is switched off", n)
		}
	})
}

// Settings get what is left of a budget that metrics need all of, and get it: all
// services have theirs in the end, and metrics hardly wait.
func TestSettingsWithinTheBudget(t *testing.T) {
	t.Parallel()
	if raceEnabled {
		t.Skip("too long under the race detector")
	}
	synctest.Test(t, func(t *testing.T) {
		const services = 150
		b := newBench(t, simulator.Config{
			Services: services, CapMode: simulator.CapReject,
			RateLimit: simulator.DefaultRateLimit, RateWindow: simulator.DefaultRateWindow,
		}, collectSettings)
		b.pass(2 * time.Hour)                                                                           // at 0.08 requests a second at most, of which there are 300
		if n := len(ids(b.series(), serviceSettingName, `name="max_connections"`)); n != services*3/5 { // the others have none set
			t.Errorf("%d services with settings", n)
		}
		if n := len(ids(b.series(), serviceInfoName, "postgres_hostname=")); n != services {
			t.Errorf("%d services with a hostname", n)
		}
		details := b.sim.Count("service_config", -1) + b.sim.Count("service", -1)
		if all := b.sim.Count("", -1); details < 300 || details > all/8 {
			t.Errorf("%d of %d requests were for settings and hostnames", details, all)
		}
		if n := b.sim.Count("", 429); n != 0 {
			t.Errorf("%d requests were refused by the rate limit", n)
		}
		for _, s := range b.c.Status().Organizations[0].Services {
			if s.DataAgeSeconds > 1.2*b.planned() {
				t.Errorf("data of %s is %v s old, planned are %v", s.ID, s.DataAgeSeconds, b.planned())
			}
		}
	})
}

// planned returns the refresh period that is exported, in seconds.
func (b *bench) planned() float64 {
	b.t.Helper()
	v, err := strconv.ParseFloat(b.own("clickhouse_postgres_exporter_planned_refresh_period_seconds"), 64)
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}
