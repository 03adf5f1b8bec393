package exposition

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of io.prometheus.client.
const (
	pbFamilyName   = 1
	pbFamilyHelp   = 2
	pbFamilyType   = 3
	pbFamilyMetric = 4
	pbFamilyUnit   = 5

	pbMetricLabel     = 1
	pbMetricGauge     = 2
	pbMetricCounter   = 3
	pbMetricSummary   = 4
	pbMetricUntyped   = 5
	pbMetricTimestamp = 6
	pbMetricHistogram = 7

	pbLabelName  = 1
	pbLabelValue = 2

	pbSimpleValue     = 1 // of counter, gauge and untyped
	pbCounterExemplar = 2

	pbSampleCount      = 1 // of summary and histogram
	pbSampleSum        = 2
	pbBounded          = 3 // quantile, bucket
	pbSampleCountFloat = 4 // of histogram

	pbBucketCount      = 1
	pbBucketBound      = 2
	pbBucketExemplar   = 3
	pbBucketCountFloat = 4

	pbQuantile      = 1
	pbQuantileValue = 2

	pbExemplarLabel     = 1
	pbExemplarValue     = 2
	pbExemplarTimestamp = 3

	pbTypeCounter   = 0
	pbTypeGauge     = 1
	pbTypeSummary   = 2
	pbTypeUntyped   = 3
	pbTypeHistogram = 4
)

// protobufWriter writes messages from the inside out: what a message holds is
// written into a buffer of its own before its length can be.
type protobufWriter struct {
	d                              *Document
	family, metric, inner, element []byte
}

// writeProtobuf writes the document as length-delimited messages.
func (d *Document) writeProtobuf(w *writer) {
	p := protobufWriter{d: d}
	for i := range d.plan.families {
		f := &d.plan.families[i]
		if !f.kind.composite() || f.kind != kindGaugeHistogram && d.fitsProtobuf(f) {
			p.writeFamily(w, f)
			continue
		}
		// Scrapers would call the samples of a gauge histogram otherwise
		// than in the other formats, and of a metric there can only be one
		// timestamp and a whole count.
		for _, part := range d.partsOf(f) {
			p.writeFamily(w, &part)
		}
	}
}

// fitsProtobuf tells whether a composite family can be put into messages.
func (d *Document) fitsProtobuf(f *planFamily) bool {
	return d.eachMetric(f, func(b *Block, _, to uint32) bool {
		if f.kind == kindHistogram {
			return true
		}
		_, ok := wholeNumber(parseValue(b.values[to-1].of(b.body)))
		return ok
	})
}

// wholeNumber converts counts that a uint64 can hold.
func wholeNumber(v float64) (uint64, bool) {
	if !(v >= 0 && v < 1<<63) || v != math.Trunc(v) {
		return 0, false
	}
	return uint64(v), true
}

func (p *protobufWriter) writeFamily(w *writer, f *planFamily) {
	b := appendString(p.family[:0], pbFamilyName, f.name)
	if f.help != "" {
		b = appendString(b, pbFamilyHelp, f.help)
	}
	kind := uint64(pbTypeUntyped)
	switch f.kind {
	case kindCounter:
		kind = pbTypeCounter
	case kindGauge, kindInfo, kindStateSet:
		kind = pbTypeGauge
	case kindSummary:
		kind = pbTypeSummary
	case kindHistogram:
		kind = pbTypeHistogram
	}
	b = protowire.AppendTag(b, pbFamilyType, protowire.VarintType)
	b = protowire.AppendVarint(b, kind)
	for _, r := range f.runs {
		blk, stamp := p.d.part(r)
		for from := r.from; from < r.to; {
			to := from + 1
			if f.kind.composite() {
				to = blk.layout.metricEnd(from, f.kind)
			}
			p.buildMetric(f.kind, blk, from, to, stamp)
			b = appendBytes(b, pbFamilyMetric, p.metric)
			from = to
		}
	}
	if f.unit != "" {
		b = appendString(b, pbFamilyUnit, f.unit)
	}
	p.family = b
	out := w.room(len(b) + protowire.SizeVarint(uint64(len(b))))
	out = protowire.AppendVarint(out, uint64(len(b)))
	w.buf = append(out, b...)
}

// buildMetric writes one metric into p.metric.
func (p *protobufWriter) buildMetric(k kind, blk *Block, from, to uint32, stamp int64) {
	// The last sample of a metric has just the metric's labels.
	p.metric = p.appendLabels(p.metric[:0], pbMetricLabel, blk.layout.series[to-1].text)
	value := func(slot uint32) float64 { return parseValue(blk.values[slot].of(blk.body)) }

	field := protowire.Number(pbMetricUntyped)
	in := p.inner[:0]
	switch k {
	case kindSummary:
		field = pbMetricSummary
		count, _ := wholeNumber(value(to - 1))
		in = appendUint(in, pbSampleCount, count)
		in = appendDouble(in, pbSampleSum, value(to-2))
		for slot := from; slot < to-2; slot++ {
			el := appendDouble(p.element[:0], pbQuantile, blk.bound(slot, k))
			p.element = appendDouble(el, pbQuantileValue, value(slot))
			in = appendBytes(in, pbBounded, p.element)
		}
	case kindHistogram:
		field = pbMetricHistogram
		in = appendCount(in, pbSampleCount, pbSampleCountFloat, value(to-1))
		in = appendDouble(in, pbSampleSum, value(to-2))
		for slot := from; slot < to-2; slot++ {
			el := appendCount(p.element[:0], pbBucketCount, pbBucketCountFloat, value(slot))
			el = appendDouble(el, pbBucketBound, blk.bound(slot, k))
			p.element = p.appendExemplar(el, pbBucketExemplar, blk, slot)
			in = appendBytes(in, pbBounded, p.element)
		}
	default:
		in = appendDouble(in, pbSimpleValue, value(from))
		switch k {
		case kindCounter:
			field = pbMetricCounter
			in = p.appendExemplar(in, pbCounterExemplar, blk, from)
		case kindGauge, kindInfo, kindStateSet:
			field = pbMetricGauge
		}
	}
	p.inner = in
	p.metric = appendBytes(p.metric, field, in)
	if ts := blk.stamp(from, stamp); ts != noTimestamp {
		p.metric = appendUint(p.metric, pbMetricTimestamp, uint64(ts))
	}
}

func (p *protobufWriter) appendLabels(dst []byte, field protowire.Number, text string) []byte {
	for rest := text; ; {
		name, value, next, _, ok := cutLabel(rest)
		if !ok {
			return dst
		}
		rest = next
		name, value = unescape(name, true), unescape(value, true)
		size := protowire.SizeTag(pbLabelName) + protowire.SizeBytes(len(name)) +
			protowire.SizeTag(pbLabelValue) + protowire.SizeBytes(len(value))
		dst = protowire.AppendTag(dst, field, protowire.BytesType)
		dst = protowire.AppendVarint(dst, uint64(size))
		dst = appendString(dst, pbLabelName, name)
		dst = appendString(dst, pbLabelValue, value)
	}
}

func (p *protobufWriter) appendExemplar(dst []byte, field protowire.Number, blk *Block, slot uint32) []byte {
	x, ok := blk.exemplars[slot]
	if !ok {
		return dst
	}
	b := p.appendLabels(nil, pbExemplarLabel, x.text)
	b = appendDouble(b, pbExemplarValue, x.value)
	if x.ts != noTimestamp {
		sec, ms := x.ts/1000, x.ts%1000
		if ms < 0 {
			sec, ms = sec-1, ms+1000
		}
		ts := appendUint(nil, 1, uint64(sec))
		b = appendBytes(b, pbExemplarTimestamp, appendUint(ts, 2, uint64(ms*1e6)))
	}
	return appendBytes(dst, field, b)
}

// appendCount writes a count into the field for whole numbers or, if it is
// none, into the one for others.
func appendCount(dst []byte, whole, other protowire.Number, v float64) []byte {
	if n, ok := wholeNumber(v); ok {
		return appendUint(dst, whole, n)
	}
	return appendDouble(dst, other, v)
}

func appendUint(dst []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), v)
}

func appendDouble(dst []byte, field protowire.Number, v float64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(dst, field, protowire.Fixed64Type), math.Float64bits(v))
}

func appendString(dst []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(dst, field, protowire.BytesType), s)
}

func appendBytes(dst []byte, field protowire.Number, b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(dst, field, protowire.BytesType), b)
}
