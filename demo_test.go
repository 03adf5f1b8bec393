package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// TestDemoIntervals: the demo polls often, unless it is told otherwise, and says how
// often.
func TestDemoIntervals(t *testing.T) {
	for want, args := range map[string][]string{"every 5s:": nil, "every 1m0s:": {"--metrics.interval=1m"}} {
		e := start(t, nil, append(args, "--demo", "--demo.services=1")...)
		if e.stdout.await(regexp.MustCompile(want)) == nil {
			t.Errorf("%s: no %q in\n%s", args, want, e.stdout)
		}
	}
}

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
