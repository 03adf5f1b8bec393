package exposition

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync/atomic"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// Block is one version of a group of series. It is immutable and safe for
// concurrent use.
type Block struct {
	layout *layout
	body   []byte  // what the values, and maybe those of other blocks, are written like
	values []span  // into body
	stamps []int64 // milliseconds or noTimestamp; nil if no series has one

	exemplars   map[uint32]exemplar // by slot
	fingerprint atomic.Uint64       // 0 is not known yet
}

// Series returns the number of series.
func (b *Block) Series() int {
	if b == nil || b.layout == nil {
		return 0
	}
	return len(b.layout.series)
}

// Fingerprint returns a number that changes if a series comes or goes, or if a
// value, timestamp, exemplar, HELP or TYPE changes, and only then. It is the
// same in every process.
func (b *Block) Fingerprint() uint64 {
	if b == nil || b.layout == nil {
		return 0
	}
	if f := b.fingerprint.Load(); f != 0 {
		return f
	}
	var (
		h xxhash.Digest
		n [8]byte
	)
	h.Reset()
	number := func(v uint64) {
		binary.LittleEndian.PutUint64(n[:], v)
		_, _ = h.Write(n[:])
	}
	number(b.layout.hash)
	// Many values at once are hashed faster than one by one.
	var room [1024]byte
	text := room[:0]
	for _, v := range b.values {
		text = append(append(text, v.of(b.body)...), '\n')
		if len(text) > len(room)/2 {
			_, _ = h.Write(text)
			text = text[:0]
		}
	}
	_, _ = h.Write(text)
	for _, ts := range b.stamps {
		number(uint64(ts))
	}
	for i := range b.values {
		if x, ok := b.exemplars[uint32(i)]; ok {
			number(uint64(i))
			number(math.Float64bits(x.value))
			number(uint64(x.ts))
			_, _ = h.WriteString(x.text)
		}
	}
	f := max(h.Sum64(), 1)
	b.fingerprint.Store(f)
	return f
}

func (b *Block) addExemplar(slot uint32, x exemplar) {
	if b.exemplars == nil {
		b.exemplars = make(map[uint32]exemplar)
	}
	b.exemplars[slot] = x
}

// stamp returns the timestamp of a series, which is def if it has none.
func (b *Block) stamp(slot uint32, def int64) int64 {
	if b.stamps == nil || b.stamps[slot] == noTimestamp {
		return def
	}
	return b.stamps[slot]
}

// bound returns the bound of a bucket or quantile.
func (b *Block) bound(slot uint32, k kind) float64 {
	text := b.layout.series[slot].text
	from, to, _ := findLabel(text, k.boundLabel())
	return parseValue([]byte(text[from:to]))
}

// blockBuilder makes a block of series that do not come from a page.
type blockBuilder struct {
	samples []sample
	values  []span
	stamps  []int64
	stamped bool
	extra   map[int]exemplar
	body    []byte

	texts map[string]string // label texts, for sharing
	text  []byte
}

// add takes in a series. Its value is a valid sample value.
func (b *blockBuilder) add(s sample, value []byte, ts int64, x *exemplar) {
	b.values = append(b.values, span{uint32(len(b.body)), uint32(len(value))})
	b.body = append(b.body, value...)
	if x != nil {
		if b.extra == nil {
			b.extra = make(map[int]exemplar)
		}
		b.extra[len(b.samples)] = *x
	}
	b.samples = append(b.samples, s)
	b.stamps = append(b.stamps, ts)
	b.stamped = b.stamped || ts != noTimestamp
}

// intern writes a label text. Series of different families often share it.
func (b *blockBuilder) intern(lset labels.Labels) string {
	b.text = appendLabelText(b.text[:0], lset)
	if t, ok := b.texts[string(b.text)]; ok {
		return t
	}
	if b.texts == nil {
		b.texts = make(map[string]string)
	}
	t := string(b.text)
	b.texts[t] = t
	return t
}

func (b *blockBuilder) build() *Block {
	l, slots := buildLayout(b.samples)
	l.gather()
	blk := &Block{layout: l, body: b.body, values: make([]span, len(l.series))}
	if b.stamped {
		blk.stamps = make([]int64, len(l.series))
	}
	for i, slot := range slots {
		if slot == slotDuplicate {
			continue
		}
		blk.values[slot] = b.values[i]
		if b.stamped {
			blk.stamps[slot] = b.stamps[i]
		}
		if x, ok := b.extra[i]; ok {
			blk.addExemplar(slot, x)
		}
	}
	return blk
}

var (
	errNoFamilyName = errors.New("metric family without a name")
	errNotTyped     = errors.New("metric has no value of its family's type")
	errBadLabels    = errors.New("metric has an invalid or repeated label")
)

// NewBlock makes a block of series that the program itself has gathered. Of
// series that occur twice, the first one counts. The buckets of native
// histograms are left out, as the formats demand that this package speaks.
func NewBlock(families []*dto.MetricFamily) (*Block, error) {
	var b blockBuilder
	for _, mf := range families {
		if err := b.addFamily(mf); err != nil {
			return nil, fmt.Errorf("add metric family %q: %w", mf.GetName(), err)
		}
	}
	return b.build(), nil
}

func (b *blockBuilder) addFamily(mf *dto.MetricFamily) error {
	if mf.GetName() == "" || !utf8.ValidString(mf.GetName()) {
		return errNoFamilyName
	}
	f := &family{name: mf.GetName(), help: mf.GetHelp(), unit: mf.GetUnit()}
	switch mf.GetType() {
	case dto.MetricType_COUNTER:
		f.kind = kindCounter
	case dto.MetricType_GAUGE:
		f.kind = kindGauge
	case dto.MetricType_SUMMARY:
		f.kind = kindSummary
	case dto.MetricType_HISTOGRAM:
		f.kind = kindHistogram
	case dto.MetricType_GAUGE_HISTOGRAM:
		f.kind = kindGaugeHistogram
	}
	for _, m := range mf.GetMetric() {
		if err := b.addMetric(f, m); err != nil {
			return err
		}
	}
	return nil
}

func (b *blockBuilder) addMetric(f *family, m *dto.Metric) error {
	ts := int64(noTimestamp)
	if m.TimestampMs != nil {
		ts = m.GetTimestampMs()
	}
	text := func(bound ...string) (string, error) {
		lset, err := labelsOf(f.name, m.GetLabel(), bound...)
		return b.intern(lset), err
	}
	base, err := text()
	if err != nil {
		return err
	}
	number := func(s suffix, v float64, x *dto.Exemplar) {
		b.add(sample{f, s, base}, formatFloat(v), ts, exemplarOf(x))
	}
	bounded := func(s suffix, bound, v float64, x *dto.Exemplar) error {
		t, err := text(f.kind.boundLabel(), string(formatFloat(bound)))
		b.add(sample{f, s, t}, formatFloat(v), ts, exemplarOf(x))
		return err
	}

	suffixes := f.kind.suffixes()
	switch {
	case f.kind == kindCounter && m.Counter != nil:
		number(suffixNone, m.Counter.GetValue(), m.Counter.Exemplar)
	case f.kind == kindGauge && m.Gauge != nil:
		number(suffixNone, m.Gauge.GetValue(), nil)
	case f.kind == kindUntyped && m.Untyped != nil:
		number(suffixNone, m.Untyped.GetValue(), nil)
	case f.kind == kindSummary && m.Summary != nil:
		for _, q := range m.Summary.GetQuantile() {
			if err := bounded(suffixNone, q.GetQuantile(), q.GetValue(), nil); err != nil {
				return err
			}
		}
		number(suffixSum, m.Summary.GetSampleSum(), nil)
		number(suffixCount, float64(m.Summary.GetSampleCount()), nil)
	case f.kind.composite() && f.kind != kindSummary && m.Histogram != nil:
		h := m.Histogram
		count := orFloat(h.GetSampleCount(), h.GetSampleCountFloat())
		infinite := false
		for _, bucket := range h.GetBucket() {
			infinite = infinite || math.IsInf(bucket.GetUpperBound(), 1)
			v := orFloat(bucket.GetCumulativeCount(), bucket.GetCumulativeCountFloat())
			if err := bounded(suffixBucket, bucket.GetUpperBound(), v, bucket.Exemplar); err != nil {
				return err
			}
		}
		if !infinite {
			if err := bounded(suffixBucket, math.Inf(1), count, nil); err != nil {
				return err
			}
		}
		number(suffixes[1], h.GetSampleSum(), nil)
		number(suffixes[2], count, nil)
	default:
		return errNotTyped
	}
	return nil
}

func orFloat(n uint64, f float64) float64 {
	if f != 0 {
		return f
	}
	return float64(n)
}

// labelsOf turns label pairs, and further names and values, into a label set.
func labelsOf(name string, pairs []*dto.LabelPair, more ...string) (labels.Labels, error) {
	b := labels.NewScratchBuilder(len(pairs) + 2)
	b.Add(model.MetricNameLabel, name)
	size := 0
	for _, p := range pairs {
		b.Add(p.GetName(), p.GetValue())
		size += len(p.GetName()) + len(p.GetValue())
	}
	for i := 0; i+1 < len(more); i += 2 {
		b.Add(more[i], more[i+1])
	}
	if size > maxSeries {
		return labels.EmptyLabels(), errBadLabels
	}
	b.Sort()
	lset := b.Labels()
	if !validLabels(lset) {
		return lset, errBadLabels
	}
	return lset, nil
}

// exemplarOf returns nil for an exemplar that is none or not valid.
func exemplarOf(x *dto.Exemplar) *exemplar {
	if x == nil {
		return nil
	}
	lset, err := labelsOf("exemplar", x.GetLabel())
	if err != nil {
		return nil
	}
	e := &exemplar{text: exemplarText(lset), value: x.GetValue(), ts: noTimestamp}
	if x.Timestamp != nil {
		e.ts = x.GetTimestamp().AsTime().UnixMilli()
	}
	return e
}

// exemplarText is a label text without its blank, and with braces always.
func exemplarText(lset labels.Labels) string {
	b := appendLabelText(nil, lset)
	if len(b) == 1 {
		return "{}"
	}
	return string(b[:len(b)-1])
}

// formatFloat writes a number as the text format has it.
func formatFloat(f float64) []byte {
	switch {
	case math.IsInf(f, 1):
		return []byte("+Inf")
	case math.IsInf(f, -1):
		return []byte("-Inf")
	}
	return strconv.AppendFloat(nil, f, 'g', -1, 64)
}
