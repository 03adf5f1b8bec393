package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"time"

	klauspost "github.com/klauspost/compress/gzip"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// moments is the number of successive pages that are recorded, each with other values.
const moments = 3

// recording is upstream's answers at successive moments.
type recording struct {
	organization, keyID, secret string
	list                        []byte
	pages                       [][]byte
	next                        int
}

func record(ctx context.Context, services int) (*recording, error) {
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	sim := simulator.New(simulator.Config{Services: services, OrgMetricsLimit: -1, Now: func() time.Time { return now }})
	c := sim.Config()
	get := func(path string) ([]byte, error) {
		req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/organizations/"+c.OrganizationID+path, http.NoBody)
		req.SetBasicAuth(c.KeyID, c.KeySecret)
		w := httptest.NewRecorder()
		sim.ServeHTTP(w, req)
		if w.Code != http.StatusOK {
			return nil, fmt.Errorf("the simulator answers %s with %d", path, w.Code)
		}
		return w.Body.Bytes(), nil
	}
	r := &recording{organization: c.OrganizationID, keyID: c.KeyID, secret: c.KeySecret}
	var err error
	if r.list, err = get("/postgres"); err != nil {
		return nil, err
	}
	for range moments {
		page, err := get("/postgres/prometheus")
		if err != nil {
			return nil, err
		}
		r.pages = append(r.pages, page)
		now = now.Add(time.Minute)
	}
	return r, nil
}

// page returns the next page.
func (r *recording) page() []byte {
	r.next++
	return r.pages[r.next%len(r.pages)]
}

// pipeline passes pages through package exposition.
type pipeline struct {
	parser   *exposition.Parser
	encoder  exposition.Encoder
	rules    *exposition.Rules
	blocks   map[string]*exposition.Block
	document *exposition.Document
}

func newPipeline() *pipeline {
	return &pipeline{
		parser: exposition.NewParser(inventory.ServiceLabel),
		rules:  &exposition.Rules{Relabel: rules()},
		blocks: map[string]*exposition.Block{},
	}
}

// expose turns a page into blocks, and returns them in order.
func (p *pipeline) expose(page []byte) ([]exposition.Part, error) {
	parsed, err := p.parser.Parse(page, "text/plain")
	if err != nil {
		return nil, err
	}
	parts := make([]exposition.Part, 0, len(parsed.Groups))
	for _, id := range slices.Sorted(maps.Keys(parsed.Groups)) {
		p.blocks[id] = exposition.Expose(parsed.Groups[id], added(), p.rules, p.blocks[id])
		parts = append(parts, exposition.Part{Block: p.blocks[id]})
	}
	return parts, nil
}

func (p *pipeline) refresh(page []byte) (exposition.Body, error) {
	parts, err := p.expose(page)
	if err != nil {
		return exposition.Body{}, err
	}
	p.document = exposition.Merge(p.document, parts...)
	return p.encoder.Encode(exposition.Text, exposition.Gzip, p.document), nil
}

// cost is the cost of one call of a function.
type cost struct {
	cpu       time.Duration
	allocated int64
}

// task is a function to measure, and how many calls of it are measured together. prepare runs
// before each measurement and is not measured.
type task struct {
	calls   int
	prepare func() error
	call    func() error
}

// compare returns the median costs of tasks that alternate. The garbage of one is not collected at
// the cost of another.
func (b *bench) compare(tasks ...task) ([]cost, error) {
	cpu := make([][]time.Duration, len(tasks))
	costs := make([]cost, len(tasks))
	for round := range b.rounds + 1 {
		for i, t := range tasks {
			if t.prepare != nil {
				if err := t.prepare(); err != nil {
					return nil, err
				}
			}
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			began, err := ownCPU()
			if err != nil {
				return nil, err
			}
			for range t.calls {
				if err := t.call(); err != nil {
					return nil, err
				}
			}
			ended, err := ownCPU()
			if err != nil {
				return nil, err
			}
			runtime.ReadMemStats(&after)
			if round == 0 {
				continue // a warm-up
			}
			cpu[i] = append(cpu[i], (ended-began)/time.Duration(t.calls))
			costs[i].allocated = int64(after.TotalAlloc-before.TotalAlloc) / int64(t.calls)
		}
	}
	for i := range costs {
		costs[i].cpu = median(cpu[i])
	}
	return costs, nil
}

// refresh measures a page on which all values are new.
func refresh(ctx context.Context, b *bench, n int) error {
	r, err := record(ctx, n)
	if err != nil {
		return err
	}
	p, baseline := newPipeline(), newRewriter()
	costs, err := b.compare(
		task{calls: 3 * moments, call: func() error { _, err := p.refresh(r.page()); return err }},
		task{calls: 1, call: func() error { return dataModel(r.page(), baseline, io.Discard) }},
	)
	if err != nil {
		return err
	}
	b.result("refresh", n, costs[0].cpu, costs[1].cpu, 0.1, allocated(costs))
	return nil
}

// firstRefresh measures a page that was not seen before.
func firstRefresh(ctx context.Context, b *bench, n int) error {
	r, err := record(ctx, n)
	if err != nil {
		return err
	}
	baseline := newRewriter()
	costs, err := b.compare(
		task{calls: 1, call: func() error { _, err := newPipeline().refresh(r.page()); return err }},
		task{calls: 1, call: func() error { return seriesBySeries(r.page(), baseline, io.Discard) }},
	)
	if err != nil {
		return err
	}
	b.result("first", n, costs[0].cpu, costs[1].cpu, 0, allocated(costs))
	return nil
}

// servicePages measures pages of single services, each requested once after a refresh, and compares
// them with encoding the same families with one compressor: that of the exporter's library at its
// level, and that of the standard library.
func servicePages(ctx context.Context, b *bench, n int) error {
	r, err := record(ctx, n)
	if err != nil {
		return err
	}
	p, pages := newPipeline(), make([]*exposition.Document, n)
	parts, err := p.expose(r.page())
	if err != nil {
		return err
	}
	families, err := familiesOf(parts)
	if err != nil {
		return err
	}
	fast, err := klauspost.NewWriterLevel(io.Discard, 1) // as package exposition has it
	if err != nil {
		return err
	}
	standard := gzip.NewWriter(io.Discard)
	costs, err := b.compare(
		task{
			calls: 1,
			prepare: func() (err error) {
				parts, err = p.expose(r.page())
				return err
			},
			call: func() error {
				for i, part := range parts {
					pages[i] = exposition.Merge(pages[i], part)
					p.encoder.Encode(exposition.Text, exposition.Gzip, pages[i])
				}
				return nil
			},
		},
		task{calls: 1, call: func() error { return encodePages(families, fast) }},
		task{calls: 1, call: func() error { return encodePages(families, standard) }},
	)
	if err != nil {
		return err
	}
	for i := range costs {
		costs[i].cpu /= time.Duration(n)
		costs[i].allocated /= int64(n)
	}
	b.result("service-page", n, costs[0].cpu, costs[1].cpu, 1.5,
		fmt.Sprintf("%s; with compress/gzip 6 %s", allocated(costs), milliseconds(costs[2].cpu)))
	return nil
}

// wire measures the size of pages.
func wire(ctx context.Context, b *bench, n int) error {
	r, err := record(ctx, n)
	if err != nil {
		return err
	}
	p := newPipeline()
	body, err := p.refresh(r.page())
	if err != nil {
		return err
	}
	var plain, six bytes.Buffer
	for _, chunk := range p.encoder.Encode(exposition.Text, exposition.Identity, p.document).Chunks {
		plain.Write(chunk)
	}
	if err := gzipSix(&six, plain.Bytes()); err != nil {
		return err
	}
	b.ratio("wire", n, megabytes(body.Len), megabytes(int64(six.Len())), float64(body.Len)/float64(six.Len()), 0,
		megabytes(int64(plain.Len()))+" plain")
	return nil
}

func allocated(costs []cost) string {
	return fmt.Sprintf("allocated: %d kB; baseline %d kB", costs[0].allocated/1000, costs[1].allocated/1000)
}

// added are the labels that are added to each series.
func added() []labels.Label {
	return []labels.Label{
		{Name: "postgres_region", Value: "us-east-1"},
		{Name: "postgres_size", Value: "r6gd.medium"},
		{Name: "postgres_state", Value: "running"},
	}
}
