package exposition

import (
	"slices"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
)

// Part is a block as a document takes it in.
type Part struct {
	Block *Block
	// Timestamp is given to series that have none of their own. Zero leaves them
	// without.
	Timestamp time.Time
}

// Document is a set of metric families, ready to be encoded. Immutable and safe for
// concurrent use: what a format and encoding needs is made when it is first asked
// for, once.
type Document struct {
	parts    []Part
	plan     *plan
	gathered []*dto.MetricFamily // instead of parts and plan

	mu      sync.Mutex
	forms   map[form]func() *encoded
	escapes *bool // whether some name needs escaping, nil before that is known
}

// NewDocument makes a document of what a registry has gathered.
func NewDocument(families []*dto.MetricFamily) *Document {
	return &Document{gathered: families, plan: &plan{}, forms: make(map[form]func() *encoded)}
}

// Merge joins blocks into one document. Families are sorted by name; within a family
// series are in the order of the parts, and within a part in the order of the block.
// Of the same series the first one counts; so do the type, HELP and UNIT of a
// family. A family that is composite in one part and something else in another, or
// whose samples' names are taken by other families, becomes untyped families of its
// samples' names, as it does within a block.
//
// It is a pure function; last, which may be nil, is one of its earlier results, of
// which as much is used again as is the same. If all is the same, that is last
// itself, with all that was encoded of it.
func Merge(last *Document, parts ...Part) *Document {
	parts = slices.DeleteFunc(slices.Clone(parts), func(p Part) bool { return p.Block.Series() == 0 })
	if last != nil && slices.EqualFunc(last.parts, parts, func(a, b Part) bool {
		return a.Block == b.Block && a.Timestamp.Equal(b.Timestamp)
	}) {
		return last
	}
	d := &Document{parts: parts, forms: make(map[form]func() *encoded)}
	if last != nil && slices.EqualFunc(last.parts, parts, func(a, b Part) bool { return a.Block.layout == b.Block.layout }) {
		d.plan = last.plan
	} else {
		d.plan = newPlan(parts)
	}
	return d
}

// Series returns the number of series; of gathered families, that of metrics.
func (d *Document) Series() int {
	n := d.plan.series
	for _, f := range d.gathered {
		n += len(f.GetMetric())
	}
	return n
}

// Duplicates returns how many series were left out because a part before had them
// already.
func (d *Document) Duplicates() int { return d.plan.duplicates }

// plan is how a document is put together from its parts' layouts. Immutable.
type plan struct {
	families   []mergedFamily // sorted by name
	series     int
	duplicates int
}

type mergedFamily struct {
	family
	runs []run
}

// run is a piece of a part's points. A run of a composite family is one metric.
type run struct{ part, from, to int32 }

func newPlan(parts []Part) *plan {
	names := newNameSet()
	for _, p := range parts {
		for i := range p.Block.layout.families {
			names.add(&p.Block.layout.families[i].family)
		}
	}
	names.settle()

	families := make(map[familyKey]*mergedFamily)
	add := func(f family, r ...run) {
		m := families[f.key()]
		if m == nil {
			m = &mergedFamily{family: f}
			families[f.key()] = m
		}
		if m.help == "" {
			m.help = f.help
		}
		m.runs = append(m.runs, r...)
	}
	for i, p := range parts {
		part, l := int32(i), p.Block.layout
		for j := range l.families {
			f := &l.families[j]
			switch {
			case !f.composite():
				add(f.family, run{part, f.from, f.to})
			case names.whole(&f.family):
				for _, m := range f.metrics {
					add(f.family, run{part, m.from, m.to})
				}
			default:
				for at := f.from; at < f.to; at++ {
					add(f.part(l.points[at].suffix), run{part, at, at + 1})
				}
			}
		}
	}

	out := &plan{families: make([]mergedFamily, 0, len(families))}
	for _, m := range families {
		before := 0
		for _, r := range m.runs {
			before += int(r.to - r.from)
		}
		if len(m.runs) > 1 {
			m.leaveOutDuplicates(parts)
		}
		for _, r := range m.runs {
			out.series += int(r.to - r.from)
			before -= int(r.to - r.from)
		}
		out.duplicates += before
		out.families = append(out.families, *m)
	}
	slices.SortFunc(out.families, func(a, b mergedFamily) int { return a.key().compare(b.key()) })
	return out
}

// leaveOutDuplicates keeps the first one of equal series, or of equal metrics of a
// composite family: buckets of two origins never mix.
func (m *mergedFamily) leaveOutDuplicates(parts []Part) {
	seen := make(map[string]struct{}, len(m.runs))
	first := func(text string) bool {
		_, again := seen[text]
		seen[text] = struct{}{}
		return !again
	}
	var kept []run
	for _, r := range m.runs {
		l := parts[r.part].Block.layout
		if m.composite() {
			if first(l.metricOf(r.from)) {
				kept = append(kept, r)
			}
			continue
		}
		for at := r.from; at < r.to; at++ {
			if !first(l.points[at].text) {
				continue
			}
			if n := len(kept) - 1; n >= 0 && kept[n].part == r.part && kept[n].to == at {
				kept[n].to++
			} else {
				kept = append(kept, run{r.part, at, at + 1})
			}
		}
	}
	m.runs = kept
}

// metricOf returns the text of the metric that begins at a point.
func (l *layout) metricOf(at int32) string {
	for i := range l.families {
		if f := &l.families[i]; at < f.to {
			for _, m := range f.metrics {
				if m.from == at {
					return m.text
				}
			}
		}
	}
	return ""
}

// sample returns what a part says at a point, with the part's timestamp if it has
// none.
func (d *Document) sample(part int32, p *point) sample {
	from := &d.parts[part]
	s := from.Block.metrics.samples[p.source]
	if s.timestamp == noTimestamp && !from.Timestamp.IsZero() {
		s.timestamp = from.Timestamp.UnixMilli()
	}
	return s
}

// typeName returns a type as the text format writes it.
func typeName(t model.MetricType) string {
	if t == "" {
		return "untyped"
	}
	return string(t)
}
