package web

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
)

// TestAnswers pins the code and the body of every kind of answer that is not
// a page.
func TestAnswers(t *testing.T) {
	outage := &fake{err: &collector.UnavailableError{Reason: "no metrics since 5m0s"}, fault: "upstream\nrefuses the key"}
	early := &fake{err: &collector.UnavailableError{Reason: "not yet"}}
	broken := &fake{err: errors.New("disk on fire")}
	for _, test := range []struct {
		name            string
		collector       *fake
		exporterMetrics prometheus.Gatherer
		method, path    string
		code            int
		body            string // in whole; "" for any
		allow           string
	}{
		{name: "organization", path: "/v1/organizations/org/postgres/prometheus", code: 200},
		{name: "service", path: "/v1/organizations/org/postgres/a/prometheus", code: 200},
		{name: "escaped service", path: "/v1/organizations/org/postgres/%C3%A9%2F/prometheus", code: 200},
		{name: "organization, slash", path: "/v1/organizations/org/postgres/prometheus/", code: 200, body: upstreamPage},
		{name: "service, slash", path: "/v1/organizations/org/postgres/a/prometheus/", code: 200, body: serviceA},
		{name: "service, id last", path: "/v1/organizations/org/postgres/prometheus/a", code: 200, body: serviceA},
		{name: "service, id last, slash", path: "/v1/organizations/org/postgres/prometheus/a/", code: 200, body: serviceA},
		{name: "service, unknown id last", path: "/v1/organizations/org/postgres/prometheus/x", code: 404, body: "unknown organization or service\n"},
		{name: "service, two slashes", path: "/v1/organizations/org/postgres/a/prometheus//", code: 404, body: "page not found\n"},
		{name: "another of upstream's paths", path: "/v1/organizations/org/postgres/a/config", code: 404, body: "page not found\n"},
		{name: "unknown organization", path: "/v1/organizations/x/postgres/prometheus", code: 404, body: "unknown organization or service\n"},
		{name: "unknown service", path: "/v1/organizations/org/postgres/x/prometheus", code: 404, body: "unknown organization or service\n"},
		{name: "long service", path: "/v1/organizations/org/postgres/" + strings.Repeat("x", 30000) + "/prometheus", code: 404, body: "unknown organization or service\n"},
		{name: "list of services", path: "/v1/organizations/org/postgres", code: 404},
		{name: "unknown path", path: "/metric", code: 404},
		{name: "slash", path: "/metrics/", code: 404},
		{name: "health", collector: &fake{health: "up 1\n"}, exporterMetrics: gatherer(exporterPage), path: "/metrics/exporter", code: 200, body: "# TYPE up untyped\nup 1\n" + exporterPage},
		{name: "health without exporter metrics", collector: &fake{ready: true, health: "up 1\n"}, path: "/metrics/exporter", code: 200, body: "# TYPE up untyped\nup 1\n"},
		{name: "health, nothing known", path: "/metrics/exporter", collector: early, code: 503, body: "waiting for the first response from ClickHouse Cloud\n"},
		{name: "traversal", path: "/metrics/../../etc/passwd", code: 404, body: "page not found\n"},
		{name: "escaped traversal", path: "/%2e%2e/%2e%2e/etc/passwd", code: 404},
		{name: "doubled slash", path: "//metrics", code: 404, body: "page not found\n"},
		{name: "two slashes", path: "//", code: 404, body: "page not found\n"},
		{name: "profiling", path: "/debug/pprof/", code: 404},

		{name: "outage, everything without exporter metrics", collector: outage, path: "/metrics", code: 503, body: "upstream refuses the key\n"},
		{name: "outage, everything with exporter metrics", collector: outage, exporterMetrics: gatherer(exporterPage), path: "/metrics", code: 200, body: exporterPage},
		{name: "outage, organization", collector: outage, exporterMetrics: gatherer(exporterPage), path: "/v1/organizations/org/postgres/prometheus", code: 503, body: "no metrics since 5m0s\n"},
		{name: "outage, service", collector: outage, exporterMetrics: gatherer(exporterPage), path: "/v1/organizations/org/postgres/a/prometheus", code: 503, body: "no metrics since 5m0s\n"},
		{name: "outage, healthy", collector: outage, path: "/-/healthy", code: 200, body: "healthy\n"},
		{name: "outage, ready", collector: outage, path: "/-/ready", code: 503, body: "not ready: upstream refuses the key\n"},
		{name: "early, everything without exporter metrics", collector: early, path: "/metrics", code: 503, body: "waiting for the first response from ClickHouse Cloud\n"},
		{name: "early, ready", collector: early, path: "/-/ready", code: 503, body: "not ready: waiting for the first response from ClickHouse Cloud\n"},
		{name: "empty organization", collector: &fake{ready: true}, path: "/metrics", code: 200},
		{name: "broken", collector: broken, path: "/v1/organizations/org/postgres/prometheus", code: 500, body: "disk on fire\n"},

		{name: "healthy", path: "/-/healthy", code: 200, body: "healthy\n"},
		{name: "healthy, HEAD", method: "HEAD", path: "/-/healthy", code: 200},
		{name: "ready", path: "/-/ready", code: 200, body: "ready\n"},

		{name: "reload by POST", method: "POST", path: "/-/reload", code: 200, body: "reloaded\n"},
		{name: "reload by PUT", method: "PUT", path: "/-/reload", code: 200, body: "reloaded\n"},
		{name: "reload by GET", path: "/-/reload", code: 405, allow: "POST, PUT"},
		{name: "post to metrics", method: "POST", path: "/metrics", code: 405, allow: "GET, HEAD"},
		{name: "put to a service", method: "PUT", path: "/v1/organizations/org/postgres/a/prometheus", code: 405, allow: "GET, HEAD"},
		{name: "delete healthy", method: "DELETE", path: "/-/healthy", code: 405, allow: "GET, HEAD"},
		{name: "patch landing", method: "PATCH", path: "/", code: 405, allow: "GET, HEAD"},
		{name: "odd method", method: "BREW", path: "/metrics", code: 405, allow: "GET, HEAD"},
		{name: "options", method: "OPTIONS", path: "/metrics", code: 204, allow: "GET, HEAD, OPTIONS"},
		{name: "options of the status page", method: "OPTIONS", path: "/", code: 204, allow: "GET, HEAD, OPTIONS"},
		{name: "options of a reload", method: "OPTIONS", path: "/-/reload", code: 204, allow: "POST, PUT, OPTIONS"},
		{name: "options of nothing", method: "OPTIONS", path: "/metric", code: 404},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.collector == nil {
				test.collector = withData()
			}
			if test.method == "" {
				test.method = "GET"
			}
			url := serve(t, Options{Collector: test.collector, ExporterMetrics: test.exporterMetrics, Reload: func() error { return nil }})
			a := do(t, test.method, url+test.path, nil)
			if a.code != test.code {
				t.Errorf("code %d, not %d; body %.200q", a.code, test.code, a.body)
			}
			if test.body != "" && string(a.body) != test.body {
				t.Errorf("body %.200q, not %q", a.body, test.body)
			}
			if got := a.header.Get("Allow"); got != test.allow {
				t.Errorf("Allow is %q, not %q", got, test.allow)
			}
			if a.header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("X-Content-Type-Options is missing from %v", a.header)
			}
			if a.code >= 400 && !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") {
				t.Errorf("Content-Type of an error is %q", a.header.Get("Content-Type"))
			}
			if a.code >= 400 && test.method != "HEAD" && strings.Count(string(a.body), "\n") != 1 {
				t.Errorf("error of more than one line: %q", a.body)
			}
		})
	}
}

// TestRoutePrefix has all pages below a prefix, and the probes without it, too.
func TestRoutePrefix(t *testing.T) {
	k := knows(collector.OrganizationStatus{
		ID: "org", InventoryKnown: true, Services: []collector.ServiceStatus{{ID: "a", Known: true}},
	})
	url := serve(t, Options{Collector: k, RoutePrefix: "/postgres/x"})
	for path, want := range map[string]string{
		"/postgres/x/metrics": "200",
		"/postgres/x/v1/organizations/org/postgres/%C3%A9%2F/prometheus": "200",
		"/postgres/x/": "200", "/postgres/x/-/healthy": "200", "/-/healthy": "200", "/-/ready": "200",
		"/postgres/x": "302 /postgres/x/", "/": "302 /postgres/x/",
		"/metrics": "404", "/postgres/xmetrics": "404", "/postgres/x//metrics": "404", "/-/reload": "404", "/x/postgres/x/metrics": "404",
	} {
		a := do(t, http.MethodGet, url+path, nil)
		if got := strings.TrimSpace(strconv.Itoa(a.code) + " " + a.header.Get("Location")); got != want {
			t.Errorf("%s: %s, not %s", path, got, want)
		}
	}
	if a := do(t, http.MethodGet, url+"/postgres/x/sd", nil); !strings.Contains(string(a.body), `"__metrics_path__":"/postgres/x/v1/organizations/org/postgres/a/prometheus"`) {
		t.Errorf("targets: %s", a.body)
	}
	for _, path := range []string{"/postgres/x/metrics", "/postgres/x/", "/"} {
		if a := do(t, http.MethodOptions, url+path, nil); a.code != http.StatusNoContent {
			t.Errorf("OPTIONS %s: %d", path, a.code)
		}
	}
}

func TestParseRoutePrefix(t *testing.T) {
	for text, want := range map[string]string{"": "", "/": "/", "a": "/a", "/a/b/": "/a/b", "//a/../b": "/b"} {
		if got, err := ParseRoutePrefix(text); got != want || err != nil {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	if _, err := ParseRoutePrefix("/{x}"); err == nil {
		t.Error("a pattern passes")
	}
}

// TestPlain bounds and cleans what may quote the client.
func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"a\r\nSet-Cookie: b":           "a  Set-Cookie: b\n",
		"\x1b[31mred\x7f":              " [31mred \n",
		"\xff":                         "\uFFFD\n",
		strings.Repeat("x", 501):       strings.Repeat("x", 500) + "…\n",
		strings.Repeat("x", 499) + "é": strings.Repeat("x", 499) + "\uFFFD…\n",
	} {
		w := httptest.NewRecorder()
		respondText(w, 400, in)
		if got := w.Body.String(); got != want {
			t.Errorf("%.20q: %q, not %q", in, got, want)
		}
		if got := w.Header().Get("Content-Length"); got != strconv.Itoa(len(want)) {
			t.Errorf("%.20q: Content-Length %s, not %d", in, got, len(want))
		}
	}
}

// TestOperatorsHeadersStand: exporter-toolkit sets what the web configuration
// asks for before the handler is called.
func TestOperatorsHeadersStand(t *testing.T) {
	w := httptest.NewRecorder()
	w.Header().Set("X-Frame-Options", "sameorigin")
	handler(t, Options{Collector: withData()}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if got := w.Header().Get("X-Frame-Options"); got != "sameorigin" {
		t.Errorf("X-Frame-Options is %q", got)
	}
}

func TestCheckTelemetryPath(t *testing.T) {
	for p, want := range map[string]string{
		"/metrics":      "",
		"/a/b":          "",
		"/v2/metrics":   "",
		"metrics":       `path "metrics" must begin with /`,
		"":              `path "" must begin with /`,
		"/":             `path / is the status page: choose another, such as /metrics`,
		"/metrics/":     `path "/metrics/" is not in its shortest form: write "/metrics"`,
		"/a/../metrics": `path "/a/../metrics" is not in its shortest form: write "/metrics"`,
		"/{x}":          `path "/{x}" must not contain {}%?# or white space`,
		"/a b":          `path "/a b" must not contain {}%?# or white space`,
		"/-/metrics":    `path "/-/metrics" is reserved: the exporter itself uses /-`,
		"/v1/x":         `path "/v1/x" is reserved: the exporter itself uses /v1`,
		"/sd":           `path "/sd" is reserved: the exporter itself uses /sd`,
	} {
		got := ""
		if err := CheckTelemetryPath(p); err != nil {
			got = err.Error()
		} else {
			handler(t, Options{Collector: withData(), TelemetryPath: p})
		}
		if got != want {
			t.Errorf("%q: %q, not %q", p, got, want)
		}
	}
	if _, err := NewHandler(Options{Collector: withData(), TelemetryPath: "/{"}); err == nil {
		t.Error("a handler with a bad path")
	}
}

// buggy is a collector with a bug.
type buggy struct{ *fake }

func (buggy) Page(string, string) ([]*exposition.Document, error) { panic("index\nout of range") }

// TestPanic: a bug costs its request only, is counted, and told in one line with the
// stack.
func TestPanic(t *testing.T) {
	var logged lines
	registry := prometheus.NewRegistry()
	logger := log.NewLogfmtLogger(&logged)
	s := httptest.NewUnstartedServer(nil)
	s.Config = NewServer(t.Context(), handler(t, Options{Collector: buggy{withData()}, Metrics: NewMetrics(registry), Logger: logger}), logger)
	s.Start()
	t.Cleanup(s.Close)
	for range 2 {
		resp, err := s.Client().Get(s.URL + "/metrics")
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		if err == nil {
			t.Error("an answer")
		}
	}
	if a := do(t, http.MethodGet, s.URL+"/-/healthy", nil); a.code != http.StatusOK {
		t.Errorf("afterwards: code %d", a.code)
	}
	if got := total(t, registry, "clickhouse_postgres_exporter_http_panics_total"); got != 2 {
		t.Errorf("%v counted", got)
	}
	text := logged.String()
	if strings.Count(text, "\n") != 2 || strings.Count(text, `level=error msg="Panic while serving a request: this is a bug, please report it" method=GET path=/metrics panic="index\nout of range" stack="goroutine `) != 2 ||
		!strings.Contains(text, "buggy.Page") {
		t.Errorf("log:\n%s", text)
	}
}
