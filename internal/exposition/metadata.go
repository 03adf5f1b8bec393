package exposition

import (
	"bytes"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
)

// family is what a page says of a metric family. Types are those of the text
// format: an info or a state set is a gauge, a gauge histogram is untyped ("").
type family struct {
	name, help, unit string
	typ              model.MetricType
}

// composite tells whether one metric of the family consists of several samples.
// Those of other families stand alone and have the name of their family.
func (f *family) composite() bool {
	return f.typ == model.MetricTypeHistogram || f.typ == model.MetricTypeSummary
}

// suffixes are what the samples of a composite family add to its name: those that
// have a bound, the sum, the count. Metrics are written in that order.
func (f *family) suffixes() []string {
	if f.typ == model.MetricTypeSummary {
		return []string{"", "_sum", "_count"}
	}
	return []string{"_bucket", "_sum", "_count"}
}

// boundLabel is the label that tells apart the buckets or quantiles of one metric.
func (f *family) boundLabel() string {
	if f.typ == model.MetricTypeSummary {
		return model.QuantileLabel
	}
	return model.BucketLabel
}

// sampleNames are the names that the family's samples can have.
func (f *family) sampleNames() []string {
	if !f.composite() {
		return []string{f.name}
	}
	names := f.suffixes()
	for i, suffix := range names {
		names[i] = f.name + suffix
	}
	return names
}

// part is the untyped family of the samples with a suffix, for a composite family
// that cannot stay whole.
func (f *family) part(suffix string) family {
	return family{name: f.name + suffix, help: f.help}
}

// renamed returns the family of a sample that was given another name. The samples of
// a composite family keep it as long as they keep their suffix.
func (f *family) renamed(suffix, sample string) (family, string) {
	name, ok := strings.CutSuffix(sample, suffix)
	if !ok || name == "" {
		return family{name: sample, help: f.help}, ""
	}
	return family{name: name, help: f.help, typ: f.typ}, suffix
}

// declare returns the family of a name, so that something can be said of it.
func declare(families map[string]*family, name string) *family {
	if families[name] == nil {
		families[name] = &family{name: name}
	}
	return families[name]
}

// familyOf finds the family of a sample, and the suffix that the sample adds to its
// name. A family of that very name goes before a composite one that has such
// samples.
func familyOf(m map[string]*family, sample string) (family, string) {
	if f := m[sample]; f != nil {
		if f.typ != model.MetricTypeHistogram {
			return *f, ""
		}
		return family{name: sample, help: f.help}, ""
	}
	if i := strings.LastIndexByte(sample, '_'); i > 0 {
		if f := m[sample[:i]]; f != nil && f.composite() && slices.Contains(f.suffixes(), sample[i:]) {
			return *f, sample[i:]
		}
	}
	return family{name: sample}, ""
}

// fromOpenMetrics returns the metadata of an OpenMetrics page with the names of the
// text format: what OpenMetrics calls the counter a, with samples a_total and
// a_created, is a counter a_total and a gauge a_created. What the page says of the
// latter names goes before.
func fromOpenMetrics(m map[string]*family) map[string]*family {
	text := make(map[string]*family, len(m))
	var renamed, created []family
	for _, name := range slices.Sorted(maps.Keys(m)) {
		f := *m[name]
		switch f.typ {
		case model.MetricTypeCounter, model.MetricTypeHistogram, model.MetricTypeSummary:
			name := strings.TrimSuffix(f.name, "_total") + "_created"
			created = append(created, family{name: name, help: f.help, typ: model.MetricTypeGauge})
		}
		switch f.typ {
		case model.MetricTypeCounter:
			// Some write the suffix into the family's name, which Prometheus takes.
			f.name = strings.TrimSuffix(f.name, "_total") + "_total"
		case model.MetricTypeInfo:
			f.name += "_info"
		}
		f.typ = textType(f.typ)
		if f.name == name {
			text[name] = &f
		} else {
			renamed = append(renamed, f)
		}
	}
	for _, f := range append(renamed, created...) {
		if text[f.name] == nil {
			text[f.name] = &f
		}
	}
	return text
}

// textType returns the type that the text format has for one of OpenMetrics.
func textType(t model.MetricType) model.MetricType {
	switch t {
	case model.MetricTypeInfo, model.MetricTypeStateset:
		return model.MetricTypeGauge
	case model.MetricTypeGaugeHistogram, model.MetricTypeUnknown:
		return ""
	}
	return t
}

// withKnownTypes returns a page in the text format in which every TYPE line is one
// that Prometheus's parser takes: it refuses the whole page for a type that it does
// not know. It also says how many lines had to be changed. Every line keeps its
// number.
func withKnownTypes(body []byte) ([]byte, int) {
	out, changed := make([]byte, 0, len(body)), 0
	quoted := regexp.MustCompile(`^"[^"\\]+"$`)
	for line := range bytes.Lines(body) {
		words := strings.Fields(string(line))
		if len(words) < 2 || words[0] != "#" || words[1] != "TYPE" {
			out = append(out, line...)
			continue
		}
		fixed := "#\n" // says nothing of any family
		if len(words) > 2 && (model.LegacyValidation.IsValidMetricName(words[2]) || quoted.MatchString(words[2])) {
			fixed = "# TYPE " + words[2] + " " + knownType(strings.Join(words[3:], " ")) + "\n"
		}
		if strings.TrimSuffix(fixed, "\n") != strings.TrimSuffix(string(line), "\n") {
			changed++
		}
		out = append(out, fixed...)
	}
	return out, changed
}

// knownType returns the word of the text format that is nearest to what a TYPE line
// says.
func knownType(word string) string {
	switch t := textType(model.MetricType(strings.ToLower(word))); t {
	case model.MetricTypeCounter, model.MetricTypeGauge, model.MetricTypeHistogram, model.MetricTypeSummary:
		return string(t)
	}
	return "untyped"
}
