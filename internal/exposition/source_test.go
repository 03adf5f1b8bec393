package exposition

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

func decode(t *testing.T, s *Source, body string, rw Rewriter) *Page {
	t.Helper()
	p, err := s.Decode([]byte(body), textType, rw)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// text is a page as text, its families one after the other in one line each.
func text(p *Page) string {
	return string(joined(Encode(TextUTF8, Identity, Merge(parts(p)...))))
}

func TestKnownSeriesAreNotAskedAboutAgain(t *testing.T) {
	calls := 0
	s, rw := NewSource(), rules{group: "g", calls: &calls}
	decode(t, s, "a{g=\"1\"} 1\na{g=\"2\"} 2\nb{g=\"1\"} 3\n", rw)
	if calls != 3 {
		t.Fatalf("%d calls for 3 series", calls)
	}
	calls = 0
	decode(t, s, "a{g=\"1\"} 5\na{g=\"2\"} 6\nb{g=\"1\"} 7\n", rw)
	if calls != 0 {
		t.Errorf("%d calls when values change", calls)
	}
	decode(t, s, "b{g=\"1\"} 7\na{g=\"2\"} 6\na{g=\"1\"} 5\n", rw)
	if calls != 0 {
		t.Errorf("%d calls when lines change places", calls)
	}
	p := decode(t, s, "b{g=\"1\"} 7\nnew{g=\"1\"} 1\na{g=\"2\"} 6\na{g=\"1\"} 5\n", rw)
	if calls != 1 {
		t.Errorf("%d calls for a new series", calls)
	}
	if got := p.Stats().Series; got != 4 {
		t.Errorf("%d series", got)
	}
	calls = 0
	decode(t, s, "b{g=\"1\"} 7\nnew{g=\"1\"} 1\na{g=\"1\"} 5\n", rw)
	if calls != 0 {
		t.Errorf("%d calls when a series goes", calls)
	}
}

func TestUnchangedPageIsTheLastOne(t *testing.T) {
	s, rw := NewSource(), rules{group: "g"}
	const body = "a{g=\"1\"} 1\na{g=\"2\"} 2\n"
	first := decode(t, s, body, rw)
	if again := decode(t, s, body, rw); again != first {
		t.Error("same page, same rules: got another page")
	}
	rw.epoch++
	rw.rewrite = func(b *labels.Builder) bool { return b.Get("g") == "1" }
	second := decode(t, s, body, rw)
	if second == first || second.Stats().Dropped != 1 {
		t.Errorf("new rules were not applied: %+v", second.Stats())
	}
	rw.epoch++
	rw.rewrite = nil
	third, err := s.Rewrite(rw)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := text(third), text(first); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if fourth, _ := s.Rewrite(rw); fourth != third {
		t.Error("same rules: got another page")
	}
}

// epochs changes the rules of one group only.
type epochs struct {
	rules
	changed string
}

func (e epochs) Epoch(group string) uint64 {
	if group == e.changed {
		return 1
	}
	return 0
}

func TestOnlyGroupsWithANewEpochAreAskedAbout(t *testing.T) {
	calls := 0
	s := NewSource()
	rw := epochs{rules: rules{group: "g", calls: &calls}}
	first := decode(t, s, "a{g=\"1\"} 1\na{g=\"2\"} 2\na{g=\"3\"} 3\n", rw)
	calls, rw.changed = 0, "2"
	second, _ := s.Rewrite(rw)
	if calls != 1 {
		t.Errorf("%d calls for one series", calls)
	}
	for _, g := range first.Groups() {
		if first.Block(g).Fingerprint() != second.Block(g).Fingerprint() {
			t.Errorf("group %s has changed", g)
		}
		if first.Block(g).layout != second.Block(g).layout {
			t.Errorf("group %s has a new layout for the same series", g)
		}
	}
}

func TestRewriteBeforeTheFirstPage(t *testing.T) {
	p, err := NewSource().Rewrite(asIs{})
	if err != nil || p.Stats() != (Stats{}) || len(p.Groups()) != 0 || p.Block("") != nil {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestRefusedPageLeavesTheSourceAlone(t *testing.T) {
	calls := 0
	s, rw := NewSource(), rules{group: "g", calls: &calls}
	first := decode(t, s, "# TYPE a gauge\na{g=\"1\"} 1\n", rw)
	calls = 0
	for _, body := range []string{
		"a{g=\"1\"} 2\na{g=\"2\"} 2\n<html>",
		"# TYPE a counter\na{g=\"1\"} 2\na{g=",
		"{\"status\":500}",
	} {
		p, err := s.Decode([]byte(body), textType, rw)
		var pe *ParseError
		if p != nil || !errors.As(err, &pe) {
			t.Fatalf("got %v, %v", p, err)
		}
	}
	if p, _ := s.Rewrite(rw); p != first {
		t.Error("the last page has changed")
	}
	second := decode(t, s, "# TYPE a gauge\na{g=\"1\"} 2\n", rw)
	if calls != 0 {
		t.Errorf("%d calls for a known series", calls)
	}
	if got := text(second); got != "# TYPE a gauge\na{added=\"1\",g=\"1\"} 2\n" {
		t.Errorf("got %q", got)
	}
}

func TestParseErrorNamesLineAndText(t *testing.T) {
	for body, want := range map[string]string{
		"a 1\n\nb x\n":                 `line 3 of the page: sample value is not a number that fits 64 bits, got "x"`,
		"<!DOCTYPE html>":              `line 1 of the page: expected a metric name, a comment or a blank line, got "<!DOCTYPE html>"`,
		"a{b=\"c} 1\nd 2\n":            `line 1 of the page: quoted string does not end, got "\"c} 1"`,
		"a{b=\"\xff\x01ü\"} 1\n":       `line 1 of the page: label value is not valid UTF-8, got "\"\xff\x01\u00fc\"} 1"`,
		"a " + strings.Repeat("y", 99): `line 1 of the page: sample value is not a number that fits 64 bits, got "yyyyyyyyyyyyyyyyyyyyyyyy"…`,
		"# TYPE a info\n":              `line 1 of the page: unknown metric type, got "a info"`,
	} {
		_, err := NewSource().Decode([]byte(body), textType, asIs{})
		if err == nil || err.Error() != want {
			t.Errorf("%q:\ngot  %v\nwant %s", body, err, want)
		}
	}
	_, err := NewSource().Decode([]byte("a 1\nb\t1\n# EOF\n"), openMetricsType, asIs{})
	var pe *ParseError
	if !errors.As(err, &pe) || pe.Line != 2 {
		t.Errorf("OpenMetrics: got %v", err)
	}
}

// verdicts gives each series the verdict that its label asks for.
type verdicts struct{ asIs }

func (verdicts) Rewrite(_ string, lset labels.Labels) (labels.Labels, Verdict) {
	switch lset.Get("v") {
	case "rule":
		return lset, DropRule
	case "reserved":
		return lset, DropReserved
	case "invalid":
		return lset, DropInvalid
	case "nameless":
		return labels.EmptyLabels(), Keep
	case "bad":
		return labels.FromStrings(model.MetricNameLabel, "a", "b", "\xff"), Keep
	default:
		return lset, Keep
	}
}

func TestStats(t *testing.T) {
	const body = `# HELP a x
# HELP a y
# TYPE a gauge
# TYPE a gauge
a{v="rule"} 1
a{v="reserved"} 1
a{v="invalid"} 1
a{v="nameless"} 1
a{v="bad"} 1
a{b="1",b="2"} 1
a{c="1"} 1
a{c="1"} 2
a{c="1",d=""} 3
a 4
`
	want := Stats{Series: 2, Duplicates: 2, Dropped: 1, Reserved: 1, Invalid: 4, MetadataConflicts: 1, Bytes: int64(len(body))}
	s := NewSource()
	if got := decode(t, s, body, verdicts{}).Stats(); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	// The counts stand when nothing but a value has changed.
	p := decode(t, s, strings.Replace(body, "a 4", "a 5", 1), verdicts{})
	if got := p.Stats(); got != want {
		t.Errorf("next page: got  %+v\nwant %+v", got, want)
	}
	if got := text(p); got != "# HELP a x\n# TYPE a gauge\na{c=\"1\"} 1\na 5\n" {
		t.Errorf("got %q", got)
	}
}

func TestBlankPages(t *testing.T) {
	for _, body := range []string{"", "\n", "# just a comment\n", "# TYPE a gauge\n"} {
		p := decode(t, NewSource(), body, asIs{})
		if len(p.Groups()) != 0 || p.Stats().Series != 0 || text(p) != "" {
			t.Errorf("%q: got %+v", body, p.Stats())
		}
	}
}

func TestGroupsAreInTheOrderOfThePage(t *testing.T) {
	s, rw := NewSource(), rules{group: "g"}
	for _, c := range []struct{ body, want string }{
		{"a{g=\"2\"} 1\na{g=\"1\"} 1\n", "[2 1]"},
		{"a{g=\"1\"} 1\na{g=\"2\"} 1\n", "[1 2]"},
		{"a{g=\"3\"} 1\na{g=\"2\"} 1\n", "[3 2]"},
		{"b{g=\"2\"} 1\na{g=\"3\"} 1\n", "[2 3]"},
	} {
		if got := fmt.Sprint(decode(t, s, c.body, rw).Groups()); got != c.want {
			t.Errorf("%q: got %s", c.body, got)
		}
	}
}

// A label of any size costs no more than its size; those that Prometheus's
// label sets can't hold make the series invalid, not the program panic.
func TestHugeLabels(t *testing.T) {
	for _, size := range []int{1 << 20, 10 << 20, 1<<24 + 1, 20 << 20} {
		body := "a{b=\"" + strings.Repeat("x", size) + "\"} 1\nc 2\n"
		p := decode(t, NewSource(), body, asIs{})
		want := Stats{Series: 2, Bytes: int64(len(body))}
		if size > maxSeries {
			want.Series, want.Invalid = 1, 1
		}
		if p.Stats() != want {
			t.Errorf("%d bytes: got %+v", size, p.Stats())
		}
	}
}

func TestManySeriesOfOneGroup(t *testing.T) {
	var b strings.Builder
	const n = 100_000
	for i := range n {
		fmt.Fprintf(&b, "a{b=\"%d\"} 1\n", i)
	}
	s := NewSource()
	if got := decode(t, s, b.String(), asIs{}).Stats().Series; got != n {
		t.Errorf("%d series", got)
	}
	// Backwards, which no line expects.
	lines := strings.SplitAfter(b.String(), "\n")
	b.Reset()
	for i := len(lines) - 1; i >= 0; i-- {
		b.WriteString(lines[i])
	}
	if got := decode(t, s, b.String(), asIs{}).Stats().Series; got != n {
		t.Errorf("%d series", got)
	}
}

// Services come and go; what they leave behind does not add up.
func TestMemoryIsFlat(t *testing.T) {
	s := NewSource()
	rw := newBenchRewriter()
	var m Merger
	var doc *Document
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	f := newFleet(100)
	next := 1000
	step := func() {
		for range len(f.services) / 20 {
			i := f.r.IntN(len(f.services))
			f.services[i] = fmt.Sprintf(`clickhouse_org="o",postgres_service="%s",postgres_service_name="service-%d"`, f.uuid(next), next)
			next++
		}
		doc, _ = refresh(t, s, &m, f.page(), rw)
	}
	for range 20 {
		step()
	}
	before := heap()
	for range 60 {
		step()
	}
	if after := heap(); after > before+before/4 {
		t.Errorf("%d bytes became %d", before, after)
	}
	runtime.KeepAlive(doc)
	runtime.KeepAlive(s)
}
