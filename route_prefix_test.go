package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// TestRoutePrefix: pages are below the path of the external URL, unless told otherwise,
// and probes work with and without it, also where a password is asked for.
func TestRoutePrefix(t *testing.T) {
	sample, err := os.ReadFile("web-config.yml")
	if err != nil {
		t.Fatal(err)
	}
	users := filepath.Join(t.TempDir(), "web.yml")
	if err := os.WriteFile(users, sample[strings.Index(string(sample), "basic_auth_users:"):], 0o600); err != nil {
		t.Fatal(err)
	}
	_, env := upstream(t, simulator.Config{Services: 1, Seed: 1})
	const external = "--web.external-url=https://proxy.example.com/postgres/"
	for _, test := range []struct {
		name   string
		args   []string
		prefix string // of pages
		target string // of the path of targets
	}{
		{"external URL", []string{external}, "/postgres", "/postgres"},
		{"external URL, stripped", []string{external, "--web.route-prefix=/"}, "", "/postgres"},
		{"external URL and prefix", []string{external, "--web.route-prefix=/exporter"}, "/exporter", "/postgres"},
		{"prefix", []string{"--web.route-prefix=exporter/"}, "/exporter", "/exporter"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := start(t, env, append(fast, test.args...)...)
			if code, page := get(t, e.url(test.prefix+"/metrics"), "X-Prometheus-Scrape-Timeout-Seconds", "60"); code != http.StatusOK || !strings.Contains(page, "\nPostgresServiceInfo{") {
				t.Errorf("metrics: code %d", code)
			}
			if _, targets := get(t, e.url(test.prefix+"/sd")); !strings.Contains(targets, `"__metrics_path__":"`+test.target+`/v1/organizations/`) {
				t.Errorf("targets: %s", targets)
			}
			if code, page := get(t, e.url("/")); code != http.StatusOK || !strings.Contains(page, "<h1>") {
				t.Errorf("from / to the status page: code %d", code)
			}
			if code, said := healthcheck(t, e.address, append(test.args, "--ready")...); code != 0 {
				t.Errorf("healthcheck: exit code %d: %s", code, said)
			}
		})
		t.Run(test.name+", password", func(t *testing.T) {
			e := start(t, env, append(fast, append(test.args, "--web.config.file="+users)...)...)
			for path, want := range map[string]int{
				"/-/healthy": 200, test.prefix + "/-/healthy": 200, test.prefix + "/metrics": 401, "/": 401, test.prefix + "/": 401,
				test.prefix + "/-/reload": 401, test.prefix + test.prefix + "/-/healthy/x": 401,
			} {
				if code, _ := get(t, e.url(path)); code != want {
					t.Errorf("%s: code %d, not %d", path, code, want)
				}
			}
		})
	}
}
