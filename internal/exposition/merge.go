package exposition

import (
	"cmp"
	"slices"
	"time"
)

// Part is a block as a document takes it in.
type Part struct {
	Block *Block
	// Timestamp is given to series that have none of their own. Zero leaves
	// them without.
	Timestamp time.Time
}

// Merge joins blocks into one document. Families are sorted by name; within a
// family series are in the order of the parts, and within a part in the order
// of the block. Of the same series the first one counts; so do the type, HELP
// and UNIT of a family. A family that is composite in one part and something
// else in another, or whose samples' names are taken by other families, becomes
// untyped families of its samples' names, as it does within a block.
func Merge(parts ...Part) *Document {
	return new(Merger).Merge(parts...)
}

// Merger merges the same blocks again and again, in newer versions. As long as
// only values change it need not compare a single series. It also keeps what
// encoding its documents needs from one to the next. Its zero value is ready
// for use; it is not safe for concurrent use.
type Merger struct {
	layouts []*layout
	plan    *plan
	tools   *tools
}

// Merge does what the function Merge does.
func (m *Merger) Merge(parts ...Part) *Document {
	parts = slices.DeleteFunc(slices.Clone(parts), func(p Part) bool { return p.Block.Series() == 0 })
	same := m.plan != nil && slices.EqualFunc(m.layouts, parts, func(l *layout, p Part) bool {
		return l == p.Block.layout
	})
	if !same {
		m.layouts = make([]*layout, len(parts))
		for i, p := range parts {
			m.layouts[i] = p.Block.layout
		}
		last := m.plan
		m.plan = newPlan(m.layouts)
		if last != nil {
			m.plan.template = newTemplateKeeper(last.template)
		}
	}
	if m.tools == nil {
		m.tools = new(tools)
	}
	return &Document{plan: m.plan, parts: parts, tools: m.tools}
}

// plan is how a document is put together from its parts' layouts. It knows no
// values and is immutable, but for what it remembers of how to compress them.
type plan struct {
	template *templateKeeper // of the text format

	families   []planFamily // by name
	runs       []run
	series     int
	duplicates int
	quoted     bool     // some name needs quotes
	names      []string // that samples of the document can have, and families; sorted
}

type planFamily struct {
	family
	runs []run // a piece of plan.runs
}

// run is a piece of a part's series. A run of a composite family consists of
// whole metrics.
type run struct {
	part     uint32
	from, to uint32
}

// planner makes a plan.
type planner struct {
	layouts  []*layout
	index    map[familyKey]int
	families []family
	pieces   []piece
}

// piece is what one part adds to a family.
type piece struct {
	family int // of planner.families; -1 if it was taken apart
	run
}

func newPlan(layouts []*layout) *plan {
	p := planner{layouts: layouts, index: make(map[familyKey]int)}
	p.collect()
	p.takeApart()
	return p.plan()
}

// collect lists what there is to merge. Parts mostly have the same families,
// so the family that was next in the part before is tried first.
func (p *planner) collect() {
	type hint struct {
		family *family
		index  int
	}
	var hints []hint
	for part, l := range p.layouts {
		for i, f := range l.families {
			if i == len(hints) {
				hints = append(hints, hint{})
			}
			if h := &hints[i]; h.family != f.family {
				*h = hint{f.family, p.familyIndex(*f.family)}
			}
			p.pieces = append(p.pieces, piece{hints[i].index, run{uint32(part), f.from, f.to}})
		}
	}
}

func (p *planner) familyIndex(f family) int {
	key := f.key()
	i, ok := p.index[key]
	if !ok {
		i = len(p.families)
		p.index[key] = i
		p.families = append(p.families, f)
		return i
	}
	if have := &p.families[i]; have.help == "" {
		have.help = f.help
	}
	return i
}

// takeApart replaces the composite families that can't stay whole.
func (p *planner) takeApart() {
	set := newFamilySet()
	for i := range p.families {
		set.add(&p.families[i])
	}
	set.settle()
	for i := range p.pieces {
		pc := p.pieces[i]
		f := p.families[pc.family]
		if !f.kind.composite() || set.whole(&f) {
			continue
		}
		p.pieces[i].family = -1
		for slot := pc.from; slot < pc.to; slot++ {
			to := p.familyIndex(f.part(p.layouts[pc.part].series[slot].suffix))
			p.pieces = append(p.pieces, piece{to, run{pc.part, slot, slot + 1}})
		}
	}
	p.pieces = slices.DeleteFunc(p.pieces, func(pc piece) bool { return pc.family < 0 })
}

func (p *planner) plan() *plan {
	// Number the families by name.
	order := make([]int, len(p.families))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return cmp.Compare(p.families[i].name, p.families[j].name) })
	rank := make([]int, len(order))
	for r, i := range order {
		rank[i] = r
	}
	// Pieces are in the order of the parts already, but for those taken apart.
	byRank := make([][]run, len(order))
	for _, pc := range p.pieces {
		r := rank[pc.family]
		byRank[r] = append(byRank[r], pc.run)
	}

	out := &plan{template: newTemplateKeeper(nil)}
	var ends []int
	seen := make(map[string]struct{})
	for r, i := range order {
		f, runs := p.families[i], byRank[r]
		if len(runs) == 0 {
			continue // taken apart
		}
		slices.SortFunc(runs, func(a, b run) int {
			return cmp.Or(cmp.Compare(a.part, b.part), cmp.Compare(a.from, b.from))
		})
		first := len(out.runs)
		if len(runs) == 1 {
			out.add(runs[0], first)
		} else {
			clear(seen)
			for _, r := range runs {
				out.addDistinct(r, first, p.layouts[r.part], f.kind, seen)
			}
		}
		out.families = append(out.families, planFamily{family: f})
		ends = append(ends, len(out.runs))
		out.names = append(out.names, f.name)
		if f.kind.composite() {
			out.names = append(out.names, f.sampleNames()...)
		}
	}
	out.runs = slices.Clip(out.runs)
	from := 0
	for i, to := range ends {
		out.families[i].runs = out.runs[from:to]
		from = to
	}
	for _, l := range p.layouts {
		out.quoted = out.quoted || l.quoted
	}
	slices.Sort(out.names)
	out.names = slices.Compact(out.names)
	return out
}

// add adds a run to the family whose runs begin with the first.
func (p *plan) add(r run, first int) {
	p.series += int(r.to - r.from)
	if n := len(p.runs); n > first && p.runs[n-1].part == r.part && p.runs[n-1].to == r.from {
		p.runs[n-1].to = r.to
		return
	}
	p.runs = append(p.runs, r)
}

// addDistinct adds what is in r and has not been seen: series, or metrics if
// the family is composite.
func (p *plan) addDistinct(r run, first int, l *layout, k kind, seen map[string]struct{}) {
	for from := r.from; from < r.to; {
		to := from + 1
		if k.composite() {
			to = l.metricEnd(from, k)
		}
		// The label text of the last sample, the count, is that of the metric.
		text := l.series[to-1].text
		if _, ok := seen[text]; ok {
			p.duplicates += int(to - from)
		} else {
			seen[text] = struct{}{}
			p.add(run{r.part, from, to}, first)
		}
		from = to
	}
}

// metricEnd returns where the metric ends that begins at a slot.
func (l *layout) metricEnd(slot uint32, k kind) uint32 {
	last := k.suffixes()[2]
	for l.series[slot].suffix != last {
		slot++
	}
	return slot + 1
}
