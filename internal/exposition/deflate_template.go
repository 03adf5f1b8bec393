package exposition

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
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
	b.symbols.out = append(b.symbols.out, byte(b.symbols.acc))
	t.bits = fit(append(b.symbols.out, make([]byte, 8)...))
	t.steps = fit(t.steps)
	t.texts = slices.Clone(t.texts)
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
