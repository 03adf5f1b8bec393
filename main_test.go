package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// TestFirstScrape is a scrape that comes before the first refresh: it waits,
// and misses nothing.
func TestFirstScrape(t *testing.T) {
	s, env := upstream(t, simulator.Config{Services: 5, Seed: 1})
	e := start(t, env, fast...)
	code, page := get(t, e.url("/metrics"), "X-Prometheus-Scrape-Timeout-Seconds", "60")
	if code != http.StatusOK {
		t.Fatalf("code %d: %s", code, page)
	}
	byService := make(map[string]*dto.Metric)
	for _, m := range families(t, page)["PostgresServer_CPUSeconds_Total"].GetMetric() {
		byService[label(m, "postgres_service")] = m
	}
	for _, service := range s.Services() {
		m := byService[service.ID]
		if m == nil {
			t.Errorf("service %s is missing from the first page", service.ID)
			continue
		}
		for name, want := range map[string]string{
			"postgres_service_name": service.Name,
			"postgres_region":       service.Region,
			"postgres_size":         service.Size,
			"postgres_state":        "running",
		} {
			if got := label(m, name); got != want {
				t.Errorf("service %s: %s is %q, not %q", service.ID, name, got, want)
			}
		}
	}
	for _, name := range []string{
		"go_goroutines", "process_start_time_seconds", "clickhouse_postgres_up",
		"clickhouse_postgres_exporter_build_info",
		"clickhouse_postgres_exporter_config_last_reload_successful",
	} {
		if families(t, page)[name] == nil {
			t.Errorf("%s is missing", name)
		}
	}

	service := s.Services()[0].ID
	org := "/v1/organizations/" + s.Config().OrganizationID + "/postgres/"
	for path, want := range map[string]int{
		"/-/healthy":                  200,
		"/-/ready":                    200,
		"/":                           200,
		org + "prometheus":            200,
		org + service + "/prometheus": 200,
		org + "unknown/prometheus":    404,
		"/v1/organizations/x/postgres/prometheus": 404,
	} {
		if code, body := get(t, e.url(path)); code != want {
			t.Errorf("%s: code %d, not %d: %.300s", path, code, want, body)
		}
	}
	if n := s.Count("", http.StatusTooManyRequests); n != 0 {
		t.Errorf("%d requests refused", n)
	}
	if code := e.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if !strings.Contains(e.stderr.String(), "msg=Stopped") {
		t.Errorf("log:\n%s", e.stderr)
	}
}

// TestScrapeNeverReachesUpstream counts upstream's requests around scrapes.
func TestScrapeNeverReachesUpstream(t *testing.T) {
	s, env := upstream(t, simulator.Config{Services: 2, Seed: 1})
	e := start(t, env, append(fast, "--metrics.interval=1h", "--metrics.max-age=1h", "--inventory.interval=1h")...)
	if _, page := get(t, e.url("/metrics"), "X-Prometheus-Scrape-Timeout-Seconds", "60"); !strings.Contains(page, "PostgresServer_") {
		t.Fatalf("no data on\n%s", page)
	}
	before, logged := len(s.Requests()), e.stderr.String()
	for range 100 {
		get(t, e.url("/metrics"))
	}
	if after := len(s.Requests()); after != before {
		t.Errorf("%d requests by 100 scrapes", after-before)
	}
	if after := e.stderr.String(); after != logged {
		t.Errorf("scrapes logged\n%s", strings.TrimPrefix(after, logged))
	}
}

func TestOwnMetrics(t *testing.T) {
	_, env := upstream(t, simulator.Config{Services: 1, Seed: 1})
	e := start(t, env, fast...)
	_, page := get(t, e.url("/metrics"), "X-Prometheus-Scrape-Timeout-Seconds", "60")
	var own []*dto.MetricFamily
	for name, f := range families(t, page) {
		if strings.HasPrefix(name, "clickhouse_postgres_") {
			own = append(own, f)
		}
	}
	problems, err := promlint.NewWithMetricFamilies(own).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}

	e = start(t, env, append(fast, "--web.disable-exporter-metrics")...)
	_, page = get(t, e.url("/metrics"), "X-Prometheus-Scrape-Timeout-Seconds", "60")
	for name := range families(t, page) {
		for _, prefix := range []string{"go_", "process_", "clickhouse_postgres_exporter_"} {
			if strings.HasPrefix(name, prefix) {
				t.Errorf("%s is on the page", name)
			}
		}
	}
	if !strings.Contains(page, "PostgresServer_") {
		t.Errorf("no data on\n%s", page)
	}
}

// TestOutage starts while upstream refuses every request.
func TestOutage(t *testing.T) {
	s, env := upstream(t, simulator.Config{Services: 2, Seed: 1})
	s.SetFault(simulator.Fault{Status: http.StatusInternalServerError, Message: "no luck today"})
	e := start(t, env, fast...)
	code, page := get(t, e.url("/metrics"), "X-Prometheus-Scrape-Timeout-Seconds", "60")
	if code != http.StatusOK || strings.Contains(page, "PostgresServer_") {
		t.Errorf("code %d: %s", code, page)
	}
	if up := gauge(t, page, "clickhouse_postgres_up"); up != 0 {
		t.Errorf("clickhouse_postgres_up is %v", up)
	}
	for path, want := range map[string]int{
		"/-/healthy": 200,
		"/-/ready":   503,
		"/v1/organizations/" + s.Config().OrganizationID + "/postgres/prometheus": 503,
	} {
		code, body := get(t, e.url(path))
		if code != want || strings.Count(body, "\n") != 1 {
			t.Errorf("%s: code %d, not %d: %q", path, code, want, body)
		}
	}
	if secret := s.Config().KeySecret; strings.Contains(e.stderr.String()+page, secret) {
		t.Errorf("the secret is told:\n%s\n%s", e.stderr, page)
	}
}

func TestPlaintextWarning(t *testing.T) {
	for url, want := range map[string]bool{
		"https://api.clickhouse.cloud": false,
		"http://127.0.0.1:80":          false,
		"http://localhost":             false,
		"http://[::1]:3":               false,
		"http://192.0.2.1":             true,
		"http://proxy.example.com":     true,
	} {
		if got := plaintext(url); got != want {
			t.Errorf("%s: %v", url, got)
		}
	}
}
