package exposition

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// chain reads successive versions of a page as a collector does: with all memos, or,
// if it forgets, without any.
type chain struct {
	parser  *Parser
	blocks  map[string]*Block
	doc     *Document
	encoder *Encoder
	page    *Page
}

func newChain(e *Encoder) *chain {
	return &chain{parser: NewParser("m"), blocks: make(map[string]*Block), encoder: e}
}

func (c *chain) next(body, contentType string, added func(string) []labels.Label, rules *Rules) error {
	reused := []byte(body)
	page, err := c.parser.Parse(reused, contentType)
	clear(reused)
	if err != nil {
		return err
	}
	c.page = page
	c.expose(added, rules)
	return nil
}

func (c *chain) expose(added func(string) []labels.Label, rules *Rules) {
	blocks := make(map[string]*Block)
	var parts []Part
	for i, g := range slices.Sorted(maps.Keys(c.page.Groups)) {
		blocks[g] = Expose(c.page.Groups[g], added(g), rules, c.blocks[g])
		p := Part{Block: blocks[g]}
		if i == 1 {
			p.Timestamp = time.UnixMilli(5000)
		}
		parts = append(parts, p)
	}
	c.blocks = blocks
	c.doc = Merge(c.doc, parts...)
}

// answers are all that can be seen of a chain.
func (c *chain) answers() string {
	var b strings.Builder
	for _, g := range slices.Sorted(maps.Keys(c.page.Groups)) {
		fmt.Fprintf(&b, "group %q: %d series, %d served, %+v\n", g, c.page.Groups[g].Series(), c.blocks[g].Series(), c.blocks[g].Dropped())
	}
	fmt.Fprintf(&b, "%d bytes, %d downgraded, %d series, %d duplicates\n", c.page.Bytes, c.page.Downgraded, c.doc.Series(), c.doc.Duplicates())
	for _, ending := range slices.Sorted(maps.Keys(formats)) {
		body := c.encoder.Encode(formats[ending], Identity, c.doc)
		fmt.Fprintf(&b, "%s%s %s\n", joined(body), ending, body.ETag)
	}
	fmt.Fprintf(&b, "gzip %s\n", c.encoder.Encode(Text, Gzip, c.doc).ETag)
	return b.String()
}

// difference shows the first line in which two texts differ, and some before it.
func difference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	i := 0
	for i < min(len(g), len(w))-1 && g[i] == w[i] {
		i++
	}
	return fmt.Sprintf("after %q\ngot  %q\nwant %q", g[max(0, i-3):i], g[i], w[i])
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
		switch r.IntN(7) {
		case 0: // gone
			lines = slices.Delete(lines, i, i+1)
		case 1: // elsewhere
			lines[i], lines[j] = lines[j], lines[i]
		case 2: // twice
			lines = slices.Insert(lines, i, lines[j])
		case 3: // new
			lines = slices.Insert(lines, i, strings.SplitAfter(randomPage(r), "\n")...)
		case 4: // another type
			for k, l := range lines {
				if fields := strings.Fields(l); len(fields) == 4 && fields[1] == "TYPE" {
					lines[k] = fmt.Sprintf("# TYPE %s %s\n", fields[2], pick(r, "histogram", "summary", "gauge", "info"))
				}
			}
		case 5: // another comment
			lines = slices.Insert(lines, i, pick(r, "# HELP a other\n", "#\n", " # TYPE a counter\n", "# TYPE a thing\n", "\n", "#TYPE a gauge\n"))
		case 6: // no comments at all
			lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "#") })
		}
	}
	return strings.Join(lines, "")
}

// What is remembered of earlier pages, blocks and documents must never show: all is
// as if there had been none.
func TestMemosNeverShow(t *testing.T) {
	for seed := range uint64(100) {
		checkMemos(t, seed, "")
	}
}

func FuzzMemos(f *testing.F) {
	for i, s := range textSeeds {
		f.Add(uint64(i), s)
	}
	f.Fuzz(checkMemos)
}

func checkMemos(t *testing.T, seed uint64, body string) {
	t.Helper()
	r := random(seed)
	if body == "" {
		body = randomPage(r)
	}
	encoder := new(Encoder)
	memo := newChain(encoder)
	label := labels.Label{Name: "x", Value: "1"}
	added := func(group string) []labels.Label { return []labels.Label{{Name: "added", Value: group}, label} }
	rules := &Rules{Relabel: randomRules(r), Reserved: func(name string) bool { return name == "b" }}
	var pages []string
	for step := range 8 {
		switch r.IntN(6) {
		case 0:
			rules = &Rules{Relabel: randomRules(r), Reserved: rules.Reserved}
		case 1:
			label.Value = fmt.Sprint(r.IntN(3))
		case 2:
			if r.IntN(4) == 0 {
				memo.parser.Forget()
			}
		}
		contentType := textContent
		if r.IntN(10) == 0 {
			contentType = openMetricsContent
			body += "# EOF\n"
		}
		pages = append(pages, body)
		fresh := newChain(encoder)
		err, freshErr := memo.next(body, contentType, added, rules), fresh.next(body, contentType, added, rules)
		if fmt.Sprint(err) != fmt.Sprint(freshErr) {
			t.Fatalf("seed %d, step %d: %v, and %v without a memo:\n%s", seed, step, err, freshErr, body)
		}
		if err == nil {
			if got, want := memo.answers(), fresh.answers(); got != want {
				t.Fatalf("seed %d, step %d: %s\npages:\n%s", seed, step, difference(got, want), strings.Join(pages, "---\n"))
			}
			last := maps.Clone(memo.blocks)
			doc := memo.doc
			memo.expose(added, rules)
			if memo.doc != doc || !maps.Equal(memo.blocks, last) {
				t.Fatalf("seed %d, step %d: the same input gives another block or document", seed, step)
			}
		}
		body = strings.TrimSuffix(body, "# EOF\n")
		if r.IntN(8) > 0 {
			body = mutate(r, body)
		} else {
			body = randomPage(r)
		}
	}
}

// These each went wrong, or could have, in a parser that remembers.
func TestPagesAfterEachOther(t *testing.T) {
	for name, pages := range map[string][]string{
		"a group leaves, the others move up": {
			"a{m=\"1\"} 1\na{m=\"2\"} 2\na{m=\"3\"} 3\n", "a{m=\"3\"} 4\na{m=\"2\"} 5\n", "a{m=\"2\"} 6\n", "a{m=\"1\"} 7\na{m=\"2\"} 8\n",
		},
		"an indented comment goes":       {"  # TYPE a gauge\na 1\n", "a 1\n"},
		"a comment comes indented":       {"a 1\n", "  # TYPE a gauge\na 1\n"},
		"a comment was in a label value": {"a{x=\"\n# TYPE b gauge\n\"} 1\nb 1\n", "# TYPE b gauge\nb 1\n"},
		"a type goes, bounds stay":       {"# TYPE h histogram\nh_bucket{le=\"1\"} 1\n", "h_bucket{le=\"1\"} 1\n", "# TYPE h histogram\nh_bucket{le=\"1\"} 1\n"},
		"another type for odd bounds":    {"# TYPE h histogram\nh_bucket{le=\"1\",quantile=\".5\"} 1\n", "# TYPE h summary\nh_bucket{le=\"1\",quantile=\".5\"} 1\n"},
		"types at other places":          {"# TYPE h histogram\nh_bucket{le=\"1\"} 1\n# TYPE a gauge\na 1\n", "# TYPE a gauge\n# TYPE h histogram\na 1\nh_bucket{le=\"1\"} 1\n", "# TYPE h histogram\n# TYPE a gauge\nh_bucket{le=\"1\"} 1\na 1\n"},
		"a negative timestamp":           {"a 1\n", "a 1 -5\n", "a 1 5\n", "a 1 +5\n", "a 1 \n"},
		"a number that is out of range":  {"a 1\n", "a 1" + strings.Repeat("0", 400) + "\n", "a 1e999\n", "a 1_0\n", "a 0x1p3\n"},
		"a duplicate comes and goes":     {"a 1\n", "a 1\na 2\n", "a 2\na 1\n", "a 1 5\na 2 9\n", "a 1\n"},
		"labels in another order":        {"a{b=\"1\",c=\"2\"} 1\n", "a{c=\"2\",b=\"1\"} 1\n", "a{c=\"2\",b=\"1\"} 1 5\na{b=\"1\",c=\"2\"} 2 9\n"},
		"help changes":                   {"# HELP a x\na 1\n", "# HELP a y\na 1\n", "# HELP a x\n# HELP a y\na 1\n", "# HELP a y\n# HELP a x\na 1\n"},
		"invalid series come and go":     {"a 1\n", "a{b=\"1\",b=\"2\"} 1\na 1\n", "a{b=\"1\",b=\"2\"} 1\na{b=\"1\",b=\"2\"} 1\n", "a 1\n"},
		"blanks":                         {"a 1\n", "a  1\n", "a\t1\n", "a 1\t5\n", "a 1 5 \n", "\ta 1\n"},
		"refused in between":             {"# TYPE a gauge\na 1\n", "# TYPE a counter\nb 1\na x\n", "# TYPE a gauge\na 1\n", "b 1\n"},
		"no last line feed":              {"a 1\n", "a 1", "# HELP a x", "# HELP a x\na 1"},
	} {
		t.Run(name, func(t *testing.T) {
			encoder := new(Encoder)
			memo, rules := newChain(encoder), &Rules{}
			for _, body := range pages {
				compareVerdict(t, memo.parser, []byte(body), textContent)
				fresh := newChain(encoder)
				err := memo.next(body, textContent, nothingAdded, rules)
				if freshErr := fresh.next(body, textContent, nothingAdded, rules); fmt.Sprint(err) != fmt.Sprint(freshErr) {
					t.Fatalf("%.60q: %v, and %v without a memo", body, err, freshErr)
				}
				if err == nil && memo.answers() != fresh.answers() {
					t.Errorf("%q: %s", body, difference(memo.answers(), fresh.answers()))
				}
			}
		})
	}
}

func TestUnchangedPageIsNotEncodedAgain(t *testing.T) {
	const body = "# TYPE a gauge\na{m=\"1\"} 1\na{m=\"2\"} 2\nb 3\n"
	c := newChain(new(Encoder))
	rules := &Rules{}
	read := func(body string) {
		t.Helper()
		if err := c.next(body, textContent, func(g string) []labels.Label { return []labels.Label{{Name: "added", Value: g}} }, rules); err != nil {
			t.Fatal(err)
		}
		for _, f := range formats {
			c.encoder.Encode(f, Gzip, c.doc)
			c.encoder.Encode(f, Identity, c.doc)
		}
	}
	read(body)
	page, blocks, doc, encoded := c.page, c.blocks, c.doc, c.encoder.Encoded()
	if encoded == 0 {
		t.Error("nothing was encoded")
	}
	read(body)
	if !maps.Equal(c.page.Groups, page.Groups) || !maps.Equal(c.blocks, blocks) || c.doc != doc {
		t.Error("the same page gives other metrics, blocks or documents")
	}
	if n := c.encoder.Encoded(); n != encoded {
		t.Errorf("the same page was encoded %d times more", n-encoded)
	}
	read(strings.Replace(body, " 2\n", " 5\n", 1))
	if c.page.Groups["1"] != page.Groups["1"] || c.page.Groups["2"] == page.Groups["2"] || c.blocks["1"] != blocks["1"] {
		t.Error("a value of one group does not change that group only")
	}
	if c.doc == doc || c.encoder.Encoded() == encoded {
		t.Error("a value has changed, the page has not")
	}
	// Other rules, which say the same, are a reason to look again.
	rules = &Rules{}
	blocks = c.blocks
	read(body)
	if c.blocks["1"] == blocks["1"] {
		t.Error("new rules, but the same block")
	}
}

func TestEqual(t *testing.T) {
	pages := []string{
		"a 1\n", "a 2\n", "b 1\n", "a{b=\"c\"} 1\n", "a 1 5\n", "# TYPE a gauge\na 1\n", "# HELP a b\na 1\n",
		"a 1\na{b=\"c\"} 2\n", "a{b=\"c\"} 2\na 1\n", "a 12\na{b=\"c\"} 2\n", "a 1\na{b=\"c\"} 22\n", "a 1\na 1\n",
	}
	p := NewParser("")
	for i, a := range pages {
		for j, b := range pages {
			m, o := mustParse(t, p, a, textContent).Groups[""], mustParse(t, NewParser(""), b, textContent).Groups[""]
			if m.Equal(o) != (i == j) || o.Equal(m) != (i == j) {
				t.Errorf("%q, %q: equal is %t", a, b, m.Equal(o))
			}
		}
		if m := mustParse(t, p, a, textContent).Groups[""]; m.Equal(nil) || (*Metrics)(nil).Equal(m) || !(*Metrics)(nil).Equal(nil) {
			t.Error("nothing is equal to something")
		}
	}
}

// Services come and go; what they leave behind does not add up.
func TestMemoryIsFlat(t *testing.T) {
	c := newChain(new(Encoder))
	rules := &Rules{}
	services := make([]int, 20)
	next := 0
	step := func() {
		services[next%len(services)] = next
		next++
		var b strings.Builder
		for metric := range 20 {
			fmt.Fprintf(&b, "# HELP metric_%d Some help.\n# TYPE metric_%d gauge\n", metric, metric)
			for _, s := range services {
				fmt.Fprintf(&b, "metric_%d{m=\"service-%d\",name=\"%s\"} %d\n", metric, s, strings.Repeat("x", 50), next)
			}
		}
		if err := c.next(b.String(), textContent, func(g string) []labels.Label { return []labels.Label{{Name: "added", Value: g}} }, rules); err != nil {
			t.Fatal(err)
		}
		c.encoder.Encode(Text, Gzip, c.doc)
	}
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	for range 100 {
		step()
	}
	before := heap()
	for range 1000 {
		step()
	}
	if after := heap(); after > before+before/4 {
		t.Errorf("%d bytes became %d", before, after)
	}
	runtime.KeepAlive(c)
}
