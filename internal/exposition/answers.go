package exposition

import (
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// answers is what a Rewriter has said while one page is made. The families of a
// page have most of their label sets in common, and what becomes of these seldom
// depends on the name: then the Rewriter is asked once for all, and the labels are
// parsed and written only once.
//
// Its strings are pieces of the page's body. It must not outlive the making of the
// page.
type answers struct {
	names map[string]*metricName
	last  *metricName // a family's lines come one after the other
	// classes has what was said of the series of a class, by what the series have
	// after their names.
	classes map[string]map[string]answer
	texts   map[string]string // label texts, for sharing
	// expected is about how many label sets there will be that are not known.
	expected int
}

// metricName is a metric name as it stands in front of its labels.
type metricName struct {
	name   string
	family *family
	suffix suffix
	known  map[string]answer // of the name's class, nil if the name is its own class
}

// answer is what becomes of a series.
type answer struct {
	group uint32
	slot  uint32 // one of those that stand for no sample, or 0
	text  string
}

// resolve finds out to which group a series belongs, noGroup if it is none, and
// what becomes of it.
func (s *Source) resolve(series []byte, rw Rewriter) (group uint32, o outcome) {
	n := s.nameOf(series, rw)
	if n == nil || n.known == nil || len(series) > maxSeries {
		return s.ask(series, rw)
	}
	rest := series[len(n.name):]
	a, ok := n.known[string(rest)]
	if !ok {
		group, o = s.ask(series, rw)
		a = answer{group, o.slot, o.text}
		n.known[bytesAsString(rest)] = a
	}
	if a.slot != 0 {
		return a.group, outcome{slot: a.slot}
	}
	return a.group, outcome{sample: sample{family: n.family, suffix: n.suffix, text: a.text}}
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
		s.answers.classes = make(map[string]map[string]answer)
	}
	n := &metricName{name: name}
	s.answers.names[name] = n
	if class == name {
		return n
	}
	f, suf := s.metadata.lookup(name)
	n.family, n.suffix = s.share(f), suf
	if n.known = s.answers.classes[class]; n.known == nil {
		n.known = make(map[string]answer, s.answers.expected)
		s.answers.classes[class] = n.known
	}
	return n
}

// ask asks rw about a series, and finds its family.
func (s *Source) ask(series []byte, rw Rewriter) (number uint32, o outcome) {
	lset, ok := s.labels(series)
	if !ok {
		return noGroup, outcome{slot: slotInvalid}
	}
	name := rw.Group(lset)
	number, known := s.byName[name]
	if !known {
		number = uint32(len(s.groups))
		s.byName[name] = number
		s.groups = append(s.groups, group{name: name, epoch: rw.Epoch(name)})
	}
	return number, s.rewrite(name, lset, rw)
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

// rewrite asks rw about a series and finds its family.
func (s *Source) rewrite(group string, lset labels.Labels, rw Rewriter) outcome {
	from := lset.Get(model.MetricNameLabel)
	out, decided := rw.Rewrite(group, lset)
	switch {
	case decided == DropRule:
		return outcome{slot: slotDropped}
	case decided == DropReserved:
		return outcome{slot: slotReserved}
	case decided != Keep || !wellNamed(out):
		return outcome{slot: slotInvalid}
	}
	text, valid := s.intern(out)
	if !valid {
		return outcome{slot: slotInvalid}
	}
	f, suf := s.metadata.lookup(from)
	if to := out.Get(model.MetricNameLabel); to != from {
		f, suf = f.rename(suf, to)
	}
	return outcome{sample: sample{family: s.share(f), suffix: suf, text: text}}
}

// share makes equal families one.
func (s *Source) share(f family) *family {
	p := s.families[f]
	if p == nil {
		p = &f
		s.families[f] = p
	}
	return p
}

// intern renders a label text. Series of different families often share it. It
// reports false for labels that are not valid UTF-8.
func (s *Source) intern(lset labels.Labels) (string, bool) {
	s.text = appendLabelText(s.text[:0], lset)
	if t, ok := s.answers.texts[string(s.text)]; ok {
		return t, true
	}
	if !utf8.Valid(s.text) || !utf8.ValidString(lset.Get(model.MetricNameLabel)) {
		return "", false
	}
	t := string(s.text)
	if s.answers.texts == nil {
		s.answers.texts = make(map[string]string, s.answers.expected)
	}
	s.answers.texts[t] = t
	return t, true
}
