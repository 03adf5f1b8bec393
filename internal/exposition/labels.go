package exposition

import (
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// A label text is how a sample's labels are written between its name and its value:
// `{a="b","c d"="e"}`, or nothing. Labels are sorted by name, empty ones are left out,
// and only names that need quotes have them: equal label sets have equal texts.

// appendLabelText writes the labels of lset but for its metric name.
func appendLabelText(dst []byte, lset labels.Labels) []byte {
	open := byte('{')
	lset.Range(func(l labels.Label) {
		if l.Name == model.MetricNameLabel || l.Value == "" {
			return
		}
		dst = append(dst, open)
		dst = appendName(dst, l.Name, model.LegacyValidation.IsValidLabelName(l.Name))
		dst = append(dst, `="`...)
		dst = appendEscaped(dst, l.Value)
		dst = append(dst, '"')
		open = ','
	})
	if open == ',' {
		dst = append(dst, '}')
	}
	return dst
}

// appendName writes a name, in quotes unless it can stand without.
func appendName(dst []byte, name string, legacy bool) []byte {
	if legacy {
		return append(dst, name...)
	}
	dst = append(dst, '"')
	dst = appendEscaped(dst, name)
	return append(dst, '"')
}

// appendEscaped writes a label value, or a name, without its quotes.
func appendEscaped(dst []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; c {
		case '\n':
			dst = append(dst, `\n`...)
		case '\\', '"':
			dst = append(dst, '\\', c)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// unescape undoes appendEscaped.
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	return strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\n`, "\n").Replace(s)
}

// eachLabel calls f with the labels of a label text.
func eachLabel(text string, f func(name, value string)) {
	for len(text) > 1 {
		text = text[1:] // { or ,
		var name, value string
		if text[0] == '"' {
			name, text = cutQuoted(text)
			name = unescape(name)
		} else {
			name, text, _ = strings.Cut(text, "=")
			text = "=" + text
		}
		value, text = cutQuoted(text[1:])
		f(name, unescape(value))
	}
}

// cutQuoted splits a quoted string, without its quotes, off a label text.
func cutQuoted(s string) (inner, rest string) {
	for i := 1; ; i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return s[1:i], s[i+1:]
		}
	}
}
