package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/config"
)

// checkReport is what scripts rely on in the output of check --json.
type checkReport struct {
	OK            bool
	Organizations []struct {
		Endpoints []struct {
			Endpoint      string
			OK            bool
			Error, Reason string
		}
		Key                *struct{ ID, Name string }
		MissingPermissions []string `json:"missing_permissions"`
		Errors, Warnings   []string
	}
}

// checked runs the command check and returns what it says of its organizations.
func checked(t *testing.T, env []string, args ...string) (checkReport, string) {
	t.Helper()
	code, stdout, stderr := runCommand(t, env, append([]string{"check", "--json"}, args...)...)
	var r checkReport
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	if r.OK != (code == 0) || r.OK != (stderr == "") {
		t.Errorf("exit code %d, ok %v, stderr %q", code, r.OK, stderr)
	}
	return r, stderr
}

// TestCheckJudges has the ways in which an API answers a check, and what of it
// keeps the exporter from working.
func TestCheckJudges(t *testing.T) {
	const id = "request id [0-9a-f-]{36}"
	fault := func(status int, endpoints ...string) func(*simulator.Simulator) {
		return func(s *simulator.Simulator) {
			s.SetFault(simulator.Fault{Endpoints: endpoints, Status: status, Message: "not today"})
		}
	}
	body := func(mutate func([]byte) []byte, endpoints ...string) func(*simulator.Simulator) {
		return func(s *simulator.Simulator) { s.SetFault(simulator.Fault{Endpoints: endpoints, Mutate: mutate}) }
	}
	for _, test := range []struct {
		name     string
		services int
		trouble  func(*simulator.Simulator)
		unknown  bool     // the organization's id is not given
		requests []string // that are made, and whether they work
		errors   []string // expressions
		warnings []string
		missing  []string // permissions
	}{
		{
			name: "all is well", services: 3,
			requests: []string{"organizations", "services", "organization_metrics", "service_metrics", "whoami"},
		},
		{
			name: "Organization found", services: 3, unknown: true,
			requests: []string{"organizations", "services", "organization_metrics", "service_metrics", "whoami"},
		},
		{
			name: "no services", services: 0, trouble: func(*simulator.Simulator) {},
			requests: []string{"organizations", "services", "organization_metrics", "whoami"},
		},
		{
			name: "organizations can't be listed, id given", services: 3, trouble: fault(403, "organizations"),
			requests: []string{"!organizations", "services", "organization_metrics", "service_metrics", "whoami"},
			warnings: []string{"the organization's name is not known: list organizations: API key not allowed to do this .*"},
		},
		{
			name: "organizations can't be listed, id not given", services: 3, trouble: fault(403, "organizations"), unknown: true,
			requests: []string{"!organizations", "whoami"},
			errors:   []string{`list organizations: API key not allowed to do this \(status 403, upstream says "FORBIDDEN: not today", ` + id + `\); check the key's role and its IP access list`},
		},
		{
			name: "no organization", trouble: body(func([]byte) []byte { return []byte(`{"result":[]}`) }, "organizations"), unknown: true,
			requests: []string{"organizations", "whoami"},
			errors:   []string{"the API key sees no organization: give it access to one in the ClickHouse Cloud console"},
		},
		{
			name: "two organizations", unknown: true,
			trouble:  body(func([]byte) []byte { return []byte(`{"result":[{"id":"a","name":"A"},{"id":"b","name":"B"}]}`) }, "organizations"),
			requests: []string{"organizations", "whoami"},
			errors:   []string{`the API key sees 2 organizations: set --api.organization-id or CLICKHOUSE_ORG_ID to one of a \("A"\), b \("B"\)`},
		},
		{
			name: "services can't be listed", services: 3, trouble: fault(403, "services"),
			requests: []string{"organizations", "!services", "organization_metrics", "whoami"},
			errors:   []string{"list services: API key not allowed to do this .*"},
			missing:  []string{"control-plane:postgres-service:view"},
		},
		{
			name: "organization's metrics refused", services: 3, trouble: fault(400, "organization_metrics"),
			requests: []string{"organizations", "services", "!organization_metrics", "service_metrics", "whoami"},
			warnings: []string{
				"get organization metrics: API refused the request .*",
				"without the organization's metrics, the exporter reads those of services one by one, each about every 30s",
			},
		},
		{
			name: "organization's metrics not permitted", services: 3, trouble: fault(403, "organization_metrics"),
			requests: []string{"organizations", "services", "!organization_metrics", "service_metrics", "whoami"},
			warnings: []string{
				"get organization metrics: API key not allowed to do this .*; check the key's IP access list, and that its role has control-plane:organization:view",
				"without the organization's metrics, the exporter reads those of services one by one, each about every 30s",
			},
			missing: []string{"control-plane:organization:view"},
		},
		{
			name: "nothing permitted", services: 3, trouble: fault(403, "organization_metrics", "services"),
			requests: []string{"organizations", "!services", "!organization_metrics", "whoami"},
			errors:   []string{"list services: API key not allowed to do this .*", "get organization metrics: API key not allowed to do this .*"},
			missing:  []string{"control-plane:postgres-service:view", "control-plane:organization:view"},
		},
		{
			name: "key without a name", services: 3, trouble: fault(404, "whoami"),
			requests: []string{"organizations", "services", "organization_metrics", "service_metrics"},
		},
		{
			name: "key's name not answered", services: 3, trouble: fault(500, "whoami"),
			requests: []string{"organizations", "services", "organization_metrics", "service_metrics", "!whoami"},
			warnings: []string{"the key's name is not known: get the key's name: API failed .*"},
		},
		{
			name: "a service's metrics refused", services: 3, trouble: fault(403, "service_metrics"),
			requests: []string{"organizations", "services", "organization_metrics", "!service_metrics", "whoami"},
			warnings: []string{"get service metrics: API key not allowed to do this .*"},
		},
		{
			name: "all metrics refused", services: 3, trouble: fault(403, "organization_metrics", "service_metrics"),
			requests: []string{"organizations", "services", "!organization_metrics", "!service_metrics", "whoami"},
			errors:   []string{"get organization metrics: API key not allowed .*", "get service metrics: API key not allowed .*"},
			missing:  []string{"control-plane:organization:view"},
		},
		{
			name: "rate limit used up by others", services: 3,
			trouble: func(s *simulator.Simulator) {
				s.SetFault(simulator.Fault{Endpoints: []string{"services"}, Status: 429, Header: http.Header{"X-Ratelimit-Reset": {"600"}}})
			},
			requests: []string{"organizations", "!services"},
			errors:   []string{"list services: rate limit of the API key reached .*; next request in 2m.*, lower --api.rate-use if other programs share the key; --timeout=1m0s ends before that"},
		},
		{
			name: "no metrics but nonsense", services: 3,
			trouble:  body(func([]byte) []byte { return []byte("a{b 1\n") }, "organization_metrics", "service_metrics"),
			requests: []string{"organizations", "services", "!organization_metrics", "!service_metrics", "whoami"},
			errors:   []string{"metrics not as documented: .*line 1.*", "metrics not as documented: .*line 1.*"},
		},
		{
			name: "more services than a page holds", services: 101,
			requests: []string{"organizations", "services", "organization_metrics", "service_metrics", "whoami"},
			warnings: []string{"the organization's metrics cover 100 of 101 running services: the exporter reads the others one by one, each about every 30s"},
		},
		{
			name: "a service without a state", services: 3,
			trouble: body(func(list []byte) []byte {
				return bytes.Replace(list, []byte(`"state":"running"`), []byte(`"state":""`), 1)
			}, "services"),
			requests: []string{"organizations", "services", "organization_metrics", "service_metrics", "whoami"},
			warnings: []string{`the list of services gives no state for "[^"]+" \([0-9a-f-]{36}\): .*`},
		},
		{
			name: "clocks differ", services: 3,
			trouble: func(s *simulator.Simulator) {
				date := time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)
				s.SetFault(simulator.Fault{Endpoints: []string{"organization_metrics"}, Header: http.Header{"Date": {date}}})
			},
			requests: []string{"organizations", "services", "organization_metrics", "service_metrics", "whoami"},
			warnings: []string{"this machine's clock is (1h0m[01]s|59m59s) ahead of the API's: set it by NTP, or the ages and times in the metrics are wrong"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, env := upstream(t, simulator.Config{Services: test.services, Seed: 1})
			if test.trouble != nil {
				test.trouble(s)
			}
			if test.unknown {
				env = env[:3]
			}
			report, stderr := checked(t, env, fast...)
			r := report.Organizations[0]
			var requests []string
			for _, q := range r.Endpoints {
				name := q.Endpoint
				if !q.OK {
					name = "!" + name
				}
				if q.OK != (q.Error == "") || q.OK != (q.Reason == "") {
					t.Errorf("%+v", q)
				}
				requests = append(requests, name)
			}
			if diff := cmp.Diff(test.requests, requests); diff != "" {
				t.Error(diff)
			}
			match := func(what string, exprs, texts []string) {
				if !slices.EqualFunc(exprs, texts, func(expr, text string) bool { return regexp.MustCompile("^(?:" + expr + ")$").MatchString(text) }) {
					t.Errorf("%s: %q\nnot %q", what, texts, exprs)
				}
			}
			match("errors", test.errors, r.Errors)
			match("warnings", test.warnings, r.Warnings)
			if diff := cmp.Diff(append([]string{}, test.missing...), r.MissingPermissions); diff != "" {
				t.Error(diff)
			}
			if named := slices.Contains(test.requests, "whoami"); named != (r.Key != nil && r.Key.Name != "" && r.Key.ID != "") {
				t.Errorf("key %+v", r.Key)
			}
			if len(test.errors) > 0 {
				match("stderr", []string{"clickhouse_postgres_exporter: error: " + test.errors[0] + "\n"}, []string{stderr})
			}
			// What people read says the same.
			_, stdout, _ := runCommand(t, env, append([]string{"check"}, fast...)...)
			for _, w := range append(r.Warnings, r.Errors[min(1, len(r.Errors)):]...) {
				if beginning, _, _ := strings.Cut(w, "("); !strings.Contains(stdout, ": "+strings.TrimSpace(beginning[:min(24, len(beginning))])) {
					t.Errorf("%q is not in\n%s", w, stdout)
				}
			}
		})
	}
}

// TestCheckTimesOut while the API hangs.
func TestCheckTimesOut(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer server.Close()
	env := []string{config.EnvURL + "=" + server.URL, config.EnvKeyID + "=id", config.EnvKeySecret + "=hush"}
	code, _, stderr := runCommand(t, env, append(fast, "check", "--timeout=50ms")...)
	want := "clickhouse_postgres_exporter: error: list of organizations did not answer within --timeout=50ms: check the network, or raise --timeout\n"
	if code != 1 || stderr != want {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
	code, _, stderr = runCommand(t, env, append(fast, "once", "--timeout=50ms")...)
	want = "clickhouse_postgres_exporter: error: not done within --timeout=50ms, still waiting for the list of services: raise --timeout, see what is slow with --log.level=debug, or lower --api.rate-use if no exporter runs with this key\n"
	if code != 1 || stderr != want {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
}

// broken is a pipe whose reader has gone.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestPrintsIntoNothing(t *testing.T) {
	_, env := upstream(t, simulator.Config{Services: 1, Seed: 1})
	for _, args := range [][]string{{"once"}, {"check"}} {
		var stderr bytes.Buffer
		code := run(t.Context(), append(slices.Clone(fast), args...), environment(env...), broken{}, &stderr)
		if code != 1 || !strings.HasSuffix(stderr.String(), ": broken pipe\n") || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%s: exit code %d, stderr %q", args, code, &stderr)
		}
	}
}

// TestServeOutlivesItsKey: an exporter goes on while the API refuses its key, says
// so once in its log, and works as soon as the key does.
func TestServeOutlivesItsKey(t *testing.T) {
	s, env := upstream(t, simulator.Config{Services: 2, Seed: 1, RefreshInterval: 100 * time.Millisecond})
	c := s.Config()
	s.RotateKey(c.KeyID, "another-secret")
	e := start(t, env, append(fast, "--metrics.interval=100ms", "--inventory.interval=100ms")...)
	_, page := get(t, e.url("/metrics"), "X-Prometheus-Scrape-Timeout-Seconds", "60")
	if up := gauge(t, page, "clickhouse_postgres_up"); up != 0 {
		t.Errorf("clickhouse_postgres_up is %v", up)
	}
	// Several more polls are refused and add no line.
	awaitPage(t, func() string { return "" }, func(string) bool { return s.Count("services", http.StatusUnauthorized) > 3 })
	told := regexp.MustCompile(`(?m)^.* level=warn .* endpoint=services .*err="list services: API key wrong or expired \(status 401, .*check the key id and secret \(CLICKHOUSE_CLOUD_API_KEY and CLICKHOUSE_CLOUD_API_SECRET\)"$`)
	if lines := told.FindAllString(e.stderr.String(), -1); len(lines) != 1 {
		t.Errorf("%d lines about the key:\n%s", len(lines), e.stderr)
	}
	if code, body := get(t, e.url("/-/ready")); code != http.StatusServiceUnavailable || !strings.Contains(body, "API key wrong or expired") {
		t.Errorf("ready: code %d, %q", code, body)
	}
	if code, body := get(t, e.url("/sd")); code != http.StatusServiceUnavailable || !strings.Contains(body, "API key wrong or expired") {
		t.Errorf("discovery: code %d, %q", code, body)
	}
	s.RotateKey(c.KeyID, c.KeySecret)
	awaitPage(t, func() string { _, page := get(t, e.url("/metrics")); return page }, func(page string) bool {
		return gauge(t, page, "clickhouse_postgres_up") == 1 && strings.Contains(page, "\nPostgresServiceInfo{")
	})
}

// TestUnreadableKeyFile runs as somebody who may not read the file.
func TestUnreadableKeyFile(t *testing.T) {
	dir, err := os.MkdirTemp("", "unreadable")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "secret")
	if err := os.WriteFile(file, []byte("hush"), 0o200); err != nil {
		t.Fatal(err)
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, config.Program)
	copyFile(t, binary, name)
	cmd := exec.Command(name, "--api.key-id-file="+file, "--api.key-secret-file="+file)
	coverage := filepath.Join(dir, "coverage")
	if err := os.Mkdir(coverage, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(coverage, 0o777); err != nil { // beyond the umask
		t.Fatal(err)
	}
	cmd.Env = calm(coverage)
	cmd.Dir = dir
	if os.Geteuid() == 0 { // who may read everything
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	output, err := cmd.CombinedOutput()
	want := "clickhouse_postgres_exporter: error: API key id (" + file + ") is not readable (open " + file +
		": permission denied); give the user that the exporter runs as the right to read it\n"
	if cmd.ProcessState.ExitCode() != 1 || string(output) != want {
		t.Errorf("%v: %s", err, output)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
