package exposition

import (
	"maps"
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
// nothing but their type. The given families may be changed.
func openMetricsFamilies(families []*dto.MetricFamily) []*dto.MetricFamily {
	taken := make(map[string]*dto.MetricFamily)
	for _, mf := range families {
		taken[mf.GetName()] = mf
	}
	var out []*dto.MetricFamily
	folded := make(map[*dto.MetricFamily]bool) // into the metrics that they are about
	for _, mf := range families {
		base, fits := strings.TrimSuffix(mf.GetName(), "_total"), fitsOpenMetrics(mf)
		switch mf.GetType() {
		case dto.MetricType_COUNTER:
			fits = fits && base != "" && base != mf.GetName() && taken[base] == nil
			fallthrough
		case dto.MetricType_HISTOGRAM, dto.MetricType_SUMMARY:
			if created := taken[base+"_created"]; fits && created != nil {
				fits = foldCreated(mf, created)
				folded[created] = fits
			}
		}
		if !fits {
			out = append(out, unknownFamilies(mf)...)
			continue
		}
		if !strings.HasSuffix(base, "_"+mf.GetUnit()) {
			mf.Unit = nil // a unit must end the name
		}
		dropLongExemplars(mf)
		out = append(out, mf)
	}
	return slices.DeleteFunc(out, func(mf *dto.MetricFamily) bool { return folded[mf] })
}

// fitsOpenMetrics tells whether the samples of a family say only what OpenMetrics
// lets its type say.
func fitsOpenMetrics(mf *dto.MetricFamily) bool {
	return !slices.ContainsFunc(mf.GetMetric(), func(m *dto.Metric) bool {
		switch {
		case m.Counter != nil:
			return !(m.Counter.GetValue() >= 0)
		case m.Histogram != nil:
			last := uint64(0)
			for _, b := range m.Histogram.GetBucket() {
				if b.GetCumulativeCount() < last || b.GetUpperBound() < 0 {
					return true
				}
				last = b.GetCumulativeCount()
			}
			return m.Histogram.SampleCount != nil && last != m.Histogram.GetSampleCount() || !(m.Histogram.GetSampleSum() >= 0)
		case m.Summary != nil:
			return !(m.Summary.GetSampleSum() >= 0) || slices.ContainsFunc(m.Summary.GetQuantile(), func(q *dto.Quantile) bool {
				return !(q.GetQuantile() >= 0 && q.GetQuantile() <= 1) || q.GetValue() < 0
			})
		}
		return false
	})
}

// foldCreated gives metrics the creation times that a gauge of that name has. It
// reports false, and changes nothing, if some of these belong to no metric.
func foldCreated(mf, created *dto.MetricFamily) bool {
	times := make(map[string]*timestamppb.Timestamp)
	for _, c := range created.GetMetric() {
		v := c.GetGauge().GetValue()
		if c.Gauge == nil || c.TimestampMs != nil || !(v >= 0 && v < 1e11) {
			return false
		}
		seconds, part := math.Modf(v)
		times[pairsText(c.GetLabel())] = timestamppb.New(time.Unix(int64(seconds), int64(math.Round(part*1e3))*1e6))
	}
	orphans := maps.Clone(times)
	for _, m := range mf.GetMetric() {
		delete(orphans, pairsText(m.GetLabel()))
	}
	if len(orphans) > 0 {
		return false
	}
	for _, m := range mf.GetMetric() {
		at := times[pairsText(m.GetLabel())]
		switch {
		case m.Counter != nil:
			m.Counter.CreatedTimestamp = at
		case m.Histogram != nil:
			m.Histogram.CreatedTimestamp = at
		case m.Summary != nil:
			m.Summary.CreatedTimestamp = at
		}
	}
	return true
}

// pairsText tells label sets apart.
func pairsText(pairs []*dto.LabelPair) string {
	var b []byte
	for _, p := range pairs {
		b = append(append(b, p.GetName()...), 0xff)
		b = append(append(b, p.GetValue()...), 0xff)
	}
	return string(b)
}

// unknownFamilies returns the samples of a family as families of unknown type.
func unknownFamilies(mf *dto.MetricFamily) []*dto.MetricFamily {
	f := family{name: mf.GetName(), help: mf.GetHelp()}
	var out []*dto.MetricFamily
	add := func(m *dto.Metric, suffix string, v float64, bound ...*dto.LabelPair) {
		part := f.part(suffix)
		i := slices.IndexFunc(out, func(have *dto.MetricFamily) bool { return have.GetName() == part.name })
		if i < 0 {
			i = len(out)
			out = append(out, newFamily(&part, dto.MetricType_UNTYPED))
		}
		pairs := slices.Concat(m.Label, bound)
		slices.SortFunc(pairs, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
		out[i].Metric = append(out[i].Metric, &dto.Metric{Label: pairs, TimestampMs: m.TimestampMs, Untyped: &dto.Untyped{Value: &v}})
	}
	bound := func(name string, v float64) *dto.LabelPair {
		return &dto.LabelPair{Name: proto.String(name), Value: proto.String(labels.FormatOpenMetricsFloat(v))}
	}
	for _, m := range mf.GetMetric() {
		switch {
		case m.Counter != nil:
			add(m, "", m.Counter.GetValue())
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

// maxExemplar is how many characters the names and values of an exemplar's labels can
// have in OpenMetrics.
const maxExemplar = 128

func dropLongExemplars(mf *dto.MetricFamily) {
	short := func(x *dto.Exemplar) *dto.Exemplar {
		n := 0
		for _, p := range x.GetLabel() {
			n += utf8.RuneCountInString(p.GetName()) + utf8.RuneCountInString(p.GetValue())
		}
		if n > maxExemplar {
			return nil
		}
		return x
	}
	for _, m := range mf.GetMetric() {
		if m.Counter != nil {
			m.Counter.Exemplar = short(m.Counter.Exemplar)
		}
		for _, b := range m.GetHistogram().GetBucket() {
			b.Exemplar = short(b.Exemplar)
		}
	}
}
