package exposition

import (
	"encoding/binary"
	"math/bits"
)

// compress returns a document's deflate blocks, or nil if the template is not
// good for it.
func (t *deflateTemplate) compress(d *Document) *encoded {
	e := templateEmitter{
		deflateTemplate: t,
		out:             make([]byte, t.size+t.size/slack/2+1024),
		crcs:            d.tools.crcs(),
	}
	e.begin()
	for f := range d.textFamilies() {
		for _, r := range f.runs {
			b, stamp := d.part(r)
			for slot := r.from; slot < r.to; slot++ {
				e.pending[e.waiting] = lineValue{b.values[slot].of(b.body), b.stamp(slot, stamp)}
				if e.waiting++; e.waiting == maxPending && !e.flush() {
					return nil
				}
			}
		}
	}
	if !e.flush() || !e.text() {
		return nil
	}
	e.end()
	return &encoded{
		chunks: [][]byte{fit(e.out[:e.at])},
		sums:   sums{size: t.total + int64(e.values), crc: e.crc},
	}
}

// lineValue is what follows a text.
type lineValue struct {
	text  []byte
	stamp int64
}

// Values are not written one by one: they are all over the page, and it is
// faster to wait for many of them at once than for each.
const maxPending = 64

// templateEmitter writes one document.
type templateEmitter struct {
	*deflateTemplate
	pending [maxPending]lineValue
	waiting int  // how many are pending
	touched byte // what was read of them, so that it is

	step int // offset of the next one
	bit  int // number of the next one

	out []byte
	at  int
	acc uint64 // bits that are not in out yet
	n   uint   // how many, less than 8

	line   int
	values int                 // length of the values so far
	before [maxLines + 1]int32 // the same, when each of the last lines began

	crcs *crcTables
	crc  uint32

	stamp    int64  // the last one
	stamped  []byte // as text, with a blank
	stampEnd int    // position of its end
	position int    // of the end of the last text
}

func (e *templateEmitter) begin() {
	e.stamp = noTimestamp
	e.at = copy(e.out, e.code.header[:e.code.headerBits/8])
	if e.n = e.code.headerBits % 8; e.n > 0 {
		e.acc = uint64(e.code.header[e.at])
	}
}

// end ends the block, and adds an empty stored one, which ends with a byte.
func (e *templateEmitter) end() {
	e.reserve(16)
	s := e.code.literals[endOfBlock]
	e.put(s.bits(), s.len())
	e.put(0, 3)
	if e.n > 0 {
		e.put(0, 8-e.n)
	}
	e.at += copy(e.out[e.at:], "\x00\x00\xff\xff")
}

// reserve makes room for n bytes of the page, which take two bytes each at
// most, and for as much as is written ahead.
func (e *templateEmitter) reserve(n int) {
	if need := e.at + 2*n + 64; need > len(e.out) {
		e.out = append(e.out, make([]byte, need-len(e.out)+len(e.out)/8)...)
	}
}

// put writes up to 56 bits. There must be room for 8 bytes.
func (e *templateEmitter) put(v uint64, n uint) {
	e.acc |= v << e.n
	e.n += n
	binary.LittleEndian.PutUint64(e.out[e.at:], e.acc)
	e.at += int(e.n >> 3)
	e.acc >>= e.n & 56
	e.n &= 7
}

// flush writes the lines whose values are pending. It reports false if the
// template is not good for one of them.
func (e *templateEmitter) flush() bool {
	for _, v := range e.pending[:e.waiting] {
		if len(v.text) > 0 {
			e.touched ^= v.text[0]
		}
	}
	for _, v := range e.pending[:e.waiting] {
		if !e.text() {
			return false
		}
		e.value(v)
	}
	e.waiting = 0
	return true
}

// text writes the text of the next line. It reports false if a match is out of
// reach.
func (e *templateEmitter) text() bool {
	l := &e.lines[e.line]
	length := &e.texts[l.text]
	e.crc = length.shift.apply(e.crc) ^ l.crc
	e.position += length.size
	e.before[e.line&maxLines] = int32(e.values)
	e.reserve(length.size)

	steps, step, from, bit := e.steps, e.step, e.bits, e.bit
	out, at, acc, n := e.out, e.at, e.acc, e.n
	for {
		more, kind := uint(steps[step]), int(steps[step+1])
		step += 2
		for {
			k := min(more, 56)
			v := binary.LittleEndian.Uint64(from[bit>>3:]) >> (bit & 7) & (1<<(k&63) - 1)
			bit += int(k)
			acc |= v << (n & 63)
			n += k
			binary.LittleEndian.PutUint64(out[at:], acc)
			at += int(n >> 3)
			acc >>= n & 56
			n &= 7
			if more -= k; more == 0 {
				break
			}
		}
		lines := kind
		if kind > maxNear {
			if kind == stepEnd {
				break
			}
			if kind == stepBits {
				continue
			}
			lines = int(binary.LittleEndian.Uint16(steps[step:]))
			step += 2
		}
		distance := int(binary.LittleEndian.Uint16(steps[step:])) + int(int32(e.values)-e.before[(e.line-lines)&maxLines])
		step += 2
		if distance > maxDistance {
			return false
		}
		// What deflateCode.distance does.
		d := uint(distance - 1)
		extra := uint(max(bits.Len(d)-2, 0)) & 63
		s := e.code.distances[(2*extra+d>>extra)&31]
		acc |= (s.bits() | uint64(d&(1<<extra-1))<<s.len()) << (n & 63)
		n += s.len() + extra
		binary.LittleEndian.PutUint64(out[at:], acc)
		at += int(n >> 3)
		acc >>= n & 56
		n &= 7
	}
	e.step, e.bit = step, bit
	e.at, e.acc, e.n = at, acc, n
	e.line++
	return true
}

// value writes what follows a text. A timestamp that is the same as the last
// one, as most are, is a match.
func (e *templateEmitter) value(v lineValue) {
	e.literals(v.text)
	if v.stamp == noTimestamp {
		return
	}
	if v.stamp != e.stamp {
		e.stamp = v.stamp
		e.stamped = appendTextStamp(e.stamped[:0], v.stamp)
		e.stampEnd = e.position - maxDistance // nothing to match
	}
	size := len(e.stamped)
	distance := e.position + size - e.stampEnd
	if size >= minMatch && distance <= maxDistance {
		e.reserve(size)
		s := e.code.lengths[size-minMatch]
		e.put(s.bits(), s.len())
		e.put(e.code.distance(distance))
		e.count(e.stamped)
	} else {
		e.literals(e.stamped)
	}
	e.stampEnd = e.position
}

// count takes in plain text that is not of the template.
func (e *templateEmitter) count(b []byte) {
	e.crc = e.crcs.update(e.crc, b)
	e.values += len(b)
	e.position += len(b)
}

// literals writes plain text.
func (e *templateEmitter) literals(b []byte) {
	e.count(b)
	e.reserve(len(b))
	code := &e.code.literals
	out, at, acc, n := e.out, e.at, e.acc, e.n
	for ; len(b) >= 4; b = b[4:] {
		s := code[b[0]]
		acc |= s.bits() << (n & 63)
		n += s.len()
		s = code[b[1]]
		acc |= s.bits() << (n & 63)
		n += s.len()
		s = code[b[2]]
		acc |= s.bits() << (n & 63)
		n += s.len()
		s = code[b[3]]
		acc |= s.bits() << (n & 63)
		n += s.len()
		binary.LittleEndian.PutUint64(out[at:], acc)
		at += int(n >> 3)
		acc >>= n & 56
		n &= 7
	}
	for _, c := range b {
		s := code[c]
		acc |= s.bits() << (n & 63)
		n += s.len()
	}
	binary.LittleEndian.PutUint64(out[at:], acc)
	e.at = at + int(n>>3)
	e.acc = acc >> (n & 56)
	e.n = n & 7
}
