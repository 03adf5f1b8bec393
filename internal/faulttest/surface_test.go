//go:build linux

package faulttest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// dial connects to the exporter, with a deadline for everything that follows.
func (e *exporter) dial(limit time.Duration) net.Conn {
	e.t.Helper()
	c, err := net.Dial("tcp", e.address)
	if err != nil {
		e.t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(limit))
	e.t.Cleanup(func() { c.Close() })
	return c
}

// raw sends bytes as they are and returns the status of the answer, 0 if there is none.
func (e *exporter) raw(request string) (status int, body string) {
	e.t.Helper()
	c := e.dial(patience)
	defer c.Close()
	_, _ = io.WriteString(c, request) // the exporter may hang up before all is sent
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	content, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if found := leak(string(content)); found != "" {
		e.t.Errorf("leaks the secret: %s", found)
	}
	return resp.StatusCode, string(content)
}

// TestManyScrapers makes a thousand scrapes at once.
func TestManyScrapers(t *testing.T) {
	t.Parallel()
	u := newUpstream(t, simulator.Config{Services: 20})
	e := start(t, u, fast(), flags("--metrics.interval=1h", "--metrics.max-age=1h", "--inventory.interval=1h"))
	before := e.ready(u)
	lines := len(e.log.lines())
	requests := u.Count("", -1)
	const scrapers = 1000
	answers := make(chan string, scrapers)
	var all sync.WaitGroup
	for range scrapers {
		all.Go(func() {
			code, body, err := e.try(http.MethodGet, "/metrics", "Accept-Encoding", "gzip")
			answers <- fmt.Sprint(code, len(body) > 1000, err)
		})
	}
	all.Wait()
	close(answers)
	for a := range answers {
		if a != "200 true <nil>" {
			t.Fatalf("a scraper got %s", a)
		}
	}
	e.client.CloseIdleConnections()
	e.await("goroutines and files to be as before", func(p page) bool {
		return p.sum("go_goroutines") <= before.sum("go_goroutines")+10 && p.sum("process_open_fds") <= before.sum("process_open_fds")+10
	})
	if got := e.log.lines(); len(got) != lines {
		t.Errorf("scrapes log:\n%s", strings.Join(got[lines:], "\n"))
	}
	if got := u.Count("", -1) - requests; got > 0 {
		t.Errorf("%d requests to upstream during scrapes", got)
	}
}

// TestSlowloris has clients that do not finish their requests.
func TestSlowloris(t *testing.T) {
	t.Parallel()
	u := newUpstream(t, simulator.Config{Services: 2})
	e := start(t, u, fast())
	before := e.ready(u)
	var conns []net.Conn
	for range 300 {
		c := e.dial(2 * patience)
		if _, err := io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: "); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	for _, c := range conns {
		// The exporter closes the connection, perhaps after an error.
		if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Fatalf("not hung up on: %v", err)
		}
	}
	e.await("files to be as before", func(p page) bool { return p.sum("process_open_fds") <= before.sum("process_open_fds")+10 })
	e.wantNoLine("level=warn")
}

// TestHostileRequests sends requests that no regular client sends.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	u := newUpstream(t, simulator.Config{Services: 2})
	e := start(t, u, fast())
	e.ready(u)
	service := "/v1/organizations/" + u.org + "/postgres/"
	long := strings.Repeat("x", 30_000)
	for _, tt := range []struct {
		name, request string
		status        []int // any of these; 0 is a connection that is closed
	}{
		{"huge header", "GET /metrics HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 100_000) + "\r\n\r\n", []int{431, 0}},
		{"many headers", "GET /metrics HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: x\r\n", 30_000) + "\r\n", []int{431, 0}},
		{"huge path", "GET /" + strings.Repeat("x", 100_000) + " HTTP/1.1\r\nHost: x\r\n\r\n", []int{431, 414, 0}},
		{"long service id", "GET " + service + long + "/prometheus HTTP/1.1\r\nHost: x\r\n\r\n", []int{404}},
		{"long organization id", "GET /v1/organizations/" + long + "/postgres/prometheus HTTP/1.1\r\nHost: x\r\n\r\n", []int{404}},
		{"service id of bytes", "GET " + service + "%00%ff%0a/prometheus HTTP/1.1\r\nHost: x\r\n\r\n", []int{404}},
		{"service id that is a path", "GET " + service + "..%2f..%2f..%2fetc%2fpasswd/prometheus HTTP/1.1\r\nHost: x\r\n\r\n", []int{404}},
		{"traversal", "GET /../../../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", []int{404, 400}},
		{"traversal, escaped", "GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", []int{404, 400}},
		{"traversal within", "GET /metrics/../-/reload HTTP/1.1\r\nHost: x\r\n\r\n", []int{404}},
		{"backslashes", "GET /..\\..\\etc\\passwd HTTP/1.1\r\nHost: x\r\n\r\n", []int{404, 400}},
		{"double slash", "GET //metrics HTTP/1.1\r\nHost: x\r\n\r\n", []int{404}},
		{"other's URL", "GET http://elsewhere.invalid/metrics HTTP/1.1\r\nHost: x\r\n\r\n", []int{200}}, // ours is served, none is fetched
		{"star", "GET * HTTP/1.1\r\nHost: x\r\n\r\n", []int{400, 404}},
		{"unknown path", "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", []int{404}},
		{"profiling", "GET /debug/pprof/ HTTP/1.1\r\nHost: x\r\n\r\n", []int{404}},
		{"heap profile", "GET /debug/pprof/heap HTTP/1.1\r\nHost: x\r\n\r\n", []int{404}},
		{"delete", "DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n", []int{405}},
		{"trace", "TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", []int{405}},
		{"unknown method", "BREW /-/ready HTTP/1.1\r\nHost: x\r\n\r\n", []int{405}},
		{"connect", "CONNECT elsewhere.invalid:443 HTTP/1.1\r\nHost: elsewhere.invalid:443\r\n\r\n", []int{404, 405, 400}},
		{"reload by GET", "GET /-/reload HTTP/1.1\r\nHost: x\r\n\r\n", []int{405}},
		{"quit", "POST /-/quit HTTP/1.1\r\nHost: x\r\n\r\n", []int{404}},
		{"no HTTP at all", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", []int{400, 0}},
		{"another protocol", "SSH-2.0-OpenSSH_9.0\r\n\r\n", []int{400, 0}},
		{"two lengths", "POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", []int{400}},
		{"smuggling", "POST /-/reload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\nContent-Length: 2\r\n\r\nab", []int{400, 501}},
		{"no Host", "GET /metrics HTTP/1.1\r\n\r\n", []int{400}},
		{"header injection", "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: a\rb\r\n\r\n", []int{400, 200}},
		{"absurd Accept", "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: " + strings.Repeat("application/openmetrics-text;q=0.1;version=9.9,", 500) + "\r\nAccept-Encoding: " + strings.Repeat("br,", 3000) + "\r\nConnection: close\r\n\r\n", []int{200, 406}},
		{"absurd timeout", "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: 1e308\r\nConnection: close\r\n\r\n", []int{200}},
		{"absurd Host", "GET /sd HTTP/1.1\r\nHost: \"><script>alert(1)</script>\r\nConnection: close\r\n\r\n", []int{400, 404}},
	} {
		status, body := e.raw(tt.request)
		ok := false
		for _, want := range tt.status {
			ok = ok || status == want
		}
		if !ok {
			t.Errorf("%s: %d, want one of %v: %.200s", tt.name, status, tt.status, body)
		}
		if status >= 400 && len(body) > 1000 {
			t.Errorf("%s: an answer of %d bytes", tt.name, len(body))
		}
	}
	if code, body := e.get("/-/healthy"); code != http.StatusOK {
		t.Errorf("not well afterwards: %d %s", code, body)
	}
	e.wantNoLine("level=warn")
	e.wantNoLine("level=error")
}
