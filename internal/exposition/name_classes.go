package exposition

import (
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"
)

// NameClasses tells metric names apart as far as relabelling rules do, for the
// Class of a [Rewriter] that applies these rules and looks at names no further.
// Safe for concurrent use.
//
// Rules that do nothing but test the name are what it understands, alone or next
// to rules that have nothing to do with names. Under rules that do more, or might,
// every name is its own class.
type NameClasses struct {
	tests []*relabel.Config // the rules that test the name
	all   bool              // every name is its own class
}

// NewNameClasses returns the classes of the rules' names.
func NewNameClasses(rules []*relabel.Config) NameClasses {
	var c NameClasses
	for _, r := range rules {
		switch use := nameUseOf(r); use {
		case nameTested:
			c.tests = append(c.tests, r)
		case nameUsed:
			return NameClasses{all: true}
		}
	}
	return c
}

// Class returns the class of a name.
func (c NameClasses) Class(name string) string {
	if c.all {
		return name
	}
	class := make([]byte, len(c.tests))
	for i, r := range c.tests {
		class[i] = '-'
		if r.Regex.MatchString(testedName(r, name)) {
			class[i] = '+'
		}
	}
	return string(class)
}

// nameUse is what a rule does with the metric name.
type nameUse uint8

const (
	nameUnused nameUse = iota
	nameTested         // whether it matches is all that counts, and nothing else is tested
	nameUsed           // anything else, and whatever cannot be excluded
)

// nameUseOf follows what package relabel does, action by action, since what it
// overlooks would be wrong series.
func nameUseOf(r *relabel.Config) nameUse {
	const name = model.MetricNameLabel
	named := 0
	for _, l := range r.SourceLabels {
		if l == name {
			named++
		}
	}
	// By now the name may be among several labels that are tested together.
	read := nameUnused
	switch {
	case named > 0 && named == len(r.SourceLabels):
		read = nameTested
	case named > 0:
		read = nameUsed
	}
	switch r.Action {
	case relabel.Keep, relabel.Drop:
		return read
	case relabel.Replace:
		target, _, template := strings.Cut(r.TargetLabel, "$")
		switch {
		case template && (read == nameTested || strings.HasPrefix(name, target)), target == name:
			return nameUsed // it is written, or written by what it is
		case read == nameTested && strings.Contains(r.Replacement, "$"):
			return nameUsed
		}
		return read
	case relabel.KeepEqual, relabel.DropEqual, relabel.HashMod, relabel.Lowercase, relabel.Uppercase:
		if named > 0 || r.TargetLabel == name {
			return nameUsed
		}
	case relabel.LabelMap:
		// What is replaced can be a part of the label's name: rules are anchored,
		// but a regular expression like "a)|(b" is not.
		literal, _, _ := strings.Cut(r.Replacement, "$")
		if r.Regex.MatchString(name) || strings.Contains(name, literal) {
			return nameUsed
		}
	case relabel.LabelDrop:
		if r.Regex.MatchString(name) {
			return nameUsed
		}
	case relabel.LabelKeep:
		if !r.Regex.MatchString(name) {
			return nameUsed
		}
	default:
		return nameUsed
	}
	return nameUnused
}

// testedName is what a rule that tests the name matches: the name, once or more.
func testedName(r *relabel.Config, name string) string {
	if len(r.SourceLabels) == 1 {
		return name
	}
	return strings.Join(slices.Repeat([]string{name}, len(r.SourceLabels)), r.Separator)
}
