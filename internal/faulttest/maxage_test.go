//go:build linux

package faulttest

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// TestMaxAge lets data expire: it disappears, so that Prometheus marks it stale, while the
// inventory and the timestamps stay, and it returns when upstream does.
func TestMaxAge(t *testing.T) {
	t.Parallel()
	const maxAge = 3 * time.Second
	for name, begin := range map[string]func(*upstream){
		"connection refused": func(u *upstream) { u.link.refuse() },
		"black hole":         func(u *upstream) { u.link.silent.Store(true) },
		"reset":              func(u *upstream) { u.link.reset(350) },
		"one byte a second":  onMetrics(simulator.Fault{BytesPerSecond: 1}),
		"500":                onMetrics(simulator.Status(500)),
		"malformed":          mutation(simulator.MalformedLine),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUpstream(t, simulator.Config{Services: 3})
			e := start(t, u, fast(), hasty(), flags("--metrics.max-age="+maxAge.String()))
			before := e.ready(u)
			begin(u)
			p := e.await("the data to be gone", func(p page) bool { return len(p.upstream()) == 0 && p.is("clickhouse_postgres_up", 0) })
			now := float64(time.Now().UnixMilli()) / 1000
			const last = "clickhouse_postgres_service_metrics_last_success_timestamp_seconds"
			for _, s := range p.find(last) {
				if age := now - s.value; age < maxAge.Seconds()-0.1 { // that it is not much more is seen in virtual time
					t.Errorf("gone at an age of %v s", age)
				}
			}
			if len(p.find(last)) != 3 || p.sum(successName) == 0 || !p.is("clickhouse_postgres_service_up", 0) {
				t.Errorf("health:\n%s", p.health())
			}
			if diff := differences(before.find("clickhouse_postgres_service_info"), p.find("clickhouse_postgres_service_info")); diff != "" {
				t.Errorf("inventory:\n%s", diff)
			}
			organization := "/v1/organizations/" + u.org + "/postgres/"
			for _, path := range []string{organization + "prometheus", organization + u.Services()[0].ID + "/prometheus"} {
				if code, body := e.get(path); code != http.StatusServiceUnavailable || !strings.Contains(body, "expired") || strings.Count(body, "\n") != 1 {
					t.Errorf("%s: %d %s", path, code, body)
				}
			}
			if code, body := e.get("/-/healthy"); code != http.StatusOK {
				t.Errorf("liveness: %d %s", code, body)
			}
			if code, body := e.get("/sd"); code != http.StatusOK || strings.Count(body, u.Services()[0].ID) == 0 {
				t.Errorf("targets vanish with their data: %d %.300s", code, body)
			}
			if lines := e.log.lines("level=warn", "endpoint="+organizationMetrics); len(lines) != 1 {
				t.Errorf("log:\n%s", strings.Join(lines, "\n"))
			}
			u.ClearFaults()
			u.link.restore()
			p = e.ready(u)
			if diff := relabelled(before.upstream(), p.upstream()); diff != "" {
				t.Errorf("series after the outage:\n%s", diff)
			}
		})
	}
}
