package exposition

import (
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// legacyMetricName tells whether a metric name can stand without quotes:
// [a-zA-Z_:][a-zA-Z0-9_:]*.
func legacyMetricName(s string) bool {
	for i := range len(s) {
		if !isNameByte(s[i]) || i == 0 && isDigit(s[i]) {
			return false
		}
	}
	return s != ""
}

// legacyLabelName is legacyMetricName without the colon.
func legacyLabelName(s string) bool {
	return legacyMetricName(s) && strings.IndexByte(s, ':') < 0
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == ':' || isDigit(c)
}

// validLabels tells whether a label set can go onto a page: it has a metric
// name, and every name and value is what Prometheus takes.
func validLabels(lset labels.Labels) bool {
	valid := true
	lset.Range(func(l labels.Label) {
		valid = valid && utf8.ValidString(l.Name) && utf8.ValidString(l.Value)
	})
	return valid && wellNamed(lset)
}

// wellNamed is validLabels for those who know that all is valid UTF-8.
func wellNamed(lset labels.Labels) bool {
	valid, named := true, false
	lset.Range(func(l labels.Label) {
		if l.Name == model.MetricNameLabel {
			named = l.Value != ""
		}
		valid = valid && l.Name != ""
	})
	_, duplicate := lset.HasDuplicateLabelNames()
	return valid && named && !duplicate
}

// A label text is how a sample's labels are written between its name and its
// value: `{a="b","c d"="e"} `, or ` ` when there are none. Labels are sorted by
// name, empty ones are left out, and only names that need quotes have them, so
// that equal label sets have equal texts.

// appendLabelText writes the labels of lset but for its metric name.
func appendLabelText(dst []byte, lset labels.Labels) []byte {
	open := byte('{')
	lset.Range(func(l labels.Label) {
		if l.Name != model.MetricNameLabel {
			dst, open = appendLabel(dst, open, l.Name, l.Value)
		}
	})
	return closeLabelText(dst, open)
}

// appendLabel writes one label after the byte open, unless it is empty, and
// returns the byte that goes before the next one.
func appendLabel(dst []byte, open byte, name, value string) ([]byte, byte) {
	if value == "" {
		return dst, open
	}
	dst = append(dst, open)
	if legacyLabelName(name) {
		dst = append(dst, name...)
	} else {
		dst = append(dst, '"')
		dst = appendEscaped(dst, name)
		dst = append(dst, '"')
	}
	dst = append(dst, `="`...)
	dst = appendEscaped(dst, value)
	return append(dst, '"'), ','
}

// closeLabelText ends a label text; open is '{' when it has no labels yet.
func closeLabelText(dst []byte, open byte) []byte {
	if open != '{' {
		dst = append(dst, '}')
	}
	return append(dst, ' ')
}

// appendSampleName writes the start of a sample's line: its name and label
// text. A name that needs quotes moves into the braces.
func appendSampleName(dst []byte, name, suffix, text string, quoted bool) []byte {
	if !quoted {
		dst = append(dst, name...)
		dst = append(dst, suffix...)
		return append(dst, text...)
	}
	dst = append(dst, `{"`...)
	dst = appendEscaped(dst, name)
	dst = append(dst, suffix...)
	if text == " " {
		return append(dst, `"} `...)
	}
	dst = append(dst, `",`...)
	return append(dst, text[1:]...)
}

// appendEscaped writes a label value, or a name, without its quotes.
func appendEscaped(dst []byte, s string) []byte {
	for {
		i := 0
		for i < len(s) && s[i] != '\\' && s[i] != '"' && s[i] != '\n' {
			i++
		}
		if i == len(s) {
			return append(dst, s...)
		}
		dst = append(dst, s[:i]...)
		switch s[i] {
		case '\n':
			dst = append(dst, `\n`...)
		default:
			dst = append(dst, '\\', s[i])
		}
		s = s[i+1:]
	}
}

// unescape undoes the escapes \\ and \n, and \" where quote is set. Other
// backslashes stand for themselves, as they do for Prometheus.
func unescape(s string, quote bool) string {
	i := strings.IndexByte(s, '\\')
	if i < 0 {
		return s
	}
	dst := make([]byte, 0, len(s))
	for ; i >= 0; i = strings.IndexByte(s, '\\') {
		dst = append(dst, s[:i]...)
		s = s[i:]
		switch {
		case strings.HasPrefix(s, `\\`):
			dst, s = append(dst, '\\'), s[2:]
		case strings.HasPrefix(s, `\n`):
			dst, s = append(dst, '\n'), s[2:]
		case quote && strings.HasPrefix(s, `\"`):
			dst, s = append(dst, '"'), s[2:]
		default:
			dst, s = append(dst, '\\'), s[1:]
		}
	}
	return string(append(dst, s...))
}

// cutLabel splits the first label off a label text. Name and value are as
// written, without their quotes; the rest is the text of what follows. It
// reports false when no label is left.
func cutLabel(text string) (name, value, rest string, quoted, ok bool) {
	if len(text) < 2 || text[0] == '}' || text[0] == ' ' || text[1] == '}' { // that is {}, an exemplar's
		return "", "", text, false, false
	}
	text = text[1:] // { or ,
	if quoted = text[0] == '"'; quoted {
		name, text = cutQuoted(text)
	} else {
		i := strings.IndexByte(text, '=')
		name, text = text[:i], text[i:]
	}
	value, rest = cutQuoted(text[1:]) // =
	return name, value, rest, quoted, true
}

// cutQuoted splits a quoted string, without its quotes, off well-formed text.
func cutQuoted(s string) (inner, rest string) {
	for i := 1; ; {
		i += strings.IndexAny(s[i:], `\"`)
		if s[i] == '"' {
			return s[1:i], s[i+1:]
		}
		i += 2
	}
}

// quotesNames tells whether a label name of the text needs quotes.
func quotesNames(text string) bool {
	if !strings.HasPrefix(text, `{"`) && !strings.Contains(text, `,"`) {
		return false
	}
	for {
		_, _, rest, quoted, ok := cutLabel(text)
		if !ok || quoted {
			return ok
		}
		text = rest
	}
}

// findLabel finds the value, as written, of a label whose name needs no quotes.
func findLabel(text, label string) (from, to int, ok bool) {
	for rest := text; ; {
		name, value, next, quoted, more := cutLabel(rest)
		if !more {
			return 0, 0, false
		}
		if name == label && !quoted {
			to = len(text) - len(next) - 1
			return to - len(value), to, true
		}
		rest = next
	}
}

// cutBound takes the label that is a bucket's or quantile's bound, or a state
// set's state, out of a label text and returns its value, as written.
func cutBound(text, label string) (base, bound string, ok bool) {
	from, to, ok := findLabel(text, label)
	if !ok {
		return text, "", false
	}
	head, tail := text[:from-len(label)-len(`,="`)], text[to+1:]
	switch {
	case head != "":
		return head + tail, text[from:to], true
	case tail[0] == ',':
		return "{" + tail[1:], text[from:to], true
	default: // } and the blank
		return " ", text[from:to], true
	}
}
