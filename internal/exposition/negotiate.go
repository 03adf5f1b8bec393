package exposition

import (
	"net/http"
	"strconv"
	"strings"
)

// Negotiate picks the format and the encoding of a page from what a scraper
// accepts.
//
// Names never depend on the format, but OpenMetrics can't say that a series
// whose name does not end in _total is a counter. So OpenMetrics is answered
// where it alone is accepted, or where preferOpenMetrics is set and it is
// accepted at all. Otherwise the scraper's preference decides between text and
// protobuf; text is the answer to those who accept anything or nothing.
//
// A scraper that names OpenMetrics and then "*/*" accepts OpenMetrics alone:
// Prometheus ends every header so, also when it is configured to ask for no
// other format.
func Negotiate(h http.Header, preferOpenMetrics bool) (Format, Encoding) {
	return negotiateFormat(accepted(h, "Accept"), preferOpenMetrics), negotiateEncoding(accepted(h, "Accept-Encoding"))
}

// clause is an element of an Accept or Accept-Encoding header.
type clause struct {
	value  string // lower case
	params map[string]string
	q      float64
}

// accepted reads all headers of a name. Clauses that can't be understood are
// left out.
func accepted(h http.Header, name string) []clause {
	var clauses []clause
	for _, part := range strings.Split(strings.Join(h.Values(name), ","), ",") {
		fields := strings.Split(part, ";")
		c := clause{value: strings.ToLower(strings.TrimSpace(fields[0])), q: 1}
		if c.value == "" {
			continue
		}
		valid := true
		for _, field := range fields[1:] {
			key, value, _ := strings.Cut(field, "=")
			key = strings.ToLower(strings.TrimSpace(key))
			value = strings.Trim(strings.TrimSpace(value), `"`)
			if key == "q" {
				q, err := strconv.ParseFloat(value, 64)
				valid = valid && err == nil && q >= 0 && q <= 1
				c.q = q
				continue
			}
			if c.params == nil {
				c.params = make(map[string]string)
			}
			c.params[key] = value
		}
		if valid {
			clauses = append(clauses, c)
		}
	}
	return clauses
}

const (
	mediaText        = "text/plain"
	mediaOpenMetrics = "application/openmetrics-text"
	mediaProtobuf    = "application/vnd.google.protobuf"
)

// format returns the format that a clause asks for by name. It reports false
// for what this package does not speak, such as protobuf messages as text, and
// for wildcards.
func (c clause) format() (Format, bool) {
	utf8 := c.params["escaping"] == "allow-utf-8"
	version := c.params["version"]
	switch c.value {
	case mediaText:
		switch {
		case version == "1.0.0" && utf8:
			return TextUTF8, true
		case version == "" || version == "0.0.4" || version == "1.0.0":
			return Text, true
		}
	case mediaOpenMetrics:
		switch {
		case version == "1.0.0" && utf8:
			return OpenMetricsUTF8, true
		case version == "" || version == "0.0.1" || version == "1.0.0":
			return OpenMetrics, true
		}
	case mediaProtobuf:
		switch {
		case c.params["proto"] != "io.prometheus.client.MetricFamily", c.params["encoding"] != "delimited":
		case utf8:
			return ProtobufUTF8, true
		default:
			return Protobuf, true
		}
	}
	return "", false
}

func negotiateFormat(clauses []clause, preferOpenMetrics bool) Format {
	var (
		format, openMetrics   Format // the one wanted most or, if that is the same, named first
		formatQ, openMetricsQ float64
		others                = false // something but OpenMetrics is accepted
	)
	for _, c := range clauses {
		if c.q == 0 {
			continue
		}
		f, ok := c.format()
		switch {
		case ok && f.syntax() == syntaxOpenMetrics:
			if c.q > openMetricsQ {
				openMetrics, openMetricsQ = f, c.q
			}
		case ok:
			others = true
			if c.q > formatQ {
				format, formatQ = f, c.q
			}
		case c.value == "text/*":
			others = true
		}
	}
	switch {
	case openMetrics != "" && (preferOpenMetrics || !others):
		return openMetrics
	case format != "":
		return format
	default:
		return Text
	}
}

// negotiateEncoding picks the compression that is wanted most or, if that is
// the same, named first. A page goes out uncompressed if no compression is
// accepted, or if it is wanted less.
func negotiateEncoding(clauses []clause) Encoding {
	best, bestQ, identityQ, otherQ := Identity, 0.0, 0.0, 0.0
	named := make(map[Encoding]bool)
	for _, c := range clauses {
		e := Encoding(strings.TrimPrefix(c.value, "x-"))
		named[e] = true
		switch e {
		case Gzip, Zstd:
			if c.q > bestQ {
				best, bestQ = e, c.q
			}
		case Identity:
			identityQ = c.q
		case "*":
			otherQ = c.q
		}
	}
	if otherQ > bestQ && !named[Gzip] {
		best, bestQ = Gzip, otherQ
	}
	if identityQ > bestQ {
		return Identity
	}
	return best
}
