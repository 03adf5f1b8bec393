package exposition

import (
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/proto"
)

// hasColons tells whether some label name has a colon, which package expfmt would
// write without quotes.
func hasColons(families []*dto.MetricFamily) bool {
	for _, mf := range families {
		for _, m := range mf.GetMetric() {
			for _, p := range m.GetLabel() {
				if strings.Contains(p.GetName(), ":") {
					return true
				}
			}
		}
	}
	return false
}

// withUnderscores returns families whose names an older scraper takes: other
// characters become underscores. Where that would make two names of families, or of
// labels of one metric, the same, those that had to be changed are written in
// Prometheus's reversible "values" escaping, so that nothing is lost.
func withUnderscores(families []*dto.MetricFamily) []*dto.MetricFamily {
	wanted := make(map[string]int) // how many families want a name
	for _, mf := range families {
		wanted[model.EscapeName(mf.GetName(), model.UnderscoreEscaping)]++
	}
	out := make([]*dto.MetricFamily, len(families))
	for i, mf := range families {
		name := model.EscapeName(mf.GetName(), model.UnderscoreEscaping)
		if name != mf.GetName() && wanted[name] > 1 {
			name = model.EscapeName(mf.GetName(), model.ValueEncodingEscaping)
		}
		next := &dto.MetricFamily{Name: &name, Help: mf.Help, Type: mf.Type, Unit: mf.Unit}
		for _, m := range mf.GetMetric() {
			next.Metric = append(next.Metric, &dto.Metric{
				Label: underscoreLabels(m.GetLabel()), TimestampMs: m.TimestampMs,
				Counter: m.Counter, Gauge: m.Gauge, Untyped: m.Untyped, Summary: m.Summary, Histogram: m.Histogram,
			})
		}
		out[i] = next
	}
	slices.SortStableFunc(out, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	return out
}

func underscoreLabels(pairs []*dto.LabelPair) []*dto.LabelPair {
	wanted := make(map[string]int)
	for _, p := range pairs {
		wanted[underscoreLabel(p.GetName())]++
	}
	out := make([]*dto.LabelPair, len(pairs))
	for i, p := range pairs {
		name := underscoreLabel(p.GetName())
		if name != p.GetName() && wanted[name] > 1 {
			name = underscoreLabel(model.EscapeName(p.GetName(), model.ValueEncodingEscaping))
		}
		out[i] = &dto.LabelPair{Name: proto.String(name), Value: p.Value}
	}
	slices.SortStableFunc(out, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
	// Whoever names labels as if they had been escaped already gets one of them.
	return slices.CompactFunc(out, func(a, b *dto.LabelPair) bool { return a.GetName() == b.GetName() })
}

// underscoreLabel escapes a label name, in which a colon is as bad as any other
// character that a metric name may not have.
func underscoreLabel(name string) string {
	return strings.ReplaceAll(model.EscapeName(name, model.UnderscoreEscaping), ":", "_")
}
