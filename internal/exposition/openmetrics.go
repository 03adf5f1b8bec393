package exposition

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
)

// openMetricsPlan says which families of a plan OpenMetrics can have with their
// type. The type of a family reserves more names there than its samples have:
// the counter a_total is a family named a, and reserves a_created as well. A
// family of which a reserved name is another family's, or the name of another
// family's sample, is exposed as unknown, and a composite one is taken apart.
type openMetricsPlan struct {
	typed []bool   // by family
	names []string // all that are reserved, sorted
}

func newOpenMetricsPlan(p *plan) *openMetricsPlan {
	o := &openMetricsPlan{typed: make([]bool, len(p.families))}
	taken := make(map[string]bool)
	for i := range p.families {
		for _, n := range p.families[i].sampleNames() {
			taken[n] = true
		}
	}
	for i := range p.families {
		f := &p.families[i].family
		more, ok := reservedNames(f)
		if !ok || slices.ContainsFunc(more, func(n string) bool { return taken[n] }) {
			continue
		}
		o.typed[i] = true
		for _, n := range more {
			taken[n] = true
		}
	}
	for n := range taken {
		o.names = append(o.names, n)
	}
	slices.Sort(o.names)
	return o
}

// reservedNames returns the names that a family reserves beyond those of its
// samples. It reports false if OpenMetrics has no such family.
func reservedNames(f *family) ([]string, bool) {
	name := openMetricsName(f)
	switch f.kind {
	case kindCounter:
		return []string{name, name + "_created"}, name != "" && name != f.name
	case kindInfo:
		return []string{name}, name != "" && name != f.name
	case kindHistogram:
		return []string{name, name + "_created"}, true
	case kindGaugeHistogram:
		return []string{name}, true
	case kindSummary:
		return []string{name + "_created"}, true
	default:
		return nil, true
	}
}

// openMetricsName returns what OpenMetrics calls the family, if it has its type
// there.
func openMetricsName(f *family) string {
	switch f.kind {
	case kindCounter:
		return strings.TrimSuffix(f.name, "_total")
	case kindInfo:
		return strings.TrimSuffix(f.name, "_info")
	default:
		return f.name
	}
}

// writeOpenMetrics writes the document in the OpenMetrics text format, without
// the mark at its end. OpenMetrics restricts what samples of most types can
// say; families that say something else are exposed as unknown.
func (d *Document) writeOpenMetrics(w *writer) {
	p := d.openMetricsPlan()
	for i := range d.plan.families {
		f := &d.plan.families[i]
		switch {
		case p.typed[i] && d.fitsOpenMetrics(f):
			d.writeOpenMetricsFamily(w, f, openMetricsName(&f.family))
		case f.kind.composite():
			for _, part := range d.partsOf(f) {
				d.writeOpenMetricsFamily(w, &part, part.name)
			}
		default:
			unknown := *f
			unknown.kind = kindUntyped
			d.writeOpenMetricsFamily(w, &unknown, f.name)
		}
	}
}

func (d *Document) writeOpenMetricsFamily(w *writer, f *planFamily, name string) {
	quoted := !legacyMetricName(f.name)
	kind := "unknown"
	switch f.kind {
	case kindCounter:
		kind = "counter"
	case kindGauge:
		kind = "gauge"
	case kindInfo:
		kind = "info"
	case kindStateSet:
		kind = "stateset"
	case kindHistogram:
		kind = "histogram"
	case kindGaugeHistogram:
		kind = "gaugehistogram"
	case kindSummary:
		kind = "summary"
	}
	writeMeta(w, "TYPE", name, quoted, kind)
	if strings.HasSuffix(name, "_"+f.unit) && f.kind != kindInfo && f.kind != kindStateSet {
		writeMeta(w, "UNIT", name, quoted, f.unit)
	}
	writeMeta(w, "HELP", name, quoted, escapeHelp(f.help, true))

	composite := f.kind.composite()
	for _, r := range f.runs {
		b, stamp := d.part(r)
		for slot := r.from; slot < r.to; slot++ {
			ref := &b.layout.series[slot]
			value := b.values[slot].of(b.body)
			buf := w.room(2*len(f.name) + len(ref.text) + len(value) + 512)
			text, ending := ref.text, ""
			if composite {
				ending = ref.suffix.String()
				if ref.suffix == f.kind.suffixes()[0] {
					text = canonicalBound(text, f.kind.boundLabel())
				}
			}
			buf = appendSampleName(buf, f.name, ending, text, quoted)
			buf = append(buf, value...)
			if ts := b.stamp(slot, stamp); ts != noTimestamp {
				buf = append(buf, ' ')
				buf = appendSeconds(buf, ts)
			}
			if f.kind == kindCounter || composite && ref.suffix == suffixBucket {
				if x, ok := b.exemplars[slot]; ok && x.size() <= maxExemplar {
					buf = append(buf, " # "...)
					buf = append(buf, x.text...)
					buf = append(buf, ' ')
					buf = append(buf, formatFloat(x.value)...)
					if x.ts != noTimestamp {
						buf = append(buf, ' ')
						buf = appendSeconds(buf, x.ts)
					}
				}
			}
			w.buf = append(buf, '\n')
		}
	}
}

// maxExemplar is how many characters the names and values of an exemplar's
// labels can have.
const maxExemplar = 128

func (x exemplar) size() int {
	n := 0
	for rest := x.text; ; {
		name, value, next, _, ok := cutLabel(rest)
		if !ok {
			return n
		}
		n += utf8.RuneCountInString(unescape(name, true)) + utf8.RuneCountInString(unescape(value, true))
		rest = next
	}
}

// appendSeconds writes a timestamp given in milliseconds.
func appendSeconds(dst []byte, ms int64) []byte {
	if ms < 0 {
		dst = append(dst, '-')
	}
	abs := uint64(ms)
	if ms < 0 {
		abs = -abs
	}
	dst = strconv.AppendUint(dst, abs/1000, 10)
	if rest := abs % 1000; rest != 0 {
		dst = append(dst, '.', byte('0'+rest/100), byte('0'+rest/10%10), byte('0'+rest%10))
	}
	return dst
}

// canonicalBound writes the bound of a bucket or quantile as OpenMetrics wants
// it.
func canonicalBound(text, label string) string {
	from, to, ok := findLabel(text, label)
	if !ok {
		return text
	}
	canonical := labels.FormatOpenMetricsFloat(parseValue([]byte(text[from:to])))
	if canonical == text[from:to] {
		return text
	}
	return text[:from] + canonical + text[to:]
}

// fitsOpenMetrics tells whether the samples of a family say only what
// OpenMetrics lets its type say.
func (d *Document) fitsOpenMetrics(f *planFamily) bool {
	switch f.kind {
	case kindUntyped, kindGauge:
		return true
	case kindStateSet:
		return d.fitsStateSet(f)
	}
	if f.kind.composite() {
		return d.eachMetric(f, func(b *Block, from, to uint32) bool { return fitsComposite(b, f.kind, from, to) })
	}
	// Of infos, OpenMetrics's parsers see only one metric.
	stamped, first := false, true
	for _, r := range f.runs {
		b, stamp := d.part(r)
		for slot := r.from; slot < r.to; slot++ {
			v := parseValue(b.values[slot].of(b.body))
			if f.kind == kindCounter && !(v >= 0) || f.kind == kindInfo && v != 1 {
				return false
			}
			has := b.stamp(slot, stamp) != noTimestamp
			if f.kind == kindInfo && !first && has != stamped {
				return false
			}
			stamped, first = has, false
		}
	}
	return true
}

// eachMetric calls check with every metric of a composite family until it
// reports false.
func (d *Document) eachMetric(f *planFamily, check func(b *Block, from, to uint32) bool) bool {
	for _, r := range f.runs {
		b, _ := d.part(r)
		for from := r.from; from < r.to; {
			to := b.layout.metricEnd(from, f.kind)
			if !sameStamps(b, from, to) || !check(b, from, to) {
				return false
			}
			from = to
		}
	}
	return true
}

// sameStamps tells whether all samples of a metric are of the same time.
func sameStamps(b *Block, from, to uint32) bool {
	for slot := from + 1; slot < to; slot++ {
		if b.stamp(slot, noTimestamp) != b.stamp(from, noTimestamp) {
			return false
		}
	}
	return true
}

func fitsComposite(b *Block, k kind, from, to uint32) bool {
	value := func(slot uint32) float64 { return parseValue(b.values[slot].of(b.body)) }
	isCount := func(v float64) bool { return v >= 0 && v == math.Trunc(v) && !math.IsInf(v, 0) }
	sum, count := value(to-2), value(to-1)
	if math.IsNaN(sum) || !isCount(count) {
		return false
	}
	last, negative := 0.0, false
	for slot := from; slot < to-2; slot++ {
		bound, v := b.bound(slot, k), value(slot)
		if k == kindSummary {
			if bound < 0 || bound > 1 || v < 0 {
				return false
			}
			continue
		}
		if !isCount(v) || v < last {
			return false
		}
		last = v
		negative = negative || bound < 0
	}
	switch k {
	case kindSummary:
		return sum >= 0
	case kindGaugeHistogram:
		return last == count && (sum >= 0 || negative)
	default:
		return last == count && sum >= 0 && !negative
	}
}

// fitsStateSet tells whether each sample is of a state, which the label with
// the family's name has, and whether the states of each metric follow each
// other.
func (d *Document) fitsStateSet(f *planFamily) bool {
	seen := make(map[string]bool)
	metric, stamp := "", int64(0)
	for _, r := range f.runs {
		b, def := d.part(r)
		for slot := r.from; slot < r.to; slot++ {
			base, _, ok := cutBound(b.layout.series[slot].text, f.name)
			v := parseValue(b.values[slot].of(b.body))
			if !ok || v != 0 && v != 1 {
				return false
			}
			ts := b.stamp(slot, def)
			switch {
			case base == metric:
				if ts != stamp {
					return false
				}
			case seen[base]:
				return false
			}
			seen[base], metric, stamp = true, base, ts
		}
	}
	return true
}
