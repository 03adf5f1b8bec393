package exposition

import "math/bits"

// What deflate (RFC 1951) prescribes.
const (
	minMatch    = 3
	maxMatch    = 258
	maxDistance = 32768

	endOfBlock      = 256
	literalSymbols  = 286 // bytes, the end of the block, lengths of matches
	distanceSymbols = 30
)

// maxLiteralBits is less than the 15 that deflate allows so that four literals
// and what is left of a byte go into 64 bits.
const maxLiteralBits = 14

// deflateCode is what the symbols of a block with a dynamic code are written
// as. It has a code for every symbol.
type deflateCode struct {
	header     []byte // of the block
	headerBits uint

	literals  [endOfBlock + 1]bitString // bytes, and the end of the block
	lengths   [maxMatch - minMatch + 1]bitString
	distances [32]bitString // without their extra bits
}

// distance returns what a distance is written as.
func (c *deflateCode) distance(distance int) (bits uint64, n uint) {
	symbol, extra, more := distanceSymbol(distance)
	s := c.distances[symbol&(len(c.distances)-1)]
	return s.bits() | uint64(extra)<<s.len(), s.len() + more
}

// bitString is up to 24 bits, first one lowest, and in the highest byte how
// many.
type bitString uint32

func newBitString(b uint32, n uint) bitString { return bitString(b | uint32(n)<<24) }

func (s bitString) bits() uint64 { return uint64(s & 0xffffff) }
func (s bitString) len() uint    { return uint(s>>24) & 63 }

// lengthSymbol returns the symbol of a match's length, and its extra bits.
func lengthSymbol(length int) (symbol int, extra uint32, n uint) {
	l := uint(length - minMatch)
	switch {
	case length == maxMatch:
		return 285, 0, 0
	case l < 8:
		return 257 + int(l), 0, 0
	}
	n = uint(bits.Len(l)) - 3
	return 257 + int(4*n+l>>n), uint32(l & (1<<n - 1)), n
}

// distanceSymbol returns the symbol of a match's distance, and its extra bits.
func distanceSymbol(distance int) (symbol int, extra uint32, n uint) {
	d := uint(distance - 1)
	n = uint(max(bits.Len(d)-2, 0))
	return int(2*n + d>>n), uint32(d & (1<<n - 1)), n
}

// extraDistanceBits is how many extra bits follow a distance's symbol.
func extraDistanceBits(symbol int) int { return max(0, symbol/2-1) }

// deflateWeights is how often the symbols of a block occur.
type deflateWeights struct {
	literals  [literalSymbols]uint32
	distances [distanceSymbols]uint32
}

func (w *deflateWeights) addText(b []byte) {
	for _, c := range b {
		w.literals[c]++
	}
}

func (w *deflateWeights) addMatch(length, distance int) {
	symbol, _, _ := lengthSymbol(length)
	w.literals[symbol]++
	symbol, _, _ = distanceSymbol(distance)
	w.distances[symbol]++
}

// bits returns how long the symbols are in a code.
func (w *deflateWeights) bits(c *deflateCode) int {
	total := 0
	for i, s := range c.literals {
		total += int(w.literals[i]) * int(s.len())
	}
	for i := range c.lengths {
		// The extra bits are among those of the code. One of each symbol's
		// lengths is enough to count them all.
		symbol, extra, _ := lengthSymbol(i + minMatch)
		if extra == 0 {
			total += int(w.literals[symbol]) * int(c.lengths[i].len())
		}
	}
	for i, s := range c.distances[:distanceSymbols] {
		total += int(w.distances[i]) * (int(s.len()) + extraDistanceBits(i))
	}
	return total
}

func newDeflateCode(w *deflateWeights) *deflateCode {
	// What has not occurred yet may still do so.
	for i := range w.literals {
		w.literals[i] = max(w.literals[i], 1)
	}
	for i := range w.distances {
		w.distances[i] = max(w.distances[i], 1)
	}
	var (
		c               = &deflateCode{}
		literalLengths  = huffmanLengths(w.literals[:], maxLiteralBits)
		distanceLengths = huffmanLengths(w.distances[:], 15)
		literals        = huffmanCodes(literalLengths)
		distances       = huffmanCodes(distanceLengths)
	)
	for i := range c.literals {
		c.literals[i] = newBitString(uint32(literals[i]), uint(literalLengths[i]))
	}
	for i := range c.lengths {
		symbol, extra, n := lengthSymbol(i + minMatch)
		of := uint(literalLengths[symbol])
		c.lengths[i] = newBitString(uint32(literals[symbol])|extra<<of, of+n)
	}
	for i := range distances {
		c.distances[i] = newBitString(uint32(distances[i]), uint(distanceLengths[i]))
	}
	c.writeHeader(literalLengths, distanceLengths)
	return c
}

// writeHeader renders the header of a block that is not the last one: the
// lengths of all codes, run-length encoded, in a code of their own.
func (c *deflateCode) writeHeader(literalLengths, distanceLengths []uint8) {
	const (
		repeat      = 16 // the last length, 3 to 6 times
		zeros       = 17 // 3 to 10 times no code
		symbols     = 19 // 18 are more zeros
		dynamicCode = 2
	)
	all := append(append([]uint8(nil), literalLengths...), distanceLengths...)
	type run struct{ symbol, more, bits uint8 }
	var (
		runs    []run
		weights [symbols]uint32
	)
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n] == all[0] {
			n++
		}
		length := all[0]
		all = all[n:]
		add := func(r run) {
			runs = append(runs, r)
			weights[r.symbol]++
		}
		add(run{symbol: length})
		for n--; n > 0; {
			// Every symbol has a code, so there are no runs of zeros.
			if n < 3 {
				add(run{symbol: length})
				n--
				continue
			}
			k := min(n, 6)
			add(run{repeat, uint8(k - 3), 2})
			n -= k
		}
	}
	lengths := huffmanLengths(weights[:], 7)
	codes := huffmanCodes(lengths)
	order := [symbols]int{16, zeros, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
	sent := symbols
	for lengths[order[sent-1]] == 0 {
		sent--
	}

	var b bitWriter
	b.add(dynamicCode<<1, 3)
	b.add(literalSymbols-257, 5)
	b.add(distanceSymbols-1, 5)
	b.add(uint64(sent-4), 4)
	for _, s := range order[:sent] {
		b.add(uint64(lengths[s]), 3)
	}
	for _, r := range runs {
		b.add(uint64(codes[r.symbol]), uint(lengths[r.symbol]))
		b.add(uint64(r.more), uint(r.bits))
	}
	c.headerBits = uint(8*len(b.out)) + b.n
	c.header = append(b.out, byte(b.acc))
}

// bitWriter writes bits, first one lowest.
type bitWriter struct {
	out []byte
	acc uint64 // less than 8 bits
	n   uint   // how many of them
}

// add writes up to 56 bits.
func (b *bitWriter) add(v uint64, n uint) {
	b.acc |= v << b.n
	b.n += n
	for ; b.n >= 8; b.n -= 8 {
		b.out = append(b.out, byte(b.acc))
		b.acc >>= 8
	}
}
