package exposition

import (
	"math"
	"slices"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/proto"
)

// metricFamilies returns the document as the client library has it, for the formats
// that are encoded from that. It has no histogram or summary without a sum and a
// count, nor a histogram without its last bucket, nor one with counts that are not
// whole numbers: encoders would make them up or round them. Such families, and those
// whose samples have different timestamps, are taken apart. For OpenMetrics a histogram
// may have neither sum nor count, and the caller may change all families.
func (d *Document) metricFamilies(openMetrics bool) []*dto.MetricFamily {
	families := slices.Clone(d.gathered)
	for i := 0; openMetrics && i < len(families); i++ {
		families[i] = proto.CloneOf(families[i])
	}
	for i := range d.families {
		f := &d.families[i]
		if !f.composite() {
			families = append(families, d.simpleFamily(f))
		} else if whole := d.compositeFamily(f, openMetrics); whole != nil {
			families = append(families, whole)
		} else {
			families = append(families, d.partFamilies(f)...)
		}
	}
	return families
}

func newFamily(f *family, t dto.MetricType) *dto.MetricFamily {
	mf := &dto.MetricFamily{Name: proto.String(f.name), Type: t.Enum()}
	if f.help != "" {
		mf.Help = &f.help
	}
	if f.unit != "" {
		mf.Unit = &f.unit
	}
	return mf
}

func (d *Document) simpleFamily(f *placedFamily) *dto.MetricFamily {
	t := dto.MetricType_UNTYPED
	switch f.typ {
	case model.MetricTypeCounter:
		t = dto.MetricType_COUNTER
	case model.MetricTypeGauge:
		t = dto.MetricType_GAUGE
	}
	mf := newFamily(&f.family, t)
	for _, r := range f.runs {
		for at := r.from; at < r.to; at++ {
			mf.Metric = append(mf.Metric, d.simpleMetric(r.part, at, t))
		}
	}
	return mf
}

func (d *Document) simpleMetric(part, at int32, t dto.MetricType) *dto.Metric {
	p := &d.parts[part].Block.layout.points[at]
	s, value := d.sample(part, p)
	m := &dto.Metric{Label: labelPairs(p.text, "")}
	if s.timestamp != noTimestamp {
		m.TimestampMs = &s.timestamp
	}
	v := proto.Float64(parseValue(value))
	switch t {
	case dto.MetricType_COUNTER:
		m.Counter = &dto.Counter{Value: v, Exemplar: s.exemplar}
	case dto.MetricType_GAUGE:
		m.Gauge = &dto.Gauge{Value: v}
	default:
		m.Untyped = &dto.Untyped{Value: v}
	}
	return m
}

// labelPairs reads a label text, but for one label.
func labelPairs(text, without string) []*dto.LabelPair {
	var pairs []*dto.LabelPair
	eachLabel(text, func(name, value string) {
		if name != without {
			pairs = append(pairs, &dto.LabelPair{Name: proto.String(name), Value: proto.String(value)})
		}
	})
	return pairs
}

// partFamilies takes a composite family apart.
func (d *Document) partFamilies(f *placedFamily) []*dto.MetricFamily {
	var parts []*dto.MetricFamily
	for _, suffix := range f.suffixes() {
		part := placedFamily{family: f.part(suffix)}
		for _, r := range f.runs {
			for at := r.from; at < r.to; at++ {
				if d.parts[r.part].Block.layout.points[at].suffix == suffix {
					part.runs = append(part.runs, run{part: r.part, from: at, to: at + 1})
				}
			}
		}
		if len(part.runs) > 0 {
			parts = append(parts, d.simpleFamily(&part))
		}
	}
	return parts
}

// compositeFamily returns nil for a family that must be taken apart.
func (d *Document) compositeFamily(f *placedFamily, onlyBuckets bool) *dto.MetricFamily {
	t := dto.MetricType_HISTOGRAM
	if f.typ == model.MetricTypeSummary {
		t = dto.MetricType_SUMMARY
	}
	mf := newFamily(&f.family, t)
	for _, r := range f.runs {
		m := d.compositeMetric(f, r)
		if m == nil || m.Histogram != nil && m.Histogram.SampleSum == nil && !onlyBuckets {
			return nil
		}
		mf.Metric = append(mf.Metric, m)
		if m.Histogram != nil && (m.Histogram.SampleSum == nil) != (mf.Metric[0].Histogram.SampleSum == nil) {
			return nil
		}
	}
	return mf
}

// compositeMetric returns nil for a metric that has not all that it must have.
func (d *Document) compositeMetric(f *placedFamily, r run) *dto.Metric {
	var (
		points    = d.parts[r.part].Block.layout.points[r.from:r.to]
		suffixes  = f.suffixes()
		histogram = &dto.Histogram{}
		summary   = &dto.Summary{}
		last      = math.NaN() // bound
	)
	first, _ := d.sample(r.part, &points[0])
	for i := range points {
		p := &points[i]
		s, value := d.sample(r.part, p)
		v := proto.Float64(parseValue(value))
		n, whole := wholeNumber(*v)
		isBucket := f.typ == model.MetricTypeHistogram && p.suffix == suffixes[0]
		if s.timestamp != first.timestamp || !whole && (isBucket || p.suffix == suffixes[2]) {
			return nil
		}
		switch p.suffix {
		case suffixes[1]:
			histogram.SampleSum, summary.SampleSum = v, v
		case suffixes[2]:
			histogram.SampleCount, summary.SampleCount = &n, &n
		default:
			eachLabel(p.text, func(name, value string) {
				if name == f.boundLabel() {
					last = newBound(value)
				}
			})
			bound := last
			histogram.Bucket = append(histogram.Bucket, &dto.Bucket{UpperBound: &bound, CumulativeCount: &n, Exemplar: s.exemplar})
			summary.Quantile = append(summary.Quantile, &dto.Quantile{Quantile: &bound, Value: v})
		}
	}
	m := &dto.Metric{Label: labelPairs(points[0].text, f.boundLabel())}
	if first.timestamp != noTimestamp {
		m.TimestampMs = &first.timestamp
	}
	if f.typ == model.MetricTypeSummary {
		m.Summary = summary
		if summary.SampleSum == nil || summary.SampleCount == nil {
			return nil
		}
		return m
	}
	m.Histogram = histogram
	if (histogram.SampleSum == nil) != (histogram.SampleCount == nil) || !math.IsInf(last, 1) {
		return nil
	}
	return m
}

// wholeNumber reads a count.
func wholeNumber(v float64) (uint64, bool) {
	return uint64(v), v >= 0 && v < 1<<53 && v == math.Trunc(v)
}
