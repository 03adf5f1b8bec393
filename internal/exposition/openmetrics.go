package exposition

import (
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// openMetricsFamilies makes of families what OpenMetrics, which is strict about names
// and about what samples may say, can take. Families that say what their type
// forbids, such as a counter below zero or one whose name does not end in _total, and
// those that would reserve another family's name, become unknown, which costs them
// nothing but their type. None of the given families is changed.
func openMetricsFamilies(families []*dto.MetricFamily) []*dto.MetricFamily {
	taken := make(map[string]*dto.MetricFamily)
	for _, mf := range families {
		taken[mf.GetName()] = mf
	}
	out := make([]*dto.MetricFamily, 0, len(families))
	folded := make(map[*dto.MetricFamily]bool)
	for _, mf := range families {
		base := strings.TrimSuffix(mf.GetName(), "_total")
		created := taken[base+"_created"]
		fits := fitsOpenMetrics(mf)
		if mf.GetType() == dto.MetricType_COUNTER {
			fits = fits && base != "" && base != mf.GetName() && taken[base] == nil
		}
		next := &dto.MetricFamily{Name: mf.Name, Help: mf.Help, Type: mf.Type, Unit: mf.Unit, Metric: withoutLongExemplars(mf.Metric)}
		if fits && created != nil && reservesCreated(mf) {
			next.Metric, fits = withCreated(next.Metric, created)
			folded[created] = fits
		}
		if !fits {
			out = append(out, unknownFamilies(mf)...)
			continue
		}
		if !strings.HasSuffix(base, "_"+mf.GetUnit()) {
			next.Unit = nil // a unit must end the name
		}
		out = append(out, next)
	}
	return slices.DeleteFunc(out, func(mf *dto.MetricFamily) bool {
		original := taken[mf.GetName()]
		return original != nil && folded[original]
	})
}

func reservesCreated(mf *dto.MetricFamily) bool {
	switch mf.GetType() {
	case dto.MetricType_COUNTER, dto.MetricType_HISTOGRAM, dto.MetricType_SUMMARY:
		return true
	}
	return false
}

// fitsOpenMetrics tells whether the samples of a family say only what OpenMetrics
// lets its type say.
func fitsOpenMetrics(mf *dto.MetricFamily) bool {
	for _, m := range mf.GetMetric() {
		switch {
		case m.Counter != nil:
			if !(m.Counter.GetValue() >= 0) {
				return false
			}
		case m.Histogram != nil:
			last, negative := uint64(0), false
			for _, b := range m.Histogram.GetBucket() {
				if b.GetCumulativeCount() < last {
					return false
				}
				last = b.GetCumulativeCount()
				negative = negative || b.GetUpperBound() < 0
			}
			sum := m.Histogram.GetSampleSum()
			if m.Histogram.SampleCount != nil && last != m.Histogram.GetSampleCount() || negative || !(sum >= 0) {
				return false
			}
		case m.Summary != nil:
			for _, q := range m.Summary.GetQuantile() {
				if !(q.GetQuantile() >= 0 && q.GetQuantile() <= 1) || q.GetValue() < 0 {
					return false
				}
			}
			if !(m.Summary.GetSampleSum() >= 0) {
				return false
			}
		}
	}
	return true
}

// withCreated returns the metrics of a family with the creation times that a gauge
// family of that name has. It reports false if some of these belong to no metric.
func withCreated(metrics []*dto.Metric, created *dto.MetricFamily) ([]*dto.Metric, bool) {
	times := make(map[string]*dto.Metric)
	for _, c := range created.GetMetric() {
		v := c.GetGauge().GetValue()
		if c.Gauge == nil || c.TimestampMs != nil || !(v >= 0 && v < 1e11) {
			return nil, false
		}
		times[pairsText(c.GetLabel())] = c
	}
	out := make([]*dto.Metric, 0, len(metrics))
	found := 0
	for _, m := range metrics {
		next := &dto.Metric{Label: m.Label, TimestampMs: m.TimestampMs, Counter: m.Counter, Histogram: m.Histogram, Summary: m.Summary}
		if c := times[pairsText(m.GetLabel())]; c != nil {
			found++
			at := createdTime(c.GetGauge().GetValue())
			switch {
			case m.Counter != nil:
				next.Counter = &dto.Counter{Value: m.Counter.Value, Exemplar: m.Counter.Exemplar, CreatedTimestamp: at}
			case m.Histogram != nil:
				next.Histogram = &dto.Histogram{SampleCount: m.Histogram.SampleCount, SampleSum: m.Histogram.SampleSum, Bucket: m.Histogram.Bucket, CreatedTimestamp: at}
			case m.Summary != nil:
				next.Summary = &dto.Summary{SampleCount: m.Summary.SampleCount, SampleSum: m.Summary.SampleSum, Quantile: m.Summary.Quantile, CreatedTimestamp: at}
			}
		}
		out = append(out, next)
	}
	return out, found == len(times)
}

func pairsText(pairs []*dto.LabelPair) string {
	var b []byte
	for _, p := range pairs {
		b = append(b, p.GetName()...)
		b = append(b, 0xff)
		b = append(b, p.GetValue()...)
		b = append(b, 0xff)
	}
	return string(b)
}

// unknownFamilies returns the samples of a family as families of unknown type.
func unknownFamilies(mf *dto.MetricFamily) []*dto.MetricFamily {
	f := family{name: mf.GetName(), help: mf.GetHelp()}
	byName := make(map[string]*dto.MetricFamily)
	var out []*dto.MetricFamily
	add := func(m *dto.Metric, suffix string, v float64, bound ...*dto.LabelPair) {
		part := f.part(suffix)
		to := byName[part.name]
		if to == nil {
			to = newFamily(&part, dto.MetricType_UNTYPED)
			byName[part.name] = to
			out = append(out, to)
		}
		pairs := slices.Concat(m.Label, bound)
		slices.SortFunc(pairs, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
		to.Metric = append(to.Metric, &dto.Metric{Label: pairs, TimestampMs: m.TimestampMs, Untyped: &dto.Untyped{Value: &v}})
	}
	bound := func(name string, v float64) *dto.LabelPair {
		return &dto.LabelPair{Name: proto.String(name), Value: proto.String(labels.FormatOpenMetricsFloat(v))}
	}
	for _, m := range mf.GetMetric() {
		switch {
		case m.Counter != nil:
			add(m, "", m.Counter.GetValue())
		case m.Gauge != nil:
			add(m, "", m.Gauge.GetValue())
		case m.Untyped != nil:
			add(m, "", m.Untyped.GetValue())
		case m.Histogram != nil:
			for _, b := range m.Histogram.GetBucket() {
				add(m, "_bucket", float64(b.GetCumulativeCount()), bound(model.BucketLabel, b.GetUpperBound()))
			}
			if m.Histogram.SampleSum != nil {
				add(m, "_sum", m.Histogram.GetSampleSum())
				add(m, "_count", float64(m.Histogram.GetSampleCount()))
			}
		case m.Summary != nil:
			for _, q := range m.Summary.GetQuantile() {
				add(m, "", q.GetValue(), bound(model.QuantileLabel, q.GetQuantile()))
			}
			add(m, "_sum", m.Summary.GetSampleSum())
			add(m, "_count", float64(m.Summary.GetSampleCount()))
		}
	}
	return out
}

func createdTime(seconds float64) *timestamppb.Timestamp {
	whole, part := math.Modf(seconds)
	return timestamppb.New(time.Unix(int64(whole), int64(math.Round(part*1e3))*1e6))
}

// maxExemplar is how many characters the names and values of an exemplar's labels can
// have in OpenMetrics.
const maxExemplar = 128

// withoutLongExemplars returns metrics without the exemplars that OpenMetrics forbids.
func withoutLongExemplars(metrics []*dto.Metric) []*dto.Metric {
	long := func(x *dto.Exemplar) bool {
		n := 0
		for _, p := range x.GetLabel() {
			n += utf8.RuneCountInString(p.GetName()) + utf8.RuneCountInString(p.GetValue())
		}
		return n > maxExemplar
	}
	out := slices.Clone(metrics)
	for i, m := range metrics {
		switch {
		case m.Counter != nil && long(m.Counter.Exemplar):
			out[i] = proto.CloneOf(m)
			out[i].Counter.Exemplar = nil
		case m.Histogram != nil && slices.ContainsFunc(m.Histogram.Bucket, func(b *dto.Bucket) bool { return long(b.Exemplar) }):
			out[i] = proto.CloneOf(m)
			for _, b := range out[i].Histogram.Bucket {
				if long(b.Exemplar) {
					b.Exemplar = nil
				}
			}
		}
	}
	return out
}
