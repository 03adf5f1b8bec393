package exposition

import (
	"bytes"
	stdgzip "compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"go.uber.org/goleak"
	"go.yaml.in/yaml/v2"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	textContent        = "text/plain; charset=UTF-8"
	openMetricsContent = "application/openmetrics-text; version=1.0.0; charset=utf-8"
)

// formats are those that a scraper can ask for, by the ending of golden files.
var formats = map[string]expfmt.Format{
	"text":             Text,
	"text-utf8":        text100 + "; escaping=allow-utf-8",
	"protobuf":         expfmt.FmtProtoDelim + "; escaping=underscores",
	"protobuf-utf8":    expfmt.FmtProtoDelim + "; escaping=allow-utf-8",
	"openmetrics":      OpenMetrics,
	"openmetrics-utf8": expfmt.FmtOpenMetrics_1_0_0 + "; escaping=allow-utf-8",
}

func mustParse(tb testing.TB, p *Parser, body, contentType string) *Page {
	tb.Helper()
	page, err := p.Parse([]byte(body), contentType)
	if err != nil {
		tb.Fatal(err)
	}
	return page
}

// exposed returns the groups of a page as parts of a document, by name.
func exposed(p *Page, added func(group string) []labels.Label, rules *Rules) []Part {
	var parts []Part
	for _, g := range slices.Sorted(maps.Keys(p.Groups)) {
		parts = append(parts, Part{Block: Expose(p.Groups[g], added(g), rules, nil)})
	}
	return parts
}

func nothingAdded(string) []labels.Label { return nil }

// document makes a document of a page.
func document(tb testing.TB, body, contentType string) *Document {
	tb.Helper()
	return Merge(nil, exposed(mustParse(tb, NewParser(""), body, contentType), nothingAdded, &Rules{})...)
}

func relabelling(tb testing.TB, text string) *Rules {
	tb.Helper()
	r := &Rules{}
	if err := yaml.UnmarshalStrict([]byte(text), &r.Relabel); err != nil {
		tb.Fatal(err)
	}
	for _, c := range r.Relabel {
		c.NameValidationScheme = model.UTF8Validation
		if err := c.Validate(model.UTF8Validation); err != nil {
			tb.Fatal(err)
		}
	}
	return r
}

func joined(b Body) []byte { return bytes.Join(b.Chunks, nil) }

// identity encodes documents without compression.
func identity(f expfmt.Format, docs ...*Document) []byte {
	return joined(new(Encoder).Encode(f, Identity, docs...))
}

// plain encodes documents, in all encodings, and returns the uncompressed page.
func plain(tb testing.TB, f expfmt.Format, docs ...*Document) []byte {
	tb.Helper()
	e := new(Encoder)
	gz, zs, id := e.Encode(f, Gzip, docs...), e.Encode(f, Zstd, docs...), e.Encode(f, Identity, docs...)
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

// reading is what Prometheus makes of a sample.
type reading struct {
	value     string
	timestamp int64 // in milliseconds, noTimestamp for none
}

func newReading(v float64, timestamp int64) reading {
	if math.IsNaN(v) {
		return reading{"NaN", timestamp}
	}
	return reading{fmt.Sprint(math.Float64bits(v)), timestamp}
}

// reference reads a page with Prometheus's own parsers. It leaves out what Prometheus
// would not store; of the same series it has the one with the latest timestamp, of
// several with the same or none the first.
func reference(page []byte, contentType string) (map[string]reading, error) {
	p, err := textparse.New(bytes.Clone(page), contentType, labels.NewSymbolTable(), textparse.ParserOptions{FallbackContentType: "text/plain"})
	if p == nil {
		return nil, err
	}
	readings := make(map[string]reading)
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return readings, nil
		}
		if err != nil {
			return nil, err
		}
		if entry != textparse.EntrySeries {
			continue
		}
		_, stamp, v := p.Series()
		var lset labels.Labels
		p.Labels(&lset)
		if _, twice := lset.HasDuplicateLabelNames(); twice {
			continue
		}
		lset = labels.NewBuilder(lset).Labels() // without empty ones
		if !lset.Has(model.MetricNameLabel) || !lset.IsValid(model.UTF8Validation) {
			continue
		}
		r := newReading(v, noTimestamp)
		if stamp != nil {
			r.timestamp = *stamp
		}
		key := lset.String()
		if have, again := readings[key]; !again || r.timestamp > have.timestamp {
			readings[key] = r
		}
	}
}
