package exposition

import (
	"cmp"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
)

// pieceSize is how much of a page is written at once: a page may be large.
const pieceSize = 64 << 10

// writeText writes the document in the Prometheus text format, with all names as
// they are and values as upstream wrote them.
func (d *Document) writeText(w io.Writer) error {
	buf := make([]byte, 0, min(pieceSize+pieceSize/4, 256*d.series))
	for i := range d.families {
		f := &d.families[i]
		legacy := model.LegacyValidation.IsValidMetricName(f.name)
		if f.help != "" {
			buf = append(appendName(append(buf, "# HELP "...), f.name, legacy), ' ')
			buf = append(append(buf, escapeHelp(f.help)...), '\n')
		}
		buf = append(appendName(append(buf, "# TYPE "...), f.name, legacy), ' ')
		buf = append(append(buf, cmp.Or(f.typ, "untyped")...), '\n')
		for _, r := range f.runs {
			points := d.parts[r.part].Block.layout.points
			for at := r.from; at < r.to; at++ {
				p := &points[at]
				suffix, text := "", p.text
				if f.composite() { // which it may have been in its block only
					suffix, text = p.suffix, cmp.Or(p.written, p.text)
				}
				if legacy {
					buf = append(append(append(buf, f.name...), suffix...), text...)
				} else {
					buf = appendQuotedSeries(buf, f.name+suffix, text)
				}
				s, value := d.sample(r.part, p)
				buf = append(append(buf, ' '), value...)
				if s.timestamp >= 0 { // Prometheus before 3 refuses the page for another one
					buf = strconv.AppendInt(append(buf, ' '), s.timestamp, 10)
				}
				buf = append(buf, '\n')
				if len(buf) >= pieceSize {
					if _, err := w.Write(buf); err != nil {
						return err
					}
					buf = buf[:0]
				}
			}
		}
	}
	_, err := w.Write(buf)
	return err
}

// appendQuotedSeries writes a series whose name needs quotes and stands in the braces.
func appendQuotedSeries(dst []byte, name, text string) []byte {
	dst = appendName(append(dst, '{'), name, false)
	if text == "" {
		return append(dst, '}')
	}
	return append(append(dst, ','), text[1:]...)
}

func escapeHelp(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), "\n", `\n`)
}

// quoted tells whether some name of the document cannot be written without quotes.
func (d *Document) quoted() bool {
	return slices.ContainsFunc(d.parts, func(p Part) bool { return p.Block.layout.quoted })
}

// quotesNames tells whether a label name of the text needs quotes.
func quotesNames(text string) bool {
	if !strings.HasPrefix(text, `{"`) && !strings.Contains(text, `,"`) {
		return false
	}
	quoted := false
	eachLabel(text, func(name, _ string) { quoted = quoted || !model.LegacyValidation.IsValidLabelName(name) })
	return quoted
}
