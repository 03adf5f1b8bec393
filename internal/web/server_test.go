package web

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/pipenet"
)

func TestHugeHeaders(t *testing.T) {
	url := serve(t, Options{Collector: withData()})
	a := do(t, "GET", url+"/metrics", http.Header{"X-Much": {strings.Repeat("x", 100<<10)}})
	if a.code != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("code %d", a.code)
	}
}

// pipe is the server's end of a connection.
type pipe struct {
	net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipe) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.Conn.Close()
}

// watched is a listener whose connections tell when the server closes them.
type watched struct {
	*pipenet.Listener
	accepted chan *pipe
}

func (w watched) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	p := &pipe{Conn: c, closed: make(chan struct{})}
	w.accepted <- p
	return p, nil
}

// servePipes serves o in the test's bubble and returns how to connect: the
// client's end, and what is closed when the server lets go.
func servePipes(t *testing.T, o Options) func() (client net.Conn, gone <-chan struct{}) {
	t.Helper()
	l := watched{pipenet.Listen(), make(chan *pipe)}
	s := NewServer(t.Context(), handler(t, o), log.NewNopLogger())
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	return func() (net.Conn, <-chan struct{}) {
		client, err := l.DialContext(t.Context(), "tcp", "test")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		return client, (<-l.accepted).closed
	}
}

// TestSlowReader has clients that ask and never read: they are let go in the
// time they announced, within bounds, and hinder nobody.
func TestSlowReader(t *testing.T) {
	for _, test := range []struct {
		name, header string
		want         time.Duration
	}{
		{"silent", "", writeTimeout},
		{"ten seconds", "X-Prometheus-Scrape-Timeout-Seconds: 10\r\n", writeTimeout},
		{"ninety seconds", "X-Prometheus-Scrape-Timeout-Seconds: 90\r\n", 90 * time.Second},
		{"an hour", "X-Prometheus-Scrape-Timeout-Seconds: 3600\r\n", maxScrapeTimeout},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				connect := servePipes(t, Options{Collector: withData()})
				slow, gone := connect()
				start := time.Now()
				if _, err := io.WriteString(slow, "GET /metrics HTTP/1.1\r\nHost: x\r\n"+test.header+"\r\n"); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()

				other, _ := connect()
				if _, err := io.WriteString(other, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				resp, err := http.ReadResponse(bufio.NewReader(other), nil)
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Fatalf("another client: %v, %v", resp, err)
				}
				resp.Body.Close()

				<-gone
				if got := time.Since(start); got != test.want {
					t.Errorf("let go after %s, not %s", got, test.want)
				}
			})
		})
	}
}

// TestSlowRequest is a client that never finishes its header.
func TestSlowRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		connect := servePipes(t, Options{Collector: withData()})
		c, _ := connect()
		start := time.Now()
		if _, err := io.WriteString(c, "GET /metrics HTTP/1.1\r\nX-Slow: "); err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadAll(c)
		if got := time.Since(start); got != readTimeout {
			t.Errorf("let go after %s, not %s", got, readTimeout)
		}
	})
}

func TestIdleConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		connect := servePipes(t, Options{Collector: withData()})
		c, _ := connect()
		if _, err := io.WriteString(c, "GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		b := bufio.NewReader(c)
		resp, err := http.ReadResponse(b, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadAll(resp.Body)
		resp.Body.Close()
		start := time.Now()
		_, _ = io.ReadAll(b)
		if got := time.Since(start); got != idleTimeout {
			t.Errorf("let go after %s, not %s", got, idleTimeout)
		}
	})
}

func TestServerLog(t *testing.T) {
	var logged lines
	l := ServerLog(log.NewLogfmtLogger(&logged))
	l.Printf("http: TLS handshake error from 192.0.2.1:3: EOF")
	l.Printf("http: panic serving 192.0.2.1:3: no")
	want := `level=debug msg="HTTP server" err="http: TLS handshake error from 192.0.2.1:3: EOF"
level=error msg="HTTP server" err="http: panic serving 192.0.2.1:3: no"
`
	if logged.String() != want {
		t.Errorf("log:\n%s", logged.String())
	}
}
