package exposition

import (
	"bytes"
	"errors"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
	"unique"
	"unsafe"

	"github.com/cespare/xxhash/v2"
)

// span is a piece of a text.
type span struct{ from, n uint32 }

func (s span) of(text []byte) []byte { return text[s.from : s.from+s.n] }

// line is a sample of a page but for what it says: its series as written, which
// is the line's identity from one page to the next, and what is known of it. The
// text is in two pieces, since the lines of a family have the one in common and
// those of a group many a time the other.
//
// The labels of a line that is new are a piece of the page's body, until keepTexts
// finds them a place of their own.
type line struct {
	name   unique.Handle[string] // all before the brace
	labels string                // the rest
	// group and slot say which series of which block the line is. They are
	// carried over from the last page; slots from slotNew on are not in a block.
	group uint32
	slot  uint32
}

// series returns what the line's series was written like.
func (l *line) series() []byte { return []byte(l.name.Value() + l.labels) }

// is tells whether it is that line's series.
func (l *line) is(name, labels []byte) bool {
	return string(labels) == l.labels && string(name) == l.name.Value()
}

// splitSeries parts the text of a series where its labels begin.
func splitSeries(series []byte) (name, labels []byte) {
	if i := bytes.IndexByte(series, '{'); i >= 0 {
		return series[:i], series[i:]
	}
	return series, nil
}

const (
	slotNew       = math.MaxUint32 - iota // not seen on the last page
	slotDropped                           // by rule
	slotReserved                          // under a reserved name
	slotInvalid                           // not a series that Prometheus would take
	slotDuplicate                         // the second of its kind
	slotFresh     = 1 << 31               // from here: resolved just now, an index to source.fresh

	noGroup = math.MaxUint32 // of lines that are no series before any rule sees them

	noTimestamp = math.MinInt64
)

// scan is a page as the scanners hand it over: what it says, and which lines are
// known. Nothing of it is a piece of the body, from which it is made, once new
// lines have been dealt with: pages are large, and what they repeat each time is
// nearly all of them.
type scan struct {
	size  int // of the body
	lines []line
	// same is how many of the last page's lines began the page, and nothing else
	// came between them. Until something else comes, lines is not needed.
	same  int
	fresh []freshLine
	// values has the values of all lines, as written, one after the other; ends is
	// where each ends.
	values []byte
	ends   []uint32
	meta   []byte // HELP and TYPE lines
	// metadata is what the page says of its families, when the scanner knows
	// that already; otherwise it is in the meta lines.
	metadata *metadata
	// stamps has the timestamp of every line, in milliseconds, or is nil when
	// no line has one.
	stamps    []int64
	exemplars map[int]exemplar // by line
	// moved are the groups whose lines did not come in the last page's order.
	moved map[uint32]bool
	// changed tells that some line is new or moved.
	changed bool
}

// newScan returns an empty scan of a page of that size.
func newScan(size int, last *memory) *scan {
	const typicalLine, typicalValue = 160, 8
	lines, values := size/typicalLine, size/typicalLine*typicalValue
	if n := len(last.lines); n > 0 {
		lines, values = n+n/64, last.values+last.values/32
	}
	return &scan{
		size: size, values: make([]byte, 0, values), ends: make([]uint32, 0, lines),
		meta: make([]byte, 0, last.meta),
	}
}

// value returns what a line says, as a piece of values.
func (s *scan) value(i int) span {
	from := uint32(0)
	if i > 0 {
		from = s.ends[i-1]
	}
	return span{from, s.ends[i] - from}
}

// says takes in what a line says.
func (s *scan) says(value []byte, ts int64) {
	s.values = append(s.values, value...)
	s.ends = append(s.ends, uint32(len(s.values)))
	if ts == noTimestamp && s.stamps == nil {
		return
	}
	if s.stamps == nil {
		s.stamps = make([]int64, len(s.ends)-1, cap(s.ends))
		for i := range s.stamps {
			s.stamps[i] = noTimestamp
		}
	}
	s.stamps = append(s.stamps, ts)
}

// again takes in the line that came next on the last page.
func (s *scan) again(last *memory) {
	if s.lines == nil {
		s.same++
	} else {
		s.lines = append(s.lines, last.lines[last.next])
	}
	last.next++
	last.high = last.next
}

// differ makes a list of the lines so far. The last page's stays as it is, should
// this page be refused.
func (s *scan) differ(last *memory) {
	if s.lines == nil {
		s.lines = append(make([]line, 0, cap(s.ends)), last.lines[:s.same]...)
		if len(last.lines) == 0 {
			s.fresh = make([]freshLine, 0, cap(s.ends))
		}
	}
}

// add takes in a line that may be known from the last page.
func (s *scan) add(body []byte, series span, value []byte, last *memory, ts int64) {
	s.says(value, ts)
	name, labels := splitSeries(series.of(body))
	i, ok := last.find(name, labels)
	if ok && i == last.next && i >= last.high {
		s.again(last)
		return
	}
	s.differ(last)
	s.changed = true
	if !ok {
		l := line{labels: bytesAsString(labels), slot: slotNew}
		if n := len(s.lines); n > 0 && string(name) == s.lines[n-1].name.Value() {
			l.name = s.lines[n-1].name
		} else {
			l.name = unique.Make(string(name))
		}
		s.lines = append(s.lines, l)
		s.fresh = append(s.fresh, freshLine{uint32(len(s.lines) - 1), series})
		return
	}
	l := last.lines[i]
	if i < last.high {
		if s.moved == nil {
			s.moved = make(map[uint32]bool)
		}
		s.moved[l.group] = true
	}
	s.lines = append(s.lines, l)
	last.next, last.high = i+1, max(last.high, i+1)
}

// end ends the page.
func (s *scan) end(last *memory) {
	if s.same < len(last.lines) {
		s.differ(last)
	}
	if s.lines == nil {
		s.lines = last.lines
	}
	s.trim()
}

// trim gives back memory that is not needed.
func (s *scan) trim() {
	s.lines, s.values, s.ends = trim(s.lines), trim(s.values), trim(s.ends)
}

// trim returns a slice without much memory to spare.
func trim[T any](s []T) []T {
	if len(s) < cap(s)-cap(s)/8 {
		return slices.Clone(s)
	}
	return s
}

// equal tells whether two pages say the same.
func (s *scan) equal(o *scan) bool {
	return !s.changed && s.size == o.size && len(s.lines) == len(o.lines) &&
		bytes.Equal(s.values, o.values) && slices.Equal(s.ends, o.ends) &&
		slices.Equal(s.stamps, o.stamps) && maps.Equal(s.exemplars, o.exemplars)
}

// freshLine is a line that the last page did not have.
type freshLine struct {
	line   uint32
	series span // in the body
}

// memory finds the lines of the last page again. Nearly always the next line
// is the one that came next last time.
type memory struct {
	lines  []line
	values int // how much text their values were
	meta   int // how much text there was besides
	next   int // the line after the last one found
	high   int // the line after the furthest one found
	index  []uint32
}

// lookAhead is how many lines that have gone away are skipped before all
// lines are searched.
const lookAhead = 16

func (m *memory) find(name, labels []byte) (int, bool) {
	for i := m.next; i < min(m.next+lookAhead, len(m.lines)); i++ {
		if m.lines[i].is(name, labels) {
			return i, true
		}
	}
	if len(m.lines) == 0 {
		return 0, false
	}
	if m.index == nil {
		m.buildIndex()
	}
	mask := uint64(len(m.index) - 1)
	for h := hashOf(bytesAsString(name), bytesAsString(labels)) & mask; m.index[h] != 0; h = (h + 1) & mask {
		if i := int(m.index[h] - 1); m.lines[i].is(name, labels) {
			return i, true
		}
	}
	return 0, false
}

func hashOf(name, labels string) uint64 {
	return xxhash.Sum64String(name)*31 + xxhash.Sum64String(labels)
}

// buildIndex makes an open-addressing hash table of line numbers, counted from
// one. It lives no longer than one decoding.
func (m *memory) buildIndex() {
	size := 16
	for size < 2*len(m.lines) {
		size *= 2
	}
	m.index = make([]uint32, size)
	mask := uint64(size - 1)
	for i := range m.lines {
		h := hashOf(m.lines[i].name.Value(), m.lines[i].labels) & mask
		for m.index[h] != 0 {
			h = (h + 1) & mask
		}
		m.index[h] = uint32(i + 1)
	}
}

// scanText reads a page in the Prometheus text format. It accepts what
// Prometheus accepts, with one exception: Prometheus stops at a zero byte
// outside label values and help texts and takes what came before for the
// page; scanText refuses the page.
func scanText(body []byte, last *memory) (*scan, error) {
	s := newScan(len(body), last)
	c := cursor{b: body}
	for c.i < len(body) {
		if last.next < len(last.lines) && c.known(s, last) {
			continue
		}
		if err := c.line(s, last); err != nil {
			return nil, newParseError(body, c.at, err)
		}
	}
	s.end(last)
	return s, nil
}

// cursor reads a page byte by byte.
type cursor struct {
	b  []byte
	i  int // what comes next
	at int // what an error is about

	syntax seriesSyntax
}

// known reads a line whose series is the next one of the last page, and
// nothing when it is not that line. This is where the time goes in the steady
// state: a comparison of bytes and the reading of a number.
func (c *cursor) known(s *scan, last *memory) bool {
	if last.next < last.high {
		return false // a line of this group came too early
	}
	l := &last.lines[last.next]
	name := l.name.Value()
	n := len(name) + len(l.labels)
	rest := c.b[c.i:]
	if len(rest) <= n || rest[n] != ' ' || !l.is(rest[:len(name)], rest[len(name):n]) {
		return false
	}
	start := c.i
	c.i += n
	value, ts, err := c.sampleEnd()
	if err != nil {
		c.i = start
		return false
	}
	s.says(value, ts)
	s.again(last)
	return true
}

// line reads a line that is not known: blank, comment, metadata or sample.
func (c *cursor) line(s *scan, last *memory) error {
	c.blanks()
	c.at = c.i
	switch {
	case c.i == len(c.b):
		return nil
	case c.b[c.i] == '\n':
		c.i++
		return nil
	case c.b[c.i] == '#':
		return c.comment(s)
	}
	start := c.i
	if err := c.series(&c.syntax); err != nil {
		return err
	}
	series := span{uint32(start), uint32(c.i - start)}
	value, ts, err := c.sampleEnd()
	if err != nil {
		return err
	}
	s.add(c.b, series, value, last, ts)
	return nil
}

func (c *cursor) blanks() {
	for c.i < len(c.b) && (c.b[c.i] == ' ' || c.b[c.i] == '\t') {
		c.i++
	}
}

// peek returns the next byte. A page that does not end in a line feed is read
// as if it did.
func (c *cursor) peek() byte {
	if c.i < len(c.b) {
		return c.b[c.i]
	}
	return '\n'
}

// token skips blanks and returns the byte by which the next token begins.
func (c *cursor) token() byte {
	c.blanks()
	c.at = c.i
	return c.peek()
}

var (
	errStart         = errors.New("expected a metric name, a comment or a blank line")
	errZeroByte      = errors.New("zero byte in a comment")
	errMetaName      = errors.New("expected a metric name after HELP or TYPE")
	errHelpUTF8      = errors.New("help text is not valid UTF-8")
	errType          = errors.New("unknown metric type")
	errLabelName     = errors.New("expected a label name or a closing brace")
	errLabelEqual    = errors.New("expected an equal sign after the label name")
	errLabelValue    = errors.New("expected a quoted label value")
	errLabelUTF8     = errors.New("label value is not valid UTF-8")
	errQuote         = errors.New("quoted string does not end")
	errNameTwice     = errors.New("second metric name")
	errNoName        = errors.New("no metric name")
	errValue         = errors.New("expected a sample value")
	errNumber        = errors.New("sample value is not a number that fits 64 bits")
	errTimestamp     = errors.New("expected a timestamp in milliseconds or the end of the line")
	errTimestampSize = errors.New("timestamp does not fit 64 bits")
	errTooLong       = errors.New("page is 4 GiB or longer")
)

// comment reads what begins with #.
func (c *cursor) comment(s *scan) error {
	start := c.i
	m, err := c.meta()
	switch {
	case err != nil:
		return err
	case m.kind == metaHelp && !utf8.Valid(m.text):
		return errHelpUTF8
	case m.kind == metaType && !validTextType(m.text):
		return errType
	case m.kind != metaComment:
		s.meta = append(s.meta, c.b[start:c.i]...)
	}
	return nil
}

func validTextType(s []byte) bool {
	switch string(s) {
	case "counter", "gauge", "histogram", "summary", "untyped":
		return true
	}
	return false
}

const (
	metaComment = ""
	metaHelp    = "HELP"
	metaType    = "TYPE"
)

// metaLine is a HELP or TYPE line, or some other comment.
type metaLine struct {
	kind string
	name []byte // without quotes, still escaped
	text []byte // still escaped
}

// meta reads a line that begins with #, the line feed too.
func (c *cursor) meta() (metaLine, error) {
	var m metaLine
	rest := c.b[c.i+1:]
	word := bytes.TrimLeft(rest, " \t")
	if len(word) < len(rest) && len(word) > 4 && (word[4] == ' ' || word[4] == '\t') {
		switch string(word[:4]) {
		case metaHelp:
			m.kind = metaHelp
		case metaType:
			m.kind = metaType
		}
	}
	if m.kind == metaComment {
		text := c.rest()
		if bytes.IndexByte(text, 0) >= 0 {
			return m, errZeroByte
		}
		return m, nil
	}

	c.i = len(c.b) - len(word) + len(m.kind)
	switch next := c.token(); {
	case next == '"':
		if err := c.quoted(false); err != nil {
			return m, err
		}
		m.name = c.b[c.at+1 : c.i-1]
	case isNameByte(next) && !isDigit(next):
		for c.i < len(c.b) && isNameByte(c.b[c.i]) {
			c.i++
		}
		m.name = c.b[c.at:c.i]
	default:
		return m, errMetaName
	}
	m.text = c.rest()
	switch {
	case len(bytes.TrimLeft(m.text, " \t")) == 0:
		m.text = nil
	case m.text[0] == 0:
		return m, errZeroByte
	default:
		// Prometheus lets any one byte part the name from the text.
		m.text = m.text[1:]
	}
	return m, nil
}

// rest returns what is left of the line, and moves on to the next one.
func (c *cursor) rest() []byte {
	text := c.b[c.i:]
	if n := bytes.IndexByte(text, '\n'); n >= 0 {
		text = text[:n]
	}
	c.i = min(c.i+len(text)+1, len(c.b))
	return text
}

// parseMetadata reads the HELP and TYPE lines of a page in the text format. The
// first of several that contradict each other wins.
func parseMetadata(lines []byte) *metadata {
	m := newMetadata()
	typed := make(map[string]bool)
	for c := (cursor{b: lines}); c.i < len(lines); {
		ml, err := c.meta()
		if err != nil {
			break // not on a page that was accepted
		}
		name := unescape(string(ml.name), true)
		f := m.families[name]
		if f == nil {
			f = &family{name: name}
			m.families[name] = f
		}
		switch ml.kind {
		case metaHelp:
			help := unescape(string(ml.text), false)
			if f.help == "" {
				f.help = help
			} else if f.help != help {
				m.conflicts++
			}
		case metaType:
			k := parseKind(string(ml.text))
			if !typed[name] {
				f.kind, typed[name] = k, true
			} else if f.kind != k {
				m.conflicts++
			}
		}
	}
	return m
}

// seriesSyntax is where the parts of a series are, quotes left out, escapes
// left in.
type seriesSyntax struct {
	name   [2]int
	labels [][4]int // from and to of the name and of the value
}

// series reads metric name and labels up to where the value's blanks begin.
func (c *cursor) series(syn *seriesSyntax) error {
	syn.labels = syn.labels[:0]
	syn.name = [2]int{-1, -1}
	c.at = c.i
	if c.peek() != '{' {
		start := c.i
		for c.i < len(c.b) && isNameByte(c.b[c.i]) && (c.i > start || !isDigit(c.b[c.i])) {
			c.i++
		}
		if c.i == start {
			return errStart
		}
		syn.name = [2]int{start, c.i}
		end := c.i
		if c.blanks(); c.peek() != '{' {
			c.i = end
			return nil
		}
	}
	c.i++
	return c.labels(syn)
}

// labels reads what is between the braces, and the closing one.
func (c *cursor) labels(syn *seriesSyntax) error {
	next := c.token()
	for {
		var name [2]int
		quoted := next == '"'
		switch {
		case next == '}':
			c.i++
			if syn.name[0] < 0 {
				return errNoName
			}
			return nil
		case quoted:
			if err := c.quoted(false); err != nil {
				return err
			}
			name = [2]int{c.at + 1, c.i - 1}
		case isNameByte(next) && next != ':' && !isDigit(next):
			for c.i < len(c.b) && isNameByte(c.b[c.i]) && c.b[c.i] != ':' {
				c.i++
			}
			name = [2]int{c.at, c.i}
		default:
			return errLabelName
		}

		next = c.token()
		if quoted && (next == ',' || next == '}') {
			// A quoted string without a value is the metric's name.
			if syn.name[0] >= 0 {
				return errNameTwice
			}
			syn.name = name
			if next == ',' {
				c.i++
				next = c.token()
			}
			continue
		}
		if next != '=' {
			return errLabelEqual
		}
		c.i++
		if c.token() != '"' {
			return errLabelValue
		}
		if err := c.quoted(true); err != nil {
			return err
		}
		if !utf8.Valid(c.b[c.at:c.i]) {
			return errLabelUTF8
		}
		syn.labels = append(syn.labels, [4]int{name[0], name[1], c.at + 1, c.i - 1})

		// Prometheus doesn't insist on the comma.
		if next = c.token(); next == ',' {
			c.i++
			next = c.token()
		}
	}
}

// quoted reads a quoted string. It may contain line feeds, but not after a
// backslash. Zero bytes are only allowed where zeros is set, and there
// Prometheus looks through them.
func (c *cursor) quoted(zeros bool) error {
	for c.i++; ; c.i++ {
		n := bytes.IndexByte(c.b[c.i:], '"')
		if n < 0 {
			return errQuote
		}
		piece := c.b[c.i : c.i+n]
		if !zeros && bytes.IndexByte(piece, 0) >= 0 {
			return errQuote
		}
		backslash := bytes.IndexByte(piece, '\\')
		if backslash < 0 {
			c.i += n + 1
			return nil
		}
		c.i += backslash + 1
		for zeros && c.i < len(c.b) && c.b[c.i] == 0 {
			c.i++
		}
		if b := c.peek(); b == '\n' || b == 0 {
			return errQuote
		}
	}
}

// sampleEnd reads value, timestamp and the end of the line.
func (c *cursor) sampleEnd() (value []byte, ts int64, err error) {
	ts = noTimestamp
	c.blanks()
	c.at = c.i
	start := c.i
	if n, ok := plainNumber(c.b[c.i:]); ok {
		c.i += n
	} else {
		c.i += n
		for c.i < len(c.b) && !isValueEnd(c.b[c.i]) {
			c.i++
		}
		if c.i == start {
			return value, ts, errValue
		}
		if !validNumber(c.b[start:c.i]) {
			return value, ts, errNumber
		}
	}
	value = c.b[start:c.i]
	if c.i < len(c.b) && c.b[c.i] == '\n' {
		c.i++
		return value, ts, nil
	}

	if isDigit(c.token()) {
		start := c.i
		for isDigit(c.peek()) {
			c.i++
		}
		if ts, err = strconv.ParseInt(bytesAsString(c.b[start:c.i]), 10, 64); err != nil {
			return value, ts, errTimestampSize
		}
		c.token()
	}
	if c.peek() != '\n' {
		return value, ts, errTimestamp
	}
	c.i = min(c.i+1, len(c.b))
	return value, ts, nil
}

func isValueEnd(b byte) bool {
	return b == ' ' || b == '\t' || b == '\n' || b == '{' || b == 0
}

// plainNumber recognizes the numbers that need no second look: [+-]?, up to 30
// digits with a decimal point among or after them, and the end of the value.
// It also returns how far it read.
func plainNumber(b []byte) (int, bool) {
	i := 0
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		i = 1
	}
	digits, points := 0, 0
	for ; i < len(b); i++ {
		switch c := b[i]; {
		case isDigit(c):
			digits++
		case c == '.':
			points++
		default:
			return i, digits > 0 && digits <= 30 && points <= 1 && isValueEnd(c)
		}
	}
	return i, digits > 0 && digits <= 30 && points <= 1
}

// validNumber is the verdict of Prometheus on a sample value.
func validNumber(b []byte) bool {
	s := bytesAsString(b)
	if strings.ContainsAny(s, "pP_") {
		return false
	}
	_, err := strconv.ParseFloat(s, 64)
	return err == nil
}

// parseValue returns the number that a valid sample value stands for.
func parseValue(b []byte) float64 {
	f, _ := strconv.ParseFloat(bytesAsString(b), 64)
	return f
}

// bytesAsString avoids a copy. The bytes must not change while the string
// lives.
func bytesAsString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
