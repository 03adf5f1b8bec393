package exposition

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
)

// deflateTemplate is how the documents of a plan are compressed without
// searching for matches again: between two of them only values change, so what
// can be referred to stays the same.
//
// A page is seen as lines that consist of a text, which begins with the line
// feed that ends the line before, and maybe has a family's metadata, and a
// value. The texts are divided once into literals and into matches with texts
// of the same and of earlier lines. How far back those are in a given page
// depends on the lengths of the values in between. Values are literals.
type deflateTemplate struct {
	tokens []token
	code   *deflateCode
	// size is the compressed size of the page that the code was made for.
	size int
}

// token is a piece of a text: some literals, then a match.
type token struct {
	literals uint8
	length   uint8  // of the match, less the shortest there is
	distance uint16 // not counting values; 0 if there is no match
	lines    uint16 // how many lines back it is
}

const (
	maxLiterals = 1<<8 - 1
	// maxLines is how many lines back a match can be, which only matters if
	// lines are shorter than 8 bytes.
	maxLines = 1<<12 - 1
)

// lineMark is where a line of a page has which part: the text ends where the
// value begins, and the stamp ends where the next line's text begins.
type lineMark struct{ value, stamp, end int }

// Whether a template pays for itself is not known before a plan's second
// document. It may take more time to make than it saves: that is lost only if
// plans change after every few documents.
type deflateTemplates struct {
	mu       sync.Mutex // held while the template is made
	size     int        // that a document was compressed to without a template; 0 if none was
	hopeless bool       // a template makes pages larger
	ready    atomic.Pointer[deflateTemplate]
}

// slack is how much larger than the page a template was made for a page can get
// before it is made anew: an 1/16th. Values may have grown, and what was matched
// may be out of reach.
const slack = 16

// compress makes deflate blocks of what write writes, or returns nil: then the
// caller does it, and says how it went.
func (t *deflateTemplates) compress(write func(*writer), tools *tools) *encoded {
	tpl := t.ready.Load()
	if tpl == nil {
		if tpl = t.make(write, tools); tpl == nil {
			return nil
		}
	}
	enc := tpl.compress(write, tools)
	if size := len(enc.chunks[0]); size > tpl.size+tpl.size/slack+256 {
		t.ready.CompareAndSwap(tpl, nil)
	}
	return enc
}

// compressed says what size a document had without a template.
func (t *deflateTemplates) compressed(size int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.size = size
}

func (t *deflateTemplates) make(write func(*writer), tools *tools) *deflateTemplate {
	if !t.mu.TryLock() {
		return nil // there is no use in waiting for it
	}
	defer t.mu.Unlock()
	if tpl := t.ready.Load(); tpl != nil {
		return tpl
	}
	if t.size == 0 || t.hopeless {
		return nil
	}
	m := newTemplateMaker()
	writeLines(write, tools, func(buf []byte, lines []lineMark) int {
		at := 0
		for _, l := range lines {
			m.add(buf[at:l.value], buf[l.value:l.end])
			at = l.end
		}
		return at
	}, func(rest []byte) { m.add(rest, nil) })
	tpl := m.template()
	if tpl == nil || tpl.size > t.size {
		t.hopeless = true
		return nil
	}
	t.ready.Store(tpl)
	return tpl
}

// writeLines passes on what write writes in pieces with marks. It keeps what
// comes after the bytes that piece says it has dealt with for the next piece,
// or, in the end, for last.
func writeLines(write func(*writer), tools *tools, piece func(buf []byte, lines []lineMark) int, last func(rest []byte)) {
	w := writer{buf: tools.piece(), marks: tools.lineMarks(), marking: true}
	w.flush = func(b []byte, n int) []byte {
		rest := b[piece(b, w.marks):]
		w.marks = w.marks[:0]
		return slices.Grow(b[:copy(b, rest)], n)
	}
	write(&w)
	last(w.buf[piece(w.buf, w.marks):])
	tools.putPiece(w.buf)
	tools.putLineMarks(w.marks)
}

// compress makes the deflate blocks of a page.
func (t *deflateTemplate) compress(write func(*writer), tools *tools) *encoded {
	var (
		enc encoded
		e   = deflateEmitter{deflateTemplate: t, out: make([]byte, t.size+t.size/slack/2+1024)}
	)
	e.begin()
	writeLines(write, tools, func(buf []byte, lines []lineMark) int {
		n := e.lines(buf, lines)
		enc.sums.add(buf[:n])
		return n
	}, func(rest []byte) {
		e.text(rest)
		enc.sums.add(rest)
	})
	e.end()
	enc.chunks = [][]byte{fit(e.out[:e.at])}
	return &enc
}

// deflateEmitter writes one page by a template.
type deflateEmitter struct {
	*deflateTemplate
	next int // token

	out []byte
	at  int
	acc uint64 // bits that are not in out yet
	n   uint   // how many, less than 8

	line   int
	values int               // length of the values so far
	before [maxLines + 1]int // the same, when each of the last lines began
}

func (e *deflateEmitter) begin() {
	n := copy(e.out, e.code.header)
	e.n = e.code.headerBits % 8
	if e.n > 0 {
		n--
		e.acc = uint64(e.code.header[n])
	}
	e.at = n
}

// end ends the block, and adds an empty stored one, which ends with a byte.
func (e *deflateEmitter) end() {
	e.reserve(16)
	s := e.code.literals[endOfBlock]
	e.put(s.bits(), s.len())
	e.put(0, 3)
	if e.n > 0 {
		e.put(0, 8-e.n)
	}
	e.at += copy(e.out[e.at:], "\x00\x00\xff\xff")
}

// put writes up to 56 bits. There must be room for 8 bytes.
func (e *deflateEmitter) put(v uint64, n uint) {
	e.acc |= v << e.n
	e.n += n
	binary.LittleEndian.PutUint64(e.out[e.at:], e.acc)
	e.at += int(e.n >> 3)
	e.acc >>= e.n &^ 7
	e.n &= 7
}

// reserve makes room for n bytes of the page, which may take two bytes each.
func (e *deflateEmitter) reserve(n int) {
	if need := e.at + 2*n + 64; need > len(e.out) {
		e.out = append(e.out, make([]byte, need-len(e.out)+len(e.out)/8)...)
	}
}

// lines writes lines and returns where the last one ends.
func (e *deflateEmitter) lines(buf []byte, lines []lineMark) int {
	at := 0
	for _, l := range lines {
		e.text(buf[at:l.value])
		e.literals(buf[l.value:l.stamp])
		if l.stamp < l.end {
			e.literals(buf[l.stamp:l.end])
		}
		e.values += l.end - l.value
		at = l.end
	}
	return at
}

func (e *deflateEmitter) literals(b []byte) {
	e.reserve(len(b))
	code := &e.code.literals
	out, at, acc, n := e.out, e.at, e.acc, e.n
	for ; len(b) >= 4; b = b[4:] {
		s := code[b[0]]
		acc |= s.bits() << n
		n += s.len()
		s = code[b[1]]
		acc |= s.bits() << n
		n += s.len()
		s = code[b[2]]
		acc |= s.bits() << n
		n += s.len()
		s = code[b[3]]
		acc |= s.bits() << n
		n += s.len()
		binary.LittleEndian.PutUint64(out[at:], acc)
		at += int(n >> 3)
		acc >>= n &^ 7
		n &= 7
	}
	for _, c := range b {
		s := code[c]
		acc |= s.bits() << n
		n += s.len()
	}
	binary.LittleEndian.PutUint64(out[at:], acc)
	e.at = at + int(n>>3)
	e.acc = acc >> (n &^ 7)
	e.n = n & 7
}

// text writes the text of the next line.
func (e *deflateEmitter) text(b []byte) {
	e.reserve(len(b))
	e.before[e.line&maxLines] = e.values
	for len(b) > 0 {
		t := e.tokens[e.next]
		e.next++
		if t.literals > 0 {
			e.literals(b[:t.literals])
			b = b[t.literals:]
		}
		if t.distance == 0 {
			continue
		}
		distance := int(t.distance) + e.values - e.before[(e.line-int(t.lines))&maxLines]
		length := int(t.length) + minMatch
		if distance <= maxDistance {
			s := e.code.lengths[t.length]
			symbol, extra, more := distanceSymbol(distance)
			d := e.code.distances[symbol]
			e.put(s.bits()|(d.bits()|uint64(extra)<<d.len())<<s.len(), s.len()+d.len()+more)
		} else {
			e.literals(b[:length])
		}
		b = b[length:]
	}
	e.line++
}
