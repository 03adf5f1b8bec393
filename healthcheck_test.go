package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/config"
)

// healthcheck runs the command against an exporter that listens on address, with time
// enough for a busy machine.
func healthcheck(t *testing.T, address string, args ...string) (int, string) {
	t.Helper()
	stderr := newOutput()
	if !slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "--timeout=") }) {
		args = append(args, "--timeout=1m")
	}
	args = append([]string{"healthcheck", "--web.listen-address=" + address}, args...)
	return run(t.Context(), args, environment(), io.Discard, stderr), stderr.String()
}

func TestHealthcheck(t *testing.T) {
	s, env := upstream(t, simulator.Config{Services: 1, Seed: 1})
	clearFault := s.SetFault(simulator.Fault{Status: http.StatusForbidden, Message: "not from here"})
	e := start(t, env, append(fast, "--metrics.interval=100ms", "--inventory.interval=100ms")...)
	get(t, e.url("/metrics"), "X-Prometheus-Scrape-Timeout-Seconds", "60")
	if code, said := healthcheck(t, e.address); code != 0 || said != "" {
		t.Errorf("alive: exit code %d: %s", code, said)
	}
	if code, said := healthcheck(t, e.address, "--ready"); code != 1 ||
		!strings.HasPrefix(said, "clickhouse_postgres_exporter: error: healthcheck: 503 Service Unavailable: not ready: ") || strings.Count(said, "\n") != 1 {
		t.Errorf("not ready: exit code %d: %s", code, said)
	}
	clearFault()
	for {
		if code, _ := healthcheck(t, e.address, "--ready"); code == 0 {
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("never ready")
		}
	}
}

func TestHealthcheckTimeout(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // which nobody serves
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if code, said := healthcheck(t, l.Addr().String(), "--timeout=50ms"); code != 1 || !strings.Contains(said, "deadline exceeded") {
		t.Errorf("exit code %d: %s", code, said)
	}
}

// TestDialable turns listeners' addresses into what curl takes.
func TestDialable(t *testing.T) {
	for in, want := range map[net.Addr]string{
		&net.TCPAddr{IP: net.IPv6unspecified, Port: 9924}:     "localhost:9924",
		&net.TCPAddr{IP: net.IPv4zero, Port: 9924}:            "localhost:9924",
		&net.TCPAddr{Port: 9924}:                              "localhost:9924",
		&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}:     "127.0.0.1:1",
		&net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 2}: "[2001:db8::1]:2",
		&net.UnixAddr{Name: "/run/x", Net: "unix"}:            "/run/x",
	} {
		if got := dialable(in); got != want {
			t.Errorf("%v: %s, not %s", in, got, want)
		}
	}
}

// TestHealthcheckOverIPv6 asks at an address of IPv6, and at one that stands for all.
func TestHealthcheckOverIPv6(t *testing.T) {
	_, env := upstream(t, simulator.Config{Services: 1, Seed: 1})
	for _, listen := range []string{"[::1]:0", "[::]:0", ":0"} {
		host, _, err := net.SplitHostPort(listen)
		if err != nil {
			t.Fatal(err)
		}
		e := start(t, env, append(fast, "--web.listen-address="+listen)...)
		// The harness listens on 127.0.0.1, too.
		m := e.stderr.await(regexp.MustCompile(`msg="Listening on" address=\[::1?\]:(\d+)`))
		if m == nil {
			t.Fatalf("%s: log:\n%s", listen, e.stderr)
		}
		if code, said := healthcheck(t, net.JoinHostPort(host, m[1])); code != 0 {
			t.Errorf("%s: exit code %d: %s", listen, code, said)
		}
	}
}

// TestSystemdSocket has the program serve on a socket that somebody else has opened. To
// the command, its address has to be told.
func TestSystemdSocket(t *testing.T) {
	_, env := upstream(t, simulator.Config{Services: 1, Seed: 1})
	activate := func(t *testing.T, socket interface{ File() (*os.File, error) }) {
		t.Helper()
		file, err := socket.File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
		// systemd names the process that the socket is for.
		cmd := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, config.Program, "--web.systemd-socket"}, fast...)...)
		cmd.ExtraFiles = []*os.File{file}
		startCommand(t, append(env, "LISTEN_FDS=1"), cmd)
	}
	t.Run("TCP", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		activate(t, l.(*net.TCPListener))
		if code, said := healthcheck(t, l.Addr().String(), "--web.systemd-socket"); code != 0 {
			t.Errorf("exit code %d: %s", code, said)
		}
	})
	t.Run("unix", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "socket")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		activate(t, l.(*net.UnixListener))
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}}}
		if code, body := do(t, c, http.MethodGet, "http://exporter/-/healthy"); code != http.StatusOK {
			t.Errorf("code %d: %s", code, body)
		}
	})
}

// TestHealthcheckByVariables: what a server is told by the environment, a probe that
// runs beside it knows as well.
func TestHealthcheckByVariables(t *testing.T) {
	_, env := upstream(t, simulator.Config{Services: 1, Seed: 1})
	e := start(t, env, fast...)
	code, _, stderr := runCommand(t, []string{"CLICKHOUSE_POSTGRES_EXPORTER_WEB_LISTEN_ADDRESS=" + e.address}, "healthcheck", "--timeout=1m")
	if code != 0 {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}
