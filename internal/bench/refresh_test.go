package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// answers are what an upstream answers at successive moments.
type answers struct {
	org, keyID, secret string
	list               []byte
	pages              [][]byte
}

func record(tb testing.TB, services, moments int) *answers {
	tb.Helper()
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	sim := simulator.New(simulator.Config{Services: services, OrgMetricsLimit: -1, Now: func() time.Time { return now }})
	c := sim.Config()
	get := func(path string) []byte {
		req := httptest.NewRequestWithContext(tb.Context(), http.MethodGet, "/v1/organizations/"+c.OrganizationID+path, http.NoBody)
		req.SetBasicAuth(c.KeyID, c.KeySecret)
		w := httptest.NewRecorder()
		sim.ServeHTTP(w, req)
		if w.Code != http.StatusOK {
			tb.Fatalf("%s: %d %s", path, w.Code, w.Body)
		}
		return bytes.Clone(w.Body.Bytes())
	}
	a := &answers{org: c.OrganizationID, keyID: c.KeyID, secret: c.KeySecret, list: get("/postgres")}
	for range moments {
		a.pages = append(a.pages, get("/postgres/prometheus"))
		now = now.Add(time.Minute)
	}
	return a
}

// RoundTrip answers from memory, the next page each time one is asked for, when
// the benchmark allows it.
func (g *gate) RoundTrip(r *http.Request) (*http.Response, error) {
	body, kind := g.list, "application/json"
	if strings.HasSuffix(r.URL.Path, "/prometheus") {
		asked := g.asked
		if !strings.HasSuffix(r.URL.Path, "/postgres/prometheus") {
			asked = nil // a service's own page is never answered
		}
		select {
		case asked <- struct{}{}:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
		body, kind = g.pages[g.next%len(g.pages)], "text/plain; charset=utf-8"
		g.next++
	}
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header:        http.Header{"Content-Type": {kind}},
		Body:          io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)),
	}, nil
}

type gate struct {
	*answers
	next  int
	asked chan struct{}
}

// cpu returns what the process has used so far.
func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	u, err := ownUsage()
	if err != nil {
		tb.Fatal(err)
	}
	return u.CPU
}

// cpuOf returns what a function uses on average, of a few calls.
func cpuOf(tb testing.TB, f func()) time.Duration {
	tb.Helper()
	f()
	const calls = 3
	runtime.GC()
	before := cpu(tb)
	for range calls {
		f()
	}
	return (cpu(tb) - before) / calls
}

// pipeline is what happens to a page within package exposition.
type pipeline struct {
	parser  *exposition.Parser
	rules   *exposition.Rules
	blocks  map[string]*exposition.Block
	last    *exposition.Document
	encoder exposition.Encoder
}

func newPipeline() *pipeline {
	return &pipeline{
		parser: exposition.NewParser("postgres_service"), rules: &exposition.Rules{Relabel: rules()},
		blocks: map[string]*exposition.Block{},
	}
}

func (p *pipeline) refresh(tb testing.TB, body []byte) *exposition.Document {
	tb.Helper()
	page, err := p.parser.Parse(body, "text/plain")
	if err != nil {
		tb.Fatal(err)
	}
	added := []labels.Label{
		{Name: "postgres_region", Value: "us-east-1"}, {Name: "postgres_size", Value: "r6gd.medium"}, {Name: "postgres_state", Value: "running"},
	}
	parts := make([]exposition.Part, 0, len(page.Groups))
	for _, id := range slices.Sorted(maps.Keys(page.Groups)) {
		p.blocks[id] = exposition.Expose(page.Groups[id], added, p.rules, p.blocks[id])
		parts = append(parts, exposition.Part{Block: p.blocks[id]})
	}
	p.last = exposition.Merge(p.last, parts...)
	return p.last
}

// BenchmarkRefresh measures a refresh with three rules and three added labels,
// gzip included, of a page on which all values are new: "page" what becomes of
// the page itself, "collector" all of the exporter but the network, "first" a
// page that was never seen before. What it should be is in brackets:
//
//	x-data-model     times cheaper than parse → data model → label → sort → encode → gzip 6 [page: 15]
//	x-by-series      times cheaper than Prometheus's parser → rules → gzip 6 [first: 2]
//	allocs/100k      [page: 1000]
//	size/gzip6       [1.1]
//	retained/page    what stays in memory, in sizes of the uncompressed page [collector: 2.5]
//
// All are of CPU time, which includes that of the garbage collector.
func BenchmarkRefresh(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			a := record(b, n, 3)
			r := newRewriter()
			var count int
			baseline := func(refresh func([]byte, *rewriter, io.Writer) (int, error)) time.Duration {
				return cpuOf(b, func() {
					var err error
					if count, err = refresh(a.pages[0], r, io.Discard); err != nil {
						b.Fatal(err)
					}
				})
			}
			bySeries := baseline(series)
			model := baseline(dataModel)
			per100k := 1e5 / float64(count)

			measure := func(b *testing.B, once func(i int)) {
				b.Helper()
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				began := cpu(b)
				b.ResetTimer()
				for i := range b.N {
					once(i)
				}
				b.StopTimer()
				took := float64(cpu(b)-began) / float64(b.N)
				runtime.ReadMemStats(&after)
				b.ReportMetric(took/1e6*per100k, "cpu-ms/100k")
				b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(b.N)*per100k, "allocs/100k")
				b.ReportMetric(float64(model)/took, "x-data-model")
				b.ReportMetric(float64(bySeries)/took, "x-by-series")
				b.ReportMetric(0, "ns/op") // wall time says little on a busy machine
			}

			b.Run("first", func(b *testing.B) {
				measure(b, func(i int) {
					p := newPipeline()
					p.encoder.Encode(exposition.Text, exposition.Gzip, p.refresh(b, a.pages[i%len(a.pages)]))
				})
			})
			b.Run("page", func(b *testing.B) {
				p := newPipeline()
				var body exposition.Body
				refresh := func(i int) *exposition.Document {
					doc := p.refresh(b, a.pages[i%len(a.pages)])
					body = p.encoder.Encode(exposition.Text, exposition.Gzip, doc)
					return doc
				}
				refresh(0)
				refresh(1)
				measure(b, func(i int) { refresh(i + 2) })
				var plain, six bytes.Buffer
				for _, chunk := range p.encoder.Encode(exposition.Text, exposition.Identity, refresh(0)).Chunks {
					plain.Write(chunk)
				}
				if err := gzipSix(&six, plain.Bytes()); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(body.Len)/float64(six.Len()), "size/gzip6")
			})
			b.Run("collector", func(b *testing.B) { benchmarkCollector(b, a, measure) })
		})
	}
}

func benchmarkCollector(b *testing.B, a *answers, measure func(*testing.B, func(int))) {
	b.Helper()
	var empty runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&empty)

	enrich, err := inventory.ParseEnrichLabels([]string{"region", "size", "state"})
	if err != nil {
		b.Fatal(err)
	}
	upstream := &gate{answers: a, asked: make(chan struct{})}
	c, err := collector.New(collector.Options{Organizations: []collector.Organization{{
		ID: a.org,
		API: api.Config{
			BaseURL:          "http://upstream.test",
			Credentials:      api.StaticCredentials(a.keyID, a.secret),
			Budget:           api.NewBudget(api.BudgetConfig{Requests: 1_000_000, Window: time.Second}),
			Timeout:          time.Hour,
			MaxResponseBytes: math.MaxInt32,
			Transport:        upstream,
		},
		MetricsInterval:   time.Millisecond,
		InventoryInterval: time.Hour,
		MaxAge:            time.Hour,
		EnrichLabels:      enrich,
		Rules:             rules(),
	}}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}()
	// The second time that a page is asked for, the one before is in.
	var docs []*exposition.Document
	var encoder exposition.Encoder
	refresh := func(int) {
		<-upstream.asked
		docs, err = c.Page(a.org, "")
		if err != nil {
			b.Fatal(err)
		}
		encoder.Encode(exposition.Text, exposition.Gzip, docs...)
	}
	<-upstream.asked
	refresh(0)
	refresh(1)
	measure(b, refresh)

	var full runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&full)
	retained := float64(full.HeapAlloc) - float64(empty.HeapAlloc)
	size := encoder.Encode(exposition.Text, exposition.Identity, docs...).Len
	b.ReportMetric(retained/float64(size), "retained/page")
}
