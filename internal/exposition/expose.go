package exposition

import (
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
)

// Rules say what becomes of series before they are served. They must not be changed:
// new rules are new Rules.
type Rules struct {
	Relabel []*relabel.Config
	// Reserved tells whether a metric name must not be used, neither before nor
	// after relabelling; nil for none.
	Reserved func(name string) bool
}

// Drops counts series that are not served, by reason.
type Drops struct {
	Rule      int // a relabelling rule wants it gone
	Reserved  int // its name is reserved
	Invalid   int // Prometheus would not take it, or a rule left it without a valid name
	Duplicate int // another one has the same labels
}

// Block is the series of one group as they are served. Immutable. A nil *Block has
// no series.
type Block struct {
	layout *layout
	// What it was made of:
	metrics *Metrics
	added   []labels.Label
	rules   *Rules
}

// Series returns the number of series.
func (b *Block) Series() int {
	if b == nil {
		return 0
	}
	return len(b.layout.points)
}

// Dropped tells what was left out.
func (b *Block) Dropped() Drops {
	if b == nil {
		return Drops{}
	}
	d := b.layout.dropped
	d.Duplicate += b.metrics.duplicates
	return d
}

// Expose returns series as they are served: each gets those of the added labels that
// it does not have, then the rules apply, nil for none. It is a pure function; last,
// which may be nil, is one of its earlier results, of which as much is used again as is
// the same. If all is the same, that is last itself.
func Expose(m *Metrics, added []labels.Label, rules *Rules, last *Block) *Block {
	if m.Series() == 0 {
		return nil
	}
	b := &Block{metrics: m, added: added, rules: rules}
	if last != nil && last.rules == rules && slices.Equal(last.added, added) {
		if last.metrics == m {
			return last
		}
		if last.metrics.sameSeries(m) {
			b.layout = last.layout
			return b
		}
	}
	b.layout = newLayout(m, added, rules)
	return b
}

func newLayout(m *Metrics, added []labels.Label, rules *Rules) *layout {
	if rules == nil {
		rules = &Rules{}
	}
	var (
		dropped Drops
		places  = make([]place, 0, len(m.series))
		builder = labels.NewBuilder(labels.EmptyLabels())
		texts   = make(map[string]string) // of which many series have the same
		scratch []byte
	)
	intern := func(lset labels.Labels) string {
		scratch = appendLabelText(scratch[:0], lset)
		text, ok := texts[string(scratch)]
		if !ok {
			text = string(scratch)
			texts[text] = text
		}
		return text
	}
	for i, s := range m.series {
		switch {
		case !s.valid:
			dropped.Invalid++
			continue
		case rules.Reserved != nil && rules.Reserved(s.name):
			dropped.Reserved++
			continue
		}
		builder.Reset(s.labels)
		for _, l := range added {
			if s.labels.Get(l.Name) == "" {
				builder.Set(l.Name, l.Value)
			}
		}
		if !relabel.ProcessBuilder(builder, rules.Relabel...) {
			dropped.Rule++
			continue
		}
		lset := builder.Labels()
		name := lset.Get(model.MetricNameLabel)
		if !validLabels(lset) {
			dropped.Invalid++
			continue
		}
		f, suffix := familyOf(*m.families, s.name)
		if name != s.name {
			if rules.Reserved != nil && rules.Reserved(name) {
				dropped.Reserved++
				continue
			}
			f, suffix = f.renamed(suffix, name)
		}
		p := place{family: f, point: point{suffix: suffix, text: intern(lset), source: int32(i)}}
		if f.composite() {
			p.metric = p.text
			if suffix == f.suffixes()[0] {
				bound := lset.Get(f.boundLabel())
				p.bound = newBound(bound)
				builder.Reset(lset)
				builder.Del(f.boundLabel())
				p.metric = intern(builder.Labels())
				if s.bound != "" && bound == s.labels.Get(f.boundLabel()) {
					builder.Set(f.boundLabel(), s.bound)
					p.written = intern(builder.Labels())
				}
			}
		}
		places = append(places, p)
	}
	l := arrange(places)
	dropped.Duplicate = len(places) - len(l.points)
	l.dropped = dropped
	return l
}
