package api

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newTestClient returns a client with a budget that hardly waits and without
// retries, unless a change says otherwise.
func newTestClient(t *testing.T, baseURL string, changes ...func(*Config)) *Client {
	t.Helper()
	cfg := Config{
		BaseURL:     baseURL,
		Credentials: StaticCredentials(testKeyID, testSecret),
		Budget:      NewBudget(BudgetConfig{Requests: 1e6, Window: time.Second}),
		MaxRetries:  -1,
	}
	for _, change := range changes {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// newServer is a server that says nothing about the faults it is made for.
func newServer(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	s.Config.ErrorLog = discardLog
	t.Cleanup(s.Close)
	return s
}

// asTestError returns err as an *Error of the kind, in which no secret shows.
func asTestError(t *testing.T, err error, kind ErrorKind) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want one of kind %s", err, kind)
	}
	if e.Kind != kind {
		t.Fatalf("error of kind %s (%v), want %s", e.Kind, e, kind)
	}
	checkNoSecret(t, e)
	checkNoSecret(t, e.Error())
	return e
}

// record is what a server was asked, in order.
type record struct {
	mu   sync.Mutex
	list []string
}

func (r *record) add(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, s)
}

func (r *record) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

func (r *record) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = nil
}

// attempts records what the RequestDone hook is told.
type attempts struct {
	mu   sync.Mutex
	list []string
	errs []error
}

func (a *attempts) hook(cfg *Config) {
	cfg.Hooks.RequestDone = func(endpoint Endpoint, code int, err error, d time.Duration) {
		a.mu.Lock()
		defer a.mu.Unlock()
		kind := ErrorKind("ok")
		var e *Error
		if errors.As(err, &e) {
			kind = e.Kind
		} else if err != nil {
			kind = "not an *Error"
		}
		if d < 0 {
			kind += " in negative time"
		}
		a.list = append(a.list, fmt.Sprintf("%s %d %s", endpoint, code, kind))
		a.errs = append(a.errs, err)
	}
}

func (a *attempts) check(t *testing.T, want ...string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if diff := cmp.Diff(want, a.list); diff != "" {
		t.Errorf("requests seen by the hook: %s", diff)
	}
	for _, err := range a.errs {
		checkNoSecret(t, err)
	}
}

func TestCalls(t *testing.T) {
	const (
		org  = "ca04 ü%2f?#"
		pg   = "pg;1"
		base = "/v1/organizations"
	)
	page := "# TYPE a gauge\na 1\n"
	answers := map[string]string{
		base:         `{"status":200,"requestId":"r","result":[{"id":"o","name":"Org","createdAt":"2026-05-25T16:42:16Z"}]}`,
		"/v1/whoami": `{"status":200,"requestId":"r","result":{"actorType":"apiKey","keyId":"k","name":"prometheus","organizationId":"o"}}`,
		base + "/ca04%20%C3%BC%252f%3F%23/postgres":                        `{"status":200,"requestId":"r","result":[{"id":"pg;1","name":"n"}]}`,
		base + "/ca04%20%C3%BC%252f%3F%23/postgres/pg%3B1":                 `{"status":200,"requestId":"r","result":{"id":"pg;1","name":"n","hostname":"h"}}`,
		base + "/ca04%20%C3%BC%252f%3F%23/postgres/pg%3B1/config":          `{"status":200,"requestId":"r","result":{"pgConfig":{"a":1},"pgBouncerConfig":{}}}`,
		base + "/ca04%20%C3%BC%252f%3F%23/postgres/pg%3B1/backups?limit=1": `{"status":200,"requestId":"r","limit":1,"totalCount":null,"result":[{"key":"k","lastModified":"2026-05-25T16:42:16Z"}]}`,
		base + "/ca04%20%C3%BC%252f%3F%23/quotas":                          `{"status":200,"requestId":"r","result":[{"quotaCode":"q","value":3}]}`,
		base + "/ca04%20%C3%BC%252f%3F%23/postgres/prometheus":             page,
		base + "/ca04%20%C3%BC%252f%3F%23/postgres/pg%3B1/prometheus":      page,
	}
	for _, prefix := range []string{"", "/", "/some/prefix", "/some%20prefix%2F/"} {
		t.Run("prefix "+prefix, func(t *testing.T) {
			var asked record
			server := newServer(t, func(w http.ResponseWriter, r *http.Request) {
				path, found := strings.CutPrefix(r.URL.RequestURI(), strings.TrimSuffix(prefix, "/"))
				answer, known := answers[path]
				if !found || !known {
					t.Errorf("request for %s", r.URL)
					http.NotFound(w, r)
					return
				}
				asked.add(path)
				id, secret, _ := r.BasicAuth()
				if r.Method != http.MethodGet || id != testKeyID || secret != testSecret {
					t.Errorf("%s with key %q", r.Method, id)
				}
				contentType := "application/json"
				if strings.HasSuffix(path, "/prometheus") {
					contentType = "text/plain; charset=UTF-8"
				}
				accepted, _, _ := strings.Cut(contentType, ";")
				for name, want := range map[string]string{"Accept": accepted, "User-Agent": "test/1", "Accept-Encoding": "gzip", "Referer": "", "Cookie": ""} {
					if got := r.Header.Get(name); got != want {
						t.Errorf("%s: header %s is %q, want %q", path, name, got, want)
					}
				}
				w.Header().Set("Content-Type", contentType)
				w.Header().Set("Set-Cookie", "a=b")
				w.Header().Set("Date", "Mon, 25 May 2026 12:00:20 GMT")
				fmt.Fprint(w, answer)
			})
			var seen attempts
			waits := 0
			c := newTestClient(t, server.URL+prefix, seen.hook, func(cfg *Config) {
				cfg.UserAgent = "test/1"
				cfg.Hooks.BudgetWait = func(Endpoint, time.Duration) { waits++ }
			})
			ctx := t.Context()

			organizations, err := c.Organizations(ctx)
			at := time.Date(2026, 5, 25, 16, 42, 16, 0, time.UTC)
			if diff := cmp.Diff([]Organization{{ID: "o", Name: "Org", CreatedAt: at}}, organizations); err != nil || diff != "" {
				t.Error(err, diff)
			}
			key, err := c.Whoami(ctx)
			if diff := cmp.Diff(Key{ID: "k", Name: "prometheus"}, key); err != nil || diff != "" {
				t.Error(err, diff)
			}
			services, err := c.Services(ctx, org)
			if diff := cmp.Diff([]Service{{ID: pg, Name: "n"}}, services); err != nil || diff != "" {
				t.Error(err, diff)
			}
			service, err := c.Service(ctx, org, pg)
			if diff := cmp.Diff(ServiceDetail{Service: Service{ID: pg, Name: "n"}, Hostname: "h"}, service); err != nil || diff != "" {
				t.Error(err, diff)
			}
			config, err := c.ServiceConfig(ctx, org, pg)
			if diff := cmp.Diff(ServiceConfig{Postgres: map[string]string{"a": "1"}, PgBouncer: map[string]string{}}, config); err != nil || diff != "" {
				t.Error(err, diff)
			}
			backups, err := c.Backups(ctx, org, pg)
			if diff := cmp.Diff(Backups{Latest: at}, backups); err != nil || diff != "" {
				t.Error(err, diff)
			}
			quotas, err := c.Quotas(ctx, org)
			if diff := cmp.Diff([]Quota{{Code: "q", Limit: 3}}, quotas); err != nil || diff != "" {
				t.Error(err, diff)
			}
			before := time.Now()
			for _, get := range []func() (*Page, error){
				func() (*Page, error) { return c.OrganizationMetrics(ctx, org) },
				func() (*Page, error) { return c.ServiceMetrics(ctx, org, pg) },
			} {
				p, err := get()
				if err != nil {
					t.Error(err)
					continue
				}
				date := time.Date(2026, 5, 25, 12, 0, 20, 0, time.UTC)
				if string(p.Body) != page || p.ContentType != "text/plain; charset=UTF-8" || !p.Date.Equal(date) ||
					p.ReceivedAt.Before(before) || p.ReceivedAt.After(time.Now()) {
					t.Errorf("page %+v", p)
				}
			}
			if got := asked.all(); len(got) != len(answers) {
				t.Errorf("asked for %q", got)
			}
			seen.check(t, "organizations 200 ok", "whoami 200 ok", "services 200 ok", "service 200 ok",
				"service_config 200 ok", "service_backups 200 ok", "quotas 200 ok", "organization_metrics 200 ok", "service_metrics 200 ok")
			if used := c.budget.Usage().Used; used != 9 || waits != 9 {
				t.Errorf("%d slots used and %d waits told, want 9", used, waits)
			}
		})
	}
}

func TestIDsThatAreNoSegmentOfAPath(t *testing.T) {
	var seen attempts
	c := newTestClient(t, "http://127.0.0.1:1", seen.hook)
	for id, what := range map[string]string{
		"":                       "is empty",
		"a/b":                    "contains a path",
		`a\b`:                    "contains a path",
		".":                      "contains a path",
		"..":                     "contains a path",
		"a..b":                   "contains a path",
		"a\nb":                   "contains a control character",
		"a\x00":                  "contains a control character",
		"a\u0085":                "contains a control character",
		strings.Repeat("a", 257): "is too long",
	} {
		_, err := c.Services(t.Context(), id)
		e := asTestError(t, err, KindBadRequest)
		if want := "list services: organization id " + what + "; check the organization id"; e.Error() != want {
			t.Errorf("error is\n%s\nwant\n%s", e, want)
		}
		_, err = c.ServiceMetrics(t.Context(), "o", id)
		e = asTestError(t, err, KindBadRequest)
		if want := "get service metrics: service id " + what + "; check the service id"; e.Error() != want || e.Endpoint != EndpointServiceMetrics {
			t.Errorf("error is\n%s\nwant\n%s", e, want)
		}
	}
	seen.check(t)
}

func TestNewErrors(t *testing.T) {
	dir := t.TempDir()
	noPEM := filepath.Join(dir, "no.pem")
	writeFile(t, noPEM, "not PEM")
	missing := filepath.Join(dir, "missing.pem")
	const (
		noURL    = "API client: base URL must be an http or https URL"
		user     = "API client: base URL must not contain a user name or password, since the API key has settings of its own"
		trailing = "API client: base URL must end before any ? or #"
	)
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.BaseURL = "api.clickhouse.cloud" }, noURL},
		{func(c *Config) { c.BaseURL = "ftp://host" }, noURL},
		{func(c *Config) { c.BaseURL = "https://" }, noURL},
		{func(c *Config) { c.BaseURL = "https://:443" }, noURL},
		{func(c *Config) { c.BaseURL = "https:host" }, noURL},
		{func(c *Config) { c.BaseURL = "https://" + testKeyID + ":s3cr3t@host" }, user},
		{func(c *Config) { c.BaseURL = "https://user:s3cr3t/@host" }, noURL},
		{func(c *Config) { c.BaseURL = "https://host:port" }, noURL},
		{func(c *Config) { c.BaseURL = "https://host/%zz" }, noURL},
		{func(c *Config) { c.BaseURL = "https://host/\n" }, noURL},
		{func(c *Config) { c.BaseURL = "https://host?a=b" }, trailing},
		{func(c *Config) { c.BaseURL = "https://host?" }, trailing},
		{func(c *Config) { c.BaseURL = "https://host#" }, trailing},
		{func(c *Config) { c.Credentials = nil }, "API client: no source of credentials given"},
		{func(c *Config) { c.Budget = nil }, "API client: no request budget given"},
		{func(c *Config) { c.UserAgent = "a\r\nb: c" }, "API client: user agent contains a control character"},
		{func(c *Config) { c.CAFile = missing }, "read CA file: open " + missing + ": no such file or directory"},
		{func(c *Config) { c.CAFile = noPEM }, "read CA file " + noPEM + ": no certificate in PEM format found"},
	} {
		cfg := Config{Credentials: StaticCredentials(testKeyID, testSecret), Budget: NewBudget(BudgetConfig{})}
		c.change(&cfg)
		_, err := New(cfg)
		if err == nil || err.Error() != c.want {
			t.Errorf("error is\n%v\nwant\n%s", err, c.want)
		}
	}
	// Nothing else is required.
	c := newTestClient(t, "")
	if c.base.String() != DefaultURL || c.timeout != 30*time.Second || c.maxBytes != 64<<20 || c.userAgent == "" {
		t.Errorf("defaults: %s, %s, %d, %q", c.base, c.timeout, c.maxBytes, c.userAgent)
	}
}

func compressed(t *testing.T, body []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestResponseSize(t *testing.T) {
	const limit = 10_000
	for _, size := range []int{0, 1, limit - 1, limit, limit + 1, 100 * limit} {
		for _, mode := range []string{"content length", "chunked", "gzip", "gzip chunked"} {
			t.Run(fmt.Sprintf("%s %d", mode, size), func(t *testing.T) {
				body := bytes.Repeat([]byte("a"), size)
				server := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "text/plain")
					sent := body
					if strings.HasPrefix(mode, "gzip") {
						w.Header().Set("Content-Encoding", "gzip")
						sent = compressed(t, body)
					}
					if strings.HasSuffix(mode, "chunked") {
						w.(http.Flusher).Flush()
					} else {
						w.Header().Set("Content-Length", fmt.Sprint(len(sent)))
					}
					_, _ = w.Write(sent)
				})
				c := newTestClient(t, server.URL, func(cfg *Config) { cfg.MaxResponseBytes = limit })
				page, err := c.OrganizationMetrics(t.Context(), "o")
				if size > limit {
					e := asTestError(t, err, KindTooLarge)
					if want := "get organization metrics: answer larger than 10000 bytes"; e.Error() != want {
						t.Errorf("error is\n%s\nwant\n%s", e, want)
					}
					return
				}
				if err != nil || !bytes.Equal(page.Body, body) {
					t.Errorf("error %v, want the body", err)
				}
				if extra := cap(page.Body) - len(page.Body); extra > size/4+bytes.MinRead {
					t.Errorf("page holds %d bytes more than needed", extra)
				}
			})
		}
	}
}

func TestContentTypesOfPages(t *testing.T) {
	page := "# TYPE a gauge\na 1\n"
	for _, c := range []struct {
		contentType, body string
		want              string // of the page; "" if refused
	}{
		{"text/plain; charset=UTF-8", page, "text/plain; charset=UTF-8"},
		{"text/plain;version=0.0.4", page, "text/plain;version=0.0.4"},
		{"TEXT/PLAIN", page, "TEXT/PLAIN"},
		{"application/openmetrics-text; version=1.0.0", page, "application/openmetrics-text; version=1.0.0"},
		{"", page, "text/plain"},
		{"text/plain", "", "text/plain"},
		{"text/plain", "\n", "text/plain"},
		{"text/plain", `{"a.b",c="d"} 1` + "\n", "text/plain"}, // a name in quotes, not JSON
		{"text/plain", `{"status":500,"error":"no"}`, ""},
		{"text/plain", " \n[1]", ""},
		{"text/plain", "\uFEFF<html>", ""},
		{"text/plain", " <!DOCTYPE html>", ""},
		{"text/html", page, ""},
		{"application/json", page, ""},
		{"application/octet-stream", page, ""},
		{"text/plain; =", page, ""},
		{"application/vnd.google.protobuf", page, ""},
	} {
		server := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			if c.contentType != "" {
				w.Header().Set("Content-Type", c.contentType)
			}
			fmt.Fprint(w, c.body)
		})
		got, err := newTestClient(t, server.URL).ServiceMetrics(t.Context(), "o", "s")
		if c.want == "" {
			_ = asTestError(t, err, KindContentType)
			continue
		}
		if err != nil || got.ContentType != c.want || string(got.Body) != c.body {
			t.Errorf("%q %q: page %+v, error %v", c.contentType, c.body, got, err)
		}
	}
}
