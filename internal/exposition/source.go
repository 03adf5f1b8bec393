package exposition

import (
	"bytes"
	"iter"
	"maps"
	"math"
	"mime"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
)

// Rewriter is its user's say over the series of a page. Label sets include the
// metric name; empty labels are left out.
type Rewriter interface {
	// Group returns the block that a series of the upstream page belongs to; ""
	// is a group like any other. It always gives the same answer for the same
	// labels.
	Group(lset labels.Labels) string
	// Epoch tells when to ask again: what Rewrite answered for the series of a
	// group is reused for as long as the group's epoch is the same.
	Epoch(group string) uint64
	// Class tells how much of a metric name matters: Group and Rewrite say the
	// same of two series whose labels are the same but for the name, if the class
	// of their names is the same, and Rewrite leaves these names as they are. So
	// one of them stands for all. A name that is its own class is never stood for.
	Class(name string) string
	// Passes tells whether a label passes through: with it or without it, Group
	// and Rewrite say the same of a series, and Rewrite leaves it as it is.
	// So Rewrite need not be told of it.
	Passes(label string) bool
	// Rewrite returns the labels under which a series is exposed, and whether it
	// is.
	Rewrite(group string, lset labels.Labels) (labels.Labels, Verdict)
}

// Verdict is what a [Rewriter] decides of a series.
type Verdict uint8

// The verdicts. Only of a series that is kept do the labels matter; the others
// differ in where [Stats] counts the series.
const (
	Keep         Verdict = iota
	DropRule             // a rule wants it gone
	DropReserved         // its name is not upstream's to use
	DropInvalid          // it has become what Prometheus would not take
)

// Source decodes successive versions of one upstream page and reuses what it
// learned from the last. It is not safe for concurrent use; the pages that it
// returns are.
type Source struct {
	// Of the last page that was accepted:
	page        *Page
	openMetrics bool
	scan        *scan
	groups      []group
	byName      map[string]uint32 // groups
	metadata    *metadata
	left        map[string]*Source // of groups that the page before had
	// How much text keepAllTexts kept last time, how much has come since, and how
	// many lines there were.
	kept, keptSince, keptLines int

	families map[family]*family // that samples belong to, for sharing
	syntax   seriesSyntax
	builder  labels.ScratchBuilder
	text     []byte
	// Of the page being decoded:
	answers answers
	fresh   []outcome
}

// group is a block in the making.
type group struct {
	name   string
	epoch  uint64
	layout *layout
	base   uint32 // of the block's slots among the page's
	lines  int    // all that belong to the group
	// Those of them that are not in the block:
	dropped, reserved, invalid, duplicates int
}

// outcome is what becomes of a line: a sample, or a slot of those that stand
// for none.
type outcome struct {
	sample
	slot uint32
}

// NewSource returns a Source that has seen no page yet.
func NewSource() *Source {
	return &Source{
		page:     &Page{},
		scan:     &scan{},
		byName:   make(map[string]uint32),
		metadata: newMetadata(),
		families: make(map[family]*family),
	}
}

// Decode parses a page, whose content type decides whether it is in the
// Prometheus text format or in OpenMetrics. It returns the whole page, or a
// *ParseError and leaves the Source as it was. Nothing keeps body.
//
// A page that is as the last one was, and for which rw has nothing new, is the
// last one.
func (s *Source) Decode(body []byte, contentType string, rw Rewriter) (*Page, error) {
	openMetrics := isOpenMetrics(contentType)
	if int64(len(body)) >= math.MaxUint32 {
		return nil, &ParseError{Line: 1, Reason: errTooLong.Error()}
	}
	var (
		last = &memory{lines: s.scan.lines, values: len(s.scan.values), meta: len(s.scan.meta)}
		sc   *scan
		err  error
	)
	if openMetrics {
		sc, err = scanOpenMetrics(body, last)
	} else {
		sc, err = scanText(body, last)
	}
	if err != nil {
		return nil, err
	}
	meta := s.readMetadata(sc)
	if meta == s.metadata && openMetrics == s.openMetrics && sc.equal(s.scan) {
		return s.Rewrite(rw)
	}
	s.left = nil
	s.openMetrics = openMetrics
	s.apply(sc, meta, body, rw)
	return s.page, nil
}

// Rewrite returns the last page again, under rules that have changed since for
// those groups that have a new epoch. Before the first page it returns an empty
// one.
func (s *Source) Rewrite(rw Rewriter) (*Page, error) {
	for i := range s.groups {
		if g := &s.groups[i]; rw.Epoch(g.name) != g.epoch {
			sc := *s.scan
			s.apply(&sc, s.metadata, nil, rw)
			break
		}
	}
	return s.page, nil
}

func isOpenMetrics(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		t, _, _ = strings.Cut(contentType, ";")
		t = strings.ToLower(strings.TrimSpace(t))
	}
	return t == "application/openmetrics-text"
}

// readMetadata returns the old metadata if nothing has changed.
func (s *Source) readMetadata(sc *scan) *metadata {
	if sc.metadata == nil {
		if s.scan.metadata == nil && bytes.Equal(sc.meta, s.scan.meta) {
			return s.metadata
		}
		return parseMetadata(sc.meta)
	}
	sameFamily := func(a, b *family) bool { return *a == *b }
	if sc.metadata.conflicts == s.metadata.conflicts &&
		maps.EqualFunc(sc.metadata.families, s.metadata.families, sameFamily) {
		return s.metadata
	}
	return sc.metadata
}

// apply makes a page of what a scanner found in body, or of what it found before
// if that is nil.
func (s *Source) apply(sc *scan, meta *metadata, body []byte, rw Rewriter) {
	var (
		// stale groups must be asked about again; dirty ones need a new layout.
		stale = make([]bool, len(s.groups))
		dirty = make([]bool, len(s.groups))
		lines = make([]int, len(s.groups))

		changed = sc.changed
		before  = s.metadata
		fresh   = sc.fresh
	)
	if len(s.scan.lines) == 0 {
		s.answers.expected = len(sc.lines) / 2
	}
	for i := range s.groups {
		stale[i] = rw.Epoch(s.groups[i].name) != s.groups[i].epoch || meta != s.metadata
		dirty[i] = stale[i] || sc.moved[uint32(i)]
	}
	if meta != s.metadata {
		s.metadata = meta
		clear(s.families)
	}
	s.fresh = make([]outcome, 0, len(sc.fresh))
	for i := range sc.lines {
		l := &sc.lines[i]
		if l.slot != slotNew {
			if l.group != noGroup {
				lines[l.group]++
			}
			continue
		}
		s.resolveNew(l, fresh[0].series.of(body), rw)
		fresh = fresh[1:]
		if l.group == noGroup {
			continue
		}
		if int(l.group) >= len(dirty) {
			stale, dirty, lines = append(stale, false), append(dirty, true), append(lines, 0)
		}
		dirty[l.group] = true
		lines[l.group]++
	}
	for i := range s.groups {
		g := &s.groups[i]
		dirty[i] = dirty[i] || lines[i] != g.lines
		changed = changed || dirty[i]
		if lines[i] == 0 {
			dirty[i] = false
			s.leave(g, before)
			continue
		}
		g.lines = lines[i]
		if stale[i] {
			g.epoch = rw.Epoch(g.name)
		}
	}
	if changed {
		if !slices.Contains(stale, true) {
			s.answers = answers{} // nothing more is asked, and layouts have texts of their own
		}
		s.rebuild(sc, stale, dirty, rw)
		s.answers, s.fresh = answers{}, nil // before more memory is needed
		s.keepTexts(sc)
		if len(s.left) > 0 {
			s.fillLeft()
		}
		s.settleGroups(sc)
	}
	sc.fresh, sc.moved, sc.changed = nil, nil, false
	s.scan = sc
	s.page = s.newPage(sc, changed)
}

// resolveNew settles the group of a line that was not on the last page, and
// what becomes of it.
func (s *Source) resolveNew(l *line, series []byte, rw Rewriter) {
	group, v := s.resolve(series, rw)
	l.group, l.slot = group, v.slot
	if group != noGroup {
		l.slot = slotFresh + uint32(len(s.fresh))
		s.fresh = append(s.fresh, v)
	}
}

// rebuild makes new layouts for the dirty groups.
func (s *Source) rebuild(sc *scan, stale, dirty []bool, rw Rewriter) {
	// The lines of the dirty groups, group by group.
	starts := make([]int, len(s.groups)+1)
	for i := range s.groups {
		starts[i+1] = starts[i]
		if dirty[i] {
			starts[i+1] += s.groups[i].lines
		}
	}
	sorted := make([]uint32, starts[len(s.groups)])
	fill := append([]int(nil), starts...)
	for i := range sc.lines {
		if g := sc.lines[i].group; g != noGroup && dirty[g] {
			sorted[fill[g]] = uint32(i)
			fill[g]++
		}
	}
	for i := range s.groups {
		if dirty[i] {
			s.rebuildGroup(&s.groups[i], sc, sorted[starts[i]:starts[i+1]], stale[i], rw)
		}
	}
}

func (s *Source) rebuildGroup(g *group, sc *scan, numbers []uint32, stale bool, rw Rewriter) {
	g.dropped, g.reserved, g.invalid, g.duplicates = 0, 0, 0, 0
	samples := make([]sample, 0, len(numbers))
	placed := make([]uint32, 0, len(numbers))
	for _, n := range numbers {
		l := &sc.lines[n]
		v := s.outcome(g, l, stale, rw)
		switch v.slot {
		case slotDropped:
			g.dropped++
			l.slot = v.slot
		case slotReserved:
			g.reserved++
			l.slot = v.slot
		case slotInvalid:
			g.invalid++
			l.slot = v.slot
		default:
			samples = append(samples, v.sample)
			placed = append(placed, n)
		}
	}
	l, slots := buildLayout(samples)
	for i, slot := range slots {
		sc.lines[placed[i]].slot = slot
		if slot == slotDuplicate {
			g.duplicates++
		}
	}
	if g.layout == nil || !g.layout.equal(l) {
		g.layout = l
		l.gather()
	}
}

// keepTexts finds the label texts of new lines a place of their own. Such a place
// stays in memory as long as one of its lines does, so from time to time all move.
func (s *Source) keepTexts(sc *scan) {
	for _, f := range sc.fresh {
		s.keptSince += len(sc.lines[f.line].labels)
	}
	if s.keptSince > s.kept || 2*len(sc.lines) < s.keptLines {
		s.keepAllTexts(sc)
		return
	}
	s.moveTexts(func(yield func(*line) bool) {
		for _, f := range sc.fresh {
			if !yield(&sc.lines[f.line]) {
				return
			}
		}
	})
}

func (s *Source) keepAllTexts(sc *scan) {
	s.kept = s.moveTexts(func(yield func(*line) bool) {
		for i := range sc.lines {
			if !yield(&sc.lines[i]) {
				return
			}
		}
	})
	s.keptSince, s.keptLines = 0, len(sc.lines)
}

// moveTexts makes the label text of a line that of the series that it has become,
// if it is written the same, or else part of a new piece of memory, whose size it
// returns. The order is that of the page, in which the next page will ask for the
// texts.
func (s *Source) moveTexts(lines iter.Seq[*line]) int {
	var (
		places = make(map[string]int)
		order  []string
		size   = 0
		kept   strings.Builder
	)
	for l := range lines {
		if l.group != noGroup && l.slot < slotFresh {
			t := s.groups[l.group].layout.series[l.slot].text
			t = t[:max(len(t)-1, 0)] // the blank
			if t == l.labels {
				l.labels = t
				continue
			}
		}
		if _, known := places[l.labels]; !known {
			places[l.labels] = size
			order = append(order, l.labels)
			size += len(l.labels)
		}
	}
	kept.Grow(size)
	for _, t := range order {
		kept.WriteString(t)
	}
	for l := range lines {
		if at, ok := places[l.labels]; ok {
			l.labels = kept.String()[at : at+len(l.labels)]
		}
	}
	return size
}

// outcome finds out what becomes of a line, from what is known already if
// possible.
func (s *Source) outcome(g *group, l *line, stale bool, rw Rewriter) outcome {
	known := !stale && g.layout != nil && !g.layout.rearranged
	switch {
	case l.slot == slotDropped || l.slot == slotReserved || l.slot == slotInvalid:
		if !stale {
			return outcome{slot: l.slot}
		}
	case l.slot == slotDuplicate:
	case l.slot >= slotFresh:
		fresh := &s.fresh[l.slot-slotFresh]
		v := *fresh
		*fresh = outcome{} // so that a new page's texts are not in memory twice
		return v
	case known:
		ref := g.layout.series[l.slot]
		return outcome{sample: sample{family: g.layout.familyOf(l.slot), suffix: ref.suffix, text: ref.text}}
	}
	_, v := s.resolve(l.series(), rw)
	return v
}

// settleGroups forgets the groups that have no lines any more, and puts the
// others in the order in which the page has them.
func (s *Source) settleGroups(sc *scan) {
	const unseen = math.MaxUint32
	now := make([]uint32, len(s.groups)) // numbers of the groups in the new order
	for i := range now {
		now[i] = unseen
	}
	order := make([]group, 0, len(s.groups))
	for i := range sc.lines {
		l := &sc.lines[i]
		if l.group == noGroup {
			continue
		}
		if now[l.group] == unseen {
			now[l.group] = uint32(len(order))
			order = append(order, s.groups[l.group])
		}
		l.group = now[l.group]
	}
	base := uint32(0)
	clear(s.byName)
	for i := range order {
		s.byName[order[i].name] = uint32(i)
		order[i].base = base
		base += uint32(len(order[i].layout.series))
	}
	s.groups = order
}

// leave makes a Source of its own of a group that is not on the page any more.
func (s *Source) leave(g *group, meta *metadata) {
	if s.left == nil {
		s.left = make(map[string]*Source)
	}
	t := NewSource()
	t.openMetrics, t.metadata = s.openMetrics, meta
	t.groups = []group{*g}
	t.groups[0].base = 0
	t.byName[g.name] = 0
	s.left[g.name] = t
}

// fillLeft gives the Sources of the groups that have left their lines of the last
// page.
func (s *Source) fillLeft() {
	by := make([]*Source, len(s.groups))
	for name, t := range s.left {
		by[s.byName[name]] = t
	}
	last := s.scan
	for i, l := range last.lines {
		if l.group == noGroup || by[l.group] == nil {
			continue
		}
		sc := by[l.group].scan
		ts := int64(noTimestamp)
		if last.stamps != nil {
			ts = last.stamps[i]
		}
		sc.says(last.value(i).of(last.values), ts)
		l.group = 0
		sc.lines = append(sc.lines, l)
		if x, ok := last.exemplars[i]; ok {
			if sc.exemplars == nil {
				sc.exemplars = make(map[int]exemplar)
			}
			sc.exemplars[len(sc.lines)-1] = x
		}
	}
	for _, t := range s.left {
		t.scan.trim()
		t.keepAllTexts(t.scan)
		t.page = t.newPage(t.scan, true)
	}
}

// Left returns a Source that has one group of the page before the last one, which
// no longer has it, as if it had been all of that page. It returns nil for any
// other group.
func (s *Source) Left(group string) *Source { return s.left[group] }

// newPage fills the groups' layouts with values.
func (s *Source) newPage(sc *scan, changed bool) *Page {
	p := &Page{blocks: make([]Block, len(s.groups)), names: s.page.names, index: s.page.index}
	p.stats.Bytes = int64(sc.size)
	p.stats.MetadataConflicts = s.metadata.conflicts
	if changed || p.index == nil {
		p.names = make([]string, len(s.groups))
		p.index = maps.Clone(s.byName)
		for i := range s.groups {
			p.names[i] = s.groups[i].name
		}
	}
	total := 0
	for i := range s.groups {
		g := &s.groups[i]
		total += len(g.layout.series)
		p.stats.Dropped += g.dropped
		p.stats.Reserved += g.reserved
		p.stats.Invalid += g.invalid
		p.stats.Duplicates += g.duplicates
	}
	p.stats.Series = total

	values := make([]span, total)
	var stamps []int64
	if sc.stamps != nil {
		stamps = make([]int64, total)
	}
	for i := range sc.lines {
		l := &sc.lines[i]
		switch {
		case l.group == noGroup:
			p.stats.Invalid++
		case l.slot < slotFresh:
			at := s.groups[l.group].base + l.slot
			values[at] = sc.value(i)
			if stamps != nil {
				stamps[at] = sc.stamps[i]
			}
		}
	}
	for i := range s.groups {
		g := &s.groups[i]
		from, to := g.base, g.base+uint32(len(g.layout.series))
		b := &p.blocks[i]
		b.layout, b.body, b.values = g.layout, sc.values, values[from:to:to]
		if stamps != nil {
			b.stamps = stamps[from:to:to]
		}
	}
	for i, x := range sc.exemplars {
		if l := &sc.lines[i]; l.group != noGroup && l.slot < slotFresh {
			p.blocks[l.group].addExemplar(l.slot, x)
		}
	}
	return p
}

// Page is one version of an upstream page. It is immutable.
type Page struct {
	names  []string
	index  map[string]uint32 // numbers of names and blocks
	blocks []Block
	stats  Stats
}

// Stats counts what a page had, and what became of it.
type Stats struct {
	Series            int   // in the page's blocks
	Duplicates        int   // left out: the same as another series of the block
	Dropped           int   // left out: by rule
	Reserved          int   // left out: under a name that is not upstream's to use
	Invalid           int   // left out: not what Prometheus would take, before or after the rules
	MetadataConflicts int   // HELP, TYPE and UNIT lines that contradict an earlier one
	Bytes             int64 // of the page as upstream sent it
}

// Groups returns the groups in the order in which the page has them. The caller
// must not change the slice.
func (p *Page) Groups() []string { return p.names }

// Block returns the series of a group, or nil if the page has none such.
func (p *Page) Block(group string) *Block {
	if i, ok := p.index[group]; ok {
		return &p.blocks[i]
	}
	return nil
}

// Stats returns the page's counts.
func (p *Page) Stats() Stats { return p.stats }
