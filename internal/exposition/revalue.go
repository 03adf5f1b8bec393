package exposition

import "strconv"

// WithValues returns a block of the same series with other values. They are in
// the order of the series: family by family, sorted by name, and within a family
// as the series came. It returns nil unless there is one for each series. Neither
// block has timestamps or exemplars of its own.
//
// It is for what the program says itself, again and again: documents of such
// blocks need no sorting and no comparing, see [Merger].
func (b *Block) WithValues(values []float64) *Block {
	if len(values) != b.Series() {
		return nil
	}
	const digits = 20
	next := &Block{layout: b.layout, body: make([]byte, 0, digits*len(values)), values: make([]span, len(values))}
	for i, v := range values {
		from := len(next.body)
		next.body = strconv.AppendFloat(next.body, v, 'g', -1, 64)
		next.values[i] = span{uint32(from), uint32(len(next.body) - from)}
	}
	return next
}
