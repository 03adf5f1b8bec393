package exposition

import (
	"iter"
	"slices"
	"strconv"
	"strings"
)

// writeText writes the document in the Prometheus text format. What it costs is
// copying: names and label texts are kept the way they are written, and values
// the way upstream wrote them.
func (d *Document) writeText(w *writer) {
	for f := range d.textFamilies() {
		quoted := !legacyMetricName(f.name)
		writeTextMeta(w, &f.family, quoted)
		composite := f.kind.composite()
		for _, r := range f.runs {
			b, stamp := d.part(r)
			for slot := r.from; slot < r.to; slot++ {
				ref := &b.layout.series[slot]
				value := b.values[slot].of(b.body)
				// Room for escapes, braces and the timestamp, too.
				buf := w.room(2*len(f.name) + len(ref.text) + len(value) + 64)
				buf = appendTextSample(buf, &f.family, ref, composite, quoted)
				buf = append(buf, value...)
				buf = appendTextStamp(buf, b.stamp(slot, stamp))
				w.buf = append(buf, '\n')
			}
		}
	}
}

// eachTextLine divides what writeText writes into what a plan settles and what
// it doesn't: it calls line with all that comes before a value, from the line
// feed of the sample before, with the value and with the timestamp. The last
// call is for what comes after all values. The texts are overwritten by the next
// ones.
func (d *Document) eachTextLine(line func(text, value []byte, stamp int64)) {
	w := writer{flush: func(b []byte, n int) []byte { return slices.Grow(b, n) }}
	for f := range d.textFamilies() {
		quoted := !legacyMetricName(f.name)
		writeTextMeta(&w, &f.family, quoted)
		composite := f.kind.composite()
		for _, r := range f.runs {
			b, stamp := d.part(r)
			for slot := r.from; slot < r.to; slot++ {
				text := appendTextSample(w.buf, &f.family, &b.layout.series[slot], composite, quoted)
				line(text, b.values[slot].of(b.body), b.stamp(slot, stamp))
				w.buf = append(text[:0], '\n')
			}
		}
	}
	line(w.buf, nil, noTimestamp)
}

// textFamilies returns the families as the text format has them, which depends
// on the plan alone.
func (d *Document) textFamilies() iter.Seq[*planFamily] {
	return func(yield func(*planFamily) bool) {
		for i := range d.plan.families {
			f := &d.plan.families[i]
			if f.kind != kindGaugeHistogram {
				if !yield(f) {
					return
				}
				continue
			}
			// The format has no such thing.
			for _, p := range d.partsOf(f) {
				if !yield(&p) {
					return
				}
			}
		}
	}
}

func writeTextMeta(w *writer, f *family, quoted bool) {
	writeMeta(w, "HELP", f.name, quoted, escapeHelp(f.help, false))
	kind := "untyped"
	switch f.kind {
	case kindCounter:
		kind = "counter"
	case kindGauge, kindInfo, kindStateSet:
		kind = "gauge"
	case kindHistogram:
		kind = "histogram"
	case kindSummary:
		kind = "summary"
	}
	writeMeta(w, "TYPE", f.name, quoted, kind)
}

// appendTextSample writes a sample up to its value.
func appendTextSample(dst []byte, f *family, ref *seriesRef, composite, quoted bool) []byte {
	ending := ""
	if composite {
		ending = ref.suffix.String()
	}
	return appendSampleName(dst, f.name, ending, ref.text, quoted)
}

// appendTextStamp writes a timestamp, if there is one, and a blank before it.
func appendTextStamp(dst []byte, stamp int64) []byte {
	if stamp == noTimestamp {
		return dst
	}
	return strconv.AppendInt(append(dst, ' '), stamp, 10)
}

// writeMeta writes a HELP, TYPE or UNIT line, whose text is escaped already. A
// line without text is left out.
func writeMeta(w *writer, word, name string, quoted bool, text string) {
	if text == "" {
		return
	}
	b := w.room(2*len(name) + len(text) + 16)
	b = append(b, "# "...)
	b = append(b, word...)
	b = append(b, ' ')
	if quoted {
		b = append(b, '"')
		b = appendEscaped(b, name)
		b = append(b, '"')
	} else {
		b = append(b, name...)
	}
	b = append(b, ' ')
	b = append(b, text...)
	w.buf = append(b, '\n')
}

// escapeHelp escapes a help text. OpenMetrics escapes quotes, too.
func escapeHelp(s string, quotes bool) string {
	if quotes {
		return string(appendEscaped(nil, s))
	}
	s = strings.ReplaceAll(s, `\`, `\\`)
	return strings.ReplaceAll(s, "\n", `\n`)
}
