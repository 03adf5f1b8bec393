package exposition

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
)

// ParseError says why a page was refused.
type ParseError struct {
	Line   int    // counted from 1
	Reason string // one short line without control characters
}

func (e *ParseError) Error() string {
	return fmt.Sprintf("line %d of the page: %s", e.Line, e.Reason)
}

// Lengths of what a ParseError quotes, in bytes.
const (
	maxReason = 160
	maxQuote  = 24
)

// newParseError makes an error about what is at an offset of a page.
func newParseError(body []byte, at int, reason error) *ParseError {
	text := body[min(at, len(body)):]
	if n := bytes.IndexByte(text, '\n'); n >= 0 {
		text = text[:n]
	}
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
