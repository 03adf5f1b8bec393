package exposition

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
)

// relabelling applies rules, and is asked as little as their scope allows.
type relabelling struct {
	RuleScope
	rules []*relabel.Config
	epoch uint64
	calls int
}

func newRelabelling(rules []*relabel.Config) *relabelling {
	return &relabelling{RuleScope: NewRuleScope(rules), rules: rules}
}

func (*relabelling) Group(lset labels.Labels) string { return lset.Get("m") }
func (r *relabelling) Epoch(string) uint64           { return r.epoch }
func (r *relabelling) Passes(label string) bool      { return label != "m" && r.RuleScope.Passes(label) }

func (r *relabelling) Rewrite(_ string, lset labels.Labels) (labels.Labels, Verdict) {
	r.calls++
	b := labels.NewBuilder(lset)
	if !relabel.ProcessBuilder(b, r.rules...) {
		return labels.EmptyLabels(), DropRule
	}
	return b.Labels(), Keep
}

// byName is the same rules, asked about every single series.
type byName struct{ *relabelling }

func (byName) Class(name string) string { return name }

func rule(r relabel.Config) *relabel.Config {
	if r.Regex.Regexp == nil {
		r.Regex = relabel.DefaultRelabelConfig.Regex
	}
	r.NameValidationScheme = model.UTF8Validation
	return &r
}

func TestNameClasses(t *testing.T) {
	sources := func(names ...model.LabelName) model.LabelNames { return names }
	re := relabel.MustNewRegexp
	name := sources("__name__")
	names := []string{"a", "b", "go_x", "name"}
	for _, test := range []struct {
		name  string
		rules []*relabel.Config
		want  string // one letter for each class, in the order of the names
	}{
		{"no rules", nil, "0000"},
		{"drop names", []*relabel.Config{rule(relabel.Config{Action: relabel.Drop, SourceLabels: name, Regex: re("go_.*")})}, "0010"},
		{"keep names", []*relabel.Config{rule(relabel.Config{Action: relabel.Keep, SourceLabels: name, Regex: re("a|b")})}, "0011"},
		{"twice the name", []*relabel.Config{rule(relabel.Config{Action: relabel.Drop, SourceLabels: sources("__name__", "__name__"), Separator: "/", Regex: re("a/a")})}, "0111"},
		{"two tests", []*relabel.Config{
			rule(relabel.Config{Action: relabel.Keep, SourceLabels: name, Regex: re("a|b|name")}),
			rule(relabel.Config{Action: relabel.Drop, SourceLabels: name, Regex: re("b")}),
		}, "0120"},
		{"set a label by name", []*relabel.Config{rule(relabel.Config{Action: relabel.Replace, SourceLabels: name, Regex: re("go_.*"), TargetLabel: "x", Replacement: "go"})}, "0010"},
		{"copy the name", []*relabel.Config{rule(relabel.Config{Action: relabel.Replace, SourceLabels: name, TargetLabel: "x", Replacement: "$1"})}, "0123"},
		{"name a label by the name", []*relabel.Config{rule(relabel.Config{Action: relabel.Replace, SourceLabels: name, TargetLabel: "x_$1", Replacement: "y"})}, "0123"},
		{"rename", []*relabel.Config{rule(relabel.Config{Action: relabel.Replace, TargetLabel: "__name__", Replacement: "y"})}, "0123"},
		{"rename, maybe", []*relabel.Config{rule(relabel.Config{Action: relabel.Replace, SourceLabels: sources("x"), TargetLabel: "__$1", Replacement: "y"})}, "0123"},
		{"write another template", []*relabel.Config{rule(relabel.Config{Action: relabel.Replace, SourceLabels: sources("x"), TargetLabel: "x_$1", Replacement: "$1"})}, "0000"},
		{"write another label", []*relabel.Config{rule(relabel.Config{Action: relabel.Replace, SourceLabels: sources("x"), TargetLabel: "name", Replacement: "$1"})}, "0000"},
		{"test more than the name", []*relabel.Config{rule(relabel.Config{Action: relabel.Drop, SourceLabels: sources("__name__", "x"), Separator: ";", Regex: re("a;1")})}, "0123"},
		{"compare with the name", []*relabel.Config{rule(relabel.Config{Action: relabel.DropEqual, SourceLabels: sources("x"), TargetLabel: "__name__"})}, "0123"},
		{"compare the name", []*relabel.Config{rule(relabel.Config{Action: relabel.KeepEqual, SourceLabels: name, TargetLabel: "x"})}, "0123"},
		{"compare others", []*relabel.Config{rule(relabel.Config{Action: relabel.KeepEqual, SourceLabels: sources("y"), TargetLabel: "x"})}, "0000"},
		{"lowercase", []*relabel.Config{rule(relabel.Config{Action: relabel.Lowercase, SourceLabels: name, TargetLabel: "x"})}, "0123"},
		{"hash of another", []*relabel.Config{rule(relabel.Config{Action: relabel.HashMod, SourceLabels: sources("x"), TargetLabel: "y", Modulus: 3})}, "0000"},
		{"hash to the name", []*relabel.Config{rule(relabel.Config{Action: relabel.HashMod, SourceLabels: sources("x"), TargetLabel: "__name__", Modulus: 3})}, "0123"},
		{"map to another prefix", []*relabel.Config{rule(relabel.Config{Action: relabel.LabelMap, Regex: re("x(.*)"), Replacement: "pg_$1"})}, "0000"},
		{"map, maybe to the name", []*relabel.Config{rule(relabel.Config{Action: relabel.LabelMap, Regex: re("x(.*)"), Replacement: "$1"})}, "0123"},
		{"map the name", []*relabel.Config{rule(relabel.Config{Action: relabel.LabelMap, Regex: re("__(.*)__"), Replacement: "x_$1"})}, "0123"},
		{"drop labels", []*relabel.Config{rule(relabel.Config{Action: relabel.LabelDrop, Regex: re("tmp_.*")})}, "0000"},
		{"drop the name", []*relabel.Config{rule(relabel.Config{Action: relabel.LabelDrop, Regex: re("__.*")})}, "0123"},
		{"keep labels", []*relabel.Config{rule(relabel.Config{Action: relabel.LabelKeep, Regex: re("__name__|x")})}, "0000"},
		{"keep labels but not the name", []*relabel.Config{rule(relabel.Config{Action: relabel.LabelKeep, Regex: re("x")})}, "0123"},
		{"unknown", []*relabel.Config{rule(relabel.Config{Action: "later"})}, "0123"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := NewRuleScope(test.rules)
			numbers := map[string]int{}
			got := ""
			for _, n := range names {
				class := c.Class(n)
				if _, ok := numbers[class]; !ok {
					numbers[class] = len(numbers)
				}
				got += fmt.Sprint(numbers[class])
			}
			if got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestPasses(t *testing.T) {
	sources := func(names ...model.LabelName) model.LabelNames { return names }
	re := relabel.MustNewRegexp
	for _, test := range []struct {
		name string
		rule relabel.Config
		want string // which of a, b, ab and name pass
	}{
		{"test", relabel.Config{Action: relabel.Keep, SourceLabels: sources("a", "__name__")}, "b ab name"},
		{"test none", relabel.Config{Action: relabel.Drop, Regex: re("x")}, "a b ab name"},
		{"replace", relabel.Config{Action: relabel.Replace, SourceLabels: sources("a"), TargetLabel: "b", Replacement: "$1"}, "ab name"},
		{"write by template", relabel.Config{Action: relabel.Replace, SourceLabels: sources("name"), TargetLabel: "a$1", Replacement: "x"}, "b"},
		{"write any", relabel.Config{Action: relabel.Replace, TargetLabel: "${1}_x", Replacement: "x"}, ""},
		{"equal", relabel.Config{Action: relabel.KeepEqual, SourceLabels: sources("a"), TargetLabel: "b"}, "ab name"},
		{"hash", relabel.Config{Action: relabel.HashMod, SourceLabels: sources("a"), TargetLabel: "name", Modulus: 2}, "b ab"},
		{"uppercase", relabel.Config{Action: relabel.Uppercase, SourceLabels: sources("b"), TargetLabel: "b"}, "a ab name"},
		{"map", relabel.Config{Action: relabel.LabelMap, Regex: re("a"), Replacement: "b"}, "name"}, // of ab, the a would be replaced if the rule were not anchored
		{"map by template", relabel.Config{Action: relabel.LabelMap, Regex: re("(n.*)"), Replacement: "x_$1"}, "a b ab"},
		{"map to any", relabel.Config{Action: relabel.LabelMap, Regex: re("x(.*)"), Replacement: "$1"}, ""},
		{"drop labels", relabel.Config{Action: relabel.LabelDrop, Regex: re("a.*")}, "b name"},
		{"keep labels", relabel.Config{Action: relabel.LabelKeep, Regex: re("a.*")}, "a ab"},
		{"unknown", relabel.Config{Action: "later"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			scope := NewRuleScope([]*relabel.Config{rule(test.rule)})
			var got []string
			for _, label := range []string{"a", "b", "ab", "name"} {
				if scope.Passes(label) {
					got = append(got, label)
				}
			}
			if g := strings.Join(got, " "); g != test.want {
				t.Errorf("%q pass, not %q", g, test.want)
			}
		})
	}
}

func randomRule(r *rand.Rand) *relabel.Config {
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	c := relabel.Config{
		Action: relabel.Action(pick("replace", "replace", "keep", "drop", "keepequal", "dropequal",
			"hashmod", "labelmap", "labeldrop", "labelkeep", "lowercase", "uppercase")),
		Separator:   pick(";", ";", "", "_"),
		Modulus:     3,
		TargetLabel: pick("x", "m2", "y_z", "name", "__name__", "__tmp"),
		Replacement: pick("$1", "$1", "c", "", "a_$1", "__name__", "__na$1", "my_a"),
	}
	if c.Action == relabel.Replace && r.IntN(2) == 0 {
		c.TargetLabel = pick("${1}", "__${1}__", "x_$1", "$$", "_$1", "__name__$1")
	}
	switch c.Action {
	case relabel.Keep, relabel.LabelKeep:
		c.Regex = relabel.MustNewRegexp(pick(".*", ".+", "a.*", "(?i)A.*|m", "[amxy_].*", "x|m|__name__|y.z", "__.*__|m"))
	case relabel.Drop, relabel.LabelDrop:
		c.Regex = relabel.MustNewRegexp(pick("a_.*", "b", "1|2", "a;1", "x", "__tmp.*", "a;?a", "m2", "__.*"))
	default:
		c.Regex = relabel.MustNewRegexp(pick("(.*)", "(.+)", "(a)_.*", "(.)", "a)|(b", "(x)|m", "x(.*)", "(.*)_b.*", "(na.*)", "", "__(.*)__"))
	}
	switch r.IntN(3) {
	case 0:
		c.SourceLabels = model.LabelNames{model.LabelName(pick("__name__", "x"))}
	default:
		for range r.IntN(3) {
			c.SourceLabels = append(c.SourceLabels, model.LabelName(pick("__name__", "__name__", "x", "m", "y_z", "__tmp")))
		}
	}
	return rule(c)
}

// sameLabels writes a page whose families have the same labels, some of which a
// rule could make the name of.
func sameLabels(r *rand.Rand) string {
	var b strings.Builder
	for _, name := range []string{"a", "a_b", "b", "my_a"} {
		for _, l := range []string{`m="1"`, `m="1",x="name"`, `m="2",x="a"`, ` x="na", m="__name__"`, `x__name__="z"`} {
			if r.IntN(4) > 0 {
				fmt.Fprintf(&b, "%s{%s} %d\n", name, l, r.IntN(9))
			}
		}
	}
	return b.String()
}

// checkRuleScope decodes a page and what it mutates to, under rules of the seed, and
// returns how often the rules need not have been asked.
func checkRuleScope(t *testing.T, seed uint64, body string) (saved int) {
	t.Helper()
	r := random(seed)
	var rules []*relabel.Config
	for range 1 + r.IntN(2) {
		rules = append(rules, randomRule(r))
	}
	fast, slow := newRelabelling(rules), newRelabelling(rules)
	s, reference := NewSource(), NewSource()
	for range 3 {
		if r.IntN(3) == 0 {
			fast.epoch++
			slow.epoch++
		}
		page, err := s.Decode([]byte(body), textType, fast)
		want, wantErr := reference.Decode([]byte(body), textType, byName{slow})
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("seed %d: %v, want %v", seed, err, wantErr)
		}
		if err == nil {
			comparePages(t, want, page)
			g, w := identity(t, TextUTF8, Merge(parts(page)...)), identity(t, TextUTF8, Merge(parts(want)...))
			if !bytes.Equal(g, w) {
				t.Errorf("got\n%s\nwant\n%s", g, w)
			}
		}
		if t.Failed() {
			for _, c := range rules {
				t.Logf("%+v", *c)
			}
			t.Fatalf("seed %d:\n%s", seed, body)
		}
		body = mutate(r, body)
	}
	return slow.calls - fast.calls
}

// Whatever the rules, it must not show that they are asked about a part of the series
// only, and of these about a part of the labels.
func TestRuleScope(t *testing.T) {
	saved := 0
	for seed := range uint64(1500) {
		r := random(seed + 1<<32)
		body := sameLabels(r)
		if r.IntN(3) == 0 {
			body = randomPage(r)
		}
		saved += checkRuleScope(t, seed, body)
	}
	if saved < 1000 {
		t.Errorf("only %d questions were saved", saved)
	}
}

func FuzzRelabel(f *testing.F) {
	for i, s := range textSeeds {
		f.Add(uint64(i), s)
	}
	for i := range uint64(20) {
		f.Add(i, sameLabels(random(i)))
	}
	f.Fuzz(func(t *testing.T, seed uint64, body string) { checkRuleScope(t, seed, body) })
}
