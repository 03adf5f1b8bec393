package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/config"
)

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
