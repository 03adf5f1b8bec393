package exposition

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/common/model"
)

// Document is a set of metric families, ready to be encoded. It is immutable
// and safe for concurrent use. What a format and encoding needs is made when it
// is first asked for, once, and kept; the uncompressed bytes of a page that is
// only asked for in compressed form are not kept.
type Document struct {
	plan  *plan
	parts []Part
	forms [syntaxes]form
	tools *tools

	fingerprintOnce sync.Once
	fingerprinted   uint64

	legacyOnce sync.Once
	legacy     *Document

	openMetricsOnce   sync.Once
	openMetricsShared *openMetricsPlan
}

// Series returns the number of series.
func (d *Document) Series() int { return d.plan.series }

// Duplicates returns how many series were left out because a part before had
// them already.
func (d *Document) Duplicates() int { return d.plan.duplicates }

// Families returns the names of the families, sorted.
func (d *Document) Families() []string {
	names := make([]string, len(d.plan.families))
	for i := range names {
		names[i] = d.plan.families[i].name
	}
	return names
}

// part returns a run's block and the timestamp of those of its series that have
// none.
func (d *Document) part(r run) (*Block, int64) {
	p := &d.parts[r.part]
	if p.Timestamp.IsZero() {
		return p.Block, noTimestamp
	}
	return p.Block, p.Timestamp.UnixMilli()
}

func (d *Document) openMetricsPlan() *openMetricsPlan {
	d.openMetricsOnce.Do(func() { d.openMetricsShared = newOpenMetricsPlan(d.plan) })
	return d.openMetricsShared
}

// names returns all names that the document takes up in a syntax, sorted.
func (d *Document) names(s syntax) []string {
	if s == syntaxOpenMetrics {
		return d.openMetricsPlan().names
	}
	return d.plan.names
}

// encoded returns the document in a syntax and encoding.
func (d *Document) encoded(s syntax, e Encoding) *encoded {
	f := &d.forms[s]
	return f.get(e, func() *encoded {
		write := func(w *writer) { d.write(s, w) }
		switch e {
		case Gzip:
			if s != syntaxText {
				return f.compress(write, d.tools, d.tools.deflate)
			}
			if enc := d.plan.template.compress(d); enc != nil {
				return enc
			}
			enc := f.compress(write, d.tools, d.tools.deflate)
			d.plan.template.compressed(len(enc.chunks[0]))
			return enc
		case Zstd:
			return f.compress(write, d.tools, d.tools.zstd)
		default:
			return render(write)
		}
	})
}

// fingerprint returns a number that is the same for documents of the same parts,
// and no others, in every process.
func (d *Document) fingerprint() uint64 {
	d.fingerprintOnce.Do(func() {
		var b []byte
		h := xxhash.New()
		for _, p := range d.parts {
			stamp := int64(noTimestamp)
			if !p.Timestamp.IsZero() {
				stamp = p.Timestamp.UnixMilli()
			}
			b = binary.LittleEndian.AppendUint64(b[:0], p.Block.Fingerprint())
			b = binary.LittleEndian.AppendUint64(b, uint64(stamp))
			_, _ = h.Write(b)
		}
		d.fingerprinted = h.Sum64()
	})
	return d.fingerprinted
}

func (d *Document) write(s syntax, w *writer) {
	switch s {
	case syntaxProtobuf:
		d.writeProtobuf(w)
	case syntaxOpenMetrics:
		d.writeOpenMetrics(w)
	default:
		d.writeText(w)
	}
}

// partsOf takes a composite family apart, for a format that can't have it
// whole.
func (d *Document) partsOf(f *planFamily) []planFamily {
	suffixes := f.kind.suffixes()
	parts := make([]planFamily, 0, len(suffixes))
	for _, s := range suffixes {
		p := planFamily{family: f.part(s)}
		for _, r := range f.runs {
			series := d.parts[r.part].Block.layout.series
			for slot := r.from; slot < r.to; slot++ {
				if series[slot].suffix == s {
					p.runs = append(p.runs, run{r.part, slot, slot + 1})
				}
			}
		}
		parts = append(parts, p)
	}
	return parts
}

// forFormat returns the document as it is in formats with such names.
func (d *Document) forFormat(f Format) *Document {
	if f.utf8() || !d.plan.quoted {
		return d
	}
	d.legacyOnce.Do(func() { d.legacy = d.withLegacyNames() })
	return d.legacy
}

// withLegacyNames makes a document without names that need quotes. Other
// characters become underscores. Where that would make two names of families,
// or of labels of one series, the same, the reversible form of Prometheus's
// "values" escaping is taken instead, so that nothing is lost.
func (d *Document) withLegacyNames() *Document {
	taken := make(map[string]int) // how many families want a name
	for i := range d.plan.families {
		taken[model.EscapeName(d.plan.families[i].name, model.UnderscoreEscaping)]++
	}
	var (
		b     blockBuilder
		texts = make(map[string]string)
	)
	for i := range d.plan.families {
		pf := &d.plan.families[i]
		f := pf.family
		if !legacyMetricName(f.name) {
			name := model.EscapeName(f.name, model.UnderscoreEscaping)
			if taken[name] > 1 {
				name = model.EscapeName(f.name, model.ValueEncodingEscaping)
			}
			f.name = name
		}
		for _, r := range pf.runs {
			blk, stamp := d.part(r)
			for slot := r.from; slot < r.to; slot++ {
				ref := blk.layout.series[slot]
				text, ok := texts[ref.text]
				if !ok {
					text = legacyLabelText(ref.text)
					texts[ref.text] = text
				}
				s := sample{&f, suffixNone, text}
				if f.kind.composite() {
					s.suffix = ref.suffix
				}
				var x *exemplar
				if e, ok := blk.exemplars[slot]; ok {
					e.text = strings.TrimSuffix(legacyLabelText(e.text+" "), " ")
					x = &e
				}
				b.add(s, blk.values[slot].of(blk.body), blk.stamp(slot, stamp), x)
			}
		}
	}
	legacy := Merge(Part{Block: b.build()})
	legacy.tools = d.tools
	return legacy
}

// legacyLabelText escapes the label names that need quotes.
func legacyLabelText(text string) string {
	if !quotesNames(text) {
		return text
	}
	type pair struct{ name, value string }
	var pairs []pair
	wanted := make(map[string]int)
	escape := func(name string) string {
		// To Prometheus's escaping a colon is as good in a label name as in
		// a metric name. It is not.
		name = model.EscapeName(name, model.UnderscoreEscaping)
		b := []byte(name)
		for i, c := range b {
			if c == ':' {
				b[i] = '_'
			}
		}
		return string(b)
	}
	for rest := text; ; {
		name, value, next, _, ok := cutLabel(rest)
		if !ok {
			break
		}
		rest = next
		name = unescape(name, true)
		wanted[escape(name)]++
		pairs = append(pairs, pair{name, unescape(value, true)})
	}
	for i, p := range pairs {
		name := escape(p.name)
		if name != p.name && wanted[name] > 1 {
			name = escape(model.EscapeName(p.name, model.ValueEncodingEscaping))
		}
		pairs[i].name = name
	}
	slices.SortStableFunc(pairs, func(a, b pair) int { return cmp.Compare(a.name, b.name) })
	// Whoever names labels as if they had been escaped already gets one of them.
	pairs = slices.CompactFunc(pairs, func(a, b pair) bool { return a.name == b.name })
	var dst []byte
	open := byte('{')
	for _, p := range pairs {
		dst, open = appendLabel(dst, open, p.name, p.value)
	}
	return string(closeLabelText(dst, open))
}
