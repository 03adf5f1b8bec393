package exposition

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Formats for those who do not negotiate.
const (
	Text        = expfmt.FmtText + "; escaping=" + model.EscapeUnderscores
	OpenMetrics = expfmt.FmtOpenMetrics_1_0_0 + "; escaping=" + model.EscapeUnderscores
)

// Encoding is a content encoding, as HTTP names it.
type Encoding string

// The encodings.
const (
	Identity Encoding = "identity"
	Gzip     Encoding = "gzip"
	Zstd     Encoding = "zstd"
)

// Body is an encoded page.
type Body struct {
	// Chunks are the bytes, in order. They are shared and must not be changed.
	Chunks [][]byte
	// Len is their length.
	Len int64
	// ETag is an entity tag, quotes included. Equal tags mean equal bytes.
	ETag string
}

// form is what a document can be encoded as.
type form struct {
	syntax   expfmt.FormatType
	escaping model.EscapingScheme // of names that need it, NoEscaping if none does
	encoding Encoding
}

// encoded is a document in one form: plain, deflate blocks of which the last one is
// not final, or a zstd frame.
type encoded struct {
	to     io.Writer // while it is made, nil for the plain form
	chunks [][]byte
	crc    uint32 // of the plain form
	size   int64  // of the plain form
	hash   uint64 // of the chunks
}

// Encoder encodes documents. It keeps the compressors, which take more memory than
// many a page, for the next one. Its zero value is ready for use; it is safe for
// concurrent use.
type Encoder struct {
	encoded atomic.Int64

	mu        sync.Mutex
	deflaters []*flate.Writer // not in use
	zstds     []*zstd.Encoder
}

// Encoded returns how many documents have been encoded. Those that were handed out
// again are not counted.
func (e *Encoder) Encoded() int64 { return e.encoded.Load() }

// Encode joins documents, which must have no family in common, into one page. Each
// is encoded once for each format and encoding, however often it is part of a page,
// so that a large document that seldom changes can be joined with a small one that
// always does. A gzip page is one gzip member; a zstd page has a frame for each
// document.
func (e *Encoder) Encode(f expfmt.Format, enc Encoding, docs ...*Document) Body {
	var (
		b     = Body{Chunks: make([][]byte, 0, len(docs)+3)}
		total encoded // its crc and size
		tag   = append(make([]byte, 0, 256), string(f)+string(enc)...)
	)
	add := func(chunks ...[]byte) {
		for _, c := range chunks {
			b.Chunks = append(b.Chunks, c)
			b.Len += int64(len(c))
		}
	}
	join := func(d *encoded) {
		add(d.chunks...)
		total.crc = combineCRC(total.crc, d.crc, d.size)
		total.size += d.size
		tag = binary.BigEndian.AppendUint64(tag, d.hash)
	}
	if enc == Gzip {
		add([]byte(gzipHeader))
	}
	for _, d := range docs {
		join(e.document(f, enc, d))
	}
	if syntax(f) == expfmt.TypeOpenMetrics {
		join(e.encode(enc, func(w io.Writer) error {
			_, err := expfmt.FinalizeOpenMetrics(w)
			return err
		}))
	}
	if enc == Gzip {
		add(gzipTrailer(total.crc, total.size))
	}
	b.ETag = `"` + hex.EncodeToString(binary.BigEndian.AppendUint64(nil, xxhash.Sum64(tag))) + `"`
	return b
}

// document returns a document in a form, which is made if it was not yet.
func (e *Encoder) document(f expfmt.Format, enc Encoding, d *Document) *encoded {
	form := form{syntax(f), f.ToEscapingScheme(), enc}
	d.mu.Lock()
	if form.escaping != model.NoEscaping && !d.quoted() {
		form.escaping = model.NoEscaping
	}
	get := d.forms[form]
	if get == nil {
		get = sync.OnceValue(func() *encoded {
			e.encoded.Add(1)
			return e.encode(enc, func(w io.Writer) error { return d.write(w, form.syntax, form.escaping) })
		})
		d.forms[form] = get
	}
	d.mu.Unlock()
	return get()
}

// syntax returns the format without its version. Package expfmt does not know the text
// format 1.0.0, which differs from 0.0.4 in that its names may need quotes.
func syntax(f expfmt.Format) expfmt.FormatType {
	if strings.HasPrefix(string(f), "text/plain") {
		return expfmt.TypeTextPlain
	}
	return f.FormatType()
}

// write writes the document, without the mark that ends a page of OpenMetrics.
func (d *Document) write(w io.Writer, syntax expfmt.FormatType, escaping model.EscapingScheme) error {
	if syntax == expfmt.TypeTextPlain && d.gathered == nil && escaping == model.NoEscaping {
		return d.writeText(w)
	}
	families := d.metricFamilies(syntax == expfmt.TypeOpenMetrics)
	if escaping == model.UnderscoreEscaping {
		useUnderscores(families)
	} else if d.gathered == nil && (syntax != expfmt.TypeProtoDelim || escaping != model.NoEscaping) {
		replaceColons(families)
	}
	if syntax == expfmt.TypeOpenMetrics {
		families = openMetricsFamilies(families)
	}
	var one bytes.Buffer
	encoder := expfmt.NewEncoder(&one, expfmt.NewFormat(syntax).WithEscapingScheme(escaping), expfmt.WithCreatedLines())
	for _, mf := range families {
		one.Reset()
		if err := encoder.Encode(mf); err != nil {
			continue // a page without this family is better than half of one
		}
		text := one.Bytes()
		if syntax == expfmt.TypeOpenMetrics && onlyBuckets(mf) {
			text = withoutSums(text, mf.GetName())
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	return nil
}

// onlyBuckets tells whether a family is a histogram of buckets alone.
func onlyBuckets(mf *dto.MetricFamily) bool {
	return len(mf.GetMetric()) > 0 && mf.Metric[0].Histogram != nil && mf.Metric[0].Histogram.SampleSum == nil
}

// withoutSums leaves out the sums and counts that package expfmt has made up.
func withoutSums(family []byte, name string) []byte {
	var kept []byte
	name = string(appendEscaped(nil, name))
	for line := range bytes.Lines(family) {
		sample := strings.TrimPrefix(string(line), `{"`)
		if !strings.HasPrefix(sample, name+"_sum") && !strings.HasPrefix(sample, name+"_count") {
			kept = append(kept, line...)
		}
	}
	return kept
}

// encode compresses what write writes into memory, which does not fail.
func (e *Encoder) encode(enc Encoding, write func(io.Writer) error) *encoded {
	out, encoded := &bytes.Buffer{}, &encoded{}
	compress := func(w io.Writer, reset func(io.Writer), finish func() error) {
		reset(out)
		encoded.to = w
		_ = write(encoded)
		_ = finish()
		reset(nil) // or it would keep the page
		encoded.to, encoded.chunks = nil, [][]byte{bytes.Clone(out.Bytes())}
	}
	switch enc {
	case Gzip:
		w := takeIdle(e, &e.deflaters, newDeflater)
		compress(w, w.Reset, w.Flush) // which ends at a byte boundary
		giveBack(e, &e.deflaters, w)
	case Zstd:
		w := takeIdle(e, &e.zstds, newZstd)
		compress(w, w.Reset, w.Close)
		giveBack(e, &e.zstds, w)
	default:
		_ = write(encoded)
	}
	hash := xxhash.New()
	for _, c := range encoded.chunks {
		_, _ = hash.Write(c)
	}
	encoded.hash = hash.Sum64()
	return encoded
}

// Write implements [io.Writer] for the plain form.
func (e *encoded) Write(b []byte) (int, error) {
	e.crc = crc32.Update(e.crc, crc32.IEEETable, b)
	e.size += int64(len(b))
	if e.to != nil {
		return e.to.Write(b)
	}
	e.chunks = append(e.chunks, bytes.Clone(b))
	return len(b), nil
}
