package exposition

import (
	"encoding/binary"
	"math"
	"math/bits"
	"sort"
)

// templateMatcher divides the texts of lines into tokens. It searches like any
// compressor, along chains of places that have the same hash. But it sees the
// texts without the values between them, and it weighs what a match costs
// against what its literals would.
type templateMatcher struct {
	tokens  []token
	weights deflateWeights
	costs   *deflateCosts
	settle  int // the position at which the costs are reckoned anew

	buf    []byte // the texts, as far as they are in reach
	base   int    // position of the first byte of buf
	head   []int32
	chain  []int32
	lines  []lineStart // those that begin in buf
	values int         // length of the values so far
	saved  []int32     // what the literals up to a place in the line cost

	literals int // that are in no token yet

	stamp     int64 // the last one
	stamped   []byte
	stampedAt int

	reach int  // see deflateTemplates
	full  bool // there are no positions left
}

// token is a piece of a text: some literals, then a match.
type token struct {
	literals uint8
	length   uint8  // of the match, less the shortest there is
	distance uint16 // not counting values; 0 if there is no match
	lines    uint16 // how many lines back it is
}

const maxLiterals = 1<<8 - 1

// lineStart is where the text of a line begins among the texts, and how long
// the values before it are.
type lineStart struct{ at, values int }

// match is what can be had instead of literals.
type match struct {
	length   int
	distance int // without values
	actual   int // with them
	lines    int
	gain     int32 // what it costs less than its literals
}

const (
	hashBytes = 4
	hashBits  = 16
	// maxTries is how many places a text is compared with, and niceMatch the
	// length that ends the search.
	maxTries  = 32
	niceMatch = 64
	// maxTexts is where positions end.
	maxTexts = math.MaxInt32
)

func newTemplateMatcher(reach int) *templateMatcher {
	m := &templateMatcher{
		reach:  reach,
		stamp:  noTimestamp,
		head:   make([]int32, 1<<hashBits),
		chain:  make([]int32, maxDistance),
		settle: 1 << 16,
		costs:  defaultCosts(),
	}
	for i := range m.head {
		m.head[i] = -maxDistance - 1 // out of reach
	}
	return m
}

// add takes in the next line.
func (m *templateMatcher) add(text, value []byte, stamp int64) {
	m.full = m.full || m.base+len(m.buf)+len(text) > maxTexts
	if m.full {
		return
	}
	from := m.take(text)
	to := from + len(text)
	m.saved = append(m.saved[:0], 0)
	for i, c := range text {
		m.saved = append(m.saved, m.saved[i]+m.costs.literals[c])
	}
	best := m.search(from, from, to)
	for at := from; at < to; {
		m.insert(at, to)
		if best.gain == 0 || best.length < niceMatch {
			// Maybe the next place has something better.
			if next := m.search(at+1, from, to); best.gain == 0 || next.gain > best.gain {
				best = next
				m.literal(text[at-from])
				at++
				continue
			}
		}
		m.match(best)
		for i := at + 1; i < at+best.length; i++ {
			m.insert(i, to)
		}
		at += best.length
		best = m.search(at, from, to)
	}
	m.flush()
	m.addValue(value, stamp)
	if to >= m.settle {
		m.settle *= 8
		w := m.weights
		m.costs = newDeflateCosts(newDeflateCode(&w))
	}
}

// addValue counts the symbols of a value and its timestamp.
func (m *templateMatcher) addValue(value []byte, stamp int64) {
	m.weights.addText(value)
	m.values += len(value)
	if stamp == noTimestamp {
		return
	}
	position := m.base + len(m.buf) + m.values
	if stamp != m.stamp {
		m.stamp = stamp
		m.stamped = appendTextStamp(m.stamped[:0], stamp)
		m.weights.addText(m.stamped)
	} else if len(m.stamped) >= minMatch {
		m.weights.addMatch(len(m.stamped), min(position-m.stampedAt, maxDistance))
	}
	m.stampedAt = position
	m.values += len(m.stamped)
}

// take appends a text to the buffer, which forgets what is out of reach, and
// returns its position.
func (m *templateMatcher) take(text []byte) int {
	at := m.base + len(m.buf)
	if len(m.buf) >= 8*maxDistance {
		drop := len(m.buf) - maxDistance
		m.buf = m.buf[:copy(m.buf, m.buf[drop:])]
		m.base += drop
		gone := sort.Search(len(m.lines), func(i int) bool { return m.lines[i].at >= m.base })
		m.lines = m.lines[:copy(m.lines, m.lines[gone:])]
	}
	m.buf = append(m.buf, text...)
	m.lines = append(m.lines, lineStart{at, m.values})
	return at
}

func (m *templateMatcher) hash(at int) uint32 {
	return binary.LittleEndian.Uint32(m.buf[at-m.base:]) * 0x9e3779b1 >> (32 - hashBits)
}

func (m *templateMatcher) insert(at, to int) {
	if at+hashBytes > to {
		return
	}
	h := m.hash(at)
	m.chain[at%maxDistance] = m.head[h]
	m.head[h] = int32(at)
}

// search looks for the best match of what is at a place in the last line, which
// begins and ends at others.
func (m *templateMatcher) search(at, from, to int) match {
	var best match
	if at+hashBytes > to {
		return best
	}
	limit := min(to-at, maxMatch)
	text := m.buf[at-m.base:][:limit]
	best.length = hashBytes - 1
	this := len(m.lines) - 1
	candidate := int(m.head[m.hash(at)])
	for range maxTries {
		distance := at - candidate
		if distance > maxDistance || candidate < m.base {
			break
		}
		other := m.buf[candidate-m.base:]
		if other[best.length] == text[best.length] {
			length := matchLen(other, text)
			line := this
			if candidate < from {
				line = sort.Search(this, func(i int) bool { return m.lines[i].at > candidate }) - 1
				if line < 0 {
					break
				}
				// What follows the text is a value.
				length = min(length, m.lines[line+1].at-candidate)
			}
			lines := this - line
			actual := distance + m.values - m.lines[line].values
			// Values may grow: a match that is hardly in reach is none.
			if actual+lines*m.reach > maxDistance || lines > maxLines {
				break
			}
			if length > best.length {
				off := at - from
				gain := m.saved[off+length] - m.saved[off] - m.costs.match(length, actual)
				if gain > best.gain {
					best = match{length, distance, actual, lines, gain}
					if length == limit || length >= niceMatch {
						break
					}
				}
			}
		}
		next := int(m.chain[candidate%maxDistance])
		if next >= candidate {
			break // that was overwritten
		}
		candidate = next
	}
	return best
}

// matchLen returns how many bytes are the same; the second text is the shorter
// one.
func matchLen(a, b []byte) int {
	n := 0
	for ; n+8 <= len(b); n += 8 {
		if x := binary.LittleEndian.Uint64(a[n:]) ^ binary.LittleEndian.Uint64(b[n:]); x != 0 {
			return n + bits.TrailingZeros64(x)/8
		}
	}
	for n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func (m *templateMatcher) literal(c byte) {
	m.weights.literals[c]++
	m.literals++
	if m.literals == maxLiterals {
		m.flush()
	}
}

// flush makes a token of literals.
func (m *templateMatcher) flush() {
	if m.literals > 0 {
		m.tokens = append(m.tokens, token{literals: uint8(m.literals)})
		m.literals = 0
	}
}

func (m *templateMatcher) match(x match) {
	m.weights.addMatch(x.length, x.actual)
	m.tokens = append(m.tokens, token{
		literals: uint8(m.literals),
		length:   uint8(x.length - minMatch),
		distance: uint16(x.distance),
		lines:    uint16(x.lines),
	})
	m.literals = 0
}

// deflateCosts is what symbols take, in bits.
type deflateCosts struct {
	literals  [256]int32
	lengths   [maxMatch - minMatch + 1]int32
	distances [distanceSymbols]int32 // with extra bits
}

func (c *deflateCosts) match(length, distance int) int32 {
	symbol, _, _ := distanceSymbol(distance)
	return c.lengths[length-minMatch] + c.distances[symbol]
}

// defaultCosts is a guess, for as long as nothing is known.
func defaultCosts() *deflateCosts {
	c := &deflateCosts{}
	for i := range c.literals {
		c.literals[i] = 5
	}
	for i := range c.lengths {
		_, _, n := lengthSymbol(i + minMatch)
		c.lengths[i] = int32(5 + n)
	}
	for i := range c.distances {
		c.distances[i] = 4 + int32(extraDistanceBits(i))
	}
	return c
}

func newDeflateCosts(code *deflateCode) *deflateCosts {
	c := &deflateCosts{}
	for i := range c.literals {
		c.literals[i] = int32(code.literals[i].len())
	}
	for i := range c.lengths {
		c.lengths[i] = int32(code.lengths[i].len())
	}
	for i := range c.distances {
		c.distances[i] = int32(code.distances[i].len()) + int32(extraDistanceBits(i))
	}
	return c
}
