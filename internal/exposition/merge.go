package exposition

import (
	"maps"
	"slices"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
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
	parts              []Part
	families           []placedFamily // sorted; shared by documents whose parts have the same layouts
	series, duplicates int
	gathered           []*dto.MetricFamily // instead of all that

	mu    sync.Mutex
	forms map[form]func() *encoded
}

// NewDocument makes a document of what a registry has gathered.
func NewDocument(families []*dto.MetricFamily) *Document {
	return &Document{gathered: families, forms: make(map[form]func() *encoded)}
}

// Merge joins blocks into one document. Families are sorted by name; within a family
// series are in the order of the parts, and within a part in the order of the block.
// Of the same series the first one counts; so do the first type, HELP and UNIT that
// are known of a family. A family that is composite in one part and something else in
// another, or whose samples' names are taken by other families, becomes untyped families
// of its samples' names, as it does within a block.
//
// last is what it is to [Expose]; with it comes what was encoded of it.
func Merge(last *Document, parts ...Part) *Document {
	parts = slices.DeleteFunc(slices.Clone(parts), func(p Part) bool { return p.Block.Series() == 0 })
	if last != nil && slices.EqualFunc(last.parts, parts, func(a, b Part) bool {
		return a.Block == b.Block && a.Timestamp.Equal(b.Timestamp)
	}) {
		return last
	}
	d := &Document{parts: parts, forms: make(map[form]func() *encoded)}
	if last != nil && slices.EqualFunc(last.parts, parts, func(a, b Part) bool { return a.Block.layout == b.Block.layout }) {
		d.families, d.series, d.duplicates = last.families, last.series, last.duplicates
	} else {
		d.join()
	}
	return d
}

// Series returns the number of series; of gathered families, that of metrics.
func (d *Document) Series() int {
	n := d.series
	for _, f := range d.gathered {
		n += len(f.GetMetric())
	}
	return n
}

// Duplicates returns how many series were left out because a part before had them
// already.
func (d *Document) Duplicates() int { return d.duplicates }

// join puts the families of the parts together.
func (d *Document) join() {
	names := newNameSet()
	for _, p := range d.parts {
		for i := range p.Block.layout.families {
			names.add(&p.Block.layout.families[i].family)
		}
	}
	names.settle()

	families := make(map[string]*placedFamily)
	add := func(f family, r run) {
		m := families[f.key()]
		if m == nil {
			m = &placedFamily{family: f}
			families[f.key()] = m
		}
		m.take(&f)
		m.runs = append(m.runs, r)
	}
	for i, p := range d.parts {
		l := p.Block.layout
		for j := range l.families {
			f := &l.families[j]
			for _, r := range f.runs {
				r.part = int32(i)
				if !f.composite() || names.whole(&f.family) {
					add(f.family, r)
					continue
				}
				for at := r.from; at < r.to; at++ {
					add(f.part(l.points[at].suffix), run{part: r.part, from: at, to: at + 1})
				}
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(families)) {
		f := families[key]
		for _, r := range f.runs {
			d.duplicates += int(r.to - r.from)
		}
		if len(f.runs) > 1 {
			f.runs = d.withoutDuplicates(f)
		}
		for _, r := range f.runs {
			d.series += int(r.to - r.from)
		}
		d.families = append(d.families, *f)
	}
	d.duplicates -= d.series
}

// withoutDuplicates keeps the first one of equal series, or of equal metrics of a
// composite family: buckets of two origins never mix.
func (d *Document) withoutDuplicates(f *placedFamily) []run {
	seen := make(map[string]struct{}, len(f.runs))
	first := func(text string) bool {
		_, again := seen[text]
		seen[text] = struct{}{}
		return !again
	}
	var kept []run
	for _, r := range f.runs {
		if f.composite() {
			if first(r.metric) {
				kept = append(kept, r)
			}
			continue
		}
		points := d.parts[r.part].Block.layout.points
		for at := r.from; at < r.to; at++ {
			if !first(points[at].text) {
				continue
			}
			if n := len(kept) - 1; n >= 0 && kept[n].part == r.part && kept[n].to == at {
				kept[n].to++
			} else {
				kept = append(kept, run{part: r.part, from: at, to: at + 1})
			}
		}
	}
	return kept
}

// sample returns what a part says at a point, with the part's timestamp if it has
// none, and its value.
func (d *Document) sample(part int32, p *point) (sample, []byte) {
	from := &d.parts[part]
	m := from.Block.metrics
	s := m.samples[p.source]
	if s.timestamp == noTimestamp && !from.Timestamp.IsZero() {
		s.timestamp = from.Timestamp.UnixMilli()
	}
	return s, m.value(s)
}
