package main

import (
	"fmt"
	"strings"
	"testing"
)

// The demo's fleet has services that do not run, besides those that do.
func TestDemoFleet(t *testing.T) {
	e := start(t, nil, append(fast, "--demo")...)
	scrape := func() string {
		_, page := get(t, e.url("/metrics"), "X-Prometheus-Scrape-Timeout-Seconds", "60")
		return page
	}
	states := map[string]int{"running": 9, "stopped": 1, "restarting": 1, "creating": 1}
	awaitPage(t, scrape, func(page string) bool {
		for state, n := range states {
			if strings.Count(page, `,postgres_status="`+state+`"`) != n {
				return false
			}
		}
		return true
	})
	page := scrape()
	for state, n := range states {
		if want := fmt.Sprintf("state=%q} %d\n", state, n); !strings.Contains(page, want) {
			t.Errorf("no %q on\n%s", want, page)
		}
	}
	if n := strings.Count(page, "\nPostgresServer_CPUCores{"); n != 9 {
		t.Errorf("%d services have measurements, want the 9 that run", n)
	}
	if !strings.Contains(e.stdout.String(), "Simulating ClickHouse Cloud with 12 Postgres services, 9 of them running, at http://") {
		t.Errorf("introduction:\n%s", e.stdout)
	}
}
