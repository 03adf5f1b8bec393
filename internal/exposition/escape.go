package exposition

import (
	"slices"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
)

// useUnderscores gives families names that an older scraper takes: other characters
// become underscores. Where that would make two names of samples, or of labels of one
// metric, the same, those that had to be changed are written in Prometheus's
// reversible "values" escaping, so that nothing is lost.
func useUnderscores(families []*dto.MetricFamily) {
	names := make([]*string, len(families))
	for i, mf := range families {
		names[i] = mf.Name
	}
	escapeNames(names, func(i int) []string {
		switch families[i].GetType() {
		case dto.MetricType_HISTOGRAM:
			return []string{"", "_bucket", "_sum", "_count"}
		case dto.MetricType_SUMMARY:
			return []string{"", "_sum", "_count"}
		}
		return []string{""}
	}, func(name string) string { return model.EscapeName(name, model.UnderscoreEscaping) })
	escapeLabels(families, func(name string) string {
		// To Prometheus's escaping a colon is as good in a label name as in a metric
		// name. It is not.
		return strings.ReplaceAll(model.EscapeName(name, model.UnderscoreEscaping), ":", "_")
	})
	slices.SortStableFunc(families, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
}

// replaceColons changes the label names that package expfmt would take for such as
// need no quotes, and no others.
func replaceColons(families []*dto.MetricFamily) {
	escapeLabels(families, func(name string) string {
		if model.LegacyValidation.IsValidMetricName(name) {
			return strings.ReplaceAll(name, ":", "_")
		}
		return name
	})
}

func escapeLabels(families []*dto.MetricFamily, escape func(string) string) {
	var names []*string
	for _, mf := range families {
		for _, m := range mf.GetMetric() {
			if !slices.ContainsFunc(m.Label, func(p *dto.LabelPair) bool { return escape(p.GetName()) != p.GetName() }) {
				continue
			}
			names = names[:0]
			for _, p := range m.Label {
				names = append(names, p.Name)
			}
			escapeNames(names, func(int) []string { return []string{""} }, escape)
			slices.SortFunc(m.Label, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
		}
	}
}

// escapeNames escapes names that must stay different, with all suffixes that they
// have.
func escapeNames(names []*string, suffixes func(i int) []string, escape func(string) string) {
	wanted := make(map[string]int)
	for i, name := range names {
		for _, suffix := range suffixes(i) {
			wanted[escape(*name)+suffix]++
		}
	}
	for i, name := range names {
		escaped := escape(*name)
		if escaped == *name {
			continue
		}
		taken := func(atMost int) bool {
			return slices.ContainsFunc(suffixes(i), func(suffix string) bool { return wanted[escaped+suffix] > atMost })
		}
		if taken(1) { // by others too
			escaped = reversible(*name)
			for n := 2; taken(0); n++ { // some names look as if they had been escaped
				escaped = reversible(*name) + "_" + strconv.Itoa(n)
			}
			for _, suffix := range suffixes(i) {
				wanted[escaped+suffix]++
			}
		}
		*name = escaped
	}
}

// reversible is the "values" escaping, also of colons if there is nothing else.
func reversible(name string) string {
	escaped := model.EscapeName(name, model.ValueEncodingEscaping)
	if escaped == name {
		escaped = "U__" + strings.ReplaceAll(name, "_", "__")
	}
	return strings.ReplaceAll(escaped, ":", "_3a_")
}
