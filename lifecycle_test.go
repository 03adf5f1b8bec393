package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/config"
)

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

// padding makes upstream's page larger than what sockets hold.
func padding(body []byte) []byte {
	var b bytes.Buffer
	b.Write(body)
	b.WriteString("\n\n# TYPE Padding gauge\n")
	long := strings.Repeat("x", 4000)
	for i := range 2000 {
		fmt.Fprintf(&b, "Padding{n=\"%d\",long=\"%s\"} 1\n", i, long)
	}
	return b.Bytes()
}

// slowScrape begins to read a page and returns how to go on.
func slowScrape(t *testing.T, address string) (length int64, rest io.Reader) {
	t.Helper()
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 64<<10)
		})
	}}
	c, err := dialer.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: 60\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(c, 16), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || resp.ContentLength < 7<<20 {
		t.Fatalf("code %d, %d bytes", resp.StatusCode, resp.ContentLength)
	}
	return resp.ContentLength, resp.Body
}

var stopping = regexp.MustCompile(`msg="Stopping; a second signal quits at once" signal=(\S+)`)

func TestSignalDrains(t *testing.T) {
	s, env := upstream(t, simulator.Config{Services: 1, Seed: 1})
	s.SetFault(simulator.Fault{Endpoints: []string{"organization_metrics", "service_metrics"}, Mutate: padding})
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(signal.String(), func(t *testing.T) {
			e := startProcess(t, env, fast...)
			length, rest := slowScrape(t, e.address)
			e.signal(t, signal)
			if e.stderr.await(stopping) == nil {
				t.Fatalf("log:\n%s", e.stderr)
			}
			if n, err := io.Copy(io.Discard, rest); err != nil || n != length {
				t.Errorf("%d of %d bytes, %v", n, length, err)
			}
			<-e.ended
			if code := e.process.ProcessState.ExitCode(); code != 0 {
				t.Errorf("%s\n%s", e.process.ProcessState, e.stderr)
			}
		})
	}
}

func TestSecondSignalQuits(t *testing.T) {
	s, env := upstream(t, simulator.Config{Services: 1, Seed: 1})
	s.SetFault(simulator.Fault{Endpoints: []string{"organization_metrics", "service_metrics"}, Mutate: padding})
	e := startProcess(t, env, fast...)
	slowScrape(t, e.address) // and never goes on
	e.signal(t, syscall.SIGTERM)
	if e.stderr.await(stopping) == nil {
		t.Fatalf("log:\n%s", e.stderr)
	}
	for {
		// The first signal's handler is given up an instant after its log
		// line: go on until it is.
		_ = e.process.Process.Signal(syscall.SIGTERM)
		select {
		case <-e.ended:
			status, ok := e.process.ProcessState.Sys().(syscall.WaitStatus)
			if !ok || !status.Signaled() || status.Signal() != syscall.SIGTERM {
				t.Errorf("ended by %s", e.process.ProcessState)
			}
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestStopWhileUpstreamHangs stops during a request that would take an hour.
func TestStopWhileUpstreamHangs(t *testing.T) {
	asked := make(chan struct{}, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	defer server.Close()
	env := []string{config.EnvURL + "=" + server.URL, config.EnvKeyID + "=id", config.EnvKeySecret + "=hush", config.EnvOrgID + "=org"}
	e := start(t, env, append(fast, "--api.timeout=1h")...)
	<-asked
	if code := e.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestHangup(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yml")
	if err := os.WriteFile(file, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, env := upstream(t, simulator.Config{Services: 1, Seed: 1})
	e := startProcess(t, env, append(fast, "--config.file="+file)...)
	if err := os.WriteFile(file, []byte("nonsense: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e.signal(t, syscall.SIGHUP)
	if m := e.stderr.await(regexp.MustCompile(`level=error msg="Reload failed, the running configuration stays" err=".*nonsense`)); m == nil {
		t.Errorf("log:\n%s", e.stderr)
	}
	if err := os.WriteFile(file, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e.signal(t, syscall.SIGHUP)
	if m := e.stderr.await(regexp.MustCompile(`level=info msg="Reloaded the configuration"`)); m == nil {
		t.Errorf("log:\n%s", e.stderr)
	}
	if code := e.stop(); code != 0 {
		t.Errorf("exit code %d\n%s", code, e.stderr)
	}
}

// TestReplacedCAFile: upstream gets a certificate of another authority, the file
// follows, and a reload makes it count.
func TestReplacedCAFile(t *testing.T) {
	for name, reload := range map[string]func(*running) error{
		"SIGHUP": func(e *running) error { return e.process.Process.Signal(syscall.SIGHUP) },
		"POST": func(e *running) error {
			code, body := do(t, client, http.MethodPost, e.url("/-/reload"))
			if code != http.StatusOK {
				return fmt.Errorf("code %d: %s", code, body)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := simulator.New(simulator.Config{Services: 1, Seed: 1})
			server := httptest.NewUnstartedServer(s)
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			var current atomic.Pointer[tls.Certificate]
			server.TLS = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return current.Load(), nil }}
			certify := func(a *authority) {
				pair, err := tls.X509KeyPair(a.issue(t, "localhost"))
				if err != nil {
					t.Fatal(err)
				}
				current.Store(&pair)
			}
			first, second := newAuthority(t), newAuthority(t)
			certify(first)
			server.StartTLS()
			t.Cleanup(server.Close)
			file := filepath.Join(t.TempDir(), "ca.pem")
			if err := os.WriteFile(file, first.pem, 0o600); err != nil {
				t.Fatal(err)
			}
			c := s.Config()
			env := []string{
				config.EnvURL + "=" + strings.Replace(server.URL, "127.0.0.1", "localhost", 1),
				config.EnvKeyID + "=" + c.KeyID, config.EnvKeySecret + "=" + c.KeySecret, config.EnvOrgID + "=" + c.OrganizationID,
			}
			e := startProcess(t, env, append(fast, "--api.ca-file="+file, "--metrics.interval=100ms", "--inventory.interval=100ms")...)
			scrape := func() string { _, page := get(t, e.url("/metrics")); return page }
			up := func(want float64) func(string) bool {
				return func(page string) bool { return gauge(t, page, "clickhouse_postgres_up") == want }
			}
			awaitPage(t, scrape, up(1))

			certify(second)
			server.CloseClientConnections()
			awaitPage(t, scrape, up(0))
			if err := os.WriteFile(file, second.pem, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := reload(e); err != nil {
				t.Fatal(err)
			}
			awaitPage(t, scrape, up(1))
		})
	}
}
