package exposition

import (
	"iter"
	"math"
	"slices"
	"strconv"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
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

// sample is what a page says of a series at one time. Its value is as upstream wrote
// it.
type sample struct {
	value     string
	timestamp int64         // in milliseconds since 1970, or noTimestamp
	exemplar  *dto.Exemplar // nil if there is none
}

const noTimestamp = math.MinInt64

func (s sample) equal(o sample) bool {
	if s.value != o.value || s.timestamp != o.timestamp {
		return false
	}
	return s.exemplar == o.exemplar || s.exemplar.String() == o.exemplar.String()
}

// Metrics are the series of one group, in the order of the page, and what they say.
// Immutable. A nil *Metrics has no series.
type Metrics struct {
	series   []*series
	samples  []sample
	metadata metadata
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
	return m.sameSeries(o) && m.duplicates == o.duplicates && slices.EqualFunc(m.samples, o.samples, sample.equal)
}

// sameSeries tells whether the two differ at most in what their series say.
func (m *Metrics) sameSeries(o *Metrics) bool {
	return sameMetadata(m.metadata, o.metadata) && slices.Equal(m.series, o.series)
}

// Find returns the labels and values of the series of a name.
func (m *Metrics) Find(name string) iter.Seq2[labels.Labels, float64] {
	return func(yield func(labels.Labels, float64) bool) {
		if m == nil {
			return
		}
		for i, s := range m.series {
			if s.name == name && !yield(s.labels, parseValue(m.samples[i].value)) {
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

// parseValue reads a value that a parser has accepted.
func parseValue(text string) float64 {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil && math.IsInf(v, 0) {
		return v // out of range
	}
	return v
}

// Gauge is one series that the program makes itself. Labels are without its name.
type Gauge struct {
	Name, Help string
	Labels     labels.Labels
	Value      float64
}

// NewMetrics makes Metrics of the program's own series, whose names and labels the
// caller knows to be valid.
func NewMetrics(gauges []Gauge) *Metrics {
	m := &Metrics{
		series:   make([]*series, 0, len(gauges)),
		samples:  make([]sample, 0, len(gauges)),
		metadata: make(metadata),
	}
	b := labels.NewBuilder(labels.EmptyLabels())
	for _, g := range gauges {
		if m.metadata[g.Name] == nil {
			m.metadata[g.Name] = &family{name: g.Name, help: g.Help, typ: model.MetricTypeGauge}
		}
		b.Reset(g.Labels)
		b.Set(model.MetricNameLabel, g.Name)
		m.series = append(m.series, &series{name: g.Name, labels: b.Labels(), valid: true})
		m.samples = append(m.samples, sample{value: formatFloat(g.Value), timestamp: noTimestamp})
	}
	return m
}

// formatFloat writes a number as the text format has it.
func formatFloat(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "+Inf"
	case math.IsInf(f, -1):
		return "-Inf"
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}
