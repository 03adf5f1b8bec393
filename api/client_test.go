package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
		base: `{"status":200,"requestId":"r","result":[{"id":"o","name":"Org","createdAt":"2026-05-25T16:42:16Z"}]}`,
		base + "/ca04%20%C3%BC%252f%3F%23/postgres":                   `{"status":200,"requestId":"r","result":[{"id":"pg;1","name":"n"}]}`,
		base + "/ca04%20%C3%BC%252f%3F%23/postgres/pg%3B1":            `{"status":200,"requestId":"r","result":{"id":"pg;1","name":"n","hostname":"h"}}`,
		base + "/ca04%20%C3%BC%252f%3F%23/postgres/pg%3B1/config":     `{"status":200,"requestId":"r","result":{"pgConfig":{"a":1},"pgBouncerConfig":{}}}`,
		base + "/ca04%20%C3%BC%252f%3F%23/postgres/prometheus":        page,
		base + "/ca04%20%C3%BC%252f%3F%23/postgres/pg%3B1/prometheus": page,
	}
	for _, prefix := range []string{"", "/", "/some/prefix", "/some%20prefix%2F/"} {
		t.Run("prefix "+prefix, func(t *testing.T) {
			var asked record
			server := newServer(t, func(w http.ResponseWriter, r *http.Request) {
				path, found := strings.CutPrefix(r.URL.EscapedPath(), strings.TrimSuffix(prefix, "/"))
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
			seen.check(t, "organizations 200 ok", "services 200 ok", "service 200 ok",
				"service_config 200 ok", "organization_metrics 200 ok", "service_metrics 200 ok")
			if used := c.budget.Usage().Used; used != 6 || waits != 6 {
				t.Errorf("%d slots used and %d waits told, want 6", used, waits)
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

func TestRedirects(t *testing.T) {
	const list = `{"result":[]}`
	elsewhere := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("request to another host for %s with Authorization %q", r.URL, r.Header.Get("Authorization"))
	})
	var hops record
	var server *httptest.Server
	mux := http.NewServeMux()
	server = newServer(t, func(w http.ResponseWriter, r *http.Request) {
		hops.add(r.URL.Path)
		if id, secret, _ := r.BasicAuth(); id != testKeyID || secret != testSecret {
			t.Errorf("%s without credentials", r.URL)
		}
		mux.ServeHTTP(w, r)
	})
	redirect := func(status int, to string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if to != "" {
				w.Header().Set("Location", strings.ReplaceAll(to, "SELF", server.URL))
			}
			w.WriteHeader(status)
		}
	}
	mux.HandleFunc("/end", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, list) })
	mux.HandleFunc("/second", redirect(308, "/end?a=b"))
	mux.HandleFunc("/", func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("unexpected request for %s", r.URL)
	})
	for i, c := range []struct {
		status int
		to     string
		slots  int
		err    string
	}{
		{301, "/end", 2, ""},
		{302, "SELF/end", 2, ""},
		{303, "../../../../end#fragment", 2, ""},
		{307, "//" + strings.TrimPrefix(server.URL, "http://") + "/end", 2, ""},
		{308, "/second", 3, ""},
		{302, elsewhere.URL + "/s3cr3t", 1, "list services: redirect to " + elsewhere.URL + " refused, to which credentials must not be sent (status 302)"},
		{307, strings.Replace(elsewhere.URL, "http:", "", 1), 1, "list services: redirect to " + elsewhere.URL + " refused, to which credentials must not be sent (status 307)"},
		{302, strings.Replace(server.URL, "http:", "https:", 1), 1, "list services: redirect to " + strings.Replace(server.URL, "http:", "https:", 1) + " refused, to which credentials must not be sent (status 302)"},
		{302, strings.Replace(server.URL, "http://", "http://user:s3cr3t@", 1) + "/end", 1, "list services: redirect to " + server.URL + " refused, to which credentials must not be sent (status 302)"},
		{302, "javascript:alert(1)", 1, "list services: redirect to javascript:// refused, to which credentials must not be sent (status 302)"},
		{302, "", 1, "list services: redirect without a valid address (status 302)"},
		{302, "http://s3cr3t:port/", 1, "list services: redirect without a valid address (status 302)"},
		{302, "/loop", 4, "list services: more than 3 redirects (status 302)"},
		{304, "/end", 1, "list services: unexpected response status (status 304)"},
	} {
		t.Run(fmt.Sprint(c.status, " ", c.to), func(t *testing.T) {
			hops.reset()
			start := fmt.Sprintf("/start%d", i)
			mux.HandleFunc(start+"/v1/organizations/o/postgres", redirect(c.status, c.to))
			if c.to == "/loop" {
				mux.HandleFunc("/loop", redirect(302, "/loop"))
			}
			var seen attempts
			client := newTestClient(t, server.URL+start, seen.hook)
			list, err := client.Services(t.Context(), "o")
			if used := client.budget.Usage().Used; used != c.slots || len(hops.all()) != c.slots || len(seen.list) != c.slots {
				t.Errorf("%d slots used, hook told of %q, server asked for %q; want %d", used, seen.list, hops.all(), c.slots)
			}
			if c.err != "" {
				kind := KindRedirect
				if c.status == 304 {
					kind = KindUnexpectedStatus
				}
				if e := asTestError(t, err, kind); e.Error() != c.err {
					t.Errorf("error is\n%s\nwant\n%s", e, c.err)
				}
				return
			}
			if err != nil || list == nil || len(list) != 0 {
				t.Errorf("list %v, error %v", list, err)
			}
			if last := len(seen.list) - 1; seen.list[0] != fmt.Sprintf("services %d ok", c.status) || seen.list[last] != "services 200 ok" {
				t.Errorf("hook told of %q", seen.list)
			}
		})
	}
}

// Credentials for a TLS server do not go to a plain one, be it on the same host.
func TestRedirectToPlainHTTP(t *testing.T) {
	plain := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("plain request with Authorization %q", r.Header.Get("Authorization"))
	})
	server, caFile := newTLSServer(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, plain.URL, http.StatusFound)
	}, nil)
	c := newTestClient(t, server.URL, func(cfg *Config) { cfg.CAFile = caFile })
	_, err := c.Services(t.Context(), "o")
	_ = asTestError(t, err, KindRedirect)
}

func TestSameOrigin(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"https://host", "https://HOST:443/x", true},
		{"http://host:80", "http://host", true},
		{"https://host:8443", "https://host", false},
		{"http://host:443", "https://host:443", false},
		{"https://host", "https://host.evil", false},
		{"https://host", "https://host.", false},
		{"https://[::1]:443", "https://[::1]", true},
	} {
		a, errA := url.Parse(c.a)
		b, errB := url.Parse(c.b)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if got := sameOrigin(a, b); got != c.want || sameOrigin(b, a) != c.want {
			t.Errorf("%s and %s: %t, want %t", c.a, c.b, got, c.want)
		}
	}
}

// net/http repeats a request by itself when the idle connection that it chose
// was closed by the server. That may count as two requests upstream.
func TestReplayTakesASlot(t *testing.T) {
	var requests atomic.Int32
	server := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1) == 2 {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			conn.Close()
			return
		}
		fmt.Fprint(w, `{"result":[]}`)
	})
	var seen attempts
	waits := 0
	c := newTestClient(t, server.URL, seen.hook, func(cfg *Config) {
		cfg.Hooks.BudgetWait = func(Endpoint, time.Duration) { waits++ }
	})
	for range 2 {
		if _, err := c.Services(t.Context(), "o"); err != nil {
			t.Fatal(err)
		}
	}
	if used := c.budget.Usage().Used; requests.Load() != 3 || used != 3 || waits != 3 {
		t.Errorf("%d requests reached the server, for %d slots and %d waits; want 3 of each", requests.Load(), used, waits)
	}
	seen.check(t, "services 200 ok", "services 0 cut", "services 200 ok")
}

func TestReplayWithoutASlotIsNotSent(t *testing.T) {
	var requests atomic.Int32
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	server := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1) == 2 {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			conn.Close()
			return
		}
		fmt.Fprint(w, `{"result":[]}`)
	})
	var c *Client
	c = newTestClient(t, server.URL, func(cfg *Config) {
		cfg.Hooks.RequestDone = func(_ Endpoint, code int, _ error, _ time.Duration) {
			if code == 0 { // the first of the two, or the last
				c.budget.PauseUntil(time.Now().Add(time.Hour))
				cancel()
			}
		}
	})
	if _, err := c.Services(ctx, "o"); err != nil {
		t.Fatal(err)
	}
	_, err := c.Services(ctx, "o")
	_ = asTestError(t, err, KindCanceled)
	if n := requests.Load(); n != 2 {
		t.Errorf("%d requests reached the server, want 2", n)
	}
}

func TestKeyRotation(t *testing.T) {
	idFile, secretFile, swap := keyFiles(t, "id-1", "secret-1")
	var valid atomic.Pointer[Credentials]
	valid.Store(&Credentials{"id-1", "secret-1"})
	server := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if id, secret, _ := r.BasicAuth(); (Credentials{id, secret}) != *valid.Load() {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"status":401,"error":"Invalid credentials","requestId":"r-1"}`)
			return
		}
		fmt.Fprint(w, `{"result":[]}`)
	})
	var seen attempts
	files := FileCredentials(idFile, secretFile)
	c := newTestClient(t, server.URL, seen.hook, func(cfg *Config) { cfg.Credentials = files })
	call := func() error { _, err := c.Services(t.Context(), "o"); return err }

	if err := call(); err != nil {
		t.Error(err)
	}
	valid.Store(&Credentials{"id-2", "secret-2"}) // revoked before the file knows
	_ = asTestError(t, call(), KindUnauthorized)
	swap("id-2", "secret-2")
	if err := call(); err != nil {
		t.Error(err)
	}
	seen.check(t, "services 200 ok", "services 401 unauthorized", "services 200 ok")

	// A source that caches is told, and asked again within the call, once.
	for _, fresh := range []Credentials{{"id-2", "secret-2"}, {"id-3", "secret-3"}, {"id-1", "secret-1"}} {
		var seen attempts
		source := &cachingSource{cached: Credentials{"id-1", "secret-1"}, fresh: fresh}
		c := newTestClient(t, server.URL, seen.hook, func(cfg *Config) { cfg.Credentials = source })
		_, err := c.Services(t.Context(), "o")
		switch fresh.KeyID {
		case "id-2":
			if err != nil {
				t.Error(err)
			}
			seen.check(t, "services 401 unauthorized", "services 200 ok")
		case "id-3":
			_ = asTestError(t, err, KindUnauthorized)
			seen.check(t, "services 401 unauthorized", "services 401 unauthorized")
		case "id-1": // not changed: asking again would only help to lock the key
			_ = asTestError(t, err, KindUnauthorized)
			seen.check(t, "services 401 unauthorized")
		}
		if source.invalidated != 1 {
			t.Errorf("source told %d times", source.invalidated)
		}
	}
}

type cachingSource struct {
	cached, fresh Credentials
	invalidated   int
}

func (s *cachingSource) Credentials() (Credentials, error) {
	if s.invalidated > 0 {
		return s.fresh, nil
	}
	return s.cached, nil
}

func (s *cachingSource) Invalidate() { s.invalidated++ }

func TestCredentialsErrors(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	var seen attempts
	c := newTestClient(t, "http://127.0.0.1:1", seen.hook, func(cfg *Config) { cfg.Credentials = FileCredentials(missing, missing) })
	_, err := c.Services(t.Context(), "o")
	e := asTestError(t, err, KindCredentials)
	want := "list services: API key id (" + missing + ") does not exist (stat " + missing + ": no such file or directory); check the path, or create the file"
	if e.Error() != want || e.Endpoint != EndpointServices {
		t.Errorf("error is\n%s\nwant\n%s", e, want)
	}

	cause := errors.New("vault is sealed")
	c = newTestClient(t, "http://127.0.0.1:1", seen.hook, func(cfg *Config) {
		cfg.Credentials = &uncached{func() (Credentials, error) { return Credentials{}, cause }}
	})
	_, err = c.Services(t.Context(), "o")
	e = asTestError(t, err, KindCredentials)
	if want := "list services: no usable API key (vault is sealed); check the key id and secret"; e.Error() != want || !errors.Is(e, cause) {
		t.Errorf("error is\n%s\nwant\n%s", e, want)
	}
	seen.check(t)
}

// The proxy settings are read once per process, so the test has one of its own.
func TestProxyFromEnvironment(t *testing.T) {
	if os.Getenv("API_TEST_BEHIND_PROXY") != "" {
		c := newTestClient(t, "http://api.example")
		list, err := c.Services(t.Context(), "o")
		fmt.Printf("list %v, error %v\n", list, err)
		return
	}
	var asked record
	proxy := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		asked.add(r.URL.String())
		fmt.Fprint(w, `{"result":[]}`)
	})
	run := func(setting string) string {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProxyFromEnvironment$")
		cmd.Env = slices.DeleteFunc(os.Environ(), func(s string) bool {
			name, _, _ := strings.Cut(strings.ToUpper(s), "=")
			return strings.HasSuffix(name, "_PROXY")
		})
		cmd.Env = append(cmd.Env, "API_TEST_BEHIND_PROXY=1", "HTTP_PROXY="+setting)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
		line, _, _ := strings.Cut(string(out), "\n")
		return line
	}
	if got, want := run(proxy.URL), "list [], error <nil>"; got != want {
		t.Errorf("behind a proxy: %s, want %s", got, want)
	}
	if want := []string{"http://api.example/v1/organizations/o/postgres"}; !slices.Equal(asked.all(), want) {
		t.Errorf("proxy was asked for %q, want %q", asked.all(), want)
	}
	if got, want := run("http://user:s3cr3t@127.0.0.1:1"), "list [], error list services: no connection to api.example (proxyconnect tcp: dial tcp 127.0.0.1:1: connect: connection refused)"; got != want {
		t.Errorf("behind a proxy: %s, want %s", got, want)
	}
}

func TestConcurrentCalls(t *testing.T) {
	server := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"result":[{"id":"a"}]}`)
	})
	c := newTestClient(t, server.URL)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 10 {
				if list, err := c.Services(t.Context(), "o"); err != nil || len(list) != 1 {
					t.Errorf("list %v, error %v", list, err)
				}
			}
		})
	}
	wg.Wait()
	if used := c.budget.Usage().Used; used != 160 {
		t.Errorf("%d slots used, want 160", used)
	}
}
