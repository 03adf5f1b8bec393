package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

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
