package exposition

import (
	"testing"

	"github.com/prometheus/common/expfmt"
)

// Where other characters become underscores, no two names become the same.
func TestUnderscores(t *testing.T) {
	const body = `# TYPE "my.gauge" gauge
{"my.gauge","a b"="c"} 1
# TYPE twin_a gauge
twin_a 1
# TYPE "twin.a" gauge
{"twin.a"} 2
# TYPE "x.y" gauge
{"x.y"} 3
# TYPE "x y" gauge
{"x y"} 4
# TYPE labels gauge
labels{a_b="1","a.b"="2","a-b"="3","c:d"="4"} 5
# TYPE "h.h" histogram
{"h.h_bucket",le="+Inf"} 1
{"h.h_sum"} 1
{"h.h_count"} 1
`
	served(t, body, textContent, map[string]string{
		"text": `# TYPE U__twin_2e_a gauge
U__twin_2e_a 2
# TYPE U__x_20_y gauge
U__x_20_y 4
# TYPE U__x_2e_y gauge
U__x_2e_y 3
# TYPE h_h histogram
h_h_bucket{le="+Inf"} 1
h_h_sum 1
h_h_count 1
# TYPE labels gauge
labels{U__a_2d_b="3",U__a_2e_b="2",a_b="1",c_d="4"} 5
# TYPE my_gauge gauge
my_gauge{a_b="c"} 1
# TYPE twin_a gauge
twin_a 1
`,
	})
}

// Names that are the same with underscores, be it with the suffixes of a histogram or
// since they look as if they had been escaped already.
func TestNamesStayDifferent(t *testing.T) {
	for _, body := range []string{
		"# TYPE \"h.h\" histogram\n{\"h.h_bucket\",le=\"+Inf\"} 1\n{\"h.h_sum\"} 1\n{\"h.h_count\"} 1\n# TYPE h_h_sum gauge\nh_h_sum 5\n",
		"# TYPE \"h.h\" histogram\n{\"h.h_bucket\",le=\"+Inf\"} 1\n{\"h.h_sum\"} 1\n{\"h.h_count\"} 1\n# TYPE h_h gauge\nh_h 5\n",
		"# TYPE \"h.h\" histogram\n{\"h.h_bucket\",le=\"+Inf\"} 1\n{\"h.h_sum\"} 1\n{\"h.h_count\"} 1\n# TYPE h_h histogram\nh_h_bucket{le=\"+Inf\"} 5\n",
		"# TYPE \"h.h_total\" counter\n{\"h.h_total\"} 1\n# TYPE h_h gauge\nh_h 1\n",
		"{\"a\",\"le\"=\"1\",\"l.e\"=\"2\"} 1\n",
		"# TYPE h histogram\n{\"h_bucket\",\"le\"=\"1\",\"l.e\"=\"2\"} 1\nh_bucket{le=\"+Inf\"} 1\n",
		"# TYPE h histogram\n{\"h_bucket\",\"le\"=\"1\",\"l:e\"=\"2\"} 1\n{\"h_bucket\",\"le\"=\"+Inf\",\"l:e\"=\"2\"} 1\n",
		"{\"a\",\":\"=\"1\",\"_\"=\"2\"} 1\n{\"a:b\",\"a:b\"=\"1\"} 1\n{\"a_b\",\"a:b\"=\"1\"} 1\n",
		"{\"0\"} 1\n{\"_\"} 2\n{\"1\"} 3\n",
		"{\"ü.a\"} 1\n{\"U___fc__2e_a\"} 2\n{\"__a\"} 3\n",
		"# HELP \"a.b\" x\n# TYPE \"a.b\" counter\n{\"a.b\"} 1\n# HELP a_b y\n# TYPE a_b gauge\na_b 1\n",
	} {
		checkRoundTrip(t, body, textContent)
	}
	// Package expfmt cannot quote label names with colons. Others stay as they are.
	served(t, "{\"a.b\",\"c.d\"=\"1\",\"e:f\"=\"2\",\"e_f\"=\"3\",\"g:h\"=\"4\"} 1\n", textContent, map[string]string{
		"openmetrics-utf8": "# TYPE \"a.b\" unknown\n{\"a.b\",U__e_3a_f=\"2\",\"c.d\"=\"1\",e_f=\"3\",g_h=\"4\"} 1.0\n# EOF\n",
		"text-utf8":        "# TYPE \"a.b\" untyped\n{\"a.b\",\"c.d\"=\"1\",\"e:f\"=\"2\",e_f=\"3\",\"g:h\"=\"4\"} 1\n",
	})
}

// The other ways of escaping are what package expfmt makes of them.
func TestEscapingsOfExpfmt(t *testing.T) {
	const body = "# TYPE \"my.gauge\" gauge\n{\"my.gauge\",\"a b\"=\"c\"} 1\n"
	doc := document(t, body, textContent)
	for format, want := range map[expfmt.Format]string{
		expfmt.FmtText + "; escaping=values":                   "# TYPE U__my_2e_gauge gauge\nU__my_2e_gauge{U__a_20_b=\"c\"} 1\n",
		expfmt.FmtText + "; escaping=dots":                     "# TYPE my_dot_gauge gauge\nmy_dot_gauge{a__b=\"c\"} 1\n",
		expfmt.FmtText + "; escaping=underscores":              "# TYPE my_gauge gauge\nmy_gauge{a_b=\"c\"} 1\n",
		expfmt.FmtText + "; escaping=allow-utf-8":              body,
		text100 + "; escaping=allow-utf-8":                     body,
		expfmt.FmtOpenMetrics_1_0_0 + "; escaping=values":      "# TYPE U__my_2e_gauge gauge\nU__my_2e_gauge{U__a_20_b=\"c\"} 1.0\n# EOF\n",
		expfmt.FmtOpenMetrics_1_0_0 + "; escaping=allow-utf-8": "# TYPE \"my.gauge\" gauge\n{\"my.gauge\",\"a b\"=\"c\"} 1.0\n# EOF\n",
		expfmt.FmtOpenMetrics_0_0_1 + "; escaping=underscores": "# TYPE my_gauge gauge\nmy_gauge{a_b=\"c\"} 1.0\n# EOF\n",
	} {
		if got := string(plain(t, format, doc)); got != want {
			t.Errorf("%s:\ngot\n%s\nwant\n%s", format, got, want)
		}
	}
}
