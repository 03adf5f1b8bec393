package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Setup: func(env *testscript.Env) error {
			env.Setenv("GORACE", quick)
			return surroundings(env)
		},
	})
}

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
	e := start(t, env, append(fast, "--metrics.interval=1h", "--metrics.max-age=1h", "--inventory.interval=1h", "--no-collector.backups", "--no-collector.quotas")...)
	awaitPage(t, func() string { _, page := get(t, e.url("/metrics")); return page }, func(page string) bool {
		return strings.Contains(page, "PostgresServer_") && strings.Contains(page, "clickhouse_postgres_organization_info{")
	})
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

func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, env := upstream(t, simulator.Config{})
	stderr := newOutput()
	free := "--web.listen-address=127.0.0.1:0"
	code := run(t.Context(), []string{free, "--web.listen-address=" + l.Addr().String()}, environment(env...), io.Discard, stderr)
	want := fmt.Sprintf("clickhouse_postgres_exporter: error: cannot listen on %s, the address is in use: stop what uses it or choose another --web.listen-address\n", l.Addr())
	if code != 1 || stderr.String() != want {
		t.Errorf("exit code %d, stderr:\n%s", code, stderr)
	}
	if n := len(s.Requests()); n != 0 {
		t.Errorf("%d requests before the port was found taken", n)
	}
}

func TestSeveralAddresses(t *testing.T) {
	_, env := upstream(t, simulator.Config{Services: 1, Seed: 1})
	e := start(t, env, append(fast, "--web.listen-address=127.0.0.1:0")...)
	both := regexp.MustCompile(`(?s)msg="Listening on" address=(\S+).*msg="Listening on" address=(\S+)`)
	m := e.stderr.await(both)
	for _, address := range m[1:] {
		if code, _ := get(t, "http://"+address+"/-/healthy"); code != http.StatusOK {
			t.Errorf("%s: code %d", address, code)
		}
	}
}

// TestReload changes the rules by POST.
func TestReload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("{}\n")
	_, env := upstream(t, simulator.Config{Services: 2, Seed: 1})
	e := start(t, env, append(fast, "--config.file="+file)...)
	scrape := func() string {
		_, page := get(t, e.url("/metrics"), "X-Prometheus-Scrape-Timeout-Seconds", "60")
		return page
	}
	const dropped = "\nPostgresServer_CacheHitRatio{"
	if page := scrape(); !strings.Contains(page, dropped) || gauge(t, page, "clickhouse_postgres_exporter_config_last_reload_successful") != 1 {
		t.Fatalf("at first:\n%s", page)
	}

	write("metric_relabel_configs:\n- action: drp\n")
	code, body := do(t, client, http.MethodPost, e.url("/-/reload"))
	if code != http.StatusInternalServerError || !strings.Contains(body, file+":2: ") {
		t.Errorf("bad file: code %d, %q", code, body)
	}
	if !strings.Contains(e.stderr.String(), `level=error msg="Reload failed, the running configuration stays" err=`) {
		t.Errorf("log:\n%s", e.stderr)
	}
	awaitPage(t, scrape, func(page string) bool {
		return strings.Contains(page, "clickhouse_postgres_exporter_config_last_reload_successful 0\n") && strings.Contains(page, dropped)
	})

	write("metric_relabel_configs:\n- source_labels: [__name__]\n  regex: PostgresServer_CacheHitRatio\n  action: drop\n")
	if code, body := do(t, client, http.MethodPost, e.url("/-/reload")); code != http.StatusOK {
		t.Errorf("good file: code %d, %q", code, body)
	}
	awaitPage(t, scrape, func(page string) bool {
		if !strings.Contains(page, "\nPostgresServiceInfo{") {
			t.Errorf("a gap while reloading:\n%s", page)
		}
		return strings.Contains(page, "clickhouse_postgres_exporter_config_last_reload_successful 1\n") && !strings.Contains(page, dropped)
	})
}
