package modeltest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

// facts is the content of a page, without its order: values by series, and TYPE and HELP by family.
type facts struct{ series, families map[string]string }

func newFacts() facts { return facts{map[string]string{}, map[string]string{}} }

func (f facts) add(lset labels.Labels, value float64, stamp int64) error {
	id := lset.String()
	if _, twice := f.series[id]; twice {
		return fmt.Errorf("%s comes twice", id)
	}
	f.series[id] = strconv.FormatFloat(value, 'g', -1, 64)
	if stamp != 0 {
		f.series[id] += fmt.Sprintf(" at %d", stamp)
	}
	return nil
}

// describe adds TYPE and HELP of a family. The HELP texts of the program's own families are not
// compared.
func (f facts) describe(name, kind, help string) {
	if help != "" && (help == own || reserved(name)) {
		help = own
	}
	f.families[name] = kind + " " + help
}

// textFacts returns the expected content of the page in the text format. The type and the HELP of a
// family are those of the first series that has one.
func (e *expected) textFacts() (facts, error) {
	f := newFacts()
	for _, s := range e.series {
		if err := f.add(s.labels, s.value, s.stamp); err != nil {
			return f, err
		}
		kind, help, _ := strings.Cut(f.families[s.family], " ")
		if kind == "" || kind == "untyped" {
			kind = strings.ToLower(s.kind.String())
		}
		f.describe(s.family, kind, cmp.Or(help, s.help))
	}
	return f, nil
}

// openMetricsFacts returns the expected content of the page in OpenMetrics, where counters need
// certain names and must not be negative.
func (e *expected) openMetricsFacts() (facts, error) {
	f, err := e.textFacts()
	negative := map[string]bool{}
	for _, s := range e.series {
		negative[s.family] = negative[s.family] || !(s.value >= 0)
	}
	families := f.families
	f.families = map[string]string{}
	for name, text := range families {
		kind, help, _ := strings.Cut(text, " ")
		base := strings.TrimSuffix(name, "_total")
		switch {
		case kind == "counter" && base != name && !negative[name] && families[base] == "":
			name = base
		case kind == "counter", kind == "untyped":
			kind = "unknown"
		}
		f.families[name] = kind + " " + help
	}
	return f, err
}

// readText returns the content of a page in the text format.
func readText(page []byte) (facts, error) {
	f := newFacts()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(page))
	if err != nil {
		return f, err
	}
	for name, mf := range families {
		f.describe(name, strings.ToLower(mf.GetType().String()), mf.GetHelp())
		for _, m := range mf.Metric {
			b := labels.NewBuilder(labels.EmptyLabels())
			for _, l := range m.Label {
				b.Set(l.GetName(), l.GetValue())
			}
			add := func(suffix string, value float64, bound ...string) {
				b := labels.NewBuilder(b.Labels()).Set(model.MetricNameLabel, name+suffix)
				if len(bound) > 0 {
					b.Set("le", bound[0])
				}
				err = errors.Join(err, f.add(b.Labels(), value, m.GetTimestampMs()))
			}
			switch mf.GetType() {
			case dto.MetricType_HISTOGRAM:
				for _, bucket := range m.Histogram.Bucket {
					le := strconv.FormatFloat(bucket.GetUpperBound(), 'g', -1, 64)
					add("_bucket", float64(bucket.GetCumulativeCount()), le)
				}
				add("_sum", m.Histogram.GetSampleSum())
				add("_count", float64(m.Histogram.GetSampleCount()))
			case dto.MetricType_COUNTER:
				add("", m.Counter.GetValue())
			case dto.MetricType_GAUGE:
				add("", m.Gauge.GetValue())
			default:
				add("", m.Untyped.GetValue())
			}
		}
	}
	return f, err
}

// readOpenMetrics returns the content of a page in OpenMetrics.
func readOpenMetrics(page []byte) (facts, error) {
	f := newFacts()
	p := textparse.NewOpenMetricsParser(page, labels.NewSymbolTable())
	kinds, helps := map[string]string{}, map[string]string{}
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return f, err
		}
		switch entry {
		case textparse.EntryType:
			name, kind := p.Type()
			kinds[string(name)] = string(kind)
		case textparse.EntryHelp:
			name, help := p.Help()
			helps[string(name)] = string(help)
		case textparse.EntrySeries:
			var lset labels.Labels
			p.Labels(&lset)
			_, ts, value := p.Series()
			stamp := int64(0)
			if ts != nil {
				stamp = *ts
			}
			if err := f.add(lset, value, stamp); err != nil {
				return f, err
			}
		}
	}
	for name, kind := range kinds {
		f.describe(name, kind, helps[name])
	}
	return f, nil
}

// differences lists what is wrongly on a page, and what is missing.
func (f facts) differences(want facts) []string {
	var list []string
	compare := func(got, want map[string]string) {
		keys := maps.Clone(got)
		maps.Copy(keys, want)
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			g, served := got[key]
			w, wanted := want[key]
			switch {
			case !wanted:
				list = append(list, fmt.Sprintf("%s is %s and should not be there", key, g))
			case !served:
				list = append(list, fmt.Sprintf("%s is missing and should be %s", key, w))
			case g != w:
				list = append(list, fmt.Sprintf("%s is %s and should be %s", key, g, w))
			}
		}
	}
	compare(f.series, want.series)
	compare(f.families, want.families)
	const most = 12
	if more := len(list) - most; more > 0 {
		list = append(list[:most], fmt.Sprintf("and %d more differences", more))
	}
	return list
}

// compare parses a page and returns how it differs from the expected one.
func compare(got []byte, read func([]byte) (facts, error), want facts, wantErr error) []string {
	served, err := read(got)
	if err := errors.Join(err, wantErr); err != nil {
		return []string{err.Error()}
	}
	return served.differences(want)
}
