package main

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// TestOnceIsComplete: also of an organization whose page leaves services out, and
// with a service whose metrics can't be had.
func TestOnceIsComplete(t *testing.T) {
	for _, mode := range []simulator.CapMode{simulator.CapTruncate, simulator.CapReject} {
		s, env := upstream(t, simulator.Config{Services: 8, Seed: 1, OrgMetricsLimit: 3, CapMode: mode})
		code, stdout, stderr := runCommand(t, env, append(fast, "once")...)
		if code != 0 || stderr != "" {
			t.Fatalf("exit code %d, stderr %q", code, stderr)
		}
		seen := map[string]bool{}
		for _, m := range families(t, stdout)["PostgresServiceInfo"].GetMetric() {
			seen[label(m, "postgres_service")] = true
		}
		for _, service := range s.Services() {
			if !seen[service.ID] {
				t.Errorf("mode %v: service %s is missing", mode, service.ID)
			}
		}
	}

	s, env := upstream(t, simulator.Config{Services: 4, Seed: 1, OrgMetricsLimit: 3})
	s.SetFault(simulator.Fault{Endpoints: []string{"service_metrics"}, Status: http.StatusForbidden})
	code, stdout, stderr := runCommand(t, env, append(fast, "once")...)
	if code != 0 || stderr != "" || strings.Count(stdout, "\nPostgresServiceInfo{") != 3 || strings.Count(stdout, "\nclickhouse_postgres_service_up{") != 4 {
		t.Errorf("exit code %d, stderr %q\n%s", code, stderr, stdout)
	}
}

// TestOnceHasDetails: what takes a request for each service is on the page, too, or it
// is said why not.
func TestOnceHasDetails(t *testing.T) {
	s, env := upstream(t, simulator.Config{Services: 3, Seed: 1})
	once := func(args ...string) (int, string, string) {
		return runCommand(t, env, append(append(slices.Clone(fast), "once"), args...)...)
	}
	code, stdout, stderr := once("--collector.settings")
	settings, hosts := map[string]bool{}, map[string]bool{}
	for _, m := range families(t, stdout)["clickhouse_postgres_service_setting"].GetMetric() {
		settings[label(m, "postgres_service")] = true
	}
	for _, m := range families(t, stdout)["clickhouse_postgres_service_info"].GetMetric() {
		hosts[label(m, "postgres_hostname")] = true
	}
	if code != 0 || stderr != "" || len(settings) != 3 || len(hosts) != 3 || hosts[""] {
		t.Errorf("exit code %d, stderr %q, settings %v, hosts %v", code, stderr, settings, hosts)
	}
	if code, stdout, stderr = once("--enrich.labels=hostname"); code != 0 || !strings.Contains(stdout, "\nPostgresServiceInfo{") {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
	for _, m := range families(t, stdout)["PostgresServiceInfo"].GetMetric() {
		if label(m, "postgres_hostname") == "" {
			t.Errorf("no hostname among %v", m.GetLabel())
		}
	}

	const info, backup, quota = "clickhouse_postgres_organization_info", "clickhouse_postgres_service_last_backup_timestamp_seconds", "clickhouse_postgres_organization_quota_limit"
	for args, want := range map[string][3]bool{
		"": {true, false, false}, "--collector.backups": {true, true, false}, "--collector.quotas": {true, false, true},
	} {
		code, stdout, stderr := once(strings.Fields(args)...)
		f := families(t, stdout)
		if got := [3]bool{f[info] != nil, len(f[backup].GetMetric()) == 3, f[quota] != nil}; code != 0 || got != want {
			t.Errorf("%q: exit code %d, stderr %q, info, backups and quotas %v", args, code, stderr, got)
		}
	}

	s.SetFault(simulator.Fault{Endpoints: []string{"service_config"}, Status: http.StatusForbidden})
	code, stdout, stderr = once("--collector.settings")
	if code != 1 || stdout != "" || !strings.Contains(stderr, "API key not allowed to do this") {
		t.Errorf("not allowed: exit code %d, stderr %q\n%s", code, stderr, stdout)
	}
}

// TestOnceReplacesFile with one that everybody may read, whatever the file was before.
func TestOnceReplacesFile(t *testing.T) {
	_, env := upstream(t, simulator.Config{Services: 3, Seed: 1})
	file := filepath.Join(t.TempDir(), "metrics.prom")
	write(t, file, []byte("old"))
	if code, stdout, stderr := runCommand(t, env, append(fast, "once", "--output="+file)...); code != 0 || stdout+stderr != "" {
		t.Fatalf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	page, err := os.ReadFile(file)
	if err != nil || len(families(t, string(page))["PostgresServiceInfo"].GetMetric()) != 3 {
		t.Errorf("error %v\n%s", err, page)
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o644 {
		t.Errorf("error %v, %v", err, info.Mode())
	}
}

// TestOnceSaysWhy it prints nothing, in one line.
func TestOnceSaysWhy(t *testing.T) {
	s, env := upstream(t, simulator.Config{Services: 4, Seed: 1})
	for name, endpoint := range map[string]string{"services": "list services", "organization_metrics service_metrics": "get (organization|service) metrics"} {
		end := s.SetFault(simulator.Fault{Endpoints: strings.Fields(name), Status: http.StatusForbidden, Message: "not today"})
		code, stdout, stderr := runCommand(t, env, append(fast, "once")...)
		if code != 1 || stdout != "" || strings.Count(stderr, "\n") != 1 ||
			!regexp.MustCompile("^clickhouse_postgres_exporter: error: "+endpoint+`: API key not allowed to do this \(status 403`).MatchString(stderr) {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", name, code, stdout, stderr)
		}
		end()
	}
}
