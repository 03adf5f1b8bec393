package exposition

import (
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func block(t *testing.T, body string) *Block {
	t.Helper()
	return Expose(mustParse(t, NewParser(""), body, textContent).Groups[""], nil, &Rules{}, nil)
}

func TestMerge(t *testing.T) {
	for _, c := range []struct {
		name       string
		bodies     []string
		want       string
		duplicates int
	}{
		{
			name:   "families join",
			bodies: []string{"# HELP b x\n# TYPE b gauge\nb{p=\"1\"} 1\n", "# TYPE a gauge\na 1\n# TYPE b gauge\nb{p=\"2\"} 2\n"},
			want:   "# TYPE a gauge\na 1\n# HELP b x\n# TYPE b gauge\nb{p=\"1\"} 1\nb{p=\"2\"} 2\n",
		},
		{
			name:       "the first of two counts",
			bodies:     []string{"a 1\na{b=\"c\"} 2\n", "a 3\na{d=\"e\"} 4\n"},
			want:       "# TYPE a untyped\na 1\na{b=\"c\"} 2\na{d=\"e\"} 4\n",
			duplicates: 1,
		},
		{
			name:   "the first type counts, and any help",
			bodies: []string{"# TYPE a gauge\na 1\n", "# HELP a help\n# TYPE a counter\na{b=\"c\"} 2\n"},
			want:   "# HELP a help\n# TYPE a gauge\na 1\na{b=\"c\"} 2\n",
		},
		{
			name: "metrics of a histogram stay whole",
			bodies: []string{
				"# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n",
				"# TYPE h histogram\nh_bucket{le=\"5\"} 1\nh_bucket{le=\"+Inf\"} 9\nh_sum 9\nh_count 9\nh_bucket{a=\"b\",le=\"+Inf\"} 1\nh_sum{a=\"b\"} 1\nh_count{a=\"b\"} 1\n",
			},
			want: "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n" +
				"h_bucket{a=\"b\",le=\"+Inf\"} 1\nh_sum{a=\"b\"} 1\nh_count{a=\"b\"} 1\n",
			duplicates: 4,
		},
		{
			name: "a histogram here, a summary there",
			bodies: []string{
				"# HELP h help\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n",
				"# TYPE h summary\nh_sum 5\nh_count{a=\"b\"} 6\nh_sum{a=\"b\"} 6\nh_count 5\n",
			},
			want: "# HELP h_bucket help\n# TYPE h_bucket untyped\nh_bucket{le=\"+Inf\"} 2\n" +
				"# HELP h_count help\n# TYPE h_count untyped\nh_count 2\nh_count{a=\"b\"} 6\n" +
				"# HELP h_sum help\n# TYPE h_sum untyped\nh_sum 3\nh_sum{a=\"b\"} 6\n",
			duplicates: 2,
		},
		{
			name: "a gauge has the name of a histogram's sample",
			bodies: []string{
				"# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n",
				"# TYPE h_sum gauge\nh_sum 7\nh_sum{a=\"b\"} 1\n",
			},
			want: "# TYPE h_bucket untyped\nh_bucket{le=\"+Inf\"} 2\n# TYPE h_count untyped\nh_count 2\n" +
				"# TYPE h_sum gauge\nh_sum 3\nh_sum{a=\"b\"} 1\n",
			duplicates: 1,
		},
		{name: "nothing", bodies: []string{"", ""}, want: ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var ps []Part
			for _, b := range c.bodies {
				ps = append(ps, Part{Block: block(t, b)})
			}
			var last *Document
			for range 2 {
				d := Merge(last, ps...)
				last = d
				if got := string(plain(t, Text, d)); got != c.want {
					t.Errorf("got\n%s\nwant\n%s", got, c.want)
				}
				if d.Duplicates() != c.duplicates {
					t.Errorf("%d duplicates", d.Duplicates())
				}
			}
		})
	}
}

func TestNewDocument(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "c_total", Help: "Counter."}, []string{"l"})
	c.WithLabelValues("v").Add(5)
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "g", Help: "Gauge \\ \"of\"\nlines."})
	g.Set(-1.5)
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h", Help: "Histogram.", Buckets: []float64{0.1, 1}})
	h.(prometheus.ExemplarObserver).ObserveWithExemplar(0.5, prometheus.Labels{"trace": "x"})
	s := prometheus.NewSummary(prometheus.SummaryOpts{Name: "s", Help: "Summary.", Objectives: map[float64]float64{0.5: 0.05}})
	s.Observe(2)
	native := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "n", Help: "Native.", NativeHistogramBucketFactor: 1.1})
	native.Observe(3)
	reg.MustRegister(c, g, h, s, native)
	mfs, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	doc := NewDocument(mfs)
	const want = `# HELP c_total Counter.
# TYPE c_total counter
c_total{l="v"} 5
# HELP g Gauge \\ "of"\nlines.
# TYPE g gauge
g -1.5
# HELP h Histogram.
# TYPE h histogram
h_bucket{le="0.1"} 0
h_bucket{le="1"} 1
h_bucket{le="+Inf"} 1
h_sum 0.5
h_count 1
# HELP n Native.
# TYPE n histogram
n_bucket{le="+Inf"} 1
n_sum 3
n_count 1
# HELP s Summary.
# TYPE s summary
s{quantile="0.5"} 2
s_sum 2
s_count 1
`
	if got := string(plain(t, Text, doc)); got != want {
		t.Errorf("got\n%s", got)
	}
	if n := doc.Series(); n != len(mfs) {
		t.Errorf("%d series of %d", n, len(mfs))
	}
	for ending, f := range formats {
		if _, err := reference(plain(t, f, doc), string(f)); err != nil {
			t.Errorf("%s: %v", ending, err)
		}
	}
	om := string(plain(t, OpenMetrics, doc))
	for _, line := range []string{"# TYPE c counter\n", "c_total{l=\"v\"} 5.0\n", "h_bucket{le=\"1.0\"} 1 # {trace=\"x\"} 0.5"} {
		if !strings.Contains(om, line) {
			t.Errorf("%q is missing in\n%s", line, om)
		}
	}
}

func TestCombineCRC(t *testing.T) {
	data := []byte("any text that is long enough to be cut in two at each place")
	want := crc32.ChecksumIEEE(data)
	for i := range data {
		if got := combineCRC(crc32.ChecksumIEEE(data[:i]), crc32.ChecksumIEEE(data[i:]), int64(len(data)-i)); got != want {
			t.Errorf("cut at %d: got %x, want %x", i, got, want)
		}
	}
}

// A document that is merged of the same blocks again is the same one.
func TestMergeOfTheSameParts(t *testing.T) {
	a, b := Part{Block: block(t, "a 1\n")}, Part{Block: block(t, "b 1\n"), Timestamp: time.UnixMilli(5)}
	first := Merge(nil, a, b)
	if Merge(first, a, b) != first || Merge(first, a, Part{}, b) != first {
		t.Error("the same parts give another document")
	}
	for name, parts := range map[string][]Part{
		"order": {b, a}, "one less": {a}, "one more": {a, b, {Block: block(t, "c 1\n")}}, "none": nil,
		"timestamp": {a, {Block: b.Block, Timestamp: time.UnixMilli(6)}}, "no timestamp": {a, {Block: b.Block}},
	} {
		got := Merge(first, parts...)
		if got == first {
			t.Errorf("%s: the same document", name)
		}
		if g, w := string(plain(t, Text, got)), string(plain(t, Text, Merge(nil, parts...))); g != w {
			t.Errorf("%s: got %q, want %q", name, g, w)
		}
	}
}
