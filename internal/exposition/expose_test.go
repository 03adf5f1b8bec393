package exposition

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
)

// Whatever the rules, a page is what they make of each series by itself.
func TestExposeLikeRelabel(t *testing.T) {
	for seed := range uint64(1000) {
		checkExpose(t, seed, "")
	}
}

func FuzzRelabel(f *testing.F) {
	for i, s := range textSeeds {
		f.Add(uint64(i), s)
	}
	for i := range uint64(20) {
		f.Add(i, "")
	}
	f.Fuzz(checkExpose)
}

func checkExpose(t *testing.T, seed uint64, body string) {
	t.Helper()
	r := random(seed)
	if body == "" {
		body = randomPage(r)
	}
	page, err := NewParser("").Parse([]byte(body), textContent)
	if err != nil || len(page.Groups) == 0 {
		return
	}
	rules := &Rules{Relabel: append(randomRules(r), randomRule(r)), Reserved: func(name string) bool { return strings.HasPrefix(name, "my_") }}
	added := []labels.Label{{Name: "x", Value: "added"}, {Name: "z", Value: "added"}}
	m := page.Groups[""]
	b := Expose(m, added, rules, nil)
	want, dropped := naive(m, added, rules)
	got := b.Dropped()
	got.Duplicate -= m.duplicates
	if got != dropped || b.Series() != len(want) {
		t.Errorf("%d series, %+v, want %d, %+v", b.Series(), got, len(want), dropped)
	}
	utf8 := formats["text-utf8"]
	readings, err := reference(identity(utf8, Merge(nil, Part{Block: b})), string(utf8))
	if err != nil {
		t.Error(err)
	}
	compareServed(t, "text", canonical(want), canonical(readings), body)
	if t.Failed() {
		for _, c := range rules.Relabel {
			t.Logf("%+v", *c)
		}
		t.Fatalf("seed %d:\n%s", seed, body)
	}
}

// canonical writes all bounds as Prometheus does those of histograms and summaries:
// it takes what a rule has made of a bound for one as well.
func canonical(readings map[string]reading) map[string]reading {
	out := make(map[string]reading, len(readings))
	bound := regexp.MustCompile(`([{ ](?:le|quantile)=")([^"\\]*)"`)
	for _, k := range slices.Sorted(maps.Keys(readings)) {
		c := bound.ReplaceAllStringFunc(k, func(label string) string {
			m := bound.FindStringSubmatch(label)
			if f, err := strconv.ParseFloat(m[2], 64); err == nil {
				return m[1] + labels.FormatOpenMetricsFloat(f) + `"`
			}
			return label
		})
		if _, again := out[c]; !again {
			out[c] = readings[k]
		}
	}
	return out
}

// naive exposes one series after the other.
func naive(m *Metrics, added []labels.Label, rules *Rules) (map[string]reading, Drops) {
	readings := make(map[string]reading)
	var d Drops
	for i, s := range m.series {
		switch {
		case !s.valid:
			d.Invalid++
			continue
		case rules.Reserved(s.name):
			d.Reserved++
			continue
		}
		lset := make(map[string]string)
		for _, l := range added {
			lset[l.Name] = l.Value
		}
		maps.Copy(lset, s.labels.Map())
		builder := labels.NewBuilder(labels.FromMap(lset))
		keep := relabel.ProcessBuilder(builder, rules.Relabel...)
		after := builder.Labels()
		name := after.Get(model.MetricNameLabel)
		key := after.String()
		_, again := readings[key]
		switch {
		case !keep:
			d.Rule++
		case name == "" || !after.IsValid(model.UTF8Validation):
			d.Invalid++
		case rules.Reserved(name):
			d.Reserved++
		case again:
			d.Duplicate++
		default:
			readings[key] = newReading(parseValue(m.value(m.samples[i])), m.samples[i].timestamp)
		}
	}
	return readings, d
}

func TestDrops(t *testing.T) {
	const body = `a{v="rule"} 1
reserved 1
a{v="reserved"} 1
a{v="nameless"} 1
a{v="bad"} 1
a{b="1",b="2"} 1
{"a","` + "\xff" + `"="x"} 1
a{c="1"} 1
a{c="1"} 2
a{c="1",d=""} 3
a{v="c"} 4
a 5
`
	rules := relabelling(t, `
- {source_labels: [v], regex: rule, action: drop}
- {source_labels: [v], regex: reserved, target_label: __name__, replacement: reserved}
- {source_labels: [v], regex: nameless, target_label: __name__, replacement: ''}
- {source_labels: [v], regex: bad, target_label: __name__, replacement: ''}
- {source_labels: [v], regex: c, target_label: c, replacement: '1'}
- {regex: v, action: labeldrop}
`)
	rules.Reserved = func(name string) bool { return name == "reserved" }
	want := Drops{Rule: 1, Reserved: 2, Invalid: 4, Duplicate: 3}
	p := NewParser("")
	b := Expose(mustParse(t, p, body, textContent).Groups[""], nil, rules, nil)
	if b.Dropped() != want || b.Series() != 2 {
		t.Errorf("%d series, %+v", b.Series(), b.Dropped())
	}
	if got := string(plain(t, Text, Merge(nil, Part{Block: b}))); got != "# TYPE a untyped\na{c=\"1\"} 1\na 5\n" {
		t.Errorf("got %q", got)
	}
	// The counts stand when nothing but a value has changed.
	b = Expose(mustParse(t, p, strings.Replace(body, "a 5", "a 6", 1), textContent).Groups[""], nil, rules, b)
	if b.Dropped() != want || b.Series() != 2 {
		t.Errorf("next page: %d series, %+v", b.Series(), b.Dropped())
	}
	if b := Expose(nil, nil, rules, b); b.Series() != 0 || b.Dropped() != (Drops{}) {
		t.Error("no metrics: not an empty block")
	}
}

// A label that begins with two underscores is a label like others to the rules that
// Prometheus applies to series.
func TestLabelsWithTwoUnderscoresStay(t *testing.T) {
	const body = "# TYPE a untyped\na{__foo=\"x\"} 1\n"
	for _, rules := range []*Rules{{}, relabelling(t, "- {source_labels: [b], regex: c, action: drop}\n")} {
		page := mustParse(t, NewParser(""), body, textContent)
		for _, f := range formats {
			got := string(plain(t, f, Merge(nil, exposed(page, nothingAdded, rules)...)))
			if !strings.Contains(got, "__foo") {
				t.Errorf("%s: got %q", f, got)
			}
		}
	}
}

// Of lines for the same series the one with the latest timestamp counts, or else the
// first.
func TestLatestTimestampCounts(t *testing.T) {
	for body, want := range map[string]string{
		"b 88 1234566000\nb 2 1234567890\n":               "b 2 1234567890\n",
		"b 2 1234567890\nb 88 1234566000\n":               "b 2 1234567890\n",
		"b 1 5\nb 2 5\n":                                  "b 1 5\n",
		"b 1\nb 2\n":                                      "b 1\n",
		"b 1\nb 2 5\n":                                    "b 2 5\n",
		"b 2 5\nb 1\n":                                    "b 2 5\n",
		"b 1 9\nb 2 10\nb 3 8\n":                          "b 2 10\n",
		"b{x=\"\"} 1 9\nb{} 2 10\nb 3 8\n":                "b 2 10\n",
		"b{x=\"1\",y=\"2\"} 1\nb{y=\"2\",x=\"1\"} 2 10\n": "b{x=\"1\",y=\"2\"} 2 10\n",
	} {
		p := NewParser("")
		for range 2 {
			b := Expose(mustParse(t, p, body, textContent).Groups[""], nil, &Rules{}, nil)
			if got := string(plain(t, Text, Merge(nil, Part{Block: b}))); got != "# TYPE b untyped\n"+want {
				t.Errorf("%q: got %q", body, got)
			}
			if n := strings.Count(body, "\n"); b.Dropped() != (Drops{Duplicate: n - 1}) {
				t.Errorf("%q: dropped %+v", body, b.Dropped())
			}
		}
	}
}

// Reserved names hold for what comes in and for what rules make of it.
func TestReservedNames(t *testing.T) {
	rules := relabelling(t, "- {source_labels: [__name__], regex: x_(.*), target_label: __name__}\n- {source_labels: [__name__], regex: go_up, target_label: __name__, replacement: up}\n")
	rules.Reserved = func(name string) bool { return strings.HasPrefix(name, "go_") }
	page := mustParse(t, NewParser(""), `# TYPE go_gc summary
go_gc{quantile="1"} 8
go_gc_sum 12345
go_gc_count 99
go_up 1
x_go_gc_sum 5
x_a 1
`, textContent)
	b := Expose(page.Groups[""], nil, rules, nil)
	if b.Dropped() != (Drops{Reserved: 5}) {
		t.Errorf("dropped %+v", b.Dropped())
	}
	if got := string(plain(t, Text, Merge(nil, Part{Block: b}))); got != "# TYPE a untyped\na 1\n" {
		t.Errorf("got %q", got)
	}
}

func TestAddedLabelsNeverReplace(t *testing.T) {
	m := mustParse(t, NewParser(""), "a{x=\"upstream\"} 1\na{x=\"\"} 2\n", textContent).Groups[""]
	b := Expose(m, []labels.Label{{Name: "x", Value: "added"}}, &Rules{}, nil)
	if got := string(plain(t, Text, Merge(nil, Part{Block: b}))); got != "# TYPE a untyped\na{x=\"upstream\"} 1\na{x=\"added\"} 2\n" {
		t.Errorf("got %q", got)
	}
}

func TestNewBlock(t *testing.T) {
	gauges := func(value float64, help string) []Gauge {
		return []Gauge{
			{Name: "b", Help: help, Labels: labels.FromStrings("x", "1"), Value: value},
			{Name: "a", Value: -1e100},
			{Name: "b", Help: help, Labels: labels.FromStrings("x", "2"), Value: 2},
		}
	}
	const help = "Help \\ of\nb."
	b := NewBlock(gauges(1.5, help), nil)
	doc := Merge(nil, Part{Block: b})
	const want = "# TYPE a gauge\na -1e+100\n# HELP b Help \\\\ of\\nb.\n# TYPE b gauge\nb{x=\"1\"} 1.5\nb{x=\"2\"} 2\n"
	if got := string(plain(t, Text, doc)); got != want || doc.Series() != 3 {
		t.Errorf("got %q", got)
	}
	if NewBlock(gauges(1.5, help), b) != b {
		t.Error("another block of the same gauges")
	}
	if NewBlock(nil, b) != nil {
		t.Error("a block of no gauges")
	}
	for _, tt := range []struct {
		value float64
		help  string
		again bool // the layout of b
	}{{2.5, help, true}, {1.5, "Other.", false}} {
		next := NewBlock(gauges(tt.value, tt.help), b)
		if next == b || (next.layout == b.layout) != tt.again {
			t.Errorf("%v: the same block: %t, the same layout: %t", tt, next == b, next.layout == b.layout)
		}
		got := string(plain(t, Text, Merge(doc, Part{Block: next})))
		if fresh := string(plain(t, Text, Merge(nil, Part{Block: NewBlock(gauges(tt.value, tt.help), nil)}))); got != fresh || got == want {
			t.Errorf("got %q, want %q", got, fresh)
		}
	}
}
