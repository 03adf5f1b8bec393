package exposition

import (
	"hash/crc32"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

func block(t *testing.T, body string) *Block {
	t.Helper()
	p := decode(t, NewSource(), body, asIs{})
	return p.Block("")
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
			var m Merger
			for range 2 {
				d := m.Merge(ps...)
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

func TestFingerprint(t *testing.T) {
	bodies := []string{
		"a 1\n", "a 2\n", "b 1\n", "a{b=\"c\"} 1\n", "a 1 5\n", "# TYPE a gauge\na 1\n", "# HELP a b\na 1\n",
		"a 1\na{b=\"c\"} 2\n", "a 12\na{b=\"c\"} 2\n", "a 1\na{b=\"c\"} 22\n",
	}
	seen := make(map[uint64]string)
	for _, b := range bodies {
		f := block(t, b).Fingerprint()
		if other, ok := seen[f]; ok {
			t.Errorf("%q and %q have the same fingerprint", b, other)
		}
		seen[f] = b
		if again := block(t, "\n# comment\n"+b).Fingerprint(); again != f {
			t.Errorf("%q: fingerprint varies", b)
		}
	}
	var none *Block
	if none.Fingerprint() != 0 || none.Series() != 0 {
		t.Error("no block is not empty")
	}
}

func TestNewBlockOfARegistry(t *testing.T) {
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
	b, err := NewBlock(mfs)
	if err != nil {
		t.Fatal(err)
	}
	doc := Merge(Part{Block: b})
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
	if doc.Series() != 13 || b.Series() != 13 {
		t.Errorf("%d series", doc.Series())
	}
	for _, f := range allFormats {
		if _, err := reference(plain(t, f, doc), f.ContentType()); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
}

func TestNewBlockRefusesNonsense(t *testing.T) {
	label := func(name, value string) []*dto.LabelPair {
		return []*dto.LabelPair{{Name: proto.String(name), Value: proto.String(value)}}
	}
	gauge := &dto.Gauge{Value: proto.Float64(1)}
	for name, mf := range map[string]*dto.MetricFamily{
		"no name":       {Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{{Gauge: gauge}}},
		"no value":      {Name: proto.String("a"), Type: dto.MetricType_COUNTER.Enum(), Metric: []*dto.Metric{{Gauge: gauge}}},
		"label name":    {Name: proto.String("a"), Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{{Gauge: gauge, Label: label("", "x")}}},
		"label value":   {Name: proto.String("a"), Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{{Gauge: gauge, Label: label("x", "\xff")}}},
		"name repeated": {Name: proto.String("a"), Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{{Gauge: gauge, Label: label("__name__", "b")}}},
	} {
		if b, err := NewBlock([]*dto.MetricFamily{mf}); err == nil {
			t.Errorf("%s: got %d series", name, b.Series())
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

func TestDocumentFamilies(t *testing.T) {
	d := Merge(Part{Block: block(t, "b 1\na 1\n")}, Part{}, Part{Block: block(t, "c 1\nb{x=\"y\"} 1\n")})
	got := d.Families()
	if len(got) != 3 || got[0] != "a" || got[1] != "b" || got[2] != "c" || d.Series() != 4 {
		t.Errorf("got %q, %d series", got, d.Series())
	}
}
