package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// firing returns which services an alert has fired for within the last d, sorted.
func (p *virtualPrometheus) firing(t *testing.T, alert string, d time.Duration) []string {
	t.Helper()
	var services []string
	for _, s := range p.query(t, fmt.Sprintf("last_over_time(ALERTS{alertname=%q, alertstate=\"firing\"}[%ds])", alert, int(d.Seconds()))) {
		services = append(services, s.Metric.Get("postgres_service"))
	}
	slices.Sort(services)
	return services
}

// Of a fleet in which two disks fill up, the one that upstream does not replace makes
// its service read-only: one alert says so before, one while it is so, and both end
// when data has been deleted.
func TestDisksFillUp(t *testing.T) {
	prepareResolver()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := make(virtualNetwork)
		sim := virtualUpstream(t, n, simulator.Config{Services: 12, FillDisks: true})
		virtualExporter(t, n, sim, nil, "exporter:9924")
		p := startVirtual(t, n, read(t, "deploy", "prometheus", "prometheus.yml"))
		const day = 24 * time.Hour
		pass(4 * time.Hour)

		fullest := p.query(t, "topk(1, max_over_time(PostgresServer_FilesystemUsedPercent[4h]))")
		want := []string{fullest[0].Metric.Get("postgres_service")}
		for _, alert := range []string{"ClickHousePostgresDiskReadOnly", "ClickHousePostgresDiskReadOnlyIn4Hours"} {
			if got := p.firing(t, alert, day); !slices.Equal(got, want) {
				t.Errorf("%s fired for %q, want %q", alert, got, want)
			}
		}
		p.quiet(t, "ClickHousePostgresDiskReadOnly")
		p.checkRules(t)
	})
}

// quiet waits until an alert does not fire.
func (p *virtualPrometheus) quiet(t *testing.T, alert string) {
	t.Helper()
	for range 120 {
		if len(p.firing(t, alert, time.Minute)) == 0 {
			return
		}
		pass(time.Minute)
	}
	t.Errorf("%s does not end", alert)
}

// Where each service is a target of its own, a service that is unavailable, and of which
// upstream has no metrics any more, is still said to be unavailable, and others
// without metrics are said to be stale.
func TestUnavailableTarget(t *testing.T) {
	prepareResolver()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := make(virtualNetwork)
		sim := virtualUpstream(t, n, simulator.Config{Services: 4})
		virtualExporter(t, n, sim, nil, "exporter:9924")
		p := startVirtual(t, n, read(t, "deploy", "prometheus", "prometheus-http-sd.yml"))
		pass(10 * time.Minute)
		all := ids(sim)
		sim.SetState(all[0], "unavailable")
		sim.SetFault(simulator.Fault{Endpoints: []string{"organization_metrics", "service_metrics"}, Status: http.StatusInternalServerError})
		pass(40 * time.Minute)
		if got := p.firing(t, "ClickHousePostgresServiceUnavailable", time.Minute); !slices.Equal(got, all[:1]) {
			t.Errorf("said to be unavailable: %q, want %q", got, all[:1])
		}
		if got := p.firing(t, "ClickHousePostgresServiceMetricsStale", time.Minute); !slices.Equal(got, all[1:]) {
			t.Errorf("said to be stale: %q, want %q", got, all[1:])
		}
		p.checkRules(t)
	})
}

// Of backups that do not come any more, and of a quota that is used up, alerts tell what
// the exporter reads about once an hour.
func TestBackupsAndQuotas(t *testing.T) {
	prepareResolver()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := make(virtualNetwork)
		sim := virtualUpstream(t, n, simulator.Config{Services: 3, ServicesQuota: 3})
		virtualExporter(t, n, sim, nil, "exporter:9924")
		slowly := strings.ReplaceAll(read(t, "deploy", "prometheus", "prometheus.yml"), "_interval: 30s", "_interval: 4m")
		p := startVirtual(t, n, slowly)
		pass(4 * time.Hour)
		if got := p.firing(t, "ClickHousePostgresQuotaAlmostReached", 4*time.Minute); len(got) != 1 {
			t.Errorf("%d quotas are said to be used up, want 1", len(got))
		}
		all := ids(sim)
		sim.StopBackups(all[0])
		pass(54 * time.Hour)
		if got := p.firing(t, "ClickHousePostgresBackupTooOld", 50*time.Hour); !slices.Equal(got, all[:1]) {
			t.Errorf("said to have no backup: %q, want %q", got, all[:1])
		}
		p.checkRules(t)
	})
}

// An exporter whose key was refused from the beginning knows no organization to speak of,
// but there is an alert.
func TestKeyRefusedFromTheBeginning(t *testing.T) {
	prepareResolver()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := make(virtualNetwork)
		sim := virtualUpstream(t, n, simulator.Config{Services: 3})
		sim.SetFault(simulator.Fault{Status: http.StatusUnauthorized})
		virtualExporter(t, n, sim, nil, "exporter:9924")
		p := startVirtual(t, n, read(t, "deploy", "prometheus", "prometheus.yml"))
		pass(20 * time.Minute)
		alerts := p.alerts(t, time.Minute)
		if len(alerts) != 1 || alerts[0].name != "ClickHousePostgresOrganizationUnknown" {
			t.Errorf("alerts: %v", alerts)
		}
		p.checkRules(t)
	})
}
