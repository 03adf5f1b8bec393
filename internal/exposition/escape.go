package exposition

import (
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
)

// hasColons tells whether some label name has a colon, which package expfmt would
// write without quotes.
func hasColons(families []*dto.MetricFamily) bool {
	for _, mf := range families {
		for _, m := range mf.GetMetric() {
			if slices.ContainsFunc(m.GetLabel(), func(p *dto.LabelPair) bool { return strings.Contains(p.GetName(), ":") }) {
				return true
			}
		}
	}
	return false
}

// useUnderscores gives families names that an older scraper takes: other characters
// become underscores. Where that would make two names of families, or of labels of one
// metric, the same, those that had to be changed are written in Prometheus's
// reversible "values" escaping, so that nothing is lost.
func useUnderscores(families []*dto.MetricFamily) {
	names := make([]*string, len(families))
	for i, mf := range families {
		names[i] = mf.Name
	}
	escapeNames(names, func(name string) string { return model.EscapeName(name, model.UnderscoreEscaping) })
	for _, mf := range families {
		for _, m := range mf.GetMetric() {
			names = names[:0]
			for _, p := range m.Label {
				names = append(names, p.Name)
			}
			escapeNames(names, func(name string) string {
				// To Prometheus's escaping a colon is as good in a label name as
				// in a metric name. It is not.
				return strings.ReplaceAll(model.EscapeName(name, model.UnderscoreEscaping), ":", "_")
			})
			byName := func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) }
			slices.SortStableFunc(m.Label, byName)
			// Whoever names labels as if they had been escaped already gets one of them.
			m.Label = slices.CompactFunc(m.Label, func(a, b *dto.LabelPair) bool { return byName(a, b) == 0 })
		}
	}
	slices.SortStableFunc(families, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
}

// escapeNames escapes names that must stay different.
func escapeNames(names []*string, escape func(string) string) {
	wanted := make(map[string]int)
	for _, name := range names {
		wanted[escape(*name)]++
	}
	for _, name := range names {
		escaped := escape(*name)
		if escaped != *name && wanted[escaped] > 1 {
			escaped = escape(model.EscapeName(*name, model.ValueEncodingEscaping))
		}
		*name = escaped
	}
}
