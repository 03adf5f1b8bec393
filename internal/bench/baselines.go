package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/model/textparse"
)

// rules are what a user might do with three rules.
func rules() []*relabel.Config {
	list := []*relabel.Config{
		{SourceLabels: model.LabelNames{"__name__"}, Regex: relabel.MustNewRegexp("go_.*|process_.*"), Action: relabel.Drop},
		{SourceLabels: model.LabelNames{"postgres_service_name"}, Regex: relabel.MustNewRegexp("(.*)-.*"), TargetLabel: "team", Replacement: "$1", Action: relabel.Replace},
		{Regex: relabel.MustNewRegexp("tmp_.*"), Action: relabel.LabelDrop},
	}
	for _, r := range list {
		r.Separator, r.NameValidationScheme = relabel.DefaultRelabelConfig.Separator, model.UTF8Validation
	}
	return list
}

// rewriter adds three labels and applies the rules.
type rewriter struct {
	rules   []*relabel.Config
	builder *labels.Builder
}

func newRewriter() *rewriter {
	return &rewriter{rules(), labels.NewBuilder(labels.EmptyLabels())}
}

func (r *rewriter) rewrite(lset labels.Labels) (labels.Labels, bool) {
	r.builder.Reset(lset)
	r.builder.Set("postgres_region", "us-east-1")
	r.builder.Set("postgres_size", "r6gd.medium")
	r.builder.Set("postgres_state", "running")
	keep := relabel.ProcessBuilder(r.builder, r.rules...)
	return r.builder.Labels(), keep
}

// dataModel makes a page as one does with what Prometheus's libraries offer:
// parse into the data model, label, sort, encode, compress. It writes the page
// to out and returns how many series it has.
func dataModel(page []byte, r *rewriter, out io.Writer) (series int, err error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(page))
	if err != nil {
		return 0, err
	}
	scratch := labels.NewScratchBuilder(16)
	for name, f := range families {
		kept := f.Metric[:0]
		for _, m := range f.Metric {
			scratch.Reset()
			scratch.Add(model.MetricNameLabel, name)
			for _, l := range m.Label {
				scratch.Add(l.GetName(), l.GetValue())
			}
			scratch.Sort()
			lset, keep := r.rewrite(scratch.Labels())
			if !keep {
				continue
			}
			m.Label = m.Label[:0]
			lset.Range(func(l labels.Label) {
				if l.Name != model.MetricNameLabel {
					m.Label = append(m.Label, &dto.LabelPair{Name: &l.Name, Value: &l.Value})
				}
			})
			kept = append(kept, m)
		}
		f.Metric = kept
		series += len(kept)
	}
	z, err := gzip.NewWriterLevel(out, 6)
	if err != nil {
		return 0, err
	}
	encoder := expfmt.NewEncoder(z, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, name := range slices.Sorted(maps.Keys(families)) {
		if err := encoder.Encode(families[name]); err != nil {
			return 0, err
		}
	}
	return series, z.Close()
}

// series makes a page series by series with Prometheus's own fast parser, and
// returns how many there are.
func series(page []byte, r *rewriter, out io.Writer) (n int, err error) {
	// The parser appends to what it is given if there is room.
	parser := textparse.NewPromParser(slices.Clip(page), labels.NewSymbolTable(), false)
	z, err := gzip.NewWriterLevel(out, 6)
	if err != nil {
		return 0, err
	}
	var buf []byte
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			return n, z.Close()
		}
		if err != nil {
			return 0, err
		}
		if entry != textparse.EntrySeries {
			continue
		}
		var lset labels.Labels
		parser.Labels(&lset)
		_, _, value := parser.Series()
		lset, keep := r.rewrite(lset)
		if !keep {
			continue
		}
		n++
		buf = append(buf[:0], lset.Get(model.MetricNameLabel)...)
		separator := byte('{')
		lset.Range(func(l labels.Label) {
			if l.Name != model.MetricNameLabel {
				buf = append(append(buf, separator), l.Name...)
				buf = strconv.AppendQuote(append(buf, '='), l.Value)
				separator = ','
			}
		})
		buf = strconv.AppendFloat(append(buf, "} "...), value, 'g', -1, 64)
		if _, err := z.Write(append(buf, '\n')); err != nil {
			return 0, err
		}
	}
}

// gzipSix compresses at level 6 of the standard library.
func gzipSix(out io.Writer, page []byte) error {
	z, err := gzip.NewWriterLevel(out, 6)
	if err != nil {
		return err
	}
	if _, err := z.Write(page); err != nil {
		return err
	}
	return z.Close()
}
