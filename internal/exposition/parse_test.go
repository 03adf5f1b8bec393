package exposition

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

func TestParseTextLikePrometheus(t *testing.T) {
	for _, body := range textSeeds {
		t.Run(fmt.Sprintf("%.40q", body), func(t *testing.T) { compareParse(t, []byte(body), textContent) })
	}
}

func TestParseOpenMetricsLikePrometheus(t *testing.T) {
	for _, body := range openMetricsSeeds {
		t.Run(fmt.Sprintf("%.40q", body), func(t *testing.T) { compareParse(t, []byte(body), openMetricsContent) })
	}
}

func FuzzScanText(f *testing.F) {
	for _, s := range textSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) { compareParse(t, body, textContent) })
}

func FuzzDecodeOpenMetrics(f *testing.F) {
	for _, s := range openMetricsSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) { compareParse(t, body, openMetricsContent) })
}

// compareParse holds a parser's verdict and series against the reference, for a page
// and for a changed one that the same parser reads after it.
func compareParse(t *testing.T, body []byte, contentType string) {
	t.Helper()
	p := NewParser("")
	compareVerdict(t, p, body, contentType)
	compareVerdict(t, p, otherValues(body), contentType)
	compareVerdict(t, p, withoutComments(body), contentType)
	compareVerdict(t, p, body, contentType)
}

// otherValues changes digits that stand where values do.
func otherValues(body []byte) []byte {
	return regexp.MustCompile(`(?m) 1$`).ReplaceAll(body, []byte(" 2"))
}

func withoutComments(body []byte) []byte {
	return regexp.MustCompile(`(?m)^[ \t]*#.*\n`).ReplaceAll(body, nil)
}

func compareVerdict(t *testing.T, p *Parser, body []byte, contentType string) {
	t.Helper()
	reused := bytes.Clone(body)
	page, err := p.Parse(reused, contentType)
	clear(reused)
	want, wantErr := reference(withTextTypes(body, contentType), contentType)
	var pe *ParseError
	if err != nil && !errors.As(err, &pe) {
		t.Fatalf("error is a %T", err)
	}
	if err != nil {
		checkParseError(t, body, pe)
	}
	if err != nil && bytes.IndexByte(body, 0) >= 0 {
		return // Prometheus stops at zero bytes, this parser refuses them
	}
	if (err != nil) != (wantErr != nil) {
		t.Fatalf("%q:\nPrometheus says %v, the parser %v", body, wantErr, err)
	}
	if err == nil {
		compareReadings(t, want, parsed(page), string(body))
	}
}

// withTextTypes writes untyped in the TYPE lines for which Prometheus would refuse
// the page.
func withTextTypes(body []byte, contentType string) []byte {
	if contentType != textContent {
		return body
	}
	accepted := func(line []byte) bool {
		parser := textparse.NewPromParser(bytes.Clone(line), labels.NewSymbolTable(), false)
		_, err := parser.Next()
		return err == nil || strings.Contains(err.Error(), "EOF")
	}
	var out []byte
	quoted := false // in a label value of several lines
	for line := range bytes.Lines(body) {
		comment := regexp.MustCompile(`^[ \t]*#`).Match(line)
		if m := regexp.MustCompile(`^[ \t]*#[ \t]+TYPE[ \t]+([a-zA-Z_:][a-zA-Z0-9_:]*|"(?:\\.|[^\\"])*")?`).FindSubmatch(line); m != nil && !quoted && !accepted(line) {
			switch {
			case len(m[1]) > 0:
				line = fmt.Appendf(nil, "# TYPE %s untyped\n", m[1])
			default:
				line = []byte("#\n")
			}
		}
		out = append(out, line...)
		if !comment || quoted {
			rest := regexp.MustCompile(`\\.`).ReplaceAll(line, nil)
			quoted = quoted != (bytes.Count(rest, []byte{'"'})%2 == 1)
		}
	}
	return out
}

func checkParseError(t *testing.T, body []byte, err *ParseError) {
	t.Helper()
	if lines := bytes.Count(body, []byte{'\n'}) + 1; err.Line < 1 || err.Line > lines {
		t.Errorf("error is about line %d of %d", err.Line, lines)
	}
	msg := err.Error()
	if len(msg) > 600 || strings.ContainsFunc(msg, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		t.Errorf("bad message %q", msg)
	}
}

// parsed lists the series of a page that Prometheus would store.
func parsed(p *Page) map[string]reading {
	readings := make(map[string]reading)
	for _, m := range p.Groups {
		for i, s := range m.series {
			if s.valid {
				readings[s.labels.String()] = newReading(parseValue(m.value(m.samples[i])), m.samples[i].timestamp)
			}
		}
	}
	return readings
}

func compareReadings(t *testing.T, want, got map[string]reading, about string) {
	t.Helper()
	for k, w := range want {
		if g, ok := got[k]; !ok {
			t.Errorf("%s is missing:\n%q", k, about)
		} else if w != g {
			t.Errorf("%s: want %v, got %v:\n%q", k, w, g, about)
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("%s was made up:\n%q", k, about)
		}
	}
}

func TestParseErrorNamesLineAndText(t *testing.T) {
	for _, c := range []struct {
		body, contentType string
		line              int
		quote             string
	}{
		{"a 1\n\nb x\n", textContent, 3, `"b x"`},
		{"# a comment\n\n# TYPE b gauge\n<html>\n", textContent, 4, `"<html>"`},
		{"<!DOCTYPE html>", textContent, 1, `"<!DOCTYPE html>"`},
		{"# TYPE a gauge\na 1\n<html>\n<body>\n", textContent, 3, `"<html>"`},
		{"a 1\nb{b=\"\xff\x01ü\"} 1\n", textContent, 2, `"b{b=\"\xff\x01\u00fc\"} 1"`},
		{"a 1\nb " + strings.Repeat("y", 99), textContent, 2, `"b yyyyyyyyyyyyyyyyyyyyyy"…`},
		{"# TYPE a summary_of_sorts\na 1\nb x\n", textContent, 3, `"b x"`},
		{"a 1\nb\t1\n# EOF\n", openMetricsContent, 2, `"b\t1"`},
		{"a 1\nb 1\n", openMetricsContent, 3, `""`},
		{"a 1\nb 1\x00\n", textContent, 2, `"\x00"`},
	} {
		p := NewParser("")
		mustParse(t, p, "a 1\n", textContent)
		for range 2 {
			page, err := p.Parse([]byte(c.body), c.contentType)
			var pe *ParseError
			if page != nil || !errors.As(err, &pe) {
				t.Fatalf("%q: got %v, %v", c.body, page, err)
			}
			if pe.Line != c.line || !strings.HasSuffix(pe.Reason, ", got "+c.quote) {
				t.Errorf("%q:\ngot  %v\nwant line %d, %s", c.body, err, c.line, c.quote)
			}
			checkParseError(t, []byte(c.body), pe)
		}
	}
}

func TestRefusedPageLeavesTheParserAlone(t *testing.T) {
	p := NewParser("g")
	first := mustParse(t, p, "# TYPE a gauge\na{g=\"1\"} 1\n", textContent)
	for _, body := range []string{
		"a{g=\"1\"} 2\na{g=\"2\"} 2\n<html>",
		"# TYPE a counter\na{g=\"1\"} 2\na{g=",
		"{\"status\":500}",
	} {
		if page, err := p.Parse([]byte(body), textContent); page != nil || err == nil {
			t.Fatalf("got %v, %v", page, err)
		}
	}
	again := mustParse(t, p, "# TYPE a gauge\na{g=\"1\"} 1\n", textContent)
	if again.Groups["1"] != first.Groups["1"] {
		t.Error("the same page gives other metrics")
	}
}

func TestBlankPages(t *testing.T) {
	for _, body := range []string{"", "\n", "# just a comment\n", "# TYPE a gauge\n", "# TYPE a thing\n"} {
		p := NewParser("g")
		for range 2 {
			page := mustParse(t, p, body, textContent)
			if len(page.Groups) != 0 || page.Bytes != len(body) {
				t.Errorf("%q: got %+v", body, page)
			}
		}
	}
	if doc := Merge(nil, Part{Block: Expose(nil, nil, &Rules{}, nil)}); doc.Series() != 0 || len(plain(t, Text, doc)) != 0 {
		t.Error("no metrics: not an empty page")
	}
}

func TestPageIsDividedByLabel(t *testing.T) {
	page := mustParse(t, NewParser("g"), "a{g=\"2\"} 1\nb 2\na{g=\"1\"} 3\nb{g=\"2\"} 4\nc{g=\"\"} 5\n", textContent)
	want := map[string]int{"2": 2, "1": 1, "": 2}
	for g, n := range want {
		if got := page.Groups[g].Series(); got != n {
			t.Errorf("group %q has %d series, want %d", g, got, n)
		}
	}
	if len(page.Groups) != len(want) {
		t.Errorf("%d groups", len(page.Groups))
	}
}

// A TYPE line costs nobody the page.
func TestUnknownTypeCostsOneFamilyItsType(t *testing.T) {
	for line, want := range map[string]string{
		"# TYPE a info":           "gauge",
		"# TYPE a stateset":       "gauge",
		"# TYPE a Gauge":          "gauge",
		"# TYPE a gauge ":         "gauge",
		"# TYPE a  gauge":         "gauge",
		"# TYPE a gauge\r":        "gauge",
		"# TYPE a COUNTER":        "counter",
		"# TYPE a unknown":        "untyped",
		"# TYPE a gaugehistogram": "untyped",
		"# TYPE a hologram":       "untyped",
		"# TYPE a":                "untyped",
		"# TYPE \"a\" info":       "gauge",
		"# TYPE - info":           "untyped",
		"# TYPE ":                 "untyped",
	} {
		page := mustParse(t, NewParser(""), line+"\na 1\n# TYPE b counter\nb 2\n", textContent)
		if page.Downgraded != 1 {
			t.Errorf("%q: %d types were downgraded", line, page.Downgraded)
		}
		got := string(plain(t, Text, Merge(nil, exposed(page, nothingAdded, &Rules{})...)))
		if want := "# TYPE a " + want + "\na 1\n# TYPE b counter\nb 2\n"; got != want {
			t.Errorf("%q:\ngot  %q\nwant %q", line, got, want)
		}
	}
	for _, body := range []string{
		"#TYPE a info\na 1\n",               // a comment
		"# TYPES a info\na 1\n",             // too
		"# TYPE a gauge\na 1\n",             //
		"a{b=\"\n# TYPE a info\n\"} 1\n",    // a value of several lines
		"# HELP a \"\na{b=\"\\\"\"} 1\n#\n", //
	} {
		page := mustParse(t, NewParser(""), body, textContent)
		if page.Downgraded != 0 || page.Groups[""].Series() != 1 {
			t.Errorf("%q: %d types were downgraded, %d series", body, page.Downgraded, page.Groups[""].Series())
		}
		compareVerdict(t, NewParser(""), []byte(body), textContent)
	}
}

// A label of any size costs no more than its size; those that Prometheus's label
// sets cannot hold do not make the program panic.
func TestHugeLabels(t *testing.T) {
	for _, size := range []int{1 << 20, 10 << 20, 1<<24 + 1, 20 << 20} {
		body := "a{b=\"" + strings.Repeat("x", size) + "\"} 1\nc 2\n"
		page := mustParse(t, NewParser(""), body, textContent)
		b := Expose(page.Groups[""], []labels.Label{{Name: "d", Value: "e"}}, &Rules{}, nil)
		if n := b.Series() + b.Dropped().Invalid; n != 2 {
			t.Errorf("%d bytes: %d series served, %+v", size, b.Series(), b.Dropped())
		}
	}
}

func TestFindAndLabel(t *testing.T) {
	m := mustParse(t, NewParser(""), `# TYPE a counter
a{mode="user",x="}\",mode=\"idle"} 1.5
a{mode="back\\slash \"quoted\"\nline"} 2
a +Inf
# TYPE b gauge
b{"not a name"="v"} 7
# TYPE h histogram
h_bucket{le="+Inf"} 3
h_sum 3
h_count 3
`, textContent).Groups[""]
	got := make(map[string]float64)
	for lset, v := range m.Find("a") {
		got[lset.Get("mode")] = v
	}
	if fmt.Sprint(got) != fmt.Sprint(map[string]float64{"user": 1.5, "back\\slash \"quoted\"\nline": 2, "": got[""]}) || got[""] <= 2 {
		t.Errorf("series of a: %v", got)
	}
	for lset, v := range m.Find("b") {
		if lset.Get("not a name") != "v" || lset.Get(model.MetricNameLabel) != "b" || v != 7 {
			t.Errorf("series of b: %s %v", lset, v)
		}
	}
	for _, name := range []string{"", "A", "aa", "h", "z"} {
		for lset := range m.Find(name) {
			t.Errorf("series of %q: %s", name, lset)
		}
	}
	for range m.Find("a") {
		break // must be possible
	}
	for range (*Metrics)(nil).Find("a") {
		t.Error("a series of nothing")
	}
	if got := m.Label("not a name"); got != "v" {
		t.Errorf("label is %q", got)
	}
	if got := m.Label("nowhere") + (*Metrics)(nil).Label("mode"); got != "" {
		t.Errorf("label is %q", got)
	}
}
