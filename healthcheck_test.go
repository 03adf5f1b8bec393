package main

import (
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
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
