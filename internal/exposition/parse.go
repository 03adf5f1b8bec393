package exposition

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Page is one version of an upstream page. Immutable.
type Page struct {
	Groups map[string]*Metrics // by the value of the parser's label, "" for series without
	Bytes  int                 // size of the page
	// Downgraded counts the TYPE lines that name no type of the text format. Such
	// a family is a gauge if that is what its type comes to, or else untyped.
	Downgraded int
}

// ParseError says why a page was refused.
type ParseError struct {
	Line   int    // counted from 1
	Reason string // one short line without control characters
}

func (e *ParseError) Error() string { return fmt.Sprintf("line %d of the page: %s", e.Line, e.Reason) }

// Parser parses successive versions of one page. It is not safe for concurrent use;
// what it returns is.
//
// Between two versions mostly values change. So the parser remembers each series of the
// last page by its text, and all comments. Of a page without other lines only the values
// are read.
type Parser struct {
	label string // by which pages are divided, or ""

	openMetrics bool
	series      map[string]*series // of the last page, by text
	metadata    *metadata          // of the last page
	shared      **metadata         // of the latest page of this parser and of those like it
	last        map[string]*Metrics
}

// metadata is the comments of a page, and what they say. Immutable.
type metadata struct {
	comments string
	families *map[string]*family
}

// NewParser returns a parser that divides pages by the value of a label. If that is
// "", all of a page is one group, called "".
func NewParser(label string) *Parser {
	none := &metadata{families: &map[string]*family{}}
	return &Parser{label: label, series: make(map[string]*series), metadata: none, shared: &none}
}

// Like returns a parser of another page, all of which is one group. The metadata that
// the two pages have in common is kept in memory once.
func (p *Parser) Like() *Parser {
	like := NewParser("")
	like.shared = p.shared
	return like
}

// Forget drops what is remembered of the last page. No answer depends on it.
func (p *Parser) Forget() { *p = *NewParser(p.label) }

// Parse parses a page, whose content type decides whether it is in the Prometheus
// text format or in OpenMetrics. It returns all of the page, or a *ParseError.
// Nothing keeps body.
func (p *Parser) Parse(body []byte, contentType string) (*Page, error) {
	mediaType, _, _ := strings.Cut(contentType, ";")
	openMetrics := strings.EqualFold(strings.TrimSpace(mediaType), expfmt.OpenMetricsType)
	if openMetrics != p.openMetrics {
		p.Forget()
		p.openMetrics = openMetrics
	}
	page := &Page{Bytes: len(body)}
	if i := bytes.IndexByte(body, 0); i >= 0 {
		// Prometheus's parser takes some of these for the end of the page.
		return nil, newParseError(body, i, errors.New("unexpected zero byte"))
	}
	if page.Groups = p.readKnown(body); page.Groups == nil {
		groups, err := p.read(body)
		if err != nil && !openMetrics {
			if body, page.Downgraded = withKnownTypes(body); page.Downgraded > 0 {
				groups, err = p.read(body)
			}
		}
		if err != nil {
			return nil, err
		}
		page.Groups = groups
	}
	p.settle(page.Groups)
	return page, nil
}

// add adds a line to its group.
func (p *Parser) add(groups map[string]*Metrics, s *series, value []byte, timestamp int64, x *dto.Exemplar) {
	m := groups[s.group]
	if m == nil {
		m = &Metrics{}
		if last := p.last[s.group]; last != nil { // which is about as large
			m.series = make([]*series, 0, len(last.series))
			m.samples = make([]sample, 0, len(last.samples))
			m.text = make([]byte, 0, len(last.text)+len(last.text)/16)
		}
		groups[s.group] = m
	}
	m.add(s, value, timestamp, x)
}

// readKnown reads a text page all of whose series and comments are those of the last
// one. It returns nil for any other, and for all that is unusual.
func (p *Parser) readKnown(body []byte) map[string]*Metrics {
	if p.openMetrics {
		return nil
	}
	groups := make(map[string]*Metrics, len(p.last))
	comments := p.metadata.comments
	for len(body) > 0 {
		var line []byte
		if line, body, _ = bytes.Cut(body, []byte{'\n'}); len(line) == 0 {
			continue
		}
		if line[0] == '#' {
			if !strings.HasPrefix(comments, string(line)) || len(comments) == len(line) || comments[len(line)] != '\n' {
				return nil
			}
			comments = comments[len(line)+1:]
			continue
		}
		end := bytes.LastIndexByte(line, '}') + 1
		if end == 0 {
			end = bytes.IndexByte(line, ' ')
		}
		if end <= 0 || end == len(line) || line[end] != ' ' {
			return nil
		}
		s := p.series[string(line[:end])]
		if s == nil || s.typed {
			return nil
		}
		value, stamp, stamped := bytes.Cut(line[end+1:], []byte{' '})
		timestamp := int64(noTimestamp)
		if stamped {
			var err error
			if timestamp, err = strconv.ParseInt(string(stamp), 10, 64); err != nil || stamp[0] < '0' || stamp[0] > '9' {
				return nil
			}
		}
		if _, err := strconv.ParseFloat(string(value), 64); err != nil || bytes.ContainsAny(value, "pPxX_") {
			return nil // Prometheus's parser takes less than the language
		}
		p.add(groups, s, value, timestamp, nil)
	}
	if comments != "" {
		return nil
	}
	return groups
}

// read reads a page with Prometheus's parser.
func (p *Parser) read(body []byte) (map[string]*Metrics, error) {
	// The parser appends a line feed, which must not move the page: it hands out
	// pieces of it, whose capacities tell where they are.
	page := make([]byte, len(body), len(body)+1)
	copy(page, body)
	offset := func(piece []byte) int { return cap(page) - cap(piece) }

	var parser textparse.Parser
	if p.openMetrics {
		parser = textparse.NewOpenMetricsParser(page, labels.NewSymbolTable())
	} else {
		parser = textparse.NewPromParser(page, labels.NewSymbolTable(), false)
	}
	var (
		meta     = make(map[string]*family)
		typed    = make(map[string]bool)
		fresh    = make(map[string]*series) // not on the last page
		done     = 0                        // all before it has been read
		none     = int64(noTimestamp)
		comments strings.Builder
		groups   = make(map[string]*Metrics, len(p.last))
	)
	comment := func(piece []byte) {
		next := nextLine(body, offset(piece))
		comments.Write(bytes.TrimSpace(body[done:next]))
		comments.WriteByte('\n')
		done = next
	}
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, newParseError(body, done, err)
		}
		switch entry {
		case textparse.EntryHelp:
			name, help := parser.Help()
			f := declare(meta, unescape(string(name)))
			f.help = cmp.Or(f.help, string(help))
			comment(name)
		case textparse.EntryType:
			name, t := parser.Type()
			f := declare(meta, unescape(string(name)))
			if !typed[f.name] {
				f.typ, typed[f.name] = t, true
			}
			comment(name)
		case textparse.EntryUnit:
			name, unit := parser.Unit()
			f := declare(meta, unescape(string(name)))
			f.unit = cmp.Or(f.unit, string(unit))
			comment(name)
		case textparse.EntryComment:
			comment(parser.Comment())
		case textparse.EntrySeries:
			text, stamp, _ := parser.Series()
			s := p.series[string(text)]
			if s == nil {
				s = fresh[string(text)]
			}
			if s == nil || s.typed {
				if n := p.newSeries(string(text), parser); s == nil || !labels.Equal(n.labels, s.labels) {
					s = n
					fresh[s.text] = s
				}
			}
			value := bytes.TrimLeft(body[min(offset(text)+len(text), len(body)):], " \t")
			if end := bytes.IndexAny(value, " \t\n"); end >= 0 {
				value = value[:end]
			}
			if stamp == nil {
				stamp = &none
			}
			p.add(groups, s, value, *stamp, readExemplar(parser))
			done = nextLine(body, offset(text)+len(text))
		}
	}
	maps.Copy(p.series, fresh)
	if p.openMetrics {
		meta = fromOpenMetrics(meta)
	} else {
		for _, f := range meta {
			f.typ = textType(f.typ)
		}
	}
	p.setMetadata(comments.String(), meta)
	return groups, nil
}

// setMetadata remembers what a page says in comments, and uses what is the same again.
func (p *Parser) setMetadata(comments string, families map[string]*family) {
	next := &metadata{comments, &families}
	for _, known := range []*metadata{*p.shared, p.metadata} {
		if !maps.EqualFunc(families, *known.families, sameFamily) {
			continue
		}
		next.families = known.families
		if comments == known.comments {
			next = known
		}
	}
	p.metadata, *p.shared = next, next
}

// maxSeries is how long the name and labels of a series can be: label sets panic at
// longer texts.
const maxSeries = 1<<24 - 1

func (p *Parser) newSeries(text string, parser textparse.Parser) *series {
	s := &series{text: text}
	if len(text) > maxSeries {
		return s
	}
	var lset labels.Labels
	parser.Labels(&lset)
	s.labels = labels.NewBuilder(lset).Labels() // without empty ones
	_, twice := lset.HasDuplicateLabelNames()
	s.valid = !twice && validLabels(s.labels)
	s.name = s.labels.Get(model.MetricNameLabel)
	if p.label != "" {
		s.group = s.labels.Get(p.label)
	}
	for _, label := range []string{model.BucketLabel, model.QuantileLabel} {
		v := lset.Get(label)
		if v == "" {
			continue
		}
		written := writtenLabel(text, label)
		if written != v {
			s.bound = written
		}
		f, err := strconv.ParseFloat(written, 64)
		s.typed = s.typed || err == nil && labels.FormatOpenMetricsFloat(f) != written
	}
	return s
}

// writtenLabel returns the value of a label as it was written, before the parser
// brought it into its canonical form.
func writtenLabel(text, label string) string {
	var lset labels.Labels
	untyped := textparse.NewPromParser([]byte(text+" 0\n"), labels.NewSymbolTable(), false)
	if entry, err := untyped.Next(); err == nil && entry == textparse.EntrySeries {
		untyped.Labels(&lset)
	}
	return lset.Get(label)
}

// validLabels tells whether Prometheus would store a series with these labels.
func validLabels(lset labels.Labels) bool {
	valid := model.UTF8Validation.IsValidMetricName(lset.Get(model.MetricNameLabel))
	lset.Range(func(l labels.Label) {
		valid = valid && l.Name != "" && utf8.ValidString(l.Name) && utf8.ValidString(l.Value)
	})
	return valid
}

// readExemplar returns the exemplar of the sample that was parsed last, nil if there
// is none that is valid.
func readExemplar(parser textparse.Parser) *dto.Exemplar {
	var e exemplar.Exemplar
	if !parser.Exemplar(&e) {
		return nil
	}
	x := &dto.Exemplar{Value: proto.Float64(e.Value)}
	if e.HasTs {
		x.Timestamp = timestamppb.New(model.Time(e.Ts).Time())
	}
	_, twice := e.Labels.HasDuplicateLabelNames()
	valid := !twice
	e.Labels.Range(func(l labels.Label) {
		// The parser leaves escapes in.
		name, value := unescape(l.Name), unescape(l.Value)
		valid = valid && name != "" && utf8.ValidString(name) && utf8.ValidString(value)
		x.Label = append(x.Label, &dto.LabelPair{Name: &name, Value: &value})
	})
	if !valid {
		return nil
	}
	return x
}

func nextLine(body []byte, from int) int {
	from = min(from, len(body))
	if n := bytes.IndexByte(body[from:], '\n'); n >= 0 {
		return from + n + 1
	}
	return len(body)
}

// newParseError makes an error about what is at an offset of a page.
func newParseError(body []byte, at int, reason error) *ParseError {
	for at < len(body) && body[at] == '\n' {
		at++
	}
	text, _, _ := bytes.Cut(body[min(at, len(body)):], []byte{'\n'})
	const maxQuote = 24 // bytes
	quote := fmt.Sprintf("%+q", text[:min(len(text), maxQuote)])
	if len(text) > maxQuote {
		quote += "…"
	}
	return &ParseError{
		Line:   1 + bytes.Count(body[:min(at, len(body))], []byte{'\n'}),
		Reason: oneLine(reason.Error()) + ", got " + quote,
	}
}

// oneLine makes text of unknown origin fit for a log line.
func oneLine(s string) string {
	const maxReason = 160 // bytes
	if len(s) > maxReason {
		s = s[:maxReason] + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, s)
}

// settle completes the groups of a page: those that say what they said on the last
// page are used again, and so are the series of those that have the same ones. Series
// that have left the page are forgotten.
func (p *Parser) settle(groups map[string]*Metrics) {
	present := 0
	for name, m := range groups {
		old := p.last[name]
		m.families = p.metadata.families
		if old == nil || old.duplicates > 0 || !m.sameSeries(old) {
			m.leaveOutDuplicates()
		}
		switch {
		case old != nil && m.Equal(old):
			groups[name] = old
		case old != nil && m.sameSeries(old):
			m.series = old.series
		}
		present += len(m.series)
	}
	p.last = groups
	if present < len(p.series) {
		p.series = make(map[string]*series, present)
		for _, m := range groups {
			for _, s := range m.series {
				p.series[s.text] = s
			}
		}
	}
}

// leaveOutDuplicates keeps one line of each series: the one with the latest
// timestamp, of several with the same or without any the first.
func (m *Metrics) leaveOutDuplicates() {
	places := make(map[labels.Labels]int, len(m.series)) // which may be written in several ways
	kept := 0
	for i, s := range m.series {
		if at, again := places[s.labels]; again && s.valid {
			m.duplicates++
			if m.samples[i].timestamp > m.samples[at].timestamp {
				m.samples[at] = m.samples[i]
			}
			continue
		}
		if s.valid {
			places[s.labels] = kept
		}
		m.series[kept], m.samples[kept] = s, m.samples[i]
		kept++
	}
	m.series, m.samples = m.series[:kept:kept], m.samples[:kept:kept]
}
