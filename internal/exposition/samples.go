package exposition

import (
	"iter"
	"sort"
)

// LabelText is the labels of a series but its name, as the text format writes
// them.
type LabelText string

// Get returns the value of a label, "" if there is none.
func (t LabelText) Get(label string) string {
	for rest := string(t); ; {
		name, value, next, quoted, ok := cutLabel(rest)
		switch {
		case !ok:
			return ""
		case quoted && unescape(name, true) == label, !quoted && name == label:
			return unescape(value, true)
		}
		rest = next
	}
}

// Samples returns the series that are called name, in the order of the page,
// and their values. Those of histograms and summaries are not among them.
func (b *Block) Samples(name string) iter.Seq2[LabelText, float64] {
	return func(yield func(LabelText, float64) bool) {
		if b == nil || b.layout == nil {
			return
		}
		families := b.layout.families
		i := sort.Search(len(families), func(i int) bool { return families[i].name >= name })
		for ; i < len(families) && families[i].name == name; i++ {
			if families[i].kind.composite() {
				continue
			}
			for slot := families[i].from; slot < families[i].to; slot++ {
				if !yield(LabelText(b.layout.series[slot].text), parseValue(b.values[slot].of(b.body))) {
					return
				}
			}
		}
	}
}
