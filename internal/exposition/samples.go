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

// Shape is which series a block has, to be compared: blocks of the same shape have
// the same series in the same places, and only what these say may differ.
type Shape struct{ layout *layout }

// Shape returns the shape of the block. It differs only rarely between versions of
// a block that have the same series.
func (b *Block) Shape() Shape {
	if b == nil {
		return Shape{}
	}
	return Shape{b.layout}
}

// Find returns the places and the labels of the series that are called name, in the
// order of the page. Those of histograms and summaries are not among them.
func (b *Block) Find(name string) iter.Seq2[uint32, LabelText] {
	return func(yield func(uint32, LabelText) bool) {
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
				if !yield(slot, LabelText(b.layout.series[slot].text)) {
					return
				}
			}
		}
	}
}

// Value returns the value of the series at a place that was found in a block of the
// same shape.
func (b *Block) Value(place uint32) float64 { return parseValue(b.values[place].of(b.body)) }
