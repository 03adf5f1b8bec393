//go:build linux

package faulttest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// output collects what a process prints. Safe for concurrent use.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// lines returns the lines that contain all of the words.
func (o *output) lines(words ...string) []string { return o.since(0, words...) }

// size returns the number of bytes so far, for since.
func (o *output) size() int { return len(o.String()) }

// since returns those of the lines that follow the first size bytes.
func (o *output) since(size int, words ...string) []string {
	var found []string
	for line := range strings.Lines(o.String()[size:]) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// exporter is a process of the real binary.
type exporter struct {
	t       *testing.T
	org     string
	address string
	client  *http.Client
	command *exec.Cmd
	log     *output
	leaks   atomic.Int64  // answers that held the secret
	ended   chan struct{} // closed when the process has

	code     int // expected when it ends
	stopOnce sync.Once
}

// setup changes how an exporter is started.
type setup func(*exec.Cmd)

// flags adds flags, and removes earlier ones of the same name.
func flags(args ...string) setup {
	return func(c *exec.Cmd) {
		for _, arg := range args {
			name, _, _ := strings.Cut(arg, "=")
			c.Args = slices.DeleteFunc(c.Args, func(a string) bool { return strings.HasPrefix(a, name+"=") })
			c.Args = append(c.Args, arg)
		}
	}
}

// env sets variables, and removes those without a value.
func env(vars ...string) setup {
	return func(c *exec.Cmd) {
		for _, v := range vars {
			name, value, _ := strings.Cut(v, "=")
			c.Env = slices.DeleteFunc(c.Env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
			if value != "" {
				c.Env = append(c.Env, v)
			}
		}
	}
}

// fast polls several times a second, the list and metrics only: tests of what happens
// to these count requests and lines of the log.
func fast() setup {
	return flags(
		"--api.rate-limit=1000", "--api.rate-use=1000", "--api.rate-window=1s",
		"--metrics.interval=200ms", "--inventory.interval=200ms",
		"--no-collector.backups", "--no-collector.quotas",
	)
}

// hasty sets a timeout for requests that is long enough for a good answer on any machine.
func hasty() setup { return flags("--api.timeout=6s") }

// start runs the exporter until the test ends. It must then stop in time, and must not have leaked
// the secret.
func start(t *testing.T, u *upstream, setups ...setup) *exporter {
	t.Helper()
	e := launch(t, u, setups...)
	await(t, "the exporter to listen", func() bool {
		for _, line := range e.log.lines(`msg="Listening on"`) {
			_, e.address, _ = strings.Cut(line, "address=")
			return true
		}
		select {
		case <-e.ended:
			t.Fatalf("ended:\n%s", e.log)
		default:
		}
		return false
	}, e.log.String)
	return e
}

func launch(t *testing.T, u *upstream, setups ...setup) *exporter {
	t.Helper()
	e := &exporter{
		t: t, org: u.org, log: &output{}, ended: make(chan struct{}),
		client: &http.Client{Transport: &http.Transport{DisableCompression: true}, Timeout: patience},
	}
	cmd := exec.Command(binary, "--web.listen-address=127.0.0.1:0")
	cmd.Env = []string{
		"GORACE=atexit_sleep_ms=0",
		"CLICKHOUSE_API_URL=" + u.link.url(),
		"CLICKHOUSE_CLOUD_API_KEY=" + keyID,
		"CLICKHOUSE_CLOUD_API_SECRET=" + secret,
		"CLICKHOUSE_ORG_ID=" + u.org,
	}
	cmd.Stdout, cmd.Stderr = e.log, e.log
	for _, s := range setups {
		s(cmd)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	e.command = cmd
	go func() {
		_ = cmd.Wait()
		close(e.ended)
	}()
	t.Cleanup(func() {
		e.stop()
		e.client.CloseIdleConnections()
	})
	return e
}

// stop stops the exporter as Kubernetes does, and checks what is always expected.
func (e *exporter) stop() {
	e.stopOnce.Do(func() {
		e.t.Helper()
		select {
		case <-e.ended:
		default:
			if e.address != "" {
				e.browse()
			}
			_ = e.command.Process.Signal(syscall.SIGTERM)
			select {
			case <-e.ended:
			case <-time.After(patience):
				_ = e.command.Process.Signal(syscall.SIGQUIT)
				<-e.ended
				e.t.Errorf("did not stop:\n%s", e.log)
			}
		}
		if code := e.command.ProcessState.ExitCode(); code != e.code {
			e.t.Errorf("exit code %d, want %d:\n%s", code, e.code, tail(e.log.String()))
		}
		for _, word := range []string{"DATA RACE", "panic", "goroutine 1 ["} {
			if lines := e.log.lines(word); len(lines) > 0 {
				e.t.Errorf("%s:\n%s", word, e.log)
			}
		}
		e.searchSecret()
	})
}

func tail(s string) string { return s[max(0, len(s)-8000):] }

// browse requests every page, so that all of them are searched for the secret.
func (e *exporter) browse() {
	service := "/v1/organizations/" + e.org + "/postgres"
	for _, path := range []string{
		"/", "/metrics", "/-/healthy", "/-/ready", "/sd", "/status", "/api/v1/status", "/config", "/flags",
		"/debug/pprof/", "/debug/pprof/cmdline", "/debug/vars",
		service + "/prometheus", service + "/unknown/prometheus", "/v1/organizations/unknown/postgres/prometheus",
	} {
		for _, accept := range []string{"", "application/openmetrics-text;version=1.0.0"} {
			if accept != "" && path != "/metrics" {
				continue
			}
			_, _, _ = e.try(http.MethodGet, path, "Accept", accept, "X-Prometheus-Scrape-Timeout-Seconds", "0.2")
		}
	}
}

// searchSecret searches everything that the exporter has written or served for the secret.
func (e *exporter) searchSecret() {
	e.t.Helper()
	if found := leak(e.log.String()); found != "" {
		e.t.Errorf("the secret is in the log:\n%s", found)
	}
	if n := e.leaks.Load(); n > 0 {
		e.t.Errorf("the secret is in %d answers", n)
	}
}

// leak returns the part of a text that contains the secret in any form, "" if there is none.
func leak(text string) string {
	for _, form := range secretForms(keyID, secret) {
		if at := strings.Index(text, form); at >= 0 {
			return fmt.Sprintf("%.400s", text[max(0, at-200):])
		}
	}
	return ""
}

// wantNoLine fails the test if the log has lines with the words.
func (e *exporter) wantNoLine(words ...string) {
	e.t.Helper()
	if lines := e.log.lines(words...); len(lines) > 0 {
		e.t.Errorf("log:\n%s", strings.Join(lines, "\n"))
	}
}

// try sends a request, and searches the answer for the secret.
func (e *exporter) try(method, path string, header ...string) (code int, body string, err error) {
	r, err := http.NewRequestWithContext(context.Background(), method, "http://"+e.address+path, nil)
	if err != nil {
		return 0, "", err
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := e.client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, "", err
	}
	body = string(content)
	if found := leak(fmt.Sprint(resp.Header)) + leak(body); found != "" {
		e.leaks.Add(1)
		e.t.Errorf("%s %s leaks the secret:\n%s", method, path, found)
	}
	return resp.StatusCode, body, nil
}

func (e *exporter) get(path string, header ...string) (code int, body string) {
	e.t.Helper()
	code, body, err := e.try(http.MethodGet, path, header...)
	if err != nil {
		e.t.Fatalf("GET %s: %v\n%s", path, err, tail(e.log.String()))
	}
	return code, body
}

// scrape returns the page of everything, which must be complete and valid.
func (e *exporter) scrape() page {
	e.t.Helper()
	code, body := e.get("/metrics", "X-Prometheus-Scrape-Timeout-Seconds", "10")
	if code != http.StatusOK {
		e.t.Fatalf("scrape: %d: %.300s", code, body)
	}
	p, err := parse(body)
	if err != nil {
		e.t.Fatalf("not a page that Prometheus takes: %v", err)
	}
	return p
}

// await scrapes until the page is as wanted.
func (e *exporter) await(what string, done func(page) bool) page {
	e.t.Helper()
	var p page
	await(e.t, what, func() bool { p = e.scrape(); return done(p) }, func() string {
		return p.health() + "\n" + tail(e.log.String())
	})
	return p
}

// ready waits until all series of upstream are on the page.
func (e *exporter) ready(u *upstream) page {
	e.t.Helper()
	return e.await("all of upstream's series with their values", func(p page) bool {
		return p.is("clickhouse_postgres_up", 1) && len(u.wrong(p)) == 0
	})
}
