package collector

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

const (
	lastBackupName   = "clickhouse_postgres_service_last_backup_timestamp_seconds"
	retainedName     = "clickhouse_postgres_service_retained_backups"
	quotaLimitName   = "clickhouse_postgres_organization_quota_limit"
	successName      = "clickhouse_postgres_exporter_collector_success"
	successTimeName  = "clickhouse_postgres_exporter_collector_last_success_timestamp_seconds"
	backupsCollector = `collector="backups"`
)

// collectAll switches every collector on.
func collectAll(_ *Options, o *Organization) {
	o.CollectBackups, o.CollectQuotas, o.CollectSettings = true, true, true
}

// limited is a simulation with upstream's own rate limit.
func limited(services int) simulator.Config {
	return simulator.Config{Services: services, LogSize: 1, RateLimit: simulator.DefaultRateLimit, RateWindow: simulator.DefaultRateWindow}
}

func TestBackupsAndQuotas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, limited(4), collectAll)
		b.refreshed()
		all := b.series()
		if found := append(ids(all, lastBackupName), ids(b.health(), successName)...); len(found) != 0 {
			t.Errorf("before they were read: %q", found)
		}
		b.pass(5 * time.Minute)
		all = b.series()
		client, err := api.New(b.poller(0).config.API)
		if err != nil {
			t.Fatal(err)
		}
		org := b.sim.Config().OrganizationID
		totals := 0
		for _, s := range b.sim.Services() {
			backups, err := client.Backups(t.Context(), org, s.ID)
			if err != nil {
				t.Fatal(err)
			}
			of := fmt.Sprintf("{clickhouse_org=%q,postgres_service=%q,postgres_service_name=%q}", org, s.ID, s.Name)
			if got, want := all[lastBackupName+of], fmt.Sprint(unixSeconds(backups.Latest)); got != want {
				t.Errorf("last backup of %s: %q, want %s", s.ID, got, want)
			}
			want := ""
			if backups.Total != nil {
				want, totals = strconv.Itoa(*backups.Total), totals+1
			}
			if got := all[retainedName+of]; got != want {
				t.Errorf("backups of %s: %q, want %q", s.ID, got, want)
			}
			detail, err := client.Service(t.Context(), org, s.ID)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := all["clickhouse_postgres_service_earliest_restore_timestamp_seconds"+of], fmt.Sprint(unixSeconds(detail.EarliestRestoreTime)); got != want {
				t.Errorf("earliest restore of %s: %q, want %s", s.ID, got, want)
			}
		}
		if totals == 0 || totals == 4 {
			t.Errorf("%d services tell how many backups they have", totals)
		}
		quotas, err := client.Quotas(t.Context(), org)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range quotas {
			of := fmt.Sprintf("{clickhouse_org=%q,quota=%q}", org, q.Code)
			usage := ""
			if q.Usage != nil {
				usage = fmt.Sprint(*q.Usage)
			}
			if got := [2]string{all[quotaLimitName+of], all["clickhouse_postgres_organization_quota_usage"+of]}; got != [2]string{fmt.Sprint(q.Limit), usage} {
				t.Errorf("quota %s: limit and usage are %q", q.Code, got)
			}
		}
		for _, name := range []string{"backups", "hostname", "quotas", "settings"} {
			b.want(successName, "1", fmt.Sprintf("collector=%q", name))
		}
		// A backup that is made later shows within the hour, one that is not does not.
		b.sim.StopBackups(b.sim.Services()[0].ID)
		b.pass(25 * time.Hour)
		later := b.series()
		for i, s := range b.sim.Services() {
			id := ids(later, lastBackupName, s.ID)
			if len(id) != 1 || (later[id[0]] == all[id[0]]) != (i == 0) {
				t.Errorf("last backup of service %d: %q, a day later %q", i, all[id[0]], later[id[0]])
			}
		}
		if n := b.sim.Count("", 429); n != 0 {
			t.Errorf("%d requests were refused by the rate limit", n)
		}
	})
}

// What each collector costs: see docs/metrics.md. In all, no more than upstream allows.
func TestRequestsOfCollectors(t *testing.T) {
	hours := 2
	if long {
		hours = 24
	}
	if raceEnabled {
		t.Skip("too long under the race detector")
	}
	for _, tt := range []struct {
		name    string
		collect func(*Options, *Organization)
		// Requests an hour.
		backups, quotas, config, service int
	}{
		{"none", nil, 0, 0, 0, 0},
		{"by default", func(_ *Options, o *Organization) { o.CollectBackups, o.CollectQuotas = true, true }, 100, 1, 0, 0},
		{"all", collectAll, 100, 1, 100, 17},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, limited(100), tt.collect)
				b.pass(75 * time.Minute) // at a tenth of the budget all have had their turn
				if n := b.sim.Count("", 429); n != 0 {
					t.Errorf("%d requests were refused by the rate limit", n)
				}
				b.sim.ResetRequests()
				b.pass(time.Duration(hours) * time.Hour)
				for endpoint, want := range map[string]int{"service_backups": tt.backups, "quotas": tt.quotas, "service_config": tt.config} {
					if got := b.sim.Count(endpoint, -1); got < want*hours*9/10 || got > want*hours*11/10 {
						t.Errorf("%d requests to %s in %d h, want %d an hour", got, endpoint, hours, want)
					}
				}
				// Hostnames are asked for every 6 hours, one service soon after the other.
				if got := b.sim.Count("service", -1); got > tt.service*max(hours, 6)*11/10 || long && got < tt.service*hours*9/10 {
					t.Errorf("%d requests for hostnames in %d h", got, hours)
				}
				if n := b.sim.Count("", 429); n != 0 {
					t.Errorf("%d of %d requests were refused by the rate limit", n, b.sim.Count("", -1))
				}
				b.want("clickhouse_postgres_up", "1")
				for _, s := range b.c.Status().Organizations[0].Services {
					if s.DataAgeSeconds > 90 {
						t.Errorf("metrics of %s are %v s old", s.ID, s.DataAgeSeconds)
					}
				}
			})
		})
	}
}

// A collector that fails costs nothing but its own series' age.
func TestFailingCollectors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, limited(3), collectAll)
		b.pass(10 * time.Minute)
		before, last := identities(b.series()), b.own(successTimeName, backupsCollector)
		endpoints := []string{"service_backups", "quotas", "service_config", "service"}
		heal := b.sim.SetFault(simulator.Fault{Endpoints: endpoints, Status: 503})
		b.pass(8 * time.Hour)
		for _, name := range []string{"backups", "hostname", "quotas", "settings"} {
			b.want(successName, "0", fmt.Sprintf("collector=%q", name))
		}
		b.want(successTimeName, last, backupsCollector)
		if diff := cmp.Diff(before, identities(b.series())); diff != "" {
			t.Errorf("series (-before +during):\n%s", diff)
		}
		b.want("clickhouse_postgres_up", "1")
		if lines := b.logs.lines("level=warn", "endpoint=service_backups", "Cannot read backups"); len(lines) != 1 {
			t.Errorf("want one line, got %q", b.logs.lines("service_backups"))
		}
		for _, s := range b.c.Status().Organizations[0].Services {
			if s.Error != "" || !s.Up || s.DetailsError == nil {
				t.Errorf("status: %+v", s)
			}
		}
		heal()
		b.pass(15 * time.Minute)
		b.want(successName, "1", backupsCollector)
		if now := b.own(successTimeName, backupsCollector); now == last || now == "" {
			t.Errorf("the last success was at %q, before the trouble at %q", now, last)
		}
		if lines := b.logs.lines("All backups can be read again"); len(lines) != 1 {
			t.Errorf("want one line, got %q", b.logs.lines("service_backups"))
		}
	})
}

// What upstream does not offer, to a key, in a tier or at all, is no trouble: it is asked
// for rarely.
func TestWhatIsNotOffered(t *testing.T) {
	for _, code := range []int{400, 403, 404, 501} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, limited(3), collectAll)
				heal := b.sim.SetFault(simulator.Fault{Endpoints: []string{"service_backups", "quotas"}, Status: code})
				b.pass(7 * time.Hour)
				all := b.series()
				if found := append(ids(all, lastBackupName), ids(all, quotaLimitName)...); len(found) != 0 {
					t.Errorf("series: %q", found)
				}
				for _, name := range []string{"backups", "quotas"} {
					b.want(successName, "", fmt.Sprintf("collector=%q", name))
				}
				b.want(successName, "1", `collector="settings"`)
				b.want("clickhouse_postgres_up", "1")
				if n, q := b.sim.Count("service_backups", -1), b.sim.Count("quotas", -1); n != 2*3 || q != 2 {
					t.Errorf("%d requests for backups and %d for quotas in 7 hours", n, q)
				}
				if lines := b.logs.lines("level=warn"); len(lines) != 0 {
					t.Errorf("warnings: %q", lines)
				}
				for _, endpoint := range []string{"service_backups", "quotas"} {
					if lines := b.logs.lines("level=info", "does not offer", "endpoint="+endpoint); len(lines) != 1 {
						t.Errorf("want one line about %s, got %q", endpoint, lines)
					}
				}
				heal()
				b.pass(6 * time.Hour)
				if n := len(ids(b.series(), lastBackupName)); n != 3 {
					t.Errorf("%d services with a backup once upstream offers it", n)
				}
				b.want(successName, "1", backupsCollector)
			})
		})
	}
	// A key that is refused everything, as from an address that is not on its list, may be
	// mended at any moment.
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, limited(3), collectAll)
		heal := b.sim.SetFault(simulator.Fault{Status: 403})
		b.pass(time.Hour)
		heal()
		b.pass(20 * time.Minute)
		if n := len(ids(b.series(), lastBackupName)); n != 3 {
			t.Errorf("%d services with a backup", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, limited(3), collectAll)
		b.pass(30 * time.Minute)
		last := b.own(successTimeName, backupsCollector)
		heal := b.sim.SetFault(simulator.Fault{Status: 403})
		b.pass(time.Hour)
		heal()
		b.pass(20 * time.Minute)
		if now := b.own(successTimeName, backupsCollector); now == "" || now == last {
			t.Errorf("the last backups were read at %s, before the trouble at %s", now, last)
		}
	})
	// It may not be offered for some services only, such as replicas.
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, limited(3), collectAll)
		id := b.sim.Services()[1].ID
		b.sim.SetFault(simulator.Fault{Endpoints: []string{"service_backups"}, ServiceIDs: []string{id}, Status: 404})
		b.pass(7 * time.Hour)
		b.want(successName, "1", backupsCollector)
		if all := b.series(); len(ids(all, lastBackupName)) != 2 || len(ids(all, lastBackupName, id)) != 0 {
			t.Errorf("last backups: %q", ids(all, lastBackupName))
		}
		if lines := b.logs.lines("level=warn"); len(lines) != 0 {
			t.Errorf("warnings: %q", lines)
		}
	})
}

func TestCollectorsAreSwitchedByReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var org Organization
		b := newBench(t, limited(2), func(o *Options, config *Organization) {
			org = *config
			collectAll(o, config)
		})
		b.pass(5 * time.Minute)
		if n := len(ids(b.series(), lastBackupName)); n != 2 {
			t.Fatalf("%d services with backups", n)
		}
		if err := b.c.Apply([]Organization{org}); err != nil {
			t.Fatal(err)
		}
		b.sim.ResetRequests()
		b.pass(3 * time.Hour)
		all := b.series()
		found := slices.Concat(ids(all, lastBackupName), ids(all, quotaLimitName), ids(all, serviceSettingName), ids(all, "earliest_restore"))
		for _, id := range ids(b.health(), successName) {
			if !strings.Contains(id, `collector="organization"`) {
				found = append(found, id)
			}
		}
		if len(found) != 0 {
			t.Errorf("switched off, but there: %q", found)
		}
		for _, endpoint := range []string{"service_backups", "quotas", "service_config", "service"} {
			if n := b.sim.Count(endpoint, -1); n != 0 {
				t.Errorf("%d requests to %s, which is switched off", n, endpoint)
			}
		}
	})
}

func TestAssumedSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 3}, func(o *Options, org *Organization) {
			collectAll(o, org)
			org.AssumedSettings = []inventory.Setting{{Name: "max_connections", Value: 100}}
		})
		services := b.sim.Services()
		set, unset, failing := services[0].ID, services[1].ID, services[2].ID
		b.configure(set, `{"pgConfig":{"max_connections":321},"pgBouncerConfig":{}}`)
		b.configure(unset, `{"pgConfig":{"max_connections":null,"work_mem":64},"pgBouncerConfig":{}}`)
		b.sim.SetFault(simulator.Fault{Endpoints: []string{"service_config"}, ServiceIDs: []string{failing}, Status: 500})
		b.pass(5 * time.Minute)
		for id, want := range map[string]string{set: "321", unset: "100", failing: ""} {
			if got := b.settings(id)["max_connections"]; got != want {
				t.Errorf("max_connections of %s is %q, want %q", id, got, want)
			}
		}
		if got := b.settings(unset); got["work_mem"] != "64" || strings.Contains(fmt.Sprint(b.settings(set)), "100") {
			t.Errorf("settings: %v, %v", got, b.settings(set))
		}
	})
}
