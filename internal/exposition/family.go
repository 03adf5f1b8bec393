package exposition

import (
	"slices"
	"strings"
)

// kind is the type of a metric family. The zero kind is untyped, which
// OpenMetrics calls unknown.
type kind uint8

const (
	kindUntyped kind = iota
	kindCounter
	kindGauge
	kindInfo
	kindStateSet
	kindHistogram
	kindGaugeHistogram
	kindSummary
)

// composite tells whether one metric of the kind consists of several samples.
// The samples of all other kinds, the simple ones, stand alone and bear the
// name of their family.
func (k kind) composite() bool { return k >= kindHistogram }

// parseKind reads the type of a TYPE line of either text format. The caller
// knows that the line is valid in its format.
func parseKind(s string) kind {
	switch s {
	case "counter":
		return kindCounter
	case "gauge":
		return kindGauge
	case "info":
		return kindInfo
	case "stateset":
		return kindStateSet
	case "histogram":
		return kindHistogram
	case "gaugehistogram":
		return kindGaugeHistogram
	case "summary":
		return kindSummary
	default: // untyped, unknown
		return kindUntyped
	}
}

// suffix is what a sample of a composite family adds to the family's name.
type suffix uint8

const (
	suffixNone suffix = iota
	suffixBucket
	suffixSum
	suffixCount
	suffixGSum
	suffixGCount
)

func (s suffix) String() string {
	switch s {
	case suffixBucket:
		return "_bucket"
	case suffixSum:
		return "_sum"
	case suffixCount:
		return "_count"
	case suffixGSum:
		return "_gsum"
	case suffixGCount:
		return "_gcount"
	default:
		return ""
	}
}

// suffixes are those of a composite kind: of the bucket or quantile first, then
// of the sum, then of the count. Metrics are kept in that order.
func (k kind) suffixes() [3]suffix {
	switch k {
	case kindSummary:
		return [3]suffix{suffixNone, suffixSum, suffixCount}
	case kindGaugeHistogram:
		return [3]suffix{suffixBucket, suffixGSum, suffixGCount}
	default:
		return [3]suffix{suffixBucket, suffixSum, suffixCount}
	}
}

// boundLabel is the label that tells apart the buckets or quantiles of one
// metric of a composite kind.
func (k kind) boundLabel() string {
	if k == kindSummary {
		return "quantile"
	}
	return "le"
}

// family is what a page says of a metric family. Families are compared by
// value and shared by pointer.
type family struct {
	name string
	kind kind
	help string // "" is the same as no HELP
	unit string
}

// familyKey is what makes samples of one family. Simple families of a name are
// one, whatever their types; a composite one is not the same as a simple one,
// or one of another type.
type familyKey struct {
	name string
	kind kind // untyped for all simple kinds
}

func (f *family) key() familyKey {
	if f.kind.composite() {
		return familyKey{f.name, f.kind}
	}
	return familyKey{f.name, kindUntyped}
}

// sampleNames are the names that the samples of f can have.
func (f *family) sampleNames() []string {
	if !f.kind.composite() {
		return []string{f.name}
	}
	var names []string
	for _, s := range f.kind.suffixes() {
		names = append(names, f.name+s.String())
	}
	return names
}

// part is the simple family that holds the samples with the suffix s when the
// composite family f is taken apart.
func (f *family) part(s suffix) family {
	return family{name: f.name + s.String(), help: f.help}
}

// metadata is all that a page says of its families, wherever on the page it
// says it. Names are those of the text format: a counter bears the name of its
// samples.
type metadata struct {
	families  map[string]*family
	conflicts int // lines that contradict an earlier one
}

func newMetadata() *metadata {
	return &metadata{families: make(map[string]*family)}
}

// lookup finds the family of a sample. A family of that very name goes before
// a composite family that has such samples.
func (m *metadata) lookup(sample string) (family, suffix) {
	f := m.families[sample]
	if f != nil && (!f.kind.composite() || f.kind == kindSummary) {
		return *f, suffixNone
	}
	if i := strings.LastIndexByte(sample, '_'); i > 0 && f == nil {
		if f := m.families[sample[:i]]; f != nil && f.kind.composite() {
			for _, s := range f.kind.suffixes() {
				if s.String() == sample[i:] {
					return *f, s
				}
			}
		}
	}
	return family{name: sample}, suffixNone
}

// rename gives f, as the family of a sample with suffix s, the name that suits
// the sample's new name. Samples of a composite family that lose their suffix
// have left the family.
func (f family) rename(s suffix, sample string) (family, suffix) {
	name, ok := strings.CutSuffix(sample, s.String())
	if !ok || name == "" {
		return family{name: sample, help: f.help}, suffixNone
	}
	if name != f.name {
		f.unit = ""
	}
	f.name = name
	return f, s
}

// familySet finds out which composite families can't stay whole since their
// names are taken, as their own samples' name or by another family.
type familySet struct {
	simple    map[string]bool
	composite map[string][]kind
}

func newFamilySet() *familySet {
	return &familySet{simple: make(map[string]bool), composite: make(map[string][]kind)}
}

func (s *familySet) add(f *family) {
	if !f.kind.composite() {
		s.simple[f.name] = true
		return
	}
	if !slices.Contains(s.composite[f.name], f.kind) {
		s.composite[f.name] = append(s.composite[f.name], f.kind)
	}
}

// takeApart replaces the composite families of a name by simple ones.
func (s *familySet) takeApart(name string) {
	for _, k := range s.composite[name] {
		for _, n := range (&family{name: name, kind: k}).sampleNames() {
			s.simple[n] = true
		}
	}
	delete(s.composite, name)
}

// settle takes apart every composite family that shares its name with a family
// of another kind, or a name of its samples with any other family. What is left
// in s.composite is whole; the outcome does not depend on any order.
func (s *familySet) settle() {
	for changed := true; changed; {
		changed = false
		for name, kinds := range s.composite {
			if s.clashes(name, kinds) {
				s.takeApart(name)
				changed = true
			}
		}
	}
}

func (s *familySet) clashes(name string, kinds []kind) bool {
	if len(kinds) > 1 || s.simple[name] {
		return true
	}
	for _, n := range (&family{name: name, kind: kinds[0]}).sampleNames() {
		if n != name && (s.simple[n] || len(s.composite[n]) > 0) {
			return true
		}
	}
	return false
}

// whole tells whether a composite family can stay whole.
func (s *familySet) whole(f *family) bool {
	return slices.Contains(s.composite[f.name], f.kind)
}
