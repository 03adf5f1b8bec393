package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// missing skips the test for want of a Debian package. In CI nothing is skipped.
func missing(t *testing.T, debian string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("missing: apt-get install %s", debian)
	}
	t.Skipf("missing: apt-get install %s", debian)
}

// expected are the values of all series that upstream has, by identity.
func expected(t *testing.T, sim *simulator.Simulator) map[string]float64 {
	t.Helper()
	want := make(map[string]float64)
	for _, s := range sim.Series(time.Now()) {
		want[identity(s.Name, s.Labels)] = s.Value
	}
	if len(want) < 30 {
		t.Fatalf("the simulator expects only %d series", len(want))
	}
	return want
}

// collection gathers upstream's series as a reader of the page shows them.
type collection struct {
	values   map[string]float64
	seen     map[string]bool // every series, upstream's or not
	repeated bool            // by a reader that shows several scrapes
	problems []string
}

// add takes a series, and keeps it if it is upstream's: without the labels that the
// exporter adds and those of names that the reader added.
func (c *collection) add(name string, l map[string]string, value float64, readers ...string) {
	if c.seen == nil {
		c.seen, c.values = make(map[string]bool), make(map[string]float64)
	}
	whole := identity(name, l)
	if c.seen[whole] && !c.repeated {
		c.problems = append(c.problems, "there twice: "+whole)
	}
	c.seen[whole] = true
	if !strings.HasPrefix(name, "Postgres") {
		return
	}
	l = maps.Clone(l)
	for _, k := range []string{"postgres_region", "postgres_size", "postgres_state"} {
		if l[k] == "" {
			c.problems = append(c.problems, "without "+k+": "+whole)
		}
		delete(l, k)
	}
	for _, k := range readers {
		delete(l, k)
	}
	c.values[identity(name, l)] = value
}

// check compares the collection with what upstream has.
func (c *collection) check(t *testing.T, want map[string]float64) {
	t.Helper()
	for _, p := range c.problems {
		t.Error(p)
	}
	compare(t, c.values, want)
}

// eventually tries until it succeeds, and fails the test when the time is over.
func eventually(t *testing.T, limit time.Duration, try func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %s: %v", limit, err)
		}
	}
}

// get returns the body of a page, decompressed, and its headers.
func get(address, accept, encoding string) ([]byte, http.Header, error) {
	req, err := http.NewRequest(http.MethodGet, "http://"+address+"/metrics", http.NoBody)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("Accept-Encoding", encoding) // which also keeps Go from decompressing
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, nil, errors.New(resp.Status)
	}
	var r io.Reader = resp.Body
	switch got := resp.Header.Get("Content-Encoding"); got {
	case "":
	case "gzip":
		if r, err = gzip.NewReader(r); err != nil {
			return nil, nil, err
		}
	case "zstd":
		d, err := zstd.NewReader(r)
		if err != nil {
			return nil, nil, err
		}
		defer d.Close()
		r = d
	default:
		return nil, nil, fmt.Errorf("compressed by %q", got)
	}
	body, err := io.ReadAll(r)
	return body, resp.Header, err
}

// python is Debian's, which finds Debian's python3-prometheus-client.
const python = "/usr/bin/python3"

// strict has the one strict parser of OpenMetrics read a page from stdin and write its
// samples, a line of JSON each. It writes floats in hexadecimal to lose nothing.
const strict = `
import json, sys
from prometheus_client.openmetrics.parser import text_fd_to_metric_families
sys.stdin.reconfigure(encoding="utf-8", newline="\n")
for family in text_fd_to_metric_families(sys.stdin):
    for s in family.samples:
        print(json.dumps({"name": s.name, "labels": s.labels, "value": float(s.value).hex()}))
`

// readOpenMetrics returns upstream's series as the strict parser has read them.
func readOpenMetrics(t *testing.T, page []byte) *collection {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), python, "-c", strict)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(page), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("the strict parser refuses the page: %v\n%s", err, stderr.Bytes())
	}
	c, samples, own := &collection{}, 0, 0
	for d := json.NewDecoder(&stdout); d.More(); {
		var s struct {
			Name, Value string
			Labels      map[string]string
		}
		if err := d.Decode(&s); err != nil {
			t.Fatal(err)
		}
		v, err := strconv.ParseFloat(s.Value, 64)
		if err != nil {
			t.Fatal(err)
		}
		c.add(s.Name, s.Labels, v)
		samples++
		if strings.HasPrefix(s.Name, "clickhouse_postgres_") {
			own++
		}
	}
	lines := 0
	for line := range bytes.Lines(page) {
		if !bytes.HasPrefix(line, []byte("#")) {
			lines++
		}
	}
	if samples != lines { // it keeps silent about a series that is there twice, and drops it
		t.Errorf("the strict parser finds %d samples in %d lines", samples, lines)
	}
	if own == 0 {
		t.Error("the strict parser finds no metric of the exporter's own")
	}
	return c
}

// readExposition returns upstream's series as Prometheus's library for its clients reads
// text and protobuf.
func readExposition(t *testing.T, page []byte, h http.Header) *collection {
	t.Helper()
	c := &collection{}
	d := expfmt.NewDecoder(bytes.NewReader(page), expfmt.ResponseFormat(h))
	for {
		var family dto.MetricFamily
		err := d.Decode(&family)
		if errors.Is(err, io.EOF) {
			return c
		}
		if err != nil {
			t.Fatal(err)
		}
		vector, err := expfmt.ExtractSamples(&expfmt.DecodeOptions{Timestamp: model.Now()}, &family)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range vector {
			l := make(map[string]string, len(s.Metric))
			for k, v := range s.Metric {
				l[string(k)] = string(v)
			}
			c.add(l[model.MetricNameLabel], l, float64(s.Value))
		}
	}
}

// upstreamsStyle is what promtool has to say of upstream's names, which stay as they are.
var upstreamsStyle = regexp.MustCompile(`^Postgres\w+ (counter metrics should have "_total" suffix|metric names should be written in 'snake_case' not 'camelCase')\n$`)

// lint has promtool check a page. It exits with 3 if all is well but for style.
func lint(t *testing.T, page []byte) {
	t.Helper()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		missing(t, "prometheus")
	}
	var output bytes.Buffer
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(page), &output, &output
	const style = 3
	if err := cmd.Run(); err != nil && cmd.ProcessState.ExitCode() != style {
		t.Fatalf("promtool refuses the page: %v\n%s", err, output.Bytes())
	}
	for line := range strings.Lines(output.String()) {
		if !upstreamsStyle.MatchString(line) {
			t.Errorf("promtool: %s", strings.TrimSpace(line))
		}
	}
}

// TestPagesAreAccepted holds each page that the running exporter can send against the
// strictest reader of its format.
func TestPagesAreAccepted(t *testing.T) {
	sim, environment := upstream(t, simulator.Config{Services: 5, Seed: 7})
	e := startExporter(t, environment, quick...)
	want := expected(t, sim)
	const (
		text        = "text/plain"
		openMetrics = "application/openmetrics-text"
		protobuf    = "application/vnd.google.protobuf"
		delimited   = protobuf + ";proto=io.prometheus.client.MetricFamily;encoding=delimited"
		utf8        = ";escaping=allow-utf-8"
	)
	eventually(t, time.Minute, func() error {
		page, _, err := get(e.address, text, "identity")
		if n := bytes.Count(page, []byte("\nPostgres")); err == nil && n < len(want) {
			err = fmt.Errorf("only %d series of %d", n, len(want))
		}
		return err
	})
	for _, f := range []struct{ name, media, accept string }{
		{"text", text, text + ";version=0.0.4"},
		{"text-utf8", text, text + ";version=1.0.0" + utf8},
		{"openmetrics-0.0.1", openMetrics, openMetrics + ";version=0.0.1"},
		{"openmetrics", openMetrics, openMetrics + ";version=1.0.0"},
		{"openmetrics-utf8", openMetrics, openMetrics + ";version=1.0.0" + utf8},
		{"protobuf", protobuf, delimited},
		{"protobuf-utf8", protobuf, delimited + utf8},
	} {
		for _, encoding := range []string{"identity", "gzip", "zstd"} {
			t.Run(f.name+"/"+encoding, func(t *testing.T) {
				page, h, err := get(e.address, f.accept, encoding)
				if err != nil {
					t.Fatal(err)
				}
				if media, _, err := mime.ParseMediaType(h.Get("Content-Type")); err != nil || media != f.media {
					t.Fatalf("Content-Type: %s (%v), want %s", h.Get("Content-Type"), err, f.media)
				}
				if got := h.Get("Content-Encoding"); got != strings.TrimPrefix(encoding, "identity") {
					t.Fatalf("Content-Encoding: %q, want %s", got, encoding)
				}
				switch f.media {
				case openMetrics:
					if exec.CommandContext(t.Context(), python, "-c", "import prometheus_client.openmetrics.parser").Run() != nil {
						missing(t, "python3-prometheus-client")
					}
					readOpenMetrics(t, page).check(t, want)
				case text:
					readExposition(t, page, h).check(t, want)
					lint(t, page)
				default:
					readExposition(t, page, h).check(t, want)
				}
			})
		}
	}
}

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

// ask returns upstream's series from the query API that Prometheus has and others mimic.
func (c *collection) ask(address, query string) error {
	resp, err := http.Get("http://" + address + "/api/v1/query?query=" + url.QueryEscape(query))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %w", resp.Status, err)
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", resp.Status, answer.Error)
	}
	for _, r := range answer.Data.Result {
		v, err := strconv.ParseFloat(fmt.Sprint(r.Value[1]), 64)
		if err != nil {
			return err
		}
		c.add(r.Metric[model.MetricNameLabel], r.Metric, v, "job", "instance")
	}
	return nil
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
