//go:build linux

package faulttest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// TestStopDuringPoll stops the exporter while upstream does not answer.
func TestStopDuringPoll(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]simulator.Fault{
		"hangs":   {Hang: true},
		"trickle": {BytesPerSecond: 1},
		"storm":   simulator.TooManyRequests("1000000000", ""),
		"retries": simulator.Status(503),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUpstream(t, simulator.Config{Services: 3})
			u.SetFault(fault)
			e := start(t, u, fast(), flags("--api.timeout=1h"))
			await(t, "a request", func() bool { return u.Count("", -1) > 0 }, e.log.String)
			e.stop() // within bounds, with exit code 0
			if lines := e.log.lines("msg=Stopped"); len(lines) != 1 || len(e.log.lines("canceled")) != 0 {
				t.Errorf("log:\n%s", e.log)
			}
		})
	}
}

// TestStopDuringFirstScrape stops the exporter while a scrape waits for the first refresh: the
// scrape is answered with what there is.
func TestStopDuringFirstScrape(t *testing.T) {
	t.Parallel()
	u := newUpstream(t, simulator.Config{Services: 3})
	u.SetFault(simulator.Fault{Hang: true})
	e := start(t, u, fast(), flags("--api.timeout=1h"))
	conn, err := net.Dial("tcp", e.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET /metrics HTTP/1.1\r\nHost: %s\r\nX-Prometheus-Scrape-Timeout-Seconds: 100\r\n\r\n", e.address); err != nil {
		t.Fatal(err)
	}
	await(t, "the exporter to take the connection", func() bool { return accepted(t, conn) }, e.log.String)
	if err := e.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	<-e.ended // by itself: a second signal would end it at once
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v", resp.Status, err)
	}
	p, err := parse(string(body))
	if err != nil || !p.is("clickhouse_postgres_up", 0) || len(p.upstream()) > 0 {
		t.Errorf("%v:\n%s", err, body)
	}
}

// accepted tells whether the other end of a connection on this machine has accepted it: until
// then the kernel knows no inode of its socket.
func accepted(t *testing.T, conn net.Conn) bool {
	t.Helper()
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	port := func(a net.Addr) string {
		tcp, _ := a.(*net.TCPAddr)
		return fmt.Sprintf(":%04X", tcp.Port)
	}
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if len(f) > 9 && strings.HasSuffix(f[1], port(conn.RemoteAddr())) && strings.HasSuffix(f[2], port(conn.LocalAddr())) {
			return f[9] != "0"
		}
	}
	return false
}

// TestRefusesToStart exits at once, with code 1 and one line that says why and does not contain the
// secret.
func TestRefusesToStart(t *testing.T) {
	t.Parallel()
	u := newUpstream(t, simulator.Config{Services: 1})
	running := start(t, u)
	for name, tt := range map[string]struct {
		setup setup
		says  string
	}{
		"port taken":         {flags("--web.listen-address=" + running.address), "in use"},
		"unknown flag":       {flags("--nonsense"), "unknown long flag"},
		"bad number":         {flags("--metrics.interval=soon"), "--metrics.interval: not a duration"},
		"nothing per window": {flags("--api.rate-use=0"), "--api.rate-use: must be from 1"},
		"interval of 0":      {flags("--metrics.interval=0s"), "must be more than 0"},
		"key in the URL":     {flags("--api.url=https://" + keyID + ":7f3a9c1e5b2d@api.example.com"), "must not contain a user name or password"},
		"URL that is none":   {flags("--api.url=7f3a9c1e5b2d"), "must be an http or https URL"},
		"half a key":         {env("CLICKHOUSE_CLOUD_API_KEY="), "set both"},
		"no key":             {env("CLICKHOUSE_CLOUD_API_KEY=", "CLICKHOUSE_CLOUD_API_SECRET="), "no API key"},
		"two keys":           {flags("--api.key-id-file=/a", "--api.key-secret-file=/b"), "two API keys"},
		"no such CA file":    {flags("--api.ca-file=/nowhere"), "/nowhere"},
		"no such config":     {flags("--config.file=/nowhere"), "/nowhere"},
		"no such web config": {flags("--web.config.file=/nowhere"), "/nowhere"},
		"status page taken":  {flags("--web.telemetry-path=/"), "choose another"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := launch(t, u, tt.setup)
			e.code = 1
			<-e.ended
			text := e.log.String()
			if strings.Count(text, "\n") != 1 || !strings.Contains(text, tt.says) {
				t.Errorf("want one line with %q, got:\n%s", tt.says, text)
			}
		})
	}
}

// TestDiskFull has a log that cannot be written.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	u := newUpstream(t, simulator.Config{Services: 3})
	address := freeAddress(t)
	e := launch(t, u, fast(), flags("--web.listen-address="+address), func(c *exec.Cmd) { c.Stdout, c.Stderr = full, full })
	e.address = address
	await(t, "an answer", func() bool {
		code, _, err := e.try(http.MethodGet, "/-/ready")
		return err == nil && code == http.StatusOK
	}, func() string { return "" })
	e.ready(u)
	u.link.refuse()
	e.await("failures", func(p page) bool { return p.is("clickhouse_postgres_up", 0) })
	u.link.restore()
	e.ready(u)
}

// freeAddress returns an address that nothing listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l := newLink(t, "127.0.0.1:1")
	l.refuse()
	return l.address
}
