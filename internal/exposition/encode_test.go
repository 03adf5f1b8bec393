package exposition

import (
	"bytes"
	stdgzip "compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

var allFormats = []Format{Text, TextUTF8, Protobuf, ProtobufUTF8, OpenMetrics, OpenMetricsUTF8}

// document parses a page and makes a document of it, block by block.
func document(tb testing.TB, body, contentType string, rw Rewriter) *Document {
	tb.Helper()
	p, err := NewSource().Decode([]byte(body), contentType, rw)
	if err != nil {
		tb.Fatal(err)
	}
	return Merge(parts(p)...)
}

func parts(p *Page) []Part {
	var parts []Part
	for _, g := range p.Groups() {
		parts = append(parts, Part{Block: p.Block(g)})
	}
	return parts
}

func joined(b Body) []byte { return bytes.Join(b.Chunks, nil) }

// identity encodes documents without compression.
func identity(_ testing.TB, f Format, docs ...*Document) []byte {
	return joined(Encode(f, Identity, docs...))
}

// plain encodes documents, in all encodings, and returns the uncompressed page.
func plain(tb testing.TB, f Format, docs ...*Document) []byte {
	tb.Helper()
	// The compressed forms go first, as they are made without the plain one then.
	gz, zs, id := Encode(f, Gzip, docs...), Encode(f, Zstd, docs...), Encode(f, Identity, docs...)
	for _, b := range []Body{gz, zs, id} {
		if int64(len(joined(b))) != b.Len {
			tb.Errorf("body of %d bytes says it has %d", len(joined(b)), b.Len)
		}
	}
	r, err := stdgzip.NewReader(bytes.NewReader(joined(gz)))
	if err != nil {
		tb.Fatal(err)
	}
	r.Multistream(false)
	unzipped, err := io.ReadAll(r)
	if err != nil {
		tb.Fatalf("gunzip: %v", err)
	}
	z, err := zstd.NewReader(bytes.NewReader(joined(zs)), zstd.WithDecoderConcurrency(1))
	if err != nil {
		tb.Fatal(err)
	}
	defer z.Close()
	unzstd, err := io.ReadAll(z)
	if err != nil {
		tb.Fatalf("unzstd: %v", err)
	}
	page := joined(id)
	if !bytes.Equal(page, unzipped) {
		tb.Fatal("gzip has another page")
	}
	if !bytes.Equal(page, unzstd) {
		tb.Fatal("zstd has another page")
	}
	return page
}

// sameTime leaves out of account what Prometheus loses when it reads the
// timestamps of OpenMetrics, as floating point numbers.
func sameTime(a, b string) bool {
	if a == b {
		return true
	}
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	if errX != nil || errY != nil {
		return false
	}
	return math.Abs(x-y) <= 1+math.Abs(x)/1e15 || math.Abs(x) >= 1<<63-2048
}

// comparePage holds a page that was written in a format against the series that
// went into it.
func comparePage(t *testing.T, f Format, want map[string]point, page []byte) {
	t.Helper()
	got, err := reference(page, f.ContentType())
	if err != nil {
		t.Fatalf("%s: Prometheus refuses the page: %v\n%s", f, err, page)
	}
	for k, w := range want {
		g, ok := got[k]
		if !ok {
			t.Errorf("%s: %s is missing in\n%s", f, k, page)
			continue
		}
		if f.syntax() == syntaxProtobuf && (w.ts == "0" || w.ts == "") {
			w.ts, g.ts = "", "" // zero is the same as none
		}
		if w.value != g.value || !sameTime(w.ts, g.ts) {
			t.Errorf("%s: %s: want %+v, got %+v", f, k, w, g)
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("%s: %s was made up:\n%s", f, k, page)
		}
	}
}

// checkFamilies makes sure that a text page has each family in one piece.
func checkFamilies(t *testing.T, page []byte) {
	t.Helper()
	seen := make(map[string]bool)
	for l := range strings.Lines(string(page)) {
		if name, ok := strings.CutPrefix(l, "# TYPE "); ok {
			name = name[:strings.LastIndexByte(name, ' ')]
			if seen[name] {
				t.Errorf("family %s comes twice", name)
			}
			seen[name] = true
		}
	}
}

func checkRoundTrip(t *testing.T, body []byte, contentType string) {
	page, err := NewSource().Decode(body, contentType, asIs{})
	if err != nil {
		return
	}
	want := decoded(t, page)
	doc := Merge(parts(page)...)
	if doc.Series() < len(want) || doc.Duplicates() != 0 {
		t.Errorf("%d series and %d duplicates of %d", doc.Series(), doc.Duplicates(), len(want))
	}
	for _, f := range allFormats {
		out := identity(t, f, doc)
		if f.utf8() || !doc.plan.quoted {
			comparePage(t, f, want, out)
		} else {
			compareLegacy(t, f, doc, out)
		}
		if f.syntax() == syntaxText && !bytes.Contains(body, []byte{0}) {
			checkFamilies(t, out)
		}
		if f == Text {
			p := expfmt.NewTextParser(model.UTF8Validation)
			if _, err := p.TextToMetricFamilies(bytes.NewReader(out)); err != nil {
				t.Errorf("expfmt refuses the page: %v\n%s", err, out)
			}
		}
	}
}

// compareLegacy checks a page whose names had to be changed: nothing is lost,
// and all names are such as old scrapers take.
func compareLegacy(t *testing.T, f Format, doc *Document, page []byte) {
	t.Helper()
	got, err := reference(page, f.ContentType())
	if err != nil {
		t.Fatalf("%s: Prometheus refuses the page: %v\n%s", f, err, page)
	}
	legacy := doc.forFormat(f)
	if legacy.plan.quoted {
		t.Errorf("%s: names need quotes:\n%s", f, page)
	}
	if len(got) > legacy.Series() {
		t.Errorf("%s: series were made up: %d of %d\n%s", f, len(got), legacy.Series(), page)
	}
}

func TestRoundTrip(t *testing.T) {
	for _, body := range textSeeds {
		t.Run(fmt.Sprintf("%.40q", body), func(t *testing.T) { checkRoundTrip(t, []byte(body), textType) })
	}
	for _, body := range openMetricsSeeds {
		t.Run(fmt.Sprintf("%.40q", body), func(t *testing.T) { checkRoundTrip(t, []byte(body), openMetricsType) })
	}
}

func FuzzRoundTrip(f *testing.F) {
	for _, s := range textSeeds {
		f.Add([]byte(s), false)
	}
	for _, s := range openMetricsSeeds {
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, body []byte, openMetrics bool) {
		contentType := textType
		if openMetrics {
			contentType = openMetricsType
		}
		checkRoundTrip(t, body, contentType)
	})
}

var openMetricsSeeds = []string{
	"# EOF\n",
	"# TYPE a counter\n# UNIT a_seconds seconds\n# HELP a some \\\"help\\\"\na_total 1\na_created 123.5\n# EOF\n",
	"# TYPE a counter\na_total{b=\"c\"} 1 # {trace=\"x\"} 0.5 123.456\n# EOF\n",
	"# TYPE i info\ni_info{v=\"1\"} 1\n# EOF\n",
	"# TYPE s stateset\ns{s=\"a\"} 1\ns{s=\"b\"} 0\n# EOF\n",
	"# TYPE g gaugehistogram\ng_bucket{le=\"1.0\"} 1\ng_bucket{le=\"+Inf\"} 2\ng_gcount 2\ng_gsum 3\n# EOF\n",
	"# TYPE h histogram\nh_bucket{le=\"1.0\"} 1 # {a=\"b\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_count 2\nh_sum 3\nh_created 5\n# EOF\n",
	"# TYPE h summary\nh{quantile=\"0.5\"} 1\nh_count 2\nh_sum 3\nh_created 5\n# EOF\n",
	"# TYPE u unknown\nu 1 1.5\n# EOF\n",
	"a 1",
	"a 1\n# EOF\nb 1\n",
	"{\"a b\"} 1\n# EOF\n",
}

func TestDecodeOpenMetricsLikePrometheus(t *testing.T) {
	for _, body := range openMetricsSeeds {
		t.Run(fmt.Sprintf("%.40q", body), func(t *testing.T) { compareOpenMetrics(t, []byte(body)) })
	}
}

func compareOpenMetrics(t *testing.T, body []byte) {
	want, wantErr := reference(body, openMetricsType)
	page, err := NewSource().Decode(body, openMetricsType, asIs{})
	if (err != nil) != (wantErr != nil) {
		t.Fatalf("Prometheus says %v, we say %v", wantErr, err)
	}
	if err != nil {
		var pe *ParseError
		if !errors.As(err, &pe) {
			t.Fatalf("error is a %T", err)
		}
		checkParseError(t, body, pe)
		return
	}
	diffPoints(t, want, decoded(t, page), true)
}

func FuzzDecodeOpenMetrics(f *testing.F) {
	for _, s := range openMetricsSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(compareOpenMetrics)
}

func TestEncodeJoinsDocuments(t *testing.T) {
	a := document(t, "# TYPE a gauge\na 1\n", textType, asIs{})
	b := document(t, "# TYPE b gauge\nb 2\n", textType, asIs{})
	for f, want := range map[Format]string{
		Text:        "# TYPE a gauge\na 1\n# TYPE b gauge\nb 2\n",
		OpenMetrics: "# TYPE a gauge\na 1\n# TYPE b gauge\nb 2\n# EOF\n",
	} {
		if got := string(plain(t, f, a, b)); got != want {
			t.Errorf("%s: got %q", f, got)
		}
	}
	if got := plain(t, Text); len(got) != 0 {
		t.Errorf("no document: got %q", got)
	}
	if got := string(plain(t, OpenMetrics)); got != "# EOF\n" {
		t.Errorf("no document: got %q", got)
	}
}

func TestEncodeMergesDocumentsThatClash(t *testing.T) {
	a := document(t, "# TYPE a gauge\na 1\n# TYPE foo_total counter\nfoo_total 1\n", textType, asIs{})
	b := document(t, "# TYPE a gauge\na 2\na{b=\"c\"} 3\n# TYPE foo gauge\nfoo 3\n", textType, asIs{})
	want := "# TYPE a gauge\na 1\na{b=\"c\"} 3\n# TYPE foo gauge\nfoo 3\n# TYPE foo_total counter\nfoo_total 1\n"
	if got := string(plain(t, Text, a, b)); got != want {
		t.Errorf("got %q", got)
	}
	want = "# TYPE a gauge\na 1\na{b=\"c\"} 3\n# TYPE foo gauge\nfoo 3\n# TYPE foo_total unknown\nfoo_total 1\n# EOF\n"
	if got := string(plain(t, OpenMetrics, a, b)); got != want {
		t.Errorf("got %q", got)
	}
}

func TestETag(t *testing.T) {
	tags := make(map[string]string)
	bodies := []string{"a 1\n", "a 2\n", "b 1\n"}
	for _, body := range bodies {
		for _, f := range allFormats {
			for _, e := range []Encoding{Identity, Gzip, Zstd} {
				tag := Encode(f, e, document(t, body, textType, asIs{})).ETag
				if !strings.HasPrefix(tag, `"`) || !strings.HasSuffix(tag, `"`) {
					t.Errorf("not a strong tag: %s", tag)
				}
				key := fmt.Sprint(body, f, e)
				if other, ok := tags[tag]; ok {
					t.Errorf("%q and %q have the same tag", key, other)
				}
				tags[tag] = key
				if again := Encode(f, e, document(t, body, textType, asIs{})).ETag; again != tag {
					t.Errorf("%q: tag %s becomes %s", key, tag, again)
				}
			}
		}
	}
}

func TestEncodeConcurrently(t *testing.T) {
	doc := document(t, strings.Repeat("a 1\n", 1)+"b{c=\"d\"} 2\n{\"x y\"} 3\n", textType, asIs{})
	var wg sync.WaitGroup
	for range 8 {
		for _, f := range allFormats {
			for _, e := range []Encoding{Identity, Gzip, Zstd} {
				wg.Go(func() {
					if Encode(f, e, doc).Len == 0 {
						t.Error("empty page")
					}
				})
			}
		}
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
	fmt.Fprintf(&body, "a{b=\"%s\"} 1\n", strings.Repeat("x", 3<<20))
	for _, f := range allFormats {
		doc := document(t, body.String(), textType, asIs{})
		if doc.Series() != want+1 {
			t.Fatalf("%d series", doc.Series())
		}
		out := plain(t, f, doc)
		points, err := reference(out, f.ContentType())
		if err != nil || len(points) != want+1 {
			t.Errorf("%s: %d series, error %v", f, len(points), err)
		}
	}
}

func TestPartTimestamps(t *testing.T) {
	page, err := NewSource().Decode([]byte("a 1\nb 2 1000\n"), textType, asIs{})
	if err != nil {
		t.Fatal(err)
	}
	doc := Merge(Part{Block: page.Block(""), Timestamp: time.UnixMilli(1712345678901)})
	for f, want := range map[Format]string{
		Text:        "# TYPE a untyped\na 1 1712345678901\n# TYPE b untyped\nb 2 1000\n",
		OpenMetrics: "# TYPE a unknown\na 1 1712345678.901\n# TYPE b unknown\nb 2 1\n# EOF\n",
	} {
		if got := string(plain(t, f, doc)); got != want {
			t.Errorf("%s: got %q", f, got)
		}
	}
	var mf dto.MetricFamily
	dec := expfmt.NewDecoder(bytes.NewReader(plain(t, Protobuf, doc)), expfmt.NewFormat(expfmt.TypeProtoDelim))
	if err := dec.Decode(&mf); err != nil {
		t.Fatal(err)
	}
	if got := mf.GetMetric()[0].GetTimestampMs(); got != 1712345678901 {
		t.Errorf("protobuf: got %d", got)
	}
}

func TestContentTypesAreWhatExpfmtReads(t *testing.T) {
	for _, f := range allFormats {
		h := http.Header{"Content-Type": {f.ContentType()}}
		if f == TextUTF8 || f.syntax() == syntaxOpenMetrics {
			continue // which expfmt writes but doesn't read
		}
		if expfmt.ResponseFormat(h) == expfmt.FmtUnknown {
			t.Errorf("%s: unknown to expfmt", f.ContentType())
		}
	}
}
