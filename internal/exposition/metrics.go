package exposition

import (
	"bytes"
	"iter"
	"maps"
	"math"
	"slices"
	"strconv"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/protobuf/proto"
)

// series is one series as upstream writes it. Immutable, and the same object for as
// long as upstream's page has it.
type series struct {
	text   string        // as written, without the value
	name   string        // of the metric
	labels labels.Labels // as Prometheus's parser reads them
	group  string
	// bound is what le or quantile was written as, where the parser has brought it
	// into a canonical form; "" otherwise.
	bound string
	// typed tells that the parser may read the labels otherwise under another type:
	// it brings the bounds of histograms and summaries into a canonical form.
	typed bool
	// valid tells whether Prometheus would store it.
	valid bool
}

// sample is what a page says of a series at one time.
type sample struct {
	from, to  uint32        // where in the text of its Metrics the value is
	timestamp int64         // in milliseconds since 1970, or noTimestamp
	exemplar  *dto.Exemplar // nil if there is none
}

const noTimestamp = math.MinInt64

// Metrics are the series of one group, in the order of the page, and what they say.
// Immutable. A nil *Metrics has no series.
type Metrics struct {
	series   []*series
	samples  []sample            // of each series
	text     []byte              // their values, as upstream wrote them
	families *map[string]*family // what the page says of them
	// duplicates is how many lines were left out, since another one is of the same
	// series.
	duplicates int
}

// Series returns the number of series.
func (m *Metrics) Series() int {
	if m == nil {
		return 0
	}
	return len(m.series)
}

// Equal tells whether two Metrics say the same: of the same series, the same values.
func (m *Metrics) Equal(o *Metrics) bool {
	if m == nil || o == nil {
		return m == o
	}
	return (m.sameSeries(o) || m.alike(o)) && m.duplicates == o.duplicates && bytes.Equal(m.text, o.text) &&
		slices.EqualFunc(m.samples, o.samples, func(a, b sample) bool {
			return a.from == b.from && a.to == b.to && a.timestamp == b.timestamp && proto.Equal(a.exemplar, b.exemplar)
		})
}

// add appends what a page says of a series.
func (m *Metrics) add(s *series, value []byte, timestamp int64, x *dto.Exemplar) {
	from := uint32(len(m.text))
	m.text = append(m.text, value...)
	m.series = append(m.series, s)
	m.samples = append(m.samples, sample{from, uint32(len(m.text)), timestamp, x})
}

// value returns the value of a sample as upstream wrote it.
func (m *Metrics) value(s sample) []byte { return m.text[s.from:s.to] }

// sameSeries tells whether the two are known to differ at most in what their series
// say. Those of different parsers never are.
func (m *Metrics) sameSeries(o *Metrics) bool {
	return m.families == o.families && slices.Equal(m.series, o.series)
}

// alike tells whether the two differ at most in what their series say.
func (m *Metrics) alike(o *Metrics) bool {
	return maps.EqualFunc(*m.families, *o.families, sameFamily) && slices.EqualFunc(m.series, o.series, sameSeries)
}

func sameSeries(a, b *series) bool { return a.text == b.text && labels.Equal(a.labels, b.labels) }
func sameFamily(a, b *family) bool { return a == b || *a == *b }

// Find returns the labels and values of the series of a name.
func (m *Metrics) Find(name string) iter.Seq2[labels.Labels, float64] {
	return func(yield func(labels.Labels, float64) bool) {
		if m == nil {
			return
		}
		for i, s := range m.series {
			if s.name == name && !yield(s.labels, parseValue(m.value(m.samples[i]))) {
				return
			}
		}
	}
}

// Label returns the value of a label on the first series that has it, "" if none
// does.
func (m *Metrics) Label(name string) string {
	if m != nil {
		for _, s := range m.series {
			if v := s.labels.Get(name); v != "" {
				return v
			}
		}
	}
	return ""
}

// parseValue reads a value that a parser has accepted. One out of range is infinite.
func parseValue(text []byte) float64 {
	v, _ := strconv.ParseFloat(string(text), 64)
	return v
}

// Gauge is one series that the program makes itself. Labels are without its name.
type Gauge struct {
	Name, Help string
	Labels     labels.Labels
	Value      float64
}

// NewBlock makes a block of the program's own series, whose names and labels the caller
// knows to be valid. last is what it is to [Expose].
func NewBlock(gauges []Gauge, last *Block) *Block {
	m := newMetrics(gauges)
	switch {
	case last == nil:
	case m.Equal(last.metrics):
		return last
	case m.alike(last.metrics):
		m.series, m.families = last.metrics.series, last.metrics.families
	}
	return Expose(m, nil, nil, last)
}

func newMetrics(gauges []Gauge) *Metrics {
	families := make(map[string]*family)
	m := &Metrics{families: &families}
	b := labels.NewBuilder(labels.EmptyLabels())
	for _, g := range gauges {
		if families[g.Name] == nil {
			families[g.Name] = &family{name: g.Name, help: g.Help, typ: model.MetricTypeGauge}
		}
		b.Reset(g.Labels)
		b.Set(model.MetricNameLabel, g.Name)
		m.add(&series{name: g.Name, labels: b.Labels(), valid: true}, strconv.AppendFloat(nil, g.Value, 'g', -1, 64), noTimestamp, nil)
	}
	return m
}
