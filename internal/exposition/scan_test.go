package exposition

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	promexemplar "github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

const (
	textType        = "text/plain; version=0.0.4; charset=utf-8"
	openMetricsType = "application/openmetrics-text; version=1.0.0; charset=utf-8"
)

// asIs leaves series alone and puts them all into one group. It says so of some
// labels only, so that those and the others are put together.
type asIs struct{}

func (asIs) Group(labels.Labels) string                                    { return "" }
func (asIs) Epoch(string) uint64                                           { return 0 }
func (asIs) Class(string) string                                           { return "" }
func (asIs) Passes(label string) bool                                      { return len(label)%2 == 0 }
func (asIs) Rewrite(_ string, lset labels.Labels) (labels.Labels, Verdict) { return lset, Keep }

// point is one series as a parser sees it.
type point struct {
	labels   string
	value    string
	ts       string
	exemplar string
}

// canonicalLabels leaves out empty labels, and writes bounds as Prometheus
// does, which rewrites them depending on the last TYPE line.
func canonicalLabels(lset labels.Labels) labels.Labels {
	b := labels.NewScratchBuilder(lset.Len())
	lset.Range(func(l labels.Label) {
		if l.Value == "" {
			return
		}
		if l.Name == "le" || l.Name == "quantile" {
			if f, err := strconv.ParseFloat(l.Value, 64); err == nil {
				l.Value = labels.FormatOpenMetricsFloat(f)
			}
		}
		b.Add(l.Name, l.Value)
	})
	b.Sort()
	return b.Labels()
}

func canonicalFloat(f float64) string {
	if math.IsNaN(f) {
		return "NaN"
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// reference parses a page with Prometheus's own parser. Series that occur
// twice count once, and those that Prometheus would not take not at all.
func reference(body []byte, contentType string) (map[string]point, error) {
	p, err := textparse.New(append([]byte(nil), body...), contentType, labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		return nil, err
	}
	points := make(map[string]point)
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return points, nil
		}
		if err != nil {
			return nil, err
		}
		if entry != textparse.EntrySeries {
			continue
		}
		var lset labels.Labels
		series, ts, v := p.Series()
		p.Labels(&lset)
		if _, duplicate := lset.HasDuplicateLabelNames(); duplicate {
			continue
		}
		if s := strings.TrimLeft(string(series), " \t"); strings.HasPrefix(contentType, mediaText) && s != "" && s[0] != '{' {
			// Prometheus takes blanks before a series for a part of its name.
			b := labels.NewBuilder(lset)
			b.Set(model.MetricNameLabel, strings.TrimLeft(lset.Get(model.MetricNameLabel), " \t"))
			lset = b.Labels()
		}
		pt := point{value: canonicalFloat(v)}
		if ts != nil {
			pt.ts = fmt.Sprint(*ts)
		}
		var x promexemplar.Exemplar
		if p.Exemplar(&x) {
			pt.exemplar = fmt.Sprintf("%s %v %v", x.Labels, canonicalFloat(x.Value), x.Ts)
		}
		lset = canonicalLabels(lset)
		if !validLabels(lset) {
			continue
		}
		pt.labels = lset.String()
		if _, ok := points[pt.labels]; !ok {
			points[pt.labels] = pt
		}
	}
}

// decoded lists the series of a page.
func decoded(tb testing.TB, p *Page) map[string]point {
	tb.Helper()
	points := make(map[string]point)
	seen := make(map[string]bool)
	for _, g := range p.Groups() {
		b := p.Block(g)
		for _, f := range b.layout.families {
			for slot := f.from; slot < f.to; slot++ {
				ref := b.layout.series[slot]
				name := f.name + ref.suffix.String()
				lb := labels.NewScratchBuilder(8)
				lb.Add(model.MetricNameLabel, name)
				for rest := ref.text; ; {
					n, v, next, _, ok := cutLabel(rest)
					if !ok {
						break
					}
					lb.Add(unescape(n, true), unescape(v, true))
					rest = next
				}
				lb.Sort()
				pt := point{
					labels: canonicalLabels(lb.Labels()).String(),
					value:  canonicalFloat(parseValue(b.values[slot].of(b.body))),
				}
				if ts := b.stamp(slot, noTimestamp); ts != noTimestamp {
					pt.ts = fmt.Sprint(ts)
				}
				if raw := name + ref.text; seen[raw] {
					tb.Errorf("%s occurs twice", raw)
				} else {
					seen[raw] = true
				}
				// Bounds of different spelling are the same to Prometheus.
				if _, ok := points[pt.labels]; !ok {
					points[pt.labels] = pt
				}
			}
		}
	}
	return points
}

func diffPoints(t *testing.T, want, got map[string]point, ignoreExemplars bool) {
	t.Helper()
	for k, w := range want {
		g, ok := got[k]
		if ignoreExemplars {
			w.exemplar, g.exemplar = "", ""
		}
		if !ok {
			t.Errorf("%s is missing", k)
		} else if w != g {
			t.Errorf("%s: want %+v, got %+v", k, w, g)
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("%s is not in the reference", k)
		}
	}
}

var textSeeds = []string{
	"",
	"\n\n",
	"a 1\n",
	"a 1",
	"a{b=\"c\"} 1\na{b=\"d\"} 2 3\n",
	"# HELP a help \\n \\\\ \\\" text\n# TYPE a counter\na_total 1\na 2\n",
	"  a 1\n",
	"\ta{} 1\n",
	"a{b=\"c\",} +Inf\n",
	"a{b=\"c\"d=\"e\"} NaN 12\n",
	"{\"my.name\",\"a b\"=\"c\"} 1\n",
	"{\"a\\\"b\\n\",c=\"d\"} 1e3\n",
	"a{b=\"x\ny\"} 1\n",
	"a{b=\"\x00\"} 1\n",
	"a{b=\"\\\x00\"\"} 1\n",
	"a+1\n",
	"a 1 2 3\n",
	"a {b=\"c\"} 1\n",
	"a 0x1p-2\n",
	"a 1_0\n",
	"a 1e999\n",
	"a -0\n",
	"a .5\na 5.\n",
	"a 1\r\n",
	"#\n# \n#HELP\n# HELP\n# HELPx\n# TYPE\n",
	"# HELP \n",
	"# HELP a\n# TYPE a untyped\n",
	"# HELP a-b\n",
	"# HELP \"a b\" text\n# TYPE \"a b\" gauge\n",
	"# TYPE a  counter\n",
	"# TYPE a info\n",
	"# UNIT a b\n",
	"a 1 9223372036854775807\n",
	"a 1 9223372036854775808\n",
	"a{a=\"\\xff\"} 1\n",
	"a{a=\"\xff\"} 1\n",
	"# HELP a \xff\n",
	"# \xff\n",
	"{\"\xff\"} 1\n",
	"{\"\"} 1\n",
	"{\"a\",\"\xff\"=\"\"} 1\n",
	"{\"a\",\"\"=\"b\"} 1\n",
	"{a=\"b\"} 1\n",
	"{} 1\n",
	"a{\"b\"} 1\n",
	"a{b=\"c\",b=\"d\"} 1\n",
	"a{b=\"\",b=\"d\"} 1\n",
	"a{__name__=\"b\"} 1\n",
	"a{b=\"\"} 1\na 2\n",
	"<!DOCTYPE html>\n<html>\n",
	"{\"error\":\"x\"}\n",
	"# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n",
	"# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum 3\nh_count 2\nh 5\n",
	"# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 3\ns_count 2\ns{quantile=\"0.50\"} 1\n",
	"# TYPE a gauge\n# TYPE a counter\na 1\nb 2\na{x=\"y\"} 3\n",
	"\x00",
	"a 1\n\x00garbage",
}

func TestScanTextLikePrometheus(t *testing.T) {
	for _, body := range textSeeds {
		t.Run(fmt.Sprintf("%.40q", body), func(t *testing.T) { compareText(t, []byte(body)) })
	}
}

// compareText holds a verdict and its series against the reference.
func compareText(t *testing.T, body []byte) {
	want, wantErr := reference(body, textType)
	page, err := NewSource().Decode(body, textType, asIs{})
	var pe *ParseError
	if err != nil && !errors.As(err, &pe) {
		t.Fatalf("error is a %T", err)
	}
	if err != nil {
		checkParseError(t, body, pe)
	}
	if err != nil && strings.ContainsRune(string(body), 0) {
		return // Prometheus stops at zero bytes, we refuse them
	}
	if (err != nil) != (wantErr != nil) {
		t.Fatalf("Prometheus says %v, we say %v", wantErr, err)
	}
	if err != nil {
		return
	}
	diffPoints(t, want, decoded(t, page), true)
}

func checkParseError(t *testing.T, body []byte, err *ParseError) {
	t.Helper()
	if lines := strings.Count(string(body), "\n") + 1; err.Line < 1 || err.Line > lines {
		t.Errorf("error is about line %d of %d", err.Line, lines)
	}
	msg := err.Error()
	if len(msg) > 400 || strings.ContainsFunc(msg, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		t.Errorf("bad message %q", msg)
	}
}

func FuzzScanText(f *testing.F) {
	for _, s := range textSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) { compareText(t, body) })
}
