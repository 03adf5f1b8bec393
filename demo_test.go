package main

import (
	"fmt"
	"net"
	"net/http"
	"regexp"
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

func TestDemo(t *testing.T) {
	e := start(t, nil, append(fast, "--demo", "--demo.services=3", "--demo.seed=7")...)
	m := e.stdout.await(regexp.MustCompile(`(?s)export API_URL=(\S+)\n.*export KEY_ID=(\S+)\n.*export KEY_SECRET=(\S+)\n.*export ORG_ID=(\S+)\n.*curl -s (http\S+)`))
	if m == nil {
		t.Fatalf("introduction:\n%s", e.stdout)
	}
	api, keyID, secret, org, metrics := m[1], m[2], m[3], m[4], m[5]
	if metrics != e.url("/metrics") {
		t.Errorf("metrics are at %s, not %s", e.url("/metrics"), metrics)
	}
	if _, page := get(t, metrics, "X-Prometheus-Scrape-Timeout-Seconds", "60"); strings.Count(page, "\nPostgresServiceInfo{") != 3 {
		t.Errorf("not three services on\n%s", page)
	}

	// The curl command, word for word as far as it goes without a shell.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, api+"/v1/organizations/"+org+"/postgres", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(keyID, secret)
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("list: code %d", resp.StatusCode)
	}
	if keyID == demoKeyID {
		t.Error("the user shares the exporter's key and so its rate limit")
	}
}

// TestDialable turns listeners' addresses into what curl takes.
func TestDialable(t *testing.T) {
	for in, want := range map[net.Addr]string{
		&net.TCPAddr{IP: net.IPv6unspecified, Port: 9924}:     "localhost:9924",
		&net.TCPAddr{IP: net.IPv4zero, Port: 9924}:            "localhost:9924",
		&net.TCPAddr{Port: 9924}:                              "localhost:9924",
		&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}:     "127.0.0.1:1",
		&net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 2}: "[2001:db8::1]:2",
		&net.UnixAddr{Name: "/run/x", Net: "unix"}:            "/run/x",
	} {
		if got := dialable(in); got != want {
			t.Errorf("%v: %s, not %s", in, got, want)
		}
	}
}
