package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

var update = flag.Bool("update", false, "rewrite what the scripts compare with")

// tests runs the tests and then looks for goroutines that were left behind.
type tests struct{ m *testing.M }

func (t tests) Run() int {
	code := t.m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// TestMain makes the test binary the program itself when it is run by the
// program's name, which is on PATH for every test.
func TestMain(m *testing.M) {
	testscript.Main(tests{m}, map[string]func(){program: main})
}

// quick keeps the race detector from waiting a second at every exit.
const quick = "atexit_sleep_ms=0"

// calm is what a process needs in its environment lest a test binary of some kind
// waits, or warns on stderr that its coverage is lost.
func calm(coverage string) []string { return []string{"GORACE=" + quick, "GOCOVERDIR=" + coverage} }

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

// surroundings gives a script a simulated API, the key to it, and a port that is in
// use.
func surroundings(env *testscript.Env) error {
	s := simulator.New(simulator.Config{Services: 3, Seed: 1})
	server := httptest.NewServer(s)
	env.Defer(server.Close)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	env.Defer(func() { busy.Close() })
	c := s.Config()
	for name, value := range map[string]string{
		"API_URL": server.URL, "API_ORG": c.OrganizationID, "API_KEY": c.KeyID, "API_SECRET": c.KeySecret,
		"BUSY": busy.Addr().String(),
		// How fast the API may be asked, for tests that don't want to wait.
		"FAST": fast[0], "FASTER": fast[1],
	} {
		env.Setenv(name, value)
	}
	return nil
}

// output collects what a program prints, line by line, and lets tests wait
// for a line.
type output struct {
	mu    sync.Mutex
	cond  *sync.Cond
	buf   bytes.Buffer
	ended bool
}

func newOutput() *output {
	o := &output{}
	o.cond = sync.NewCond(&o.mu)
	return o
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cond.Broadcast()
	return o.buf.Write(p)
}

func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	o.cond.Broadcast()
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// await returns the groups of the first match, and nil when the program ends
// without one.
func (o *output) await(expr *regexp.Regexp) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		if m := expr.FindStringSubmatch(o.buf.String()); m != nil {
			return m
		}
		if o.ended {
			return nil
		}
		o.cond.Wait()
	}
}

var listening = regexp.MustCompile(`msg="Listening on" address=(\S+)`)

// running is the program under test, in this process or in one of its own.
type running struct {
	address        string
	stdout, stderr *output
	// stop ends it as the first signal does and returns its exit code.
	stop func() int
	// process is set, and ended closed in the end, of one in a process of its
	// own.
	process *exec.Cmd
	ended   chan struct{}
}

func (e *running) url(path string) string { return "http://" + e.address + path }

// environment is what lookup is for run.
func environment(vars ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for _, v := range vars {
			if value, ok := strings.CutPrefix(v, name+"="); ok {
				return value, true
			}
		}
		return "", false
	}
}

// fast is a rate limit that does not slow tests down.
var fast = []string{"--api.rate-limit=1000", "--api.rate-use=1000"}

// start calls run in this process, on a port of its own choosing.
func start(t *testing.T, env []string, args ...string) *running {
	t.Helper()
	e := &running{stdout: newOutput(), stderr: newOutput()}
	ctx, cancel := context.WithCancel(context.Background())
	args = append([]string{"--web.listen-address=127.0.0.1:0"}, args...)
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, args, environment(env...), e.stdout, e.stderr)
		e.stdout.end()
		e.stderr.end()
	}()
	e.stop = sync.OnceValue(func() int {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if code := e.stop(); code != 0 {
			t.Errorf("exit code %d\n%s", code, e.stderr)
		}
	})
	m := e.stderr.await(listening)
	if m == nil {
		t.Fatalf("does not listen:\n%s", e.stderr)
	}
	e.address = m[1]
	return e
}

// upstream serves a simulated organization and returns the environment that
// leads the exporter there.
func upstream(t *testing.T, c simulator.Config) (*simulator.Simulator, []string) {
	t.Helper()
	s := simulator.New(c)
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	c = s.Config()
	return s, []string{
		envURL + "=" + server.URL,
		envKeyID + "=" + c.KeyID,
		envKeySecret + "=" + c.KeySecret,
		envOrgID + "=" + c.OrganizationID,
	}
}

var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func get(t *testing.T, url string, header ...string) (int, string) {
	t.Helper()
	return do(t, client, http.MethodGet, url, header...)
}

func do(t *testing.T, c *http.Client, method, url string, header ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// families parses a page of text.
func families(t *testing.T, page string) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	f, err := parser.TextToMetricFamilies(strings.NewReader(page))
	if err != nil {
		t.Fatalf("%v in\n%s", err, page)
	}
	return f
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// gauge returns the value of a family's only series.
func gauge(t *testing.T, page, name string) float64 {
	t.Helper()
	f := families(t, page)[name]
	if f == nil || len(f.GetMetric()) != 1 {
		t.Fatalf("not one series of %s but %v", name, f)
	}
	return f.GetMetric()[0].GetGauge().GetValue()
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
		if got := (&options{apiURL: url}).plaintextAPI(); got != want {
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

// awaitPage scrapes until the page is as it should be; the test's own time
// limit is the limit.
func awaitPage(t *testing.T, scrape func() string, good func(string) bool) {
	t.Helper()
	for !good(scrape()) {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("the page never came")
		}
	}
}

// startProcess runs the program as a process of its own.
func startProcess(t *testing.T, env []string, args ...string) *running {
	t.Helper()
	cmd := exec.Command(program, append([]string{"--web.listen-address=127.0.0.1:0"}, args...)...)
	e := &running{stdout: newOutput(), stderr: newOutput(), process: cmd, ended: make(chan struct{})}
	cmd.Env = append(calm(t.TempDir()), env...)
	cmd.Stdout, cmd.Stderr = e.stdout, e.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(e.ended)
		_ = cmd.Wait() // the state tells
		e.stdout.end()
		e.stderr.end()
	}()
	e.stop = func() int {
		e.signal(t, syscall.SIGTERM)
		<-e.ended
		return cmd.ProcessState.ExitCode()
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-e.ended
		if strings.Contains(e.stderr.String(), "DATA RACE") {
			t.Errorf("%s", e.stderr)
		}
	})
	m := e.stderr.await(listening)
	if m == nil {
		t.Fatalf("does not listen:\n%s", e.stderr)
	}
	e.address = m[1]
	return e
}

func (e *running) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := e.process.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}
