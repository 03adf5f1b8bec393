package exposition

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// randomPage writes a page whose names are as close to each other as can be.
func randomPage(r *rand.Rand) string {
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	var b strings.Builder
	label := func(more ...string) string {
		l := append([]string(nil), more...)
		if r.IntN(3) == 0 {
			l = append(l, fmt.Sprintf("x=%q", pick("1", "2", "a # {b", "}", "\\\"", "ü")))
		}
		if r.IntN(20) == 0 {
			l = append(l, pick(`"y z"="3"`, `y_z="4"`, `y_z="5","y.z"="5"`))
		}
		r.Shuffle(len(l), func(i, j int) { l[i], l[j] = l[j], l[i] })
		if len(l) == 0 {
			return ""
		}
		return "{" + strings.Join(l, ",") + "}"
	}
	name := func() string {
		n := pick("a", "a", "b", "my_a", "a_total", "a_info", "a_created", "a_sum", "a_count", "a_bucket", "a_gsum", "a_bucket_sum")
		return n
	}
	value := func() string { return pick("0", "1", "1", "2", "2.5", "-1", "NaN", "+Inf", "1e3", "00") }
	stamp := func() string {
		if r.IntN(40) == 0 {
			return pick(" 0", " 1000", " 1712345678901")
		}
		return ""
	}
	for range 1 + r.IntN(5) {
		n := name()
		if r.IntN(3) > 0 {
			fmt.Fprintf(&b, "# HELP %s %s\n", n, pick("help", `a \\ \n "b"`, ""))
		}
		typ := pick("counter", "gauge", "histogram", "summary", "untyped", "")
		if typ != "" {
			fmt.Fprintf(&b, "# TYPE %s %s\n", n, typ)
		}
		if (typ == "histogram" || typ == "summary") && r.IntN(5) > 0 {
			for range 1 + r.IntN(3) {
				l := fmt.Sprintf("m=%q", pick("1", "2", "3"))
				var lines []string
				total := 0
				for _, bound := range []string{"0.5", "1", "2e1", "+Inf"} {
					total += r.IntN(3)
					if typ == "summary" {
						bound = pick("0", "0.5", "0.9", "1")
						lines = append(lines, fmt.Sprintf("%s{quantile=%q,%s} %s", n, bound, l, pick("1", "2.5", "NaN")))
						continue
					}
					lines = append(lines, fmt.Sprintf("%s_bucket{%s,le=%q} %d", n, l, bound, total))
				}
				lines = append(lines, fmt.Sprintf("%s_sum{%s} 3.5", n, l), fmt.Sprintf("%s_count{%s} %d", n, l, total))
				if r.IntN(4) == 0 {
					r.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
				}
				if r.IntN(6) == 0 {
					lines = lines[1:]
				}
				b.WriteString(strings.Join(lines, "\n") + "\n")
			}
			continue
		}
		for range 1 + r.IntN(4) {
			s := n
			if r.IntN(5) == 0 {
				s = name()
			}
			var bound []string
			if r.IntN(6) == 0 {
				bound = append(bound, pick(`le="1"`, `le="+Inf"`, `quantile="0.5"`, `le="x"`, `le="0x1p-2"`))
			}
			fmt.Fprintf(&b, "%s%s %s%s\n", s, label(bound...), value(), stamp())
		}
		if r.IntN(20) == 0 {
			fmt.Fprintf(&b, "{%q} 1\n", pick("my.a", "my a", "a.sum", "ü"))
		}
	}
	return b.String()
}

func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func TestRandomPages(t *testing.T) {
	for seed := range uint64(500) {
		body := randomPage(random(seed))
		compareText(t, []byte(body))
		checkRoundTrip(t, []byte(body), textType)
		if seed%100 == 0 {
			for _, f := range allFormats {
				plain(t, f, document(t, body, textType, asIs{}))
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d:\n%s", seed, body)
		}
	}
}

// rules is a Rewriter made of functions.
type rules struct {
	group   string // label
	epoch   uint64
	rewrite func(b *labels.Builder) bool
	calls   *int
}

func (r rules) Group(lset labels.Labels) string { return lset.Get(r.group) }
func (r rules) Epoch(string) uint64             { return r.epoch }
func (rules) Class(name string) string          { return name }
func (rules) Passes(string) bool                { return false }

func (r rules) Rewrite(group string, lset labels.Labels) (labels.Labels, Verdict) {
	if r.calls != nil {
		*r.calls++
	}
	b := labels.NewBuilder(lset)
	if r.rewrite != nil && !r.rewrite(b) {
		return labels.EmptyLabels(), DropRule
	}
	b.Set("added", group)
	return b.Labels(), Keep
}

// mutate changes a page a little: values mostly, sometimes lines.
func mutate(r *rand.Rand, body string) string {
	lines := strings.SplitAfter(body, "\n")
	for i, l := range lines {
		if l != "" && l[0] != '#' && r.IntN(2) == 0 {
			if at := strings.LastIndexByte(l, ' '); at > 0 {
				lines[i] = fmt.Sprintf("%s %d\n", l[:at], r.IntN(100))
			}
		}
	}
	for r.IntN(2) == 0 && len(lines) > 1 {
		i, j := r.IntN(len(lines)), r.IntN(len(lines))
		switch r.IntN(4) {
		case 0:
			lines = append(lines[:i:i], lines[i+1:]...)
		case 1:
			lines[i], lines[j] = lines[j], lines[i]
		case 2:
			lines = append(lines[:i:i], append([]string{lines[j]}, lines[i:]...)...)
		case 3:
			lines = append(lines[:i:i], append(strings.SplitAfter(randomPage(r), "\n"), lines[i:]...)...)
		}
	}
	return strings.Join(lines, "")
}

// What a Source remembers must never show: the page is the one that a fresh
// Source would have made.
func TestSourceHasNoMemory(t *testing.T) {
	for seed := range uint64(300) {
		r := random(seed)
		s := NewSource()
		body := randomPage(r)
		rw := rules{group: "m", rewrite: func(b *labels.Builder) bool { return b.Get("x") != "2" }}
		var (
			m     Merger
			taken string // the last body that was not refused
		)
		for step := range 8 {
			newRules := r.IntN(4) == 0
			if newRules {
				rw.epoch++
				drop := fmt.Sprint(r.IntN(3))
				rename := r.IntN(3) == 0
				rw.rewrite = func(b *labels.Builder) bool {
					if n := b.Get(model.MetricNameLabel); rename && strings.HasPrefix(n, "a") {
						b.Set(model.MetricNameLabel, "c"+n[1:])
					}
					return b.Get("x") != drop
				}
			}
			last, _ := NewSource().Decode([]byte(taken), textType, rw)
			if newRules && r.IntN(2) == 0 && taken != "" {
				again, _ := s.Rewrite(rw)
				comparePages(t, last, again)
			}
			reused := []byte(body)
			page, err := s.Decode(reused, textType, rw)
			clear(reused)
			fresh, freshErr := NewSource().Decode([]byte(body), textType, rw)
			if (err == nil) != (freshErr == nil) {
				t.Fatalf("seed %d, step %d: %v, and %v for a fresh source:\n%s", seed, step, err, freshErr, body)
			}
			if err == nil {
				compareLeft(t, s, last, page, rw)
				taken = body
				comparePages(t, fresh, page)
				got, want := m.Merge(parts(page)...), Merge(parts(fresh)...)
				if g, w := identity(t, TextUTF8, got), identity(t, TextUTF8, want); !bytes.Equal(g, w) {
					t.Errorf("got\n%s\nwant\n%s", g, w)
				}
				if got.Duplicates() != want.Duplicates() || got.Series() != want.Series() {
					t.Errorf("%d series and %d duplicates, want %d and %d", got.Series(), got.Duplicates(), want.Series(), want.Duplicates())
				}
			}
			if t.Failed() {
				t.Fatalf("seed %d, step %d:\n%s", seed, step, body)
			}
			body = mutate(r, body)
		}
	}
}

// compareLeft holds what a Source says of the groups that have left the page against
// the last page, read under the same rules.
func compareLeft(t *testing.T, s *Source, last, page *Page, rw rules) {
	t.Helper()
	for _, g := range append(slices.Clip(last.Groups()), "never there") {
		left := s.Left(g)
		if gone := page.Block(g) == nil && last.Block(g) != nil; gone != (left != nil) {
			t.Errorf("group %q is gone: %t, has a source: %t", g, gone, left != nil)
		}
		if left == nil {
			continue
		}
		again, _ := left.Rewrite(rw)
		if got, want := again.Block(g).Fingerprint(), last.Block(g).Fingerprint(); got != want {
			t.Errorf("group %q has left: another fingerprint", g)
		}
		if n := len(again.Groups()); n != 1 {
			t.Errorf("group %q has left: %d groups", g, n)
		}
	}
}

func comparePages(t *testing.T, want, got *Page) {
	t.Helper()
	if g, w := fmt.Sprintf("%q", got.Groups()), fmt.Sprintf("%q", want.Groups()); g != w {
		t.Errorf("groups %s, want %s", g, w)
		return
	}
	if got.Stats() != want.Stats() {
		t.Errorf("stats %+v, want %+v", got.Stats(), want.Stats())
	}
	for _, g := range want.Groups() {
		if got.Block(g).Fingerprint() != want.Block(g).Fingerprint() {
			t.Errorf("group %q has another fingerprint", g)
		}
	}
}

// strictParser is Debian's python3-prometheus-client, whose parser of
// OpenMetrics is the strict one.
const strictParser = `
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
for line in sys.stdin:
    page = json.loads(line)
    try:
        n = sum(len(f.samples) for f in parse(page))
        print("ok", n, flush=True)
    except Exception as e:
        print("refused", repr(e), flush=True)
`

func TestOpenMetricsIsStrictlyValid(t *testing.T) {
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import prometheus_client.openmetrics.parser").Run(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("python3-prometheus-client is not installed")
		}
		t.Skip("python3-prometheus-client is not installed")
	}
	var docs []*Document
	for _, body := range textSeeds {
		if p, err := NewSource().Decode([]byte(body), textType, asIs{}); err == nil {
			docs = append(docs, Merge(parts(p)...))
		}
	}
	for _, body := range openMetricsSeeds {
		if p, err := NewSource().Decode([]byte(body), openMetricsType, asIs{}); err == nil {
			docs = append(docs, Merge(parts(p)...))
		}
	}
	for seed := range uint64(1500) {
		docs = append(docs, document(t, randomPage(random(seed)), textType, asIs{}))
	}
	var in bytes.Buffer
	for _, d := range docs {
		if err := json.NewEncoder(&in).Encode(string(joined(Encode(OpenMetrics, Identity, d)))); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(python, "-c", strictParser)
	cmd.Stdin = &in
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	verdicts := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(verdicts) != len(docs) {
		t.Fatalf("%d verdicts on %d pages", len(verdicts), len(docs))
	}
	for i, v := range verdicts {
		if want := fmt.Sprintf("ok %d", docs[i].forFormat(OpenMetrics).Series()); v != want {
			t.Fatalf("%s, want %s:\n%s", v, want, joined(Encode(OpenMetrics, Identity, docs[i])))
		}
	}
}
