package web

import (
	"maps"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFormatsAndEncodings(t *testing.T) {
	url := serve(t, Options{Collector: withData(), ExporterMetrics: gatherer(exporterPage)})
	values := map[string]string{
		`{__name__="PostgresServer_CPUSeconds_Total", mode="user", postgres_service="a"}`: "12.5",
		`{__name__="PostgresServer_CPUSeconds_Total", mode="user", postgres_service="b"}`: "99",
		`{__name__="PostgresServer_CacheHitRatio", postgres_service="a"}`:                 "99.5",
		`{__name__="own_things_total"}`:                                                   "3",
	}
	classic := map[string]string{
		"# TYPE PostgresServer_CPUSeconds_Total": "counter",
		"# TYPE PostgresServer_CacheHitRatio":    "gauge",
		"# TYPE own_things_total":                "counter",
	}
	openMetrics := map[string]string{
		"# TYPE PostgresServer_CPUSeconds_Total": "unknown",
		"# TYPE PostgresServer_CacheHitRatio":    "gauge",
		"# TYPE own_things":                      "counter",
	}
	formats := []struct {
		name, accept, contentType string
		types                     map[string]string
	}{
		{"nothing asked", "", "text/plain", classic},
		{"text", "text/plain;version=0.0.4", "text/plain", classic},
		{"protobuf", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited", "application/vnd.google.protobuf", classic},
		{"openmetrics", "application/openmetrics-text;version=1.0.0", "application/openmetrics-text", openMetrics},
		{"openmetrics or text", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5", "text/plain", classic},
	}
	tags := make(map[string]string)
	for _, f := range formats {
		for _, encoding := range []string{"", "gzip", "zstd"} {
			t.Run(f.name+"/"+encoding, func(t *testing.T) {
				h := http.Header{}
				if f.accept != "" {
					h.Set("Accept", f.accept)
				}
				if encoding != "" {
					h.Set("Accept-Encoding", encoding)
				}
				a := do(t, "GET", url+"/metrics", h)
				if a.code != http.StatusOK {
					t.Fatalf("code %d: %s", a.code, a.body)
				}
				if got := a.header.Get("Content-Type"); !strings.HasPrefix(got, f.contentType) {
					t.Errorf("Content-Type is %q, not %q", got, f.contentType)
				}
				if got := a.header.Get("Content-Encoding"); got != encoding {
					t.Errorf("Content-Encoding is %q, not %q", got, encoding)
				}
				if a.length != int64(len(a.body)) {
					t.Errorf("Content-Length is %d, the body has %d", a.length, len(a.body))
				}
				if got := a.header.Get("Vary"); got != "Accept, Accept-Encoding" {
					t.Errorf("Vary is %q", got)
				}
				if got := a.header.Get("Cache-Control"); got != "no-cache" {
					t.Errorf("Cache-Control is %q", got)
				}
				want := maps.Clone(values)
				maps.Copy(want, f.types)
				if diff := cmp.Diff(want, series(t, a)); diff != "" {
					t.Errorf("page (-want +got):\n%s", diff)
				}

				tag := a.header.Get("ETag")
				if !regexp.MustCompile(`^(W/)?"[^"]+"$`).MatchString(tag) {
					t.Errorf("ETag is %q", tag)
				}
				kind := a.header.Get("Content-Type") + a.header.Get("Content-Encoding")
				if other, ok := tags[tag]; ok && other != kind {
					t.Errorf("%s and %s share ETag %s", kind, other, tag)
				}
				tags[tag] = kind

				head := do(t, "HEAD", url+"/metrics", h)
				if head.code != http.StatusOK || len(head.body) != 0 || head.length != a.length {
					t.Errorf("HEAD: code %d, %d bytes, Content-Length %d; GET's was %d", head.code, len(head.body), head.length, a.length)
				}
				a.header.Del("Date")
				head.header.Del("Date")
				if diff := cmp.Diff(a.header, head.header); diff != "" {
					t.Errorf("HEAD's header differs (-GET +HEAD):\n%s", diff)
				}

				for _, condition := range []string{tag, "W/" + strings.TrimPrefix(tag, "W/"), `"x", ` + tag, "*"} {
					h.Set("If-None-Match", condition)
					a := do(t, "GET", url+"/metrics", h)
					if a.code != http.StatusNotModified || len(a.body) != 0 {
						t.Errorf("If-None-Match %s: code %d, %d bytes", condition, a.code, len(a.body))
					}
					if a.header.Get("ETag") != tag || a.header.Get("Vary") == "" || a.header.Get("Content-Type") != "" {
						t.Errorf("If-None-Match %s: header %v", condition, a.header)
					}
				}
				h.Set("If-None-Match", `"another"`)
				if a := do(t, "GET", url+"/metrics", h); a.code != http.StatusOK {
					t.Errorf("If-None-Match of another page: code %d", a.code)
				}
			})
		}
	}
}

// TestEqualTagsMeanEqualBytes, whichever exporter of a pair is asked, and whatever it
// has been asked before.
func TestEqualTagsMeanEqualBytes(t *testing.T) {
	one, other := serve(t, Options{Collector: withData(), ExporterMetrics: gatherer(exporterPage)}), serve(t, Options{Collector: withData(), ExporterMetrics: gatherer(exporterPage)})
	bytesOf := map[string]string{} // by tag
	for range 2 {
		for _, url := range []string{one, other} {
			for _, path := range []string{"/metrics", "/v1/organizations/org/postgres/prometheus", "/v1/organizations/org/postgres/a/prometheus"} {
				for _, accept := range []string{"text/plain", "application/openmetrics-text;version=1.0.0", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"} {
					for _, encoding := range []string{"identity", "gzip", "zstd"} {
						a := do(t, http.MethodGet, url+path, http.Header{"Accept": {accept}, "Accept-Encoding": {encoding}})
						tag := a.header.Get("ETag")
						if strings.HasPrefix(tag, "W/") || tag == "" {
							t.Fatalf("%s, %s, %s: tag %q is not a strong one", path, accept, encoding, tag)
						}
						if known, ok := bytesOf[tag]; ok && known != string(a.body) {
							t.Errorf("%s, %s, %s: other bytes under tag %s", path, accept, encoding, tag)
						}
						bytesOf[tag] = string(a.body)
					}
				}
			}
		}
	}
	if want := 3 * 3 * 3; len(bytesOf) != want {
		t.Errorf("%d tags for %d pages", len(bytesOf), want)
	}
}

func TestPreferOpenMetrics(t *testing.T) {
	url := serve(t, Options{Collector: withData(), PreferOpenMetrics: true})
	a := do(t, "GET", url+"/metrics", http.Header{"Accept": {"application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}})
	if got := a.header.Get("Content-Type"); !strings.HasPrefix(got, "application/openmetrics-text") {
		t.Errorf("Content-Type is %q", got)
	}
	if series(t, a)["# TYPE PostgresServer_CPUSeconds_Total"] != "unknown" {
		t.Errorf("page:\n%s", a.body)
	}
}
