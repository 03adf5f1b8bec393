package exposition

import (
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
)

// served compares what becomes of a page with what is wanted in each format, by the
// ending of golden files.
func served(t *testing.T, body, contentType string, want map[string]string) {
	t.Helper()
	for range 3 { // chance must have no say
		doc := document(t, body, contentType)
		for ending, want := range want {
			got := plain(t, formats[ending], doc)
			if strings.HasPrefix(ending, "protobuf") {
				got = protobufAsText(t, got)
			}
			if string(got) != want {
				t.Fatalf("%s:\ngot\n%s\nwant\n%s", ending, got, want)
			}
		}
	}
}

// Prometheus before 3 refuses a text page for a negative timestamp.
func TestNegativeTimestampIsLeftOutOfText(t *testing.T) {
	served(t, "# TYPE a gauge\na 0 -1\n# TYPE b gauge\nb 0 1\n# EOF\n", openMetricsContent, map[string]string{
		"text":        "# TYPE a gauge\na 0\n# TYPE b gauge\nb 0 1000\n",
		"openmetrics": "# TYPE a gauge\na 0.0 -1.0\n# TYPE b gauge\nb 0.0 1.0\n# EOF\n",
		"protobuf": `family name:"a" type:GAUGE` + "\n" + `  metric:{gauge:{value:0} timestamp_ms:-1000}` + "\n" +
			`family name:"b" type:GAUGE` + "\n" + `  metric:{gauge:{value:0} timestamp_ms:1000}` + "\n",
	})
}

// A histogram that lacks something keeps its type where the format allows it, and its
// bounds are everywhere those that Prometheus stores.
func TestIncompleteHistograms(t *testing.T) {
	served(t, "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_count 2\n", textContent, map[string]string{
		"text":        "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_count 2\n",
		"openmetrics": "# TYPE h_bucket unknown\nh_bucket{le=\"1.0\"} 1.0\nh_bucket{le=\"+Inf\"} 2.0\n# TYPE h_count unknown\nh_count 2.0\n# EOF\n",
		"protobuf": `family name:"h_bucket" type:UNTYPED` + "\n" +
			`  metric:{label:{name:"le" value:"1.0"} untyped:{value:1}}` + "\n" +
			`  metric:{label:{name:"le" value:"+Inf"} untyped:{value:2}}` + "\n" +
			`family name:"h_count" type:UNTYPED` + "\n" + `  metric:{untyped:{value:2}}` + "\n",
	})
	served(t, "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum 1\nh_count 1\n", textContent, map[string]string{
		"text": "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum 1\nh_count 1\n",
	})
	served(t, "# TYPE s summary\ns{quantile=\"0.5\"} 1\n", textContent, map[string]string{
		"text":        "# TYPE s summary\ns{quantile=\"0.5\"} 1\n",
		"openmetrics": "# TYPE s unknown\ns{quantile=\"0.5\"} 1.0\n# EOF\n",
		"protobuf":    `family name:"s" type:UNTYPED` + "\n" + `  metric:{label:{name:"quantile" value:"0.5"} untyped:{value:1}}` + "\n",
	})
	served(t, "# TYPE s summary\ns_sum 1\ns_count 1\n", textContent, map[string]string{
		"text": "# TYPE s summary\ns_sum 1\ns_count 1\n", "openmetrics": "# TYPE s summary\ns_sum 1.0\ns_count 1\n# EOF\n",
	})
}

// A histogram of buckets alone is one in text and OpenMetrics. Those who read protobuf
// would make up its sum and count.
func TestHistogramOfBucketsAlone(t *testing.T) {
	const buckets = "# TYPE h_bucket histogram\nh_bucket_bucket{a=\"_sum _bucket\",le=\"1\"} 1\nh_bucket_bucket{a=\"_sum _bucket\",le=\"+Inf\"} 2\n"
	const strict = "# TYPE h_bucket histogram\nh_bucket_bucket{a=\"_sum _bucket\",le=\"1.0\"} 1\nh_bucket_bucket{a=\"_sum _bucket\",le=\"+Inf\"} 2\n# EOF\n"
	served(t, buckets, textContent, map[string]string{
		"text": buckets, "openmetrics": strict,
		"protobuf": `family name:"h_bucket_bucket" type:UNTYPED` + "\n" +
			`  metric:{label:{name:"a" value:"_sum _bucket"} label:{name:"le" value:"1.0"} untyped:{value:1}}` + "\n" +
			`  metric:{label:{name:"a" value:"_sum _bucket"} label:{name:"le" value:"+Inf"} untyped:{value:2}}` + "\n",
	})
	served(t, strict, openMetricsContent, map[string]string{"openmetrics": strict})
	const odd = "# TYPE \"a \\\"h\" histogram\n{\"a \\\"h_bucket\",le=\"+Inf\"} 2\n"
	served(t, odd, textContent, map[string]string{"text-utf8": odd, "openmetrics-utf8": odd + "# EOF\n"})
}

// The identity of a bucket is the one that Prometheus gives it, in every format, and
// rules see that.
func TestBoundsAreThoseOfPrometheus(t *testing.T) {
	const body = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"2e1\"} 2\nh_bucket{le=\"+Inf\"} 2\nh_sum 1\nh_count 2\n"
	rules := relabelling(t, `
- source_labels: [le]
  regex: '(1\.0|20\.0)'
  target_label: bound
`)
	page := mustParse(t, NewParser(""), body, textContent)
	doc := Merge(nil, exposed(page, func(string) []labels.Label { return nil }, rules)...)
	want := "h_bucket{bound=\"1.0\",le=\"1.0\"} 1\nh_bucket{bound=\"20.0\",le=\"20.0\"} 2\nh_bucket{le=\"+Inf\"} 2\n"
	for _, ending := range []string{"text", "openmetrics", "protobuf"} {
		got, err := reference(plain(t, formats[ending], doc), string(formats[ending]))
		if err != nil {
			t.Fatal(err)
		}
		lines, err := reference([]byte("# TYPE h histogram\n"+want+"h_sum 1\nh_count 2\n"), textContent)
		if err != nil {
			t.Fatal(err)
		}
		compareReadings(t, lines, got, ending)
	}
	if n := strings.Count(string(plain(t, Text, doc)), "bound="); n != 2 {
		t.Errorf("the rule saw %d of 2 bounds", n)
	}
}

// What a page says in OpenMetrics is said in the formats that can.
func TestOpenMetricsKeepsWhatItSays(t *testing.T) {
	served(t, `# HELP a_seconds Help.
# TYPE a_seconds counter
# UNIT a_seconds seconds
a_seconds_total{x="y"} 1.0 # {trace_id="abc"} 0.5 1.5
a_seconds_created{x="y"} 2.5
# TYPE h histogram
h_bucket{le="1.0"} 1 # {trace_id="d\"e"} 0.25
h_bucket{le="+Inf"} 2
h_count 2
h_sum 3.5
h_created 4
# TYPE s summary
s_count 2
s_sum 3.0
s_created 5
# EOF
`, openMetricsContent, map[string]string{
		"text": `# HELP a_seconds_created Help.
# TYPE a_seconds_created gauge
a_seconds_created{x="y"} 2.5
# HELP a_seconds_total Help.
# TYPE a_seconds_total counter
a_seconds_total{x="y"} 1.0
# TYPE h histogram
h_bucket{le="1.0"} 1
h_bucket{le="+Inf"} 2
h_sum 3.5
h_count 2
# TYPE h_created gauge
h_created 4
# TYPE s summary
s_sum 3.0
s_count 2
# TYPE s_created gauge
s_created 5
`,
		"openmetrics": `# HELP a_seconds Help.
# TYPE a_seconds counter
# UNIT a_seconds seconds
a_seconds_total{x="y"} 1.0 # {trace_id="abc"} 0.5 1.5
a_seconds_created{x="y"} 2.5
# TYPE h histogram
h_bucket{le="1.0"} 1 # {trace_id="d\"e"} 0.25
h_bucket{le="+Inf"} 2
h_sum 3.5
h_count 2
h_created 4.0
# TYPE s summary
s_sum 3.0
s_count 2
s_created 5.0
# EOF
`,
	})
	got := string(protobufAsText(t, plain(t, formats["protobuf"], document(t, `# TYPE a_seconds counter
# UNIT a_seconds seconds
a_seconds_total 1.0 # {trace_id="abc"} 0.5
# EOF
`, openMetricsContent))))
	for _, part := range []string{`name:"a_seconds_total"`, `type:COUNTER`, `unit:"seconds"`, `exemplar:{label:{name:"trace_id" value:"abc"} value:0.5}`} {
		if !strings.Contains(got, part) {
			t.Errorf("protobuf has no %s: %s", part, got)
		}
	}
}

// Some write the suffix of a counter into its family's name, which Prometheus takes.
func TestCounterFamilyNamedTotal(t *testing.T) {
	served(t, "# HELP http_requests_total Help.\n# TYPE http_requests_total counter\nhttp_requests_total 1\n# EOF\n", openMetricsContent, map[string]string{
		"text":        "# HELP http_requests_total Help.\n# TYPE http_requests_total counter\nhttp_requests_total 1\n",
		"openmetrics": "# HELP http_requests Help.\n# TYPE http_requests counter\nhttp_requests_total 1.0\n# EOF\n",
		"protobuf":    `family name:"http_requests_total" help:"Help." type:COUNTER` + "\n" + `  metric:{counter:{value:1}}` + "\n",
	})
}

// Two families of OpenMetrics can have one name in the text format.
func TestFamiliesOfOneTextName(t *testing.T) {
	served(t, "# TYPE a info\n# HELP a of info\n# TYPE a_info unknown\n# HELP a_info of unknown\na_info 1\n# EOF\n", openMetricsContent, map[string]string{
		"text": "# HELP a_info of unknown\n# TYPE a_info untyped\na_info 1\n",
	})
	served(t, "# TYPE a counter\n# HELP a of a\n# TYPE a_total counter\n# HELP a_total of a_total\na_total 1\n# EOF\n", openMetricsContent, map[string]string{
		"text": "# HELP a_total of a_total\n# TYPE a_total counter\na_total 1\n",
	})
}

// What OpenMetrics cannot say is of unknown type there, under the same name.
func TestWhatOpenMetricsCannotSay(t *testing.T) {
	for body, want := range map[string]string{
		"# TYPE X_Total counter\nX_Total 5\n":                                                                     "# TYPE X_Total unknown\nX_Total 5.0\n# EOF\n",
		"# TYPE a_total counter\na_total -1\n":                                                                    "# TYPE a_total unknown\na_total -1.0\n# EOF\n",
		"# TYPE a_total counter\na_total NaN\n":                                                                   "# TYPE a_total unknown\na_total NaN\n# EOF\n",
		"# TYPE a gauge\na 1\n# TYPE a_total counter\na_total 2\n":                                                "# TYPE a gauge\na 1.0\n# TYPE a_total unknown\na_total 2.0\n# EOF\n",
		"# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\n":                                     "# TYPE h_bucket unknown\nh_bucket{le=\"1.0\"} 2.0\nh_bucket{le=\"+Inf\"} 1.0\n# EOF\n",
		"# TYPE s summary\ns{quantile=\"2\"} 1\ns_sum 1\ns_count 1\n":                                             "# TYPE s unknown\ns{quantile=\"2.0\"} 1.0\n# TYPE s_sum unknown\ns_sum 1.0\n# TYPE s_count unknown\ns_count 1.0\n# EOF\n",
		"# TYPE a_created gauge\na_created{x=\"2\"} 5\n# TYPE a_total counter\na_total{x=\"1\"} 1\n":              "# TYPE a_created gauge\na_created{x=\"2\"} 5.0\n# TYPE a_total unknown\na_total{x=\"1\"} 1.0\n# EOF\n",
		"# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum -1\nh_count 1\n":                                      "# TYPE h_bucket unknown\nh_bucket{le=\"+Inf\"} 1.0\n# TYPE h_sum unknown\nh_sum -1.0\n# TYPE h_count unknown\nh_count 1.0\n# EOF\n",
		"# TYPE a gauge\na 1 0\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1 1000\nh_sum 1 1000\nh_count 1 2000\n": "# TYPE a gauge\na 1.0 0.0\n# TYPE h_bucket unknown\nh_bucket{le=\"+Inf\"} 1.0 1.0\n# TYPE h_sum unknown\nh_sum 1.0 1.0\n# TYPE h_count unknown\nh_count 1.0 2.0\n# EOF\n",
	} {
		served(t, body, textContent, map[string]string{"text": body, "openmetrics": want})
	}
}
