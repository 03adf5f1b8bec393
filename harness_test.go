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
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/config"
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
	testscript.Main(tests{m}, map[string]func(){config.Program: main})
}

// quick keeps the race detector from waiting a second at every exit.
const quick = "atexit_sleep_ms=0"

// calm is what a process needs in its environment lest a test binary of some kind
// waits, or warns on stderr that its coverage is lost.
func calm(coverage string) []string { return []string{"GORACE=" + quick, "GOCOVERDIR=" + coverage} }

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

// fast is a rate limit that does not slow tests down, half of it for commands that leave
// the other half to an exporter.
var fast = []string{"--api.rate-limit=2000", "--api.rate-use=1000"}

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
		config.EnvURL + "=" + server.URL,
		config.EnvKeyID + "=" + c.KeyID,
		config.EnvKeySecret + "=" + c.KeySecret,
		config.EnvOrgID + "=" + c.OrganizationID,
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
	return startCommand(t, env, exec.Command(config.Program, append([]string{"--web.listen-address=127.0.0.1:0"}, args...)...))
}

// startCommand runs a command that becomes the program.
func startCommand(t *testing.T, env []string, cmd *exec.Cmd) *running {
	t.Helper()
	e := &running{stdout: newOutput(), stderr: newOutput(), process: cmd, ended: make(chan struct{})}
	cmd.Env = append(calm(t.TempDir()), append(env, "PATH="+os.Getenv("PATH"))...)
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

// runCommand runs a command to its end.
func runCommand(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, problems bytes.Buffer
	code = run(t.Context(), args, environment(env...), &out, &problems)
	return code, out.String(), problems.String()
}
