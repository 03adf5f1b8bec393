package exposition

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// layout is which series a block has, and nothing of what they say: successive
// versions of a block share it as long as only values change. It is immutable.
type layout struct {
	families []layoutFamily // by name
	series   []seriesRef
	hash     uint64
	quoted   bool // some name needs quotes
	// rearranged tells that some series is not in the family it came with.
	rearranged bool
}

// layoutFamily is a family and its share of the layout's series. Those of a
// simple family are in the order of the page. Those of a composite family are
// metric by metric: buckets or quantiles by bound, then sum, then count.
type layoutFamily struct {
	*family
	from, to uint32
}

type seriesRef struct {
	text   string // label text
	suffix suffix
}

// familyOf returns the family of a series.
func (l *layout) familyOf(slot uint32) *family {
	i := sort.Search(len(l.families), func(i int) bool { return l.families[i].to > slot })
	return l.families[i].family
}

// equal tells whether two layouts have the same series and metadata.
func (l *layout) equal(o *layout) bool {
	return l.hash == o.hash && l.quoted == o.quoted && l.rearranged == o.rearranged &&
		slices.Equal(l.series, o.series) &&
		slices.EqualFunc(l.families, o.families, func(a, b layoutFamily) bool {
			return *a.family == *b.family && a.from == b.from && a.to == b.to
		})
}

// sample is a series that looks for its place in a layout.
type sample struct {
	family *family
	suffix suffix
	text   string
}

// buildLayout arranges samples. It returns the layout and the slot of every
// sample, slotDuplicate for those of which there was one already. When families
// of the same name disagree, the first one's type and help stand. Composite
// families that are not whole or whose names are taken become untyped families
// of their samples' names; samples is changed accordingly.
func buildLayout(samples []sample) (*layout, []uint32) {
	l := &layout{
		series:     make([]seriesRef, 0, len(samples)),
		rearranged: takeApart(samples),
	}
	slots := make([]uint32, len(samples))
	for i := range slots {
		slots[i] = slotDuplicate
	}
	for _, members := range byFamily(samples) {
		f := samples[members[0]].family
		for _, i := range members {
			l.rearranged = l.rearranged || samples[i].family != f && *samples[i].family != *f
		}
		if f.kind.composite() {
			members, _ = arrange(members, samples)
		} else {
			members = distinct(members, samples)
		}
		from := uint32(len(l.series))
		for _, i := range members {
			slots[i] = uint32(len(l.series))
			s := seriesRef{samples[i].text, samples[i].suffix}
			l.series = append(l.series, s)
			l.quoted = l.quoted || quotesNames(s.text)
		}
		l.quoted = l.quoted || !legacyMetricName(f.name)
		l.families = append(l.families, layoutFamily{f, from, uint32(len(l.series))})
	}
	l.families = slices.Clip(l.families)
	l.hash = l.sum()
	return l, slots
}

// gather moves the label texts of a layout that is going to be kept to one piece of
// memory. Where they are, they have been made among much that is not kept, and
// would hold on to the pages of the heap around them.
func (l *layout) gather() {
	var (
		places = make(map[string]int, len(l.series))
		texts  []string
		size   = 0
		all    strings.Builder
	)
	for i := range l.series {
		t := l.series[i].text
		if _, known := places[t]; !known {
			places[t] = size
			texts = append(texts, t)
			size += len(t)
		}
	}
	all.Grow(size)
	for _, t := range texts {
		all.WriteString(t)
	}
	for i := range l.series {
		s := &l.series[i]
		at := places[s.text]
		s.text = all.String()[at : at+len(s.text)]
	}
}

func (l *layout) sum() uint64 {
	const most = 4096
	h := xxhash.New()
	b := make([]byte, 0, most)
	str := func(s string) {
		if len(b)+len(s) > most-20 { // with room for the length, and a byte
			_, _ = h.Write(b)
			b = b[:0]
		}
		b = strconv.AppendInt(b, int64(len(s)), 10)
		b = append(b, ':')
		b = append(b, s...)
	}
	for _, f := range l.families {
		str(f.name)
		str(f.help)
		str(f.unit)
		b = append(b, byte(f.kind))
		for _, s := range l.series[f.from:f.to] {
			str(s.text)
			b = append(b, byte(s.suffix))
		}
	}
	_, _ = h.Write(b)
	return h.Sum64()
}

// compareFamilies orders families by name, and by what makes them one.
func compareFamilies(a, b *family) int {
	if a == b {
		return 0
	}
	x, y := a.key(), b.key()
	return cmp.Or(cmp.Compare(x.name, y.name), cmp.Compare(x.kind, y.kind))
}

// byFamily groups the numbers of the samples by family, families by name,
// samples as they came.
func byFamily(samples []sample) [][]int32 {
	order := make([]int32, len(samples))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(i, j int32) int {
		if c := compareFamilies(samples[i].family, samples[j].family); c != 0 {
			return c
		}
		return cmp.Compare(i, j)
	})
	var groups [][]int32
	for len(order) > 0 {
		n := 1
		for n < len(order) && compareFamilies(samples[order[0]].family, samples[order[n]].family) == 0 {
			n++
		}
		groups = append(groups, order[:n])
		order = order[n:]
	}
	return groups
}

// distinct keeps the first of the members of a simple family that are the same
// series.
func distinct(members []int32, samples []sample) []int32 {
	const few = 8 // are compared with each other faster than hashed
	if len(members) <= few {
		kept := members[:0]
		for _, i := range members {
			if !slices.ContainsFunc(kept, func(j int32) bool { return samples[i].text == samples[j].text }) {
				kept = append(kept, i)
			}
		}
		return kept
	}
	seen := make(map[string]struct{}, len(members))
	return slices.DeleteFunc(members, func(i int32) bool {
		_, ok := seen[samples[i].text]
		seen[samples[i].text] = struct{}{}
		return ok
	})
}

// takeApart turns the samples of composite families that can't stay whole into
// samples of simple families, and tells whether there were any.
func takeApart(samples []sample) bool {
	if !slices.ContainsFunc(samples, func(s sample) bool { return s.family.kind.composite() }) {
		return false
	}
	set := newFamilySet()
	for _, s := range samples {
		set.add(s.family)
	}
	for _, members := range byFamily(samples) {
		if f := samples[members[0]].family; f.kind.composite() {
			if _, whole := arrange(members, samples); !whole {
				set.takeApart(f.name)
			}
		}
	}
	set.settle()
	parts := make(map[family]*family)
	for i := range samples {
		s := &samples[i]
		if !s.family.kind.composite() || set.whole(s.family) {
			continue
		}
		part := s.family.part(s.suffix)
		if parts[part] == nil {
			parts[part] = &part
		}
		s.family, s.suffix = parts[part], suffixNone
	}
	return len(parts) > 0
}

// arrange orders the members of a composite family metric by metric, metrics as
// they came, and within a metric as layoutFamily says. It leaves duplicates
// out, and tells whether every metric is whole: each has exactly one sum and
// one count, its bounds are distinct numbers, and a histogram's last is +Inf.
func arrange(members []int32, samples []sample) (arranged []int32, whole bool) {
	type place struct {
		i      int32
		metric int
		suffix suffix
		bound  float64
	}
	k := samples[members[0]].family.kind
	suffixes := k.suffixes()
	metrics := make(map[string]int)
	places := make([]place, 0, len(members))
	whole = true
	for _, i := range members {
		s := &samples[i]
		p := place{i: i, suffix: s.suffix}
		base := s.text
		if s.suffix == suffixes[0] {
			var bound string
			base, bound, _ = cutBound(s.text, k.boundLabel())
			if validNumber([]byte(bound)) {
				p.bound = parseValue([]byte(bound))
			} else {
				whole = false
			}
			whole = whole && !math.IsNaN(p.bound)
		}
		if _, ok := metrics[base]; !ok {
			metrics[base] = len(metrics)
		}
		p.metric = metrics[base]
		places = append(places, p)
	}
	slices.SortStableFunc(places, func(a, b place) int {
		return cmp.Or(
			cmp.Compare(a.metric, b.metric),
			cmp.Compare(slices.Index(suffixes[:], a.suffix), slices.Index(suffixes[:], b.suffix)),
			cmp.Compare(a.bound, b.bound),
		)
	})
	same := func(a, b place) bool {
		return a.metric == b.metric && a.suffix == b.suffix && samples[a.i].text == samples[b.i].text
	}
	places = slices.CompactFunc(places, same)

	for at := 0; at < len(places) && whole; {
		m := places[at:]
		for i := range m {
			if m[i].metric != m[0].metric {
				m = m[:i]
				break
			}
		}
		at += len(m)
		n := len(m) - 2 // bounds
		if n < 0 || m[n].suffix != suffixes[1] || m[n+1].suffix != suffixes[2] {
			whole = false
			break
		}
		for i, p := range m[:n] {
			whole = whole && p.suffix == suffixes[0] && (i == 0 || p.bound > m[i-1].bound)
		}
		if k != kindSummary {
			whole = whole && n > 0 && math.IsInf(m[n-1].bound, 1)
		}
	}
	for _, p := range places {
		arranged = append(arranged, p.i)
	}
	return arranged, whole
}
