package exposition

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"
)

func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func pick(r *rand.Rand, s ...string) string { return s[r.IntN(len(s))] }

// randomPage writes a page whose names are as close to each other as can be.
func randomPage(r *rand.Rand) string {
	var b strings.Builder
	name := func() string {
		return pick(r, "a", "a", "b", "my_a", "a_total", "a_info", "a_created", "a_sum", "a_count", "a_bucket", "a_gsum", "a_bucket_sum")
	}
	for range 1 + r.IntN(5) {
		n := name()
		if r.IntN(3) > 0 {
			fmt.Fprintf(&b, "# HELP %s %s\n", n, pick(r, "help", `a \\ \n "b"`, ""))
		}
		typ := pick(r, "counter", "gauge", "histogram", "summary", "untyped", "")
		if typ != "" {
			fmt.Fprintf(&b, "# TYPE %s %s\n", n, typ)
		}
		if (typ == "histogram" || typ == "summary") && r.IntN(5) > 0 {
			for range 1 + r.IntN(3) {
				writeComposite(&b, r, n, typ)
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
				bound = append(bound, pick(r, `le="1"`, `le="+Inf"`, `quantile="0.5"`, `le="x"`, `le="0x1p-2"`, `m="1"`))
			}
			stamp := ""
			if r.IntN(40) == 0 {
				stamp = pick(r, " 0", " 1000", " 1712345678901")
			}
			fmt.Fprintf(&b, "%s%s %s%s\n", s, randomLabels(r, bound), pick(r, "0", "1", "1", "2", "2.5", "-1", "NaN", "+Inf", "1e3", "00"), stamp)
		}
		if r.IntN(20) == 0 {
			fmt.Fprintf(&b, "{%q} 1\n", pick(r, "my.a", "my a", "a.sum", "ü"))
		}
	}
	return b.String()
}

func randomLabels(r *rand.Rand, l []string) string {
	if r.IntN(3) == 0 {
		l = append(l, fmt.Sprintf("x=%q", pick(r, "1", "2", "a # {b", "}", "\\\"", "ü", ",le=")))
	}
	if r.IntN(20) == 0 {
		l = append(l, pick(r, `"y z"="3"`, `y_z="4"`, `y_z="5","y.z"="5"`))
	}
	r.Shuffle(len(l), func(i, j int) { l[i], l[j] = l[j], l[i] })
	if len(l) == 0 {
		return ""
	}
	return "{" + strings.Join(l, ",") + "}"
}

// writeComposite writes a metric of a histogram or summary, mostly a sound one.
func writeComposite(b *strings.Builder, r *rand.Rand, n, typ string) {
	l := fmt.Sprintf("m=%q", pick(r, "1", "2", "3"))
	var lines []string
	total := 0
	for _, bound := range []string{"0.5", "1", "2e1", "+Inf"} {
		total += r.IntN(3)
		if typ == "summary" {
			bound = pick(r, "0", "0.5", "0.9", "1")
			lines = append(lines, fmt.Sprintf("%s{quantile=%q,%s} %s", n, bound, l, pick(r, "1", "2.5", "NaN")))
			continue
		}
		lines = append(lines, fmt.Sprintf("%s_bucket{%s,le=%q} %d", n, l, bound, total))
	}
	lines = append(lines, fmt.Sprintf("%s_sum{%s} 3.5", n, l), fmt.Sprintf("%s_count{%s} %d", n, l, total))
	if r.IntN(4) == 0 {
		r.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	}
	switch r.IntN(8) {
	case 0:
		lines = lines[1:]
	case 1:
		lines = lines[:len(lines)-2] // neither sum nor count
	}
	b.WriteString(strings.Join(lines, "\n") + "\n")
}

func randomRules(r *rand.Rand) []*relabel.Config {
	var rules []*relabel.Config
	for range r.IntN(3) {
		rules = append(rules, randomRule(r))
	}
	return rules
}

func randomRule(r *rand.Rand) *relabel.Config {
	c := &relabel.Config{
		Action: relabel.Action(pick(r, "replace", "replace", "keep", "drop", "keepequal", "dropequal",
			"hashmod", "labelmap", "labeldrop", "labelkeep", "lowercase", "uppercase")),
		Separator:            pick(r, ";", ";", "", "_"),
		Modulus:              3,
		TargetLabel:          pick(r, "x", "m2", "y_z", "name", "le", "__name__", "__tmp"),
		Replacement:          pick(r, "$1", "$1", "c", "", "a_$1", "__name__", "__na$1", "my_a"),
		NameValidationScheme: model.UTF8Validation,
	}
	if c.Action == relabel.Replace && r.IntN(2) == 0 {
		c.TargetLabel = pick(r, "${1}", "__${1}__", "x_$1", "$$", "_$1", "__name__$1")
	}
	switch c.Action {
	case relabel.Keep, relabel.LabelKeep:
		c.Regex = relabel.MustNewRegexp(pick(r, ".*", ".+", "a.*", "(?i)A.*|m", "[amxy_].*", "x|m|__name__|y.z", "__.*__|m"))
	case relabel.Drop, relabel.LabelDrop:
		c.Regex = relabel.MustNewRegexp(pick(r, "a_.*", "b", "1|2", "a;1", "x", "__tmp.*", "a;?a", "m2", "le", "m", "__.*"))
	default:
		c.Regex = relabel.MustNewRegexp(pick(r, "(.*)", "(.+)", "(a)_.*", "(.)", "a)|(b", "(x)|m", "x(.*)", "(.*)_b.*", "(na.*)", "", "__(.*)__"))
	}
	if r.IntN(3) == 0 {
		c.SourceLabels = model.LabelNames{model.LabelName(pick(r, "__name__", "x"))}
		return c
	}
	for range r.IntN(3) {
		c.SourceLabels = append(c.SourceLabels, model.LabelName(pick(r, "__name__", "__name__", "x", "m", "le", "y_z", "__tmp")))
	}
	return c
}
