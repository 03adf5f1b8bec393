package exposition

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/munnerz/goautoneg"
	"github.com/prometheus/common/expfmt"
)

// text100 is the text format in which names need no escaping.
const text100 expfmt.Format = "text/plain; version=1.0.0; charset=utf-8"

// Negotiate picks the format and the encoding of a page from what a scraper accepts.
//
// OpenMetrics can't say that a series whose name does not end in _total is a counter. So
// it is the answer only where preferOpenMetrics is set, or to those who accept nothing
// else but "*/*", with which Prometheus ends every header. Otherwise the scraper's
// preference decides between text and protobuf; text is the answer to those who accept
// anything or nothing.
func Negotiate(h http.Header, preferOpenMetrics bool) (expfmt.Format, Encoding) {
	var openMetrics, others []string
	only := true // OpenMetrics is accepted, if it is at all
	for clause := range strings.SplitSeq(strings.Join(h.Values("Accept"), ","), ",") {
		for _, a := range goautoneg.ParseAccept(clause) {
			switch {
			case a.Q == 0: // is not accepted, though expfmt would take it so
			case a.Type+"/"+a.SubType == expfmt.OpenMetricsType:
				openMetrics = append(openMetrics, clause)
			default:
				others = append(others, clause)
				only = only && a.Type == "*"
			}
		}
	}
	if preferOpenMetrics || only {
		f := negotiate(openMetrics, expfmt.FmtOpenMetrics_1_0_0, expfmt.FmtOpenMetrics_0_0_1, expfmt.FmtText)
		if f.FormatType() == expfmt.TypeOpenMetrics {
			return f, negotiateEncoding(h)
		}
	}
	return negotiate(others, expfmt.FmtProtoDelim, text100, expfmt.FmtText), negotiateEncoding(h)
}

// negotiate returns the text format if none is accepted.
func negotiate(clauses []string, formats ...expfmt.Format) expfmt.Format {
	return expfmt.NegotiateAccept(http.Header{"Accept": {strings.Join(clauses, ",")}}, formats...)
}

// negotiateEncoding picks the compression that is wanted most or, if that is the
// same, named first. A page goes out uncompressed if no compression is accepted, or
// if it is wanted less.
func negotiateEncoding(h http.Header) Encoding {
	best, bestQ, identityQ, otherQ := Identity, 0.0, 0.0, 0.0
	gzipNamed := false
	for clause := range strings.SplitSeq(strings.Join(h.Values("Accept-Encoding"), ","), ",") {
		name, params, _ := strings.Cut(strings.ToLower(clause), ";")
		q := 1.0
		if key, value, ok := strings.Cut(params, "="); ok && strings.TrimSpace(key) == "q" {
			var err error
			if q, err = strconv.ParseFloat(strings.TrimSpace(value), 64); err != nil || !(q >= 0 && q <= 1) {
				continue
			}
		}
		switch e := Encoding(strings.TrimPrefix(strings.TrimSpace(name), "x-")); e {
		case Gzip, Zstd:
			gzipNamed = gzipNamed || e == Gzip
			if q > bestQ {
				best, bestQ = e, q
			}
		case Identity:
			identityQ = q
		case "*":
			otherQ = q
		}
	}
	if otherQ > bestQ && !gzipNamed {
		best, bestQ = Gzip, otherQ
	}
	if identityQ > bestQ {
		return Identity
	}
	return best
}
