package exposition

import (
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
)

func TestNegotiateFormat(t *testing.T) {
	const (
		proto       = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
		underscores = "; escaping=underscores"
		utf8        = "; escaping=allow-utf-8"
		text        = expfmt.FmtText + underscores
		text1       = text100 + underscores
		om          = expfmt.FmtOpenMetrics_1_0_0 + underscores
		om0         = expfmt.FmtOpenMetrics_0_0_1 + underscores
		protobuf    = expfmt.FmtProtoDelim + underscores
	)
	for _, c := range []struct {
		name, accept     string
		want, preferring expfmt.Format
	}{
		{"nothing", "", text, text},
		{"anything", "*/*", text, text},
		{"browser", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", text, text},
		{
			"prometheus 3",
			"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
			text100 + utf8, expfmt.FmtOpenMetrics_1_0_0 + utf8,
		},
		{
			"prometheus 3 with native histograms",
			proto + ";q=0.7,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,*/*;q=0.2",
			protobuf, expfmt.FmtOpenMetrics_1_0_0 + utf8,
		},
		{
			"prometheus 3 that wants old names",
			"application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.6,text/plain;version=1.0.0;escaping=underscores;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
			text1, om,
		},
		{"prometheus 2", "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", text, om0},
		{"prometheus that is to ask for OpenMetrics only", "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7,*/*;q=0.6", expfmt.FmtOpenMetrics_1_0_0 + utf8, expfmt.FmtOpenMetrics_1_0_0 + utf8},
		{"only OpenMetrics", "application/openmetrics-text;version=1.0.0", om, om},
		{"only OpenMetrics, by any version", "application/openmetrics-text", om0, om0},
		{"OpenMetrics and no text", "application/openmetrics-text;version=1.0.0,text/plain;q=0", om, om},
		{"text and no OpenMetrics", "application/openmetrics-text;q=0,text/plain", text, text},
		{"OpenMetrics from the future", "application/openmetrics-text;version=3.0.0,text/plain;q=0.1", text, text},
		{"OpenMetrics and any text", "application/openmetrics-text,text/*", text, om0},
		{"OpenMetrics less than all others", "text/plain," + proto + ",application/openmetrics-text;version=1.0.0;q=0.1", text, om},
		{"OpenMetrics of several versions", "application/openmetrics-text;version=0.0.1;q=0.4,application/openmetrics-text;version=1.0.0;escaping=values;q=0.5", expfmt.FmtOpenMetrics_1_0_0 + "; escaping=values", expfmt.FmtOpenMetrics_1_0_0 + "; escaping=values"},
		{"protobuf with UTF-8", proto + ";escaping=allow-utf-8", expfmt.FmtProtoDelim + utf8, expfmt.FmtProtoDelim + utf8},
		{"protobuf less than text", proto + ";q=0.1,text/plain;q=0.9", text, text},
		{"protobuf named first", proto + ",text/plain", protobuf, protobuf},
		{"text named first", "text/plain," + proto, text, text},
		{"protobuf as text", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text", text, text},
		{"compact protobuf", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=compact-text", text, text},
		{"another message", "application/vnd.google.protobuf;proto=other;encoding=delimited", text, text},
		{"values", "text/plain;version=0.0.4;escaping=values", expfmt.FmtText + "; escaping=values", expfmt.FmtText + "; escaping=values"},
		{"dots", "application/openmetrics-text;version=1.0.0;escaping=dots", expfmt.FmtOpenMetrics_1_0_0 + "; escaping=dots", expfmt.FmtOpenMetrics_1_0_0 + "; escaping=dots"},
		{"UTF-8 in the old text format", "text/plain;version=0.0.4;escaping=allow-utf-8", expfmt.FmtText + utf8, expfmt.FmtText + utf8},
		{"an escaping of the future", "text/plain;version=0.0.4;escaping=x", text, text},
		{"no protobuf", proto + ";q=0,*/*", text, text},
		{"nonsense", ";;,q=1,text/plain;q=x,/", text, text},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := http.Header{"Accept": {c.accept}}
			if got, _ := Negotiate(h, false); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if got, _ := Negotiate(h, true); got != c.preferring {
				t.Errorf("preferring OpenMetrics: got %s, want %s", got, c.preferring)
			}
		})
	}
}

func TestNegotiateEncoding(t *testing.T) {
	for _, c := range []struct {
		accept []string
		want   Encoding
	}{
		{nil, Identity},
		{[]string{""}, Identity},
		{[]string{"gzip"}, Gzip},
		{[]string{"x-gzip"}, Gzip},
		{[]string{"GZIP"}, Gzip},
		{[]string{"zstd,gzip"}, Zstd},
		{[]string{"gzip, deflate, br, zstd"}, Gzip},
		{[]string{"deflate", "gzip;q=0.5", "zstd;q=0.6"}, Zstd},
		{[]string{"gzip ; q=0.5 , zstd ;Q=0.6"}, Zstd},
		{[]string{"gzip;q=0"}, Identity},
		{[]string{"gzip;q=0, *"}, Identity},
		{[]string{"*"}, Gzip},
		{[]string{"*;q=0"}, Identity},
		{[]string{"identity"}, Identity},
		{[]string{"identity;q=0.5, gzip;q=0.4"}, Identity},
		{[]string{"identity, gzip"}, Gzip},
		{[]string{"gzip;q=2"}, Identity},
		{[]string{"br"}, Identity},
	} {
		if _, got := Negotiate(http.Header{"Accept-Encoding": c.accept}, false); got != c.want {
			t.Errorf("%q: got %s, want %s", c.accept, got, c.want)
		}
	}
}

// Whatever a client sends, it gets nothing that it does not speak of, and it does not
// matter whether it sends one header or two.
func FuzzNegotiate(f *testing.F) {
	f.Add("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2", "gzip, zstd;q=0.5", true)
	f.Add("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited", "*;q=0.1,identity;q=0", false)
	f.Add(";;,q=1,text/plain;q=x,/", "x-gzip;q=1e-9", true)
	f.Fuzz(func(t *testing.T, accept, encoding string, prefer bool) {
		format, enc := Negotiate(http.Header{"Accept": {accept}, "Accept-Encoding": {encoding}}, prefer)
		twice := http.Header{"Accept": strings.SplitN(accept, ",", 2), "Accept-Encoding": strings.SplitN(encoding, ",", 2)}
		if f2, e2 := Negotiate(twice, prefer); f2 != format || e2 != enc {
			t.Errorf("%q, %q in two headers get %s, %s instead of %s, %s", accept, encoding, f2, e2, format, enc)
		}
		if s := format.FormatType(); s == expfmt.TypeOpenMetrics && !strings.Contains(accept, expfmt.OpenMetricsType) ||
			s == expfmt.TypeProtoDelim && !strings.Contains(accept, expfmt.ProtoType) {
			t.Errorf("%q gets %s", accept, format)
		}
		encoding = strings.ToLower(encoding)
		if enc != Identity && !strings.Contains(encoding, string(enc)) && (enc != Gzip || !strings.Contains(encoding, "*")) {
			t.Errorf("%q gets %s", encoding, enc)
		}
	})
}
