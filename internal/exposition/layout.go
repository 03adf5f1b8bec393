package exposition

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"github.com/prometheus/common/model"
)

// layout is which series a block has and what they are called, without their values:
// blocks share it for as long as only values change. Immutable.
type layout struct {
	families []placedFamily // sorted
	points   []point        // family by family
	dropped  Drops
	quoted   bool // some name cannot be written without quotes
}

// placedFamily is a family and where its points are. Those of a simple family are in
// the order of the page. Those of a composite family are metric by metric: buckets or
// quantiles by bound, then the sum, then the count.
type placedFamily struct {
	family
	runs []run
}

// run is a piece of the points of one of a document's parts; in a layout, the part is
// always 0. A run of a composite family is one metric.
type run struct {
	part, from, to int32
	metric         string // the label text that all samples of the metric have
}

// point is where one sample is written.
type point struct {
	suffix string // of a composite family's sample
	text   string // label text
	// written is the label text with the bound as upstream wrote it, where that is
	// not the canonical form; "" otherwise.
	written string
	source  int32 // of the sample in the block's Metrics
}

// place is a point that looks for its place in a layout.
type place struct {
	point
	family family
	metric string  // of a composite family, as in a run
	bound  float64 // NaN if it is no number
}

func newBound(text string) float64 {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return math.NaN()
	}
	return f
}

// key tells which samples are of one family. Simple families of a name are one,
// whatever their types; a composite one is not the same as a simple one, or one of
// another type. Keys sort as names do.
func (f *family) key() string {
	if f.composite() {
		return f.name + "\x00" + string(f.typ)
	}
	return f.name
}

// take takes from another family of the same key what f does not say. An untyped family
// says nothing of its type.
func (f *family) take(o *family) {
	f.typ, f.help, f.unit = cmp.Or(f.typ, o.typ), cmp.Or(f.help, o.help), cmp.Or(f.unit, o.unit)
}

// arrange makes a layout. When places say different things of one family, the first
// of them counts, as in [Merge]; of points that are the same series, the first. Composite families
// that cannot be whole become untyped families of their samples' names.
func arrange(places []place) *layout {
	takeApart(places)
	slices.SortStableFunc(places, func(a, b place) int { return cmp.Compare(a.family.key(), b.family.key()) })
	l := &layout{points: make([]point, 0, len(places))}
	for _, p := range places {
		l.quoted = l.quoted || !model.LegacyValidation.IsValidMetricName(p.family.name) || quotesNames(p.text)
	}
	for len(places) > 0 {
		f, n := places[0].family, 1
		for n < len(places) && places[n].family.key() == f.key() {
			f.take(&places[n].family)
			n++
		}
		add := l.addSimple
		if f.composite() {
			add = l.addComposite
		}
		l.families = append(l.families, placedFamily{f, add(places[:n])})
		places = places[n:]
	}
	l.families = slices.Clip(l.families)
	return l
}

func (l *layout) addSimple(places []place) []run {
	from := int32(len(l.points))
	seen := make(map[string]struct{}, len(places))
	for _, p := range places {
		if _, again := seen[p.text]; !again {
			seen[p.text] = struct{}{}
			l.points = append(l.points, p.point)
		}
	}
	return []run{{from: from, to: int32(len(l.points))}}
}

func (l *layout) addComposite(places []place) []run {
	metrics, order := byMetric(places), places[0].family.suffixes()
	runs := make([]run, 0, len(metrics))
	for _, m := range metrics {
		slices.SortStableFunc(m, func(a, b place) int {
			return cmp.Or(cmp.Compare(slices.Index(order, a.suffix), slices.Index(order, b.suffix)), cmp.Compare(a.bound, b.bound))
		})
		from := int32(len(l.points))
		for i, p := range m {
			if i == 0 || m[i-1].suffix != p.suffix || m[i-1].text != p.text {
				l.points = append(l.points, p.point)
			}
		}
		runs = append(runs, run{from: from, to: int32(len(l.points)), metric: m[0].metric})
	}
	return runs
}

// byMetric divides the places of a composite family, metrics as they came.
func byMetric(places []place) [][]place {
	var metrics [][]place
	index := make(map[string]int)
	for _, p := range places {
		i, ok := index[p.metric]
		if !ok {
			i = len(metrics)
			index[p.metric] = i
			metrics = append(metrics, nil)
		}
		metrics[i] = append(metrics[i], p)
	}
	return metrics
}

// takeApart turns the samples of composite families that cannot be whole into
// samples of untyped ones: those with a bound that is no number or comes twice in
// different labels, and those whose names are taken.
func takeApart(places []place) {
	names := newNameSet()
	composite := make(map[string][]place)
	for i := range places {
		f := &places[i].family
		names.add(f)
		if f.composite() {
			composite[f.key()] = append(composite[f.key()], places[i])
		}
	}
	if len(composite) == 0 {
		return
	}
	for _, members := range composite {
		for _, m := range byMetric(members) {
			bounds := make(map[float64]string)
			for _, p := range m {
				if p.suffix != p.family.suffixes()[0] {
					continue
				}
				if text, ok := bounds[p.bound]; math.IsNaN(p.bound) || ok && text != p.text {
					names.takeApart(p.family.name)
				}
				bounds[p.bound] = p.text
			}
		}
	}
	names.settle()
	for i := range places {
		if p := &places[i]; p.family.composite() && !names.whole(&p.family) {
			p.family = p.family.part(p.suffix)
			p.suffix, p.written = "", ""
		}
	}
}

// nameSet finds out which composite families cannot be whole since their names are
// taken, as the name of one of their samples or by another family.
type nameSet struct {
	simple    map[string]bool
	composite map[string][]family // by name, of different types
}

func newNameSet() *nameSet {
	return &nameSet{simple: make(map[string]bool), composite: make(map[string][]family)}
}

func (s *nameSet) add(f *family) {
	if !f.composite() {
		s.simple[f.name] = true
	} else if !s.whole(f) {
		s.composite[f.name] = append(s.composite[f.name], *f)
	}
}

// takeApart replaces the composite families of a name by simple ones.
func (s *nameSet) takeApart(name string) {
	for _, f := range s.composite[name] {
		for _, n := range f.sampleNames() {
			s.simple[n] = true
		}
	}
	delete(s.composite, name)
}

// settle takes apart every composite family that shares its name with a family of
// another type, or the name of a sample with any other family. The outcome does not
// depend on any order.
func (s *nameSet) settle() {
	for changed := true; changed; {
		changed = false
		for name := range s.composite {
			if s.clashes(name) {
				s.takeApart(name)
				changed = true
			}
		}
	}
}

func (s *nameSet) clashes(name string) bool {
	families := s.composite[name]
	if len(families) > 1 || s.simple[name] {
		return true
	}
	return slices.ContainsFunc(families[0].sampleNames(), func(n string) bool {
		return n != name && (s.simple[n] || len(s.composite[n]) > 0)
	})
}

// whole tells whether a composite family is in the set as such.
func (s *nameSet) whole(f *family) bool {
	return slices.ContainsFunc(s.composite[f.name], func(c family) bool { return c.typ == f.typ })
}
