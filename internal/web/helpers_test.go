package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"flag"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/go-kit/log"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"go.uber.org/goleak"

	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	upstreamPage = `# HELP PostgresServer_CPUSeconds_Total CPU time.
# TYPE PostgresServer_CPUSeconds_Total counter
PostgresServer_CPUSeconds_Total{mode="user",postgres_service="a"} 12.5
PostgresServer_CPUSeconds_Total{mode="user",postgres_service="b"} 99
# HELP PostgresServer_CacheHitRatio Percentage.
# TYPE PostgresServer_CacheHitRatio gauge
PostgresServer_CacheHitRatio{postgres_service="a"} 99.5
`
	serviceA = `# HELP PostgresServer_CPUSeconds_Total CPU time.
# TYPE PostgresServer_CPUSeconds_Total counter
PostgresServer_CPUSeconds_Total{mode="user",postgres_service="a"} 12.5
`
	exporterPage = `# HELP own_things_total Things.
# TYPE own_things_total counter
own_things_total 3
`
)

// fake is a collector in the state that a test needs.
type fake struct {
	pages  map[[2]string]string // by organization and service, in text format
	health string               // in text format
	err    error                // of pages that are not there, default ErrNotFound
	ready  bool
	fault  string // of the organization
	wait   func(context.Context) error
}

func (f *fake) Page(org, service string) ([]*exposition.Document, error) {
	text, ok := f.pages[[2]string{org, service}]
	if ok || org == "" {
		return []*exposition.Document{exposition.NewDocument(families(text))}, nil
	}
	if f.err != nil {
		return nil, f.err
	}
	return nil, collector.ErrNotFound
}

func (f *fake) Health() []*exposition.Document {
	return []*exposition.Document{exposition.NewDocument(families(f.health))}
}

func (f *fake) WaitFirstRefresh(ctx context.Context) error {
	if f.wait == nil {
		return nil
	}
	return f.wait(ctx)
}

func (f *fake) Ready() bool { return f.ready }

func (f *fake) Status() collector.Status {
	return collector.Status{Organizations: []collector.OrganizationStatus{{ID: "first"}, {ID: "org", Error: f.fault}}}
}

func withData() *fake {
	return &fake{ready: true, pages: map[[2]string]string{
		{"", ""}:      upstreamPage,
		{"org", ""}:   upstreamPage,
		{"org", "a"}:  serviceA,
		{"org", "é/"}: serviceA,
	}}
}

func families(text string) []*dto.MetricFamily {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	byName, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		panic(err)
	}
	out := make([]*dto.MetricFamily, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		out = append(out, byName[name])
	}
	return out
}

func gatherer(text string) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return families(text), nil })
}

func handler(t *testing.T, o Options) http.Handler {
	t.Helper()
	h, err := NewHandler(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// serve serves over real HTTP until the test ends and returns the base URL.
func serve(t *testing.T, o Options) string {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.Config = NewServer(t.Context(), handler(t, o), log.NewNopLogger())
	s.Start()
	t.Cleanup(s.Close)
	return s.URL
}

type answer struct {
	code   int
	header http.Header
	length int64
	body   []byte
}

// do sends a request and takes the answer as it is on the wire.
func do(t *testing.T, method, url string, header http.Header) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(r.Header, header)
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, resp.ContentLength, body}
}

// series reads a page with Prometheus's own parser: values and types by
// series and family.
func series(t *testing.T, a answer) map[string]string {
	t.Helper()
	body := a.body
	switch e := a.header.Get("Content-Encoding"); e {
	case "":
	case "gzip":
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if body, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	case "zstd":
		z, err := zstd.NewReader(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		if body, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	default:
		t.Fatalf("Content-Encoding is %q", e)
	}
	p, err := textparse.New(body, a.header.Get("Content-Type"), labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]string)
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, body)
		}
		switch entry {
		case textparse.EntrySeries:
			_, _, v := p.Series()
			var l labels.Labels
			p.Labels(&l)
			out[l.String()] = strconv.FormatFloat(v, 'g', -1, 64)
		case textparse.EntryType:
			name, typ := p.Type()
			out["# TYPE "+string(name)] = string(typ)
		}
	}
}

// lines collects what is logged.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

var updateGolden = flag.Bool("update", false, "rewrite the golden files")

// known is a collector of which only the status matters.
type known struct {
	*fake
	status collector.Status
}

func (k *known) Status() collector.Status { return k.status }

func knows(organizations ...collector.OrganizationStatus) *known {
	return &known{fake: withData(), status: collector.Status{Organizations: organizations}}
}

// total returns the value of a counter without labels.
func total(t *testing.T, g prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("no %s", name)
	return 0
}
