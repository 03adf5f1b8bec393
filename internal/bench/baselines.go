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

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
)

// rules are a user's three relabelling rules.
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
	for _, l := range added() {
		r.builder.Set(l.Name, l.Value)
	}
	keep := relabel.ProcessBuilder(r.builder, r.rules...)
	return r.builder.Labels(), keep
}

// dataModel makes a page with Prometheus's libraries in the usual way: parse into the data model,
// label, sort, encode, compress.
func dataModel(page []byte, r *rewriter, out io.Writer) error {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(page))
	if err != nil {
		return err
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
	}
	z, err := gzip.NewWriterLevel(out, 6)
	if err != nil {
		return err
	}
	encoder := expfmt.NewEncoder(z, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, name := range slices.Sorted(maps.Keys(families)) {
		if err := encoder.Encode(families[name]); err != nil {
			return err
		}
	}
	return z.Close()
}

// seriesBySeries makes a page with Prometheus's own parser, one series after the other.
func seriesBySeries(page []byte, r *rewriter, out io.Writer) error {
	// The parser appends to its input if there is room.
	parser := textparse.NewPromParser(slices.Clip(page), labels.NewSymbolTable(), false)
	z, err := gzip.NewWriterLevel(out, 6)
	if err != nil {
		return err
	}
	var buf []byte
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			return z.Close()
		}
		if err != nil {
			return err
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
			return err
		}
	}
}

// gzipSix compresses at level 6 with the standard library.
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

// compressor compresses one page after the other.
type compressor interface {
	io.WriteCloser
	Reset(to io.Writer)
}

// encodePages encodes and compresses pages, each given by its families.
func encodePages(pages [][]*dto.MetricFamily, z compressor) error {
	for _, families := range pages {
		z.Reset(io.Discard)
		encoder := expfmt.NewEncoder(z, expfmt.NewFormat(expfmt.TypeTextPlain))
		for _, f := range families {
			if err := encoder.Encode(f); err != nil {
				return err
			}
		}
		if err := z.Close(); err != nil {
			return err
		}
	}
	return nil
}

// familiesOf returns the families of each part.
func familiesOf(parts []exposition.Part) ([][]*dto.MetricFamily, error) {
	var (
		pages   [][]*dto.MetricFamily
		encoder exposition.Encoder
	)
	for _, part := range parts {
		var page bytes.Buffer
		for _, chunk := range encoder.Encode(exposition.Text, exposition.Identity, exposition.Merge(nil, part)).Chunks {
			page.Write(chunk)
		}
		parser := expfmt.NewTextParser(model.UTF8Validation)
		byName, err := parser.TextToMetricFamilies(&page)
		if err != nil {
			return nil, err
		}
		var families []*dto.MetricFamily
		for _, name := range slices.Sorted(maps.Keys(byName)) {
			families = append(families, byName[name])
		}
		pages = append(pages, families)
	}
	return pages, nil
}
