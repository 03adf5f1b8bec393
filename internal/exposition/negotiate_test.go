package exposition

import (
	"net/http"
	"strings"
	"testing"
)

func TestNegotiateFormat(t *testing.T) {
	const proto = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
	for _, c := range []struct {
		name, accept     string
		want, preferring Format
	}{
		{"nothing", "", Text, Text},
		{"anything", "*/*", Text, Text},
		{"browser", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Text, Text},
		{
			"prometheus 3",
			"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
			TextUTF8, OpenMetricsUTF8,
		},
		{
			"prometheus 3 with native histograms",
			proto + ";q=0.7,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,*/*;q=0.2",
			Protobuf, OpenMetricsUTF8,
		},
		{
			"prometheus 3 that wants old names",
			"application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.6,text/plain;version=1.0.0;escaping=underscores;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
			Text, OpenMetrics,
		},
		{"prometheus 2", "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", Text, OpenMetrics},
		{"prometheus that is to ask for OpenMetrics only", "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7,*/*;q=0.6", OpenMetricsUTF8, OpenMetricsUTF8},
		{"only OpenMetrics", "application/openmetrics-text;version=1.0.0", OpenMetrics, OpenMetrics},
		{"only OpenMetrics, by any version", "application/openmetrics-text", OpenMetrics, OpenMetrics},
		{"OpenMetrics and no text", "application/openmetrics-text;version=1.0.0,text/plain;q=0", OpenMetrics, OpenMetrics},
		{"text and no OpenMetrics", "application/openmetrics-text;q=0,text/plain", Text, Text},
		{"OpenMetrics from the future", "application/openmetrics-text;version=3.0.0,text/plain;q=0.1", Text, Text},
		{"OpenMetrics and any text", "application/openmetrics-text,text/*", Text, OpenMetrics},
		{"protobuf with UTF-8", proto + ";escaping=allow-utf-8", ProtobufUTF8, ProtobufUTF8},
		{"protobuf less than text", proto + ";q=0.1,text/plain;q=0.9", Text, Text},
		{"protobuf named first", proto + ",text/plain", Protobuf, Protobuf},
		{"text named first", "text/plain," + proto, Text, Text},
		{"protobuf as text", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text", Text, Text},
		{"compact protobuf", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=compact-text", Text, Text},
		{"another message", "application/vnd.google.protobuf;proto=other;encoding=delimited", Text, Text},
		{"case and blanks", " Text/Plain ; Version=1.0.0 ; escaping=allow-utf-8 ; Q=0.5 ", TextUTF8, TextUTF8},
		{"nonsense", ";;,q=1,text/plain;q=x,/", Text, Text},
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
		accept, encoding = strings.ToLower(accept), strings.ToLower(encoding)
		if s := format.syntax(); s == syntaxOpenMetrics && !strings.Contains(accept, mediaOpenMetrics) ||
			s == syntaxProtobuf && !strings.Contains(accept, mediaProtobuf) {
			t.Errorf("%q gets %s", accept, format)
		}
		if enc != Identity && !strings.Contains(encoding, string(enc)) && (enc != Gzip || !strings.Contains(encoding, "*")) {
			t.Errorf("%q gets %s", encoding, enc)
		}
	})
}
