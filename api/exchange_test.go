package api

import (
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
)

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

// cutSecond returns a handler that closes the connection on the second request that it counts,
// and answers all others with an empty list.
func cutSecond(requests *atomic.Int32) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 2 {
			raw("")(w, r)
			return
		}
		fmt.Fprint(w, `{"result":[]}`)
	}
}

// net/http repeats a request by itself when the idle connection that it chose
// was closed by the server. That may count as two requests upstream.
func TestReplayTakesASlot(t *testing.T) {
	var requests atomic.Int32
	server := newServer(t, cutSecond(&requests))
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
	server := newServer(t, cutSecond(&requests))
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
