package exposition

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// answers is what a Rewriter has said of the series of one page, so that nothing is
// asked twice. The families of a page have most of their label sets in common: what
// became of a series becomes of all that have the same labels and a name of the same
// class. And most of the labels of a service's series are the same: the labels that
// pass through are put aside, the Rewriter is asked what becomes of the others, and
// the answer is put together again.
//
// Its strings are pieces of the page's body. It must not outlive the making of the
// page.
type answers struct {
	names   map[string]*metricName
	last    *metricName // a family's lines come one after the other
	classes map[string]*nameClass
	passes  map[string]bool   // labels
	texts   map[string]string // label texts, for sharing
	// expected is about how many label sets there will be that are not known.
	expected int

	// Of the series being composed:
	passing []writtenLabel // the labels that pass through, by name
	others  [][4]int       // where the others are, as in seriesSyntax
	key     []byte         // of nameClass.parts
}

// metricName is a metric name as it stands in front of its labels.
type metricName struct {
	name   string
	family *family
	suffix suffix
	class  *nameClass // nil if the name is its own class
}

// nameClass is what was said of the series of a class.
type nameClass struct {
	whole map[string]answer      // by what the series have after their names
	parts map[string]*partAnswer // by the labels that do not pass through, as written
}

// answer is what becomes of a series.
type answer struct {
	group uint32
	slot  uint32 // one of those that stand for no sample, or 0
	text  string
}

// partAnswer is what becomes of the labels of a series that do not pass through.
type partAnswer struct {
	group  uint32
	slot   uint32
	labels []writtenLabel // by name
}

// writtenLabel is a label as a label text has it: all of it, or what is between the
// quotes if it passes through.
type writtenLabel struct{ name, text string }

// resolve finds out to which group a series belongs, noGroup if it is none, and
// what becomes of it.
func (s *Source) resolve(series []byte, rw Rewriter) (group uint32, o outcome) {
	n := s.nameOf(series, rw)
	if n == nil || n.class == nil || len(series) > maxSeries {
		return s.ask(series, rw)
	}
	rest := bytesAsString(series[len(n.name):])
	a, ok := n.class.whole[rest]
	if !ok {
		if a, ok = s.compose(n, series, rw); !ok {
			group, o = s.ask(series, rw)
			a = answer{group, o.slot, o.text}
		}
		n.class.whole[rest] = a
	}
	if a.slot != 0 {
		return a.group, outcome{slot: a.slot}
	}
	return a.group, outcome{sample: sample{family: n.family, suffix: n.suffix, text: a.text}}
}

// compose finds out what becomes of a series without regard to the labels that pass
// through. It leaves everything unusual to ask: escapes, names that need quotes,
// empty labels, and all that is not valid.
func (s *Source) compose(n *metricName, series []byte, rw Rewriter) (answer, bool) {
	c := cursor{b: series}
	if err := c.series(&s.syntax); err != nil || bytes.ContainsAny(series, "\\\n") || !utf8.Valid(series) {
		return answer{}, false
	}
	known := &s.answers
	if !known.divide(bytesAsString(series), s.syntax.labels, rw) {
		return answer{}, false
	}
	part := n.class.parts[string(known.key)]
	if part == nil {
		if part = s.askPart(n.name, series, rw); part == nil {
			return answer{}, false
		}
		n.class.parts[string(known.key)] = part
	}
	if part.slot != 0 {
		return answer{group: part.group, slot: part.slot}, true
	}
	if !s.join(part.labels, known.passing) {
		return answer{}, false
	}
	return answer{group: part.group, text: s.intern()}, true
}

// divide divides the labels of a series into those that pass through and others. It
// reports false for labels that cannot be taken as they are written.
func (a *answers) divide(series string, all [][4]int, rw Rewriter) bool {
	a.passing, a.others, a.key = a.passing[:0], a.others[:0], a.key[:0]
	for _, l := range all {
		name, value := series[l[0]:l[1]], series[l[2]:l[3]]
		if series[l[0]-1] == '"' || name == model.MetricNameLabel || value == "" {
			return false
		}
		passes, known := a.passes[name]
		if !known {
			passes = rw.Passes(strings.Clone(name))
			a.passes[name] = passes
		}
		if passes {
			a.passing = append(a.passing, writtenLabel{name, value})
			continue
		}
		a.others = append(a.others, l)
		a.key = append(append(append(a.key, name...), '='), value...)
		a.key = append(a.key, '"') // which no value has
	}
	slices.SortFunc(a.passing, func(x, y writtenLabel) int { return strings.Compare(x.name, y.name) })
	for i := 1; i < len(a.passing); i++ {
		if a.passing[i].name == a.passing[i-1].name {
			return false
		}
	}
	return true
}

// askPart asks rw about a series without the labels that pass through. It returns
// nil if it is not valid.
func (s *Source) askPart(name string, series []byte, rw Rewriter) *partAnswer {
	str := string(series) // not a piece of the body: rw may keep what it is given
	s.builder.Reset()
	s.builder.Add(model.MetricNameLabel, name)
	for _, l := range s.answers.others {
		s.builder.Add(str[l[0]:l[1]], str[l[2]:l[3]])
	}
	s.builder.Sort()
	lset := s.builder.Labels()
	if !wellNamed(lset) {
		return nil
	}
	groupName := rw.Group(lset)
	part := &partAnswer{group: s.groupNumber(groupName, rw)}
	var out labels.Labels
	if out, part.slot = s.rewrite(groupName, lset, rw); part.slot != 0 {
		return part
	}
	out.Range(func(l labels.Label) {
		if l.Name == model.MetricNameLabel || l.Value == "" {
			return
		}
		text, _ := appendLabel(nil, ',', l.Name, l.Value)
		part.labels = append(part.labels, writtenLabel{l.Name, string(text[1:])})
	})
	return part
}

// join makes s.text of what rw left of a series, and the labels that passed. It
// reports false if they share a name.
func (s *Source) join(rewritten, passing []writtenLabel) bool {
	s.text = s.text[:0]
	open := byte('{')
	for len(rewritten) > 0 || len(passing) > 0 {
		switch {
		case len(passing) == 0 || len(rewritten) > 0 && rewritten[0].name < passing[0].name:
			s.text = append(append(s.text, open), rewritten[0].text...)
			rewritten = rewritten[1:]
		case len(rewritten) > 0 && rewritten[0].name == passing[0].name:
			return false
		default:
			s.text = append(append(append(s.text, open), passing[0].name...), `="`...)
			s.text = append(append(s.text, passing[0].text...), '"')
			passing = passing[1:]
		}
		open = ','
	}
	s.text = closeLabelText(s.text, open)
	return true
}

// nameOf returns the name of a series that has it in front, otherwise nil.
func (s *Source) nameOf(series []byte, rw Rewriter) *metricName {
	i := 0
	for i < len(series) && isNameByte(series[i]) {
		i++
	}
	if i == 0 {
		return nil
	}
	name := bytesAsString(series[:i])
	if s.answers.last != nil && s.answers.last.name == name {
		return s.answers.last
	}
	n := s.answers.names[name]
	if n == nil {
		name = strings.Clone(name) // families outlive the page
		n = s.newName(name, rw.Class(name))
	}
	s.answers.last = n
	return n
}

func (s *Source) newName(name, class string) *metricName {
	if s.answers.names == nil {
		s.answers.names = make(map[string]*metricName)
		s.answers.classes = make(map[string]*nameClass)
		s.answers.passes = make(map[string]bool)
	}
	n := &metricName{name: name}
	s.answers.names[name] = n
	if class == name {
		return n
	}
	f, suf := s.metadata.lookup(name)
	n.family, n.suffix = s.share(f), suf
	if n.class = s.answers.classes[class]; n.class == nil {
		n.class = &nameClass{whole: make(map[string]answer, s.answers.expected), parts: make(map[string]*partAnswer)}
		s.answers.classes[class] = n.class
	}
	return n
}

// ask asks rw about a whole series, and finds its family.
func (s *Source) ask(series []byte, rw Rewriter) (group uint32, o outcome) {
	lset, ok := s.labels(series)
	if !ok {
		return noGroup, outcome{slot: slotInvalid}
	}
	groupName := rw.Group(lset)
	group = s.groupNumber(groupName, rw)
	out, slot := s.rewrite(groupName, lset, rw)
	if slot != 0 {
		return group, outcome{slot: slot}
	}
	from, to := lset.Get(model.MetricNameLabel), out.Get(model.MetricNameLabel)
	f, suf := s.metadata.lookup(from)
	if to != from {
		f, suf = f.rename(suf, to)
	}
	s.text = appendLabelText(s.text[:0], out)
	return group, outcome{sample: sample{family: s.share(f), suffix: suf, text: s.intern()}}
}

// groupNumber returns the number of a group, which may be a new one.
func (s *Source) groupNumber(name string, rw Rewriter) uint32 {
	i, known := s.byName[name]
	if !known {
		i = uint32(len(s.groups))
		s.byName[name] = i
		s.groups = append(s.groups, group{name: name, epoch: rw.Epoch(name)})
	}
	return i
}

// rewrite asks rw what becomes of labels. The slot is 0 if they are kept.
func (s *Source) rewrite(group string, lset labels.Labels, rw Rewriter) (labels.Labels, uint32) {
	out, decided := rw.Rewrite(group, lset)
	switch {
	case decided == DropRule:
		return out, slotDropped
	case decided == DropReserved:
		return out, slotReserved
	case decided != Keep || !validLabels(out):
		return out, slotInvalid
	}
	return out, 0
}

// labels parses a series. It reports false for one that Prometheus would parse
// but not take.
func (s *Source) labels(series []byte) (labels.Labels, bool) {
	c := cursor{b: series}
	if err := c.series(&s.syntax); err != nil {
		return labels.EmptyLabels(), false
	}
	str := string(series)
	name := unescape(str[s.syntax.name[0]:s.syntax.name[1]], true)
	if name == "" || len(str) > maxSeries {
		return labels.EmptyLabels(), false
	}
	s.builder.Reset()
	s.builder.Add(model.MetricNameLabel, name)
	for _, l := range s.syntax.labels {
		s.builder.Add(unescape(str[l[0]:l[1]], true), unescape(str[l[2]:l[3]], true))
	}
	s.builder.Sort()
	lset := s.builder.Labels()
	// An empty label is the same as none, but not if its name is there twice.
	if _, duplicate := lset.HasDuplicateLabelNames(); duplicate {
		return lset, false
	}
	lset = lset.WithoutEmpty()
	if utf8.ValidString(str) {
		return lset, wellNamed(lset)
	}
	return lset, validLabels(lset)
}

// maxSeries is how much text a series can have. Prometheus's label sets can't
// hold names and values of 16 MiB, and panic.
const maxSeries = 1<<24 - 1

// share makes equal families one.
func (s *Source) share(f family) *family {
	p := s.families[f]
	if p == nil {
		p = &f
		s.families[f] = p
	}
	return p
}

// intern returns the label text in s.text. Series of different families often share
// it.
func (s *Source) intern() string {
	if t, ok := s.answers.texts[string(s.text)]; ok {
		return t
	}
	t := string(s.text)
	if s.answers.texts == nil {
		s.answers.texts = make(map[string]string, s.answers.expected)
	}
	s.answers.texts[t] = t
	return t
}
