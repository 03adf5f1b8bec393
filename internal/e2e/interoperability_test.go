package e2e

import (
	"context"
	"fmt"
	"io"
	"log"
	"mime"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// relay stands between the exporter and one that scrapes it, to know what was sent.
type relay struct {
	address string

	mu   sync.Mutex
	sent map[string]int // pages by media type
}

// startRelay relays to an exporter until the test ends.
func startRelay(t *testing.T, e *exporter) *relay {
	t.Helper()
	r := &relay{sent: make(map[string]int)}
	to := &url.URL{Scheme: "http", Host: e.address}
	ts := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(to) },
		Transport: &http.Transport{DisableCompression: true},
		ErrorLog:  log.New(io.Discard, "", 0), // of scrapes that the end of the test cut short
		ModifyResponse: func(resp *http.Response) error {
			media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
			r.mu.Lock()
			defer r.mu.Unlock()
			r.sent[media]++
			return err
		},
	})
	t.Cleanup(ts.Close)
	r.address = ts.Listener.Addr().String()
	return r
}

// check fails the test if another media type than this one was sent, or none.
func (r *relay) check(t *testing.T, media string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.sent) != 1 || r.sent[media] == 0 {
		t.Errorf("pages sent: %v, want only %s", r.sent, media)
	}
}

// freeAddress returns an address of the loopback interface that nobody had a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startProgram runs a program until the test ends.
func startProgram(t *testing.T, name string, args ...string) *syncBuffer {
	t.Helper()
	log := &syncBuffer{}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(name), log.tail(4000))
		}
	})
	return log
}

// startDebian runs the Prometheus that the distribution has until the test ends.
func startDebian(t *testing.T, config string, flags ...string) (address string, log *syncBuffer) {
	t.Helper()
	program, err := exec.LookPath("prometheus")
	if err != nil {
		missing(t, "prometheus")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	address = freeAddress(t)
	log = startProgram(t, program, append([]string{
		"--config.file=" + file, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + address,
	}, flags...)...)
	return address, log
}

// stored waits until a server's query API has all series, and returns them.
func stored(t *testing.T, address, query string, want map[string]float64) *collection {
	t.Helper()
	var c *collection
	eventually(t, time.Minute, func() error {
		c = &collection{}
		if err := c.ask(address, query); err != nil {
			return err
		}
		if len(c.values) < len(want) {
			return fmt.Errorf("only %d series of %d", len(c.values), len(want))
		}
		return nil
	})
	return c
}

// awaitUp waits until a server finds that the scrapes of a target succeed, and upstream too.
func awaitUp(t *testing.T, address, target string) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		if got := instances(address, `up == 1 and on (instance) clickhouse_postgres_up == 1`); len(got) != 1 || got[0] != target {
			return fmt.Errorf("instances that are up: %q, want %s", got, target)
		}
		return nil
	})
}

// TestDebiansPrometheus has a Prometheus of years ago, as the distribution has it, scrape
// the exporter in each format that it can ask for.
func TestDebiansPrometheus(t *testing.T) {
	sim, environment := upstream(t, simulator.Config{Services: 20, Seed: 7})
	want := expected(t, sim)
	for _, f := range []struct {
		name, media string
		exporter    []string
		prometheus  []string
	}{
		{name: "text", media: "text/plain"},
		{name: "openmetrics", media: "application/openmetrics-text", exporter: []string{"--web.prefer-openmetrics"}},
		{name: "protobuf", media: "application/vnd.google.protobuf", prometheus: []string{"--enable-feature=native-histograms"}},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			e := startExporter(t, environment, append(f.exporter, quick...)...)
			r := startRelay(t, e)
			address, log := startDebian(t, fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: exporter
    static_configs: [{targets: [%q]}]
`, r.address), f.prometheus...)
			stored(t, address, `{__name__=~"Postgres.*"}`, want).check(t, want)
			awaitUp(t, address, r.address)
			r.check(t, f.media)
			for line := range strings.Lines(log.String()) {
				if strings.Contains(line, "scrape") && (strings.Contains(line, "level=warn") || strings.Contains(line, "level=error")) {
					t.Errorf("prometheus complains: %s", line)
				}
			}
		})
	}
}
