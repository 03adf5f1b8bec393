package exposition

import (
	"cmp"
	"math/bits"
	"slices"
)

// huffmanLengths returns how long the code of each symbol is in the best prefix
// code without codes longer than limit, by package-merge: in each of limit
// rounds the symbols, by weight, are merged with pairs of what the round before
// came to, and a symbol's code is as long as there are rounds in which it is
// among the lightest 2n-2. Symbols of weight 0 have no code, unless there are
// fewer than two others: decoders want a complete code.
func huffmanLengths(weights []uint32, limit int) []uint8 {
	lengths := make([]uint8, len(weights))
	var symbols []int
	for s, w := range weights {
		if w > 0 {
			symbols = append(symbols, s)
		}
	}
	for s := 0; len(symbols) < min(2, len(weights)); s++ {
		if weights[s] == 0 {
			symbols = append(symbols, s)
		}
	}
	slices.SortStableFunc(symbols, func(a, b int) int { return cmp.Compare(weights[a], weights[b]) })

	// An item is a symbol or, of the round before, the pair of items that
	// begins at a number.
	type item struct {
		weight uint64
		symbol int // -1 for a pair
		pair   int
	}
	rounds := make([][]item, limit)
	for r := range rounds {
		merged := make([]item, 0, 2*len(symbols))
		var before []item
		if r > 0 {
			before = rounds[r-1]
		}
		for s, pair := 0, 0; s < len(symbols) || pair+1 < len(before); {
			var weight uint64
			paired := pair+1 < len(before)
			if paired {
				weight = before[pair].weight + before[pair+1].weight
			}
			if s < len(symbols) && (!paired || uint64(weights[symbols[s]]) <= weight) {
				merged = append(merged, item{uint64(weights[symbols[s]]), symbols[s], 0})
				s++
				continue
			}
			merged = append(merged, item{weight, -1, pair})
			pair += 2
		}
		rounds[r] = merged
	}
	// Of each round a first part is taken: pairs are in the order of the items
	// that they are made of.
	taken := 2*len(symbols) - 2
	for r := limit - 1; r >= 0; r-- {
		below := 0
		for _, it := range rounds[r][:min(taken, len(rounds[r]))] {
			if it.symbol >= 0 {
				lengths[it.symbol]++
			} else {
				below = it.pair + 2
			}
		}
		taken = below
	}
	return lengths
}

// huffmanCodes returns the codes of given lengths as deflate numbers them, first
// bit lowest.
func huffmanCodes(lengths []uint8) []uint16 {
	var count, next [17]uint16
	for _, n := range lengths {
		count[n]++
	}
	count[0] = 0
	for n := 1; n < len(next); n++ {
		next[n] = (next[n-1] + count[n-1]) << 1
	}
	codes := make([]uint16, len(lengths))
	for s, n := range lengths {
		if n > 0 {
			codes[s] = bits.Reverse16(next[n]) >> (16 - n)
			next[n]++
		}
	}
	return codes
}
