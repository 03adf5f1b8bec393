package exposition

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/proto"
)

var encodings = []Encoding{Identity, Gzip, Zstd}

func TestEncodeJoinsDocuments(t *testing.T) {
	a := document(t, "# TYPE a gauge\na 1\n", textContent)
	b := NewDocument([]*dto.MetricFamily{{
		Name: proto.String("b"), Type: dto.MetricType_GAUGE.Enum(),
		Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: proto.Float64(2)}}},
	}})
	for f, want := range map[expfmt.Format]string{
		Text:        "# TYPE a gauge\na 1\n# TYPE b gauge\nb 2\n",
		OpenMetrics: "# TYPE a gauge\na 1.0\n# TYPE b gauge\nb 2.0\n# EOF\n",
	} {
		if got := string(plain(t, f, a, b)); got != want {
			t.Errorf("%s: got %q", f, got)
		}
	}
	if got := plain(t, Text); len(got) != 0 {
		t.Errorf("no document: got %q", got)
	}
	if got := string(plain(t, OpenMetrics, Merge(nil), document(t, "", textContent))); got != "# EOF\n" {
		t.Errorf("empty documents: got %q", got)
	}
	// Only the document that has changed is encoded again.
	var e Encoder
	a, b = document(t, "a 1\n", textContent), document(t, "b 1\n", textContent)
	e.Encode(Text, Gzip, a, b)
	e.Encode(Text, Gzip, a, document(t, "c 1\n", textContent))
	e.Encode(Text, Gzip, a, b)
	if n := e.Encoded(); n != 3 {
		t.Errorf("%d documents were encoded, want 3", n)
	}
}

func TestEncodeConcurrently(t *testing.T) {
	t.Run("page", func(t *testing.T) {
		encodeConcurrently(t, document(t, "a 1\nb{c=\"d\"} 2\n{\"x y\"} 3\n", textContent))
	})
	t.Run("registry", func(t *testing.T) {
		reg := prometheus.NewRegistry()
		reg.MustRegister(collectors.NewGoCollector())
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "c", Help: "Not a name for OpenMetrics."}, []string{"b", "a"})
		c.WithLabelValues("2", "1").Add(1)
		reg.MustRegister(c)
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		slices.Reverse(families)
		before := fmt.Sprint(families)
		encodeConcurrently(t, NewDocument(families))
		if fmt.Sprint(families) != before {
			t.Error("families were changed")
		}
	})
}

func encodeConcurrently(t *testing.T, doc *Document) {
	t.Helper()
	var (
		e    Encoder
		wg   sync.WaitGroup
		mu   sync.Mutex
		tags = make(map[string]string)
	)
	for range 8 {
		for _, f := range formats {
			for _, enc := range encodings {
				wg.Go(func() {
					body := e.Encode(f, enc, doc)
					mu.Lock()
					defer mu.Unlock()
					key := fmt.Sprint(f, enc)
					if other, ok := tags[key]; ok && other != body.ETag {
						t.Errorf("%s: another page", key)
					}
					tags[key] = body.ETag
				})
			}
		}
	}
	wg.Wait()
	if n := e.Encoded(); n > int64(len(formats)*len(encodings)) {
		t.Errorf("%d documents were encoded in %d forms", n, len(formats)*len(encodings))
	}
}

// Parsers of different pages, and what becomes of these, share nothing.
func TestPipelinesConcurrently(t *testing.T) {
	var (
		e     Encoder
		wg    sync.WaitGroup
		rules = &Rules{Relabel: randomRules(random(1))}
	)
	for i := range uint64(4) {
		wg.Go(func() {
			c := newChain(&e)
			for step := range uint64(10) {
				if err := c.next(randomPage(random(step*i)), textContent, nothingAdded, rules); err != nil {
					t.Error(err)
				}
				readers := c.doc
				for range 2 {
					wg.Go(func() { e.Encode(OpenMetrics, Gzip, readers) })
				}
			}
		})
	}
	wg.Wait()
}

// A page larger than the pieces it is written in.
func TestEncodeLargePage(t *testing.T) {
	var body strings.Builder
	want := 0
	for i := range 20_000 {
		fmt.Fprintf(&body, "a{b=\"%d\",c=\"some longer text that takes up room\"} %d\n", i, i)
		want++
	}
	fmt.Fprintf(&body, "a{b=\"%s\"} 1\n", strings.Repeat("x", 500<<10))
	doc := document(t, body.String(), textContent)
	if doc.Series() != want+1 {
		t.Fatalf("%d series", doc.Series())
	}
	for _, ending := range []string{"text", "protobuf", "openmetrics"} {
		out := plain(t, formats[ending], doc)
		readings, err := reference(out, string(formats[ending]))
		if err != nil || len(readings) != want+1 {
			t.Errorf("%s: %d series, error %v", ending, len(readings), err)
		}
	}
}

func TestPartTimestamps(t *testing.T) {
	doc := Merge(nil, Part{Block: block(t, "a 1\nb 2 1000\n"), Timestamp: time.UnixMilli(1712345678901)})
	for f, want := range map[expfmt.Format]string{
		Text:        "# TYPE a untyped\na 1 1712345678901\n# TYPE b untyped\nb 2 1000\n",
		OpenMetrics: "# TYPE a unknown\na 1.0 1.712345678901e+09\n# TYPE b unknown\nb 2.0 1.0\n# EOF\n",
	} {
		if got := string(plain(t, f, doc)); got != want {
			t.Errorf("%s: got %q", f, got)
		}
	}
	var mf dto.MetricFamily
	dec := expfmt.NewDecoder(bytes.NewReader(plain(t, formats["protobuf"], doc)), expfmt.NewFormat(expfmt.TypeProtoDelim))
	if err := dec.Decode(&mf); err != nil {
		t.Fatal(err)
	}
	if got := mf.GetMetric()[0].GetTimestampMs(); got != 1712345678901 {
		t.Errorf("protobuf: got %d", got)
	}
}
