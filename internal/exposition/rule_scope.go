package exposition

import (
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"
)

// RuleScope is how much of a series relabelling rules look at, for the Class and
// the Passes of a [Rewriter] that applies these rules. What else the Rewriter looks
// at or changes it has to take into account by itself. Safe for concurrent use.
//
// Of the metric name it understands rules that do nothing but test it. Under rules
// that do more with it, or might, every name is its own class.
type RuleScope struct {
	rules []*relabel.Config
	tests []*relabel.Config // those that test the name
	names bool              // every name is its own class
}

// NewRuleScope returns the scope of rules.
func NewRuleScope(rules []*relabel.Config) RuleScope {
	s := RuleScope{rules: rules}
	for _, r := range rules {
		switch {
		case !touches(r, model.MetricNameLabel):
		case testsName(r):
			s.tests = append(s.tests, r)
		default:
			s.names = true
		}
	}
	return s
}

// Class returns the class of a metric name.
func (s RuleScope) Class(name string) string {
	if s.names {
		return name
	}
	class := make([]byte, len(s.tests))
	for i, r := range s.tests {
		class[i] = '-'
		if r.Regex.MatchString(testedName(r, name)) {
			class[i] = '+'
		}
	}
	return string(class)
}

// Passes tells whether the rules neither look at a label nor change it.
func (s RuleScope) Passes(label string) bool {
	return !slices.ContainsFunc(s.rules, func(r *relabel.Config) bool { return touches(r, label) })
}

// touches tells whether a rule looks at a label or might change it. It follows what
// package relabel does, action by action, since what it overlooks would be wrong
// series.
func touches(r *relabel.Config, label string) bool {
	reads := slices.Contains(r.SourceLabels, model.LabelName(label))
	switch r.Action {
	case relabel.Keep, relabel.Drop:
		return reads
	case relabel.Replace:
		return reads || writes(r, label)
	case relabel.KeepEqual, relabel.DropEqual, relabel.HashMod, relabel.Lowercase, relabel.Uppercase:
		return reads || r.TargetLabel == label
	case relabel.LabelMap:
		// What is replaced can be a part of the label's name: rules are anchored,
		// but a regular expression like "a)|(b" is not.
		literal, _, _ := strings.Cut(r.Replacement, "$")
		return r.Regex.MatchString(label) || strings.Contains(label, literal)
	case relabel.LabelDrop:
		return r.Regex.MatchString(label)
	case relabel.LabelKeep:
		return !r.Regex.MatchString(label)
	default:
		return true
	}
}

// writes tells whether the label that a replacing rule writes might be this one. Of
// a template only the beginning is certain.
func writes(r *relabel.Config, label string) bool {
	literal, _, template := strings.Cut(r.TargetLabel, "$")
	return literal == label || template && strings.HasPrefix(label, literal)
}

// testsName tells whether all that counts for a rule is whether the metric name
// matches.
func testsName(r *relabel.Config) bool {
	other := func(l model.LabelName) bool { return l != model.MetricNameLabel }
	if len(r.SourceLabels) == 0 || slices.ContainsFunc(r.SourceLabels, other) {
		return false
	}
	switch r.Action {
	case relabel.Keep, relabel.Drop:
		return true
	case relabel.Replace:
		return !writes(r, model.MetricNameLabel) && !strings.Contains(r.TargetLabel+r.Replacement, "$")
	default:
		return false
	}
}

// testedName is what a rule that tests the name matches: the name, once or more.
func testedName(r *relabel.Config, name string) string {
	if len(r.SourceLabels) == 1 {
		return name
	}
	return strings.Join(slices.Repeat([]string{name}, len(r.SourceLabels)), r.Separator)
}
