package exposition

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
)

// deflateTemplate is how the documents of a plan are compressed without looking
// at their texts again: between two of them only values change.
//
// A page is seen as lines that consist of a text and a value, which is followed
// by a timestamp maybe. The text begins with the line feed that ends the line
// before, and with the family's metadata if it has changed. The texts are made
// deflate symbols once and for all: literals, and matches with texts of the
// same and of earlier lines. All that is left open is how far back those are,
// which depends on the lengths of the values in between. Values are literals.
type deflateTemplate struct {
	code *deflateCode
	// size is what came of the page that the template was made for.
	size int

	lines []templateLine // and a last one that has no value
	steps []byte
	bits  []byte // and 8 more bytes
	texts []textLength
	total int64 // length of all texts
}

// templateLine is a line's text but for its symbols.
type templateLine struct {
	crc  uint32
	text uint32 // number of its length
}

// textLength is the length of texts.
type textLength struct {
	size  int
	shift crcShift
}

// The symbols of all texts are in bits, but for the distances of matches. Steps
// say where those are. A step is a byte with the number of bits up to there and
// a byte that says how many lines back the match is or, if it is one of the
// following, something else. The distance follows in two bytes; it does not
// count the values in between.
const (
	stepFar  = 0xff - iota // the number of lines is in two further bytes
	stepBits               // no match, but more bits
	stepEnd                // the text ends
	maxNear                // the largest number of lines that is none of these
)

const (
	// maxLines is how many lines back a match can be, which only matters if
	// lines are shorter than 8 bytes.
	maxLines = 1<<12 - 1
	// maxStep is how many bits a step can have.
	maxStep = 255
)

// slack is how much larger than the page that a template was made for pages can
// get before it is made anew: by a 16th.
const slack = 16

// deflateTemplates makes a template for a plan when it is worth while. Making
// it takes as long as it takes to compress a few pages without, so there is none
// before the second document. What is made while others wait is nothing that
// they would wait for: they do without.
type deflateTemplates struct {
	ready atomic.Pointer[deflateTemplate]

	mu sync.Mutex // held while the template is made
	// plain is the size of a page that was compressed without a template, and
	// 0 if there was none yet.
	plain    int
	hopeless bool // a template makes pages larger
	// reach is what is put on the length of each value between a match and
	// what it refers to. Where values get longer than that, matches get out of
	// reach, and the template is good for nothing.
	reach int
}

// compress returns a document's deflate blocks, or nil if there is no template
// for it. In this case the caller makes them, and says how it went.
func (t *deflateTemplates) compress(d *Document) *encoded {
	tpl := t.ready.Load()
	if tpl == nil {
		if tpl = t.make(d); tpl == nil {
			return nil
		}
	}
	enc := tpl.compress(d)
	if enc == nil || len(enc.chunks[0]) > tpl.size+tpl.size/slack+256 {
		t.discard(tpl, enc == nil)
	}
	return enc
}

// compressed says what size a document had without a template.
func (t *deflateTemplates) compressed(size int) {
	if t.mu.TryLock() {
		t.plain = size
		t.mu.Unlock()
	}
}

func (t *deflateTemplates) discard(tpl *deflateTemplate, outOfReach bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ready.CompareAndSwap(tpl, nil) && outOfReach {
		t.reach *= 4
	}
}

func (t *deflateTemplates) make(d *Document) *deflateTemplate {
	if !t.mu.TryLock() {
		return nil
	}
	defer t.mu.Unlock()
	if tpl := t.ready.Load(); tpl != nil {
		return tpl
	}
	if t.plain == 0 || t.hopeless {
		return nil
	}
	t.reach = max(t.reach, 1)
	tpl := newDeflateTemplate(d, t.reach)
	if tpl == nil || tpl.size > t.plain {
		t.hopeless = true
		return nil
	}
	t.ready.Store(tpl)
	return tpl
}

// newDeflateTemplate makes a template from a document. It returns nil for one
// that is too large.
func newDeflateTemplate(d *Document, reach int) *deflateTemplate {
	m := newTemplateMatcher(reach)
	d.eachTextLine(m.add)
	if m.full {
		return nil
	}
	t := &deflateTemplate{
		code:  newDeflateCode(&m.weights),
		lines: make([]templateLine, 0, d.Series()+1),
	}
	t.size = len(t.code.header) + m.weights.bits(t.code)/8
	b := templateBuilder{deflateTemplate: t, tokens: m.tokens, lengths: make(map[int]uint32)}
	d.eachTextLine(func(text, _ []byte, _ int64) { b.add(text) })
	t.bits = append(b.symbols.out, byte(b.symbols.acc))
	t.bits = slices.Clip(append(t.bits, make([]byte, 8)...))
	t.steps = slices.Clip(t.steps)
	t.texts = slices.Clip(t.texts)
	return t
}

// templateBuilder turns tokens into steps and bits.
type templateBuilder struct {
	*deflateTemplate
	tokens  []token
	symbols bitWriter
	pending uint // bits that no step has yet
	lengths map[int]uint32
}

func (b *templateBuilder) put(s bitString) {
	if b.pending+s.len() > maxStep {
		b.step(stepBits)
	}
	b.symbols.add(s.bits(), s.len())
	b.pending += s.len()
}

func (b *templateBuilder) step(kind int) {
	b.steps = append(b.steps, byte(b.pending), byte(kind))
	b.pending = 0
}

// add takes in the next text.
func (b *templateBuilder) add(text []byte) {
	number, ok := b.lengths[len(text)]
	if !ok {
		number = uint32(len(b.texts))
		b.lengths[len(text)] = number
		b.texts = append(b.texts, textLength{len(text), newCRCShift(len(text))})
	}
	b.lines = append(b.lines, templateLine{crc32.ChecksumIEEE(text), number})
	b.total += int64(len(text))
	for len(text) > 0 {
		t := b.tokens[0]
		b.tokens = b.tokens[1:]
		for _, c := range text[:t.literals] {
			b.put(b.code.literals[c])
		}
		text = text[t.literals:]
		if t.distance == 0 {
			continue
		}
		b.put(b.code.lengths[t.length])
		text = text[int(t.length)+minMatch:]
		if t.lines <= maxNear {
			b.step(int(t.lines))
		} else {
			b.step(stepFar)
			b.steps = binary.LittleEndian.AppendUint16(b.steps, t.lines)
		}
		b.steps = binary.LittleEndian.AppendUint16(b.steps, t.distance)
	}
	b.step(stepEnd)
}

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
				if !e.collect(b.values[slot].of(b.body), b.stamp(slot, stamp)) {
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

// collectValues is how many values are collected before they are written.
const collectValues = 64

// templateEmitter writes one document.
type templateEmitter struct {
	*deflateTemplate
	step int // offset of the next one
	bit  int // number of the next one

	out []byte
	at  int
	acc uint64 // bits that are not in out yet
	n   uint   // how many, less than 8

	line   int
	values int               // length of the values so far
	before [maxLines + 1]int // the same, when each of the last lines began

	crcs *crcTables
	crc  uint32

	// Values are collected before they are written, since they are all over
	// the memory: it is faster to wait for many at once than for each of them.
	collected  int
	lastValues [collectValues][]byte
	stamps     [collectValues]int64
	touched    byte

	stamp    int64  // the last one
	stamped  []byte // as text, with a blank
	stampEnd int    // position of its end
	position int    // of the end of the last text
}

func (e *templateEmitter) begin() {
	e.stamp = noTimestamp
	n := copy(e.out, e.code.header)
	e.n = e.code.headerBits % 8
	if e.n > 0 {
		n--
		e.acc = uint64(e.code.header[n])
	}
	e.at = n
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

// collect takes in the next value. It reports false if some text can't be
// written.
func (e *templateEmitter) collect(value []byte, stamp int64) bool {
	e.lastValues[e.collected] = value
	e.stamps[e.collected] = stamp
	e.collected++
	return e.collected < collectValues || e.flush()
}

// flush writes the lines whose values were collected.
func (e *templateEmitter) flush() bool {
	values := e.lastValues[:e.collected]
	for _, v := range values {
		e.touched ^= v[0]
	}
	for i, v := range values {
		if !e.text() {
			return false
		}
		e.value(v, e.stamps[i])
	}
	e.collected = 0
	return true
}

// text writes the text of the next line. It reports false if it can't.
func (e *templateEmitter) text() bool {
	l := &e.lines[e.line]
	length := &e.texts[l.text]
	e.crc = length.shift.apply(e.crc) ^ l.crc
	e.position += length.size
	e.before[e.line&maxLines] = e.values
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
		distance := int(binary.LittleEndian.Uint16(steps[step:])) + e.values - e.before[(e.line-lines)&maxLines]
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

// value writes what follows a text.
func (e *templateEmitter) value(value []byte, stamp int64) {
	e.literals(value)
	if stamp == noTimestamp {
		return
	}
	if stamp != e.stamp {
		e.stamp = stamp
		e.stamped = appendTextStamp(e.stamped[:0], stamp)
	} else if distance := e.position + len(e.stamped) - e.stampEnd; distance <= maxDistance && len(e.stamped) >= minMatch {
		e.reserve(len(e.stamped))
		s := e.code.lengths[len(e.stamped)-minMatch]
		e.put(s.bits(), s.len())
		e.put(e.code.distance(distance))
		e.count(e.stamped)
		e.stampEnd = e.position
		return
	}
	e.literals(e.stamped)
	e.stampEnd = e.position
}

func (e *templateEmitter) count(b []byte) {
	e.crc = e.crcs.update(e.crc, b)
	e.values += len(b)
	e.position += len(b)
}

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
