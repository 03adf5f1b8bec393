package exposition

import (
	"strconv"
	"strings"
)

// writeText writes the document in the Prometheus text format. What it costs is
// copying: names and label texts are kept the way they are written, and values
// the way upstream wrote them.
func (d *Document) writeText(w *writer) {
	for i := range d.plan.families {
		f := &d.plan.families[i]
		if f.kind != kindGaugeHistogram {
			d.writeTextFamily(w, &f.family, f.runs)
			continue
		}
		// The format has no such thing.
		for _, p := range d.partsOf(f) {
			d.writeTextFamily(w, &p.family, p.runs)
		}
	}
}

func (d *Document) writeTextFamily(w *writer, f *family, runs []run) {
	quoted := !legacyMetricName(f.name)
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

	composite := f.kind.composite()
	for _, r := range runs {
		b, stamp := d.part(r)
		for slot := r.from; slot < r.to; slot++ {
			ref := &b.layout.series[slot]
			value := b.values[slot].of(b.body)
			// Room for escapes, braces and the timestamp, too.
			buf := w.room(2*len(f.name) + len(ref.text) + len(value) + 64)
			ending := ""
			if composite {
				ending = ref.suffix.String()
			}
			buf = appendSampleName(buf, f.name, ending, ref.text, quoted)
			mark := lineMark{value: len(buf)}
			buf = append(buf, value...)
			mark.stamp = len(buf)
			if ts := b.stamp(slot, stamp); ts != noTimestamp {
				buf = append(buf, ' ')
				buf = strconv.AppendInt(buf, ts, 10)
			}
			if w.marking {
				mark.end = len(buf)
				w.marks = append(w.marks, mark)
			}
			w.buf = append(buf, '\n')
		}
	}
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
