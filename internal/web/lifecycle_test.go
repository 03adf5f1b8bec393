package web

import (
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

func TestReload(t *testing.T) {
	var active, calls atomic.Int32
	fail := make(chan error, 1)
	url := serve(t, Options{Collector: withData(), Reload: func() error {
		if active.Add(1) > 1 {
			t.Error("two reloads at once")
		}
		defer active.Add(-1)
		calls.Add(1)
		select {
		case err := <-fail:
			return err
		default:
			return nil
		}
	}})
	fail <- errors.New("line 3: no such action \"drp\"\nsee the documentation")
	a := do(t, "POST", url+"/-/reload", nil)
	if want := "reload failed, the running configuration stays in effect: line 3: no such action \"drp\" see the documentation\n"; a.code != 500 || string(a.body) != want {
		t.Errorf("code %d, body %q", a.code, a.body)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if a := do(t, "POST", url+"/-/reload", nil); a.code != http.StatusOK {
				t.Errorf("code %d, body %q", a.code, a.body)
			}
		})
	}
	wg.Wait()
	do(t, "GET", url+"/-/reload", nil)
	if got := calls.Load(); got != 21 {
		t.Errorf("%d reloads", got)
	}
}

// TestReloadFromAnotherOrigin: a page that an administrator happens to visit cannot
// reload, whatever password the browser adds.
func TestReloadFromAnotherOrigin(t *testing.T) {
	calls := 0
	url := serve(t, Options{Collector: withData(), Reload: func() error { calls++; return nil }})
	for _, test := range []struct {
		header http.Header
		want   int
	}{
		{http.Header{}, 200}, // curl
		{http.Header{"Origin": {url}}, 200},
		{http.Header{"Sec-Fetch-Site": {"same-origin"}, "Origin": {"https://as.the.proxy.calls.it"}}, 200},
		{http.Header{"Origin": {"https://evil.example.com"}}, 403},
		{http.Header{"Origin": {"null"}}, 403},
		{http.Header{"Sec-Fetch-Site": {"cross-site"}}, 403},
		{http.Header{"Sec-Fetch-Site": {"same-site"}}, 403},
	} {
		for _, method := range []string{http.MethodPost, http.MethodPut} {
			before := calls
			if a := do(t, method, url+"/-/reload", test.header); a.code != test.want || (calls > before) != (test.want == 200) {
				t.Errorf("%s with %v: code %d, %d reloads, body %q", method, test.header, a.code, calls-before, a.body)
			}
		}
	}
}

func TestReloadSwitchedOff(t *testing.T) {
	a := do(t, http.MethodPost, serve(t, Options{Collector: withData()})+"/-/reload", nil)
	if want := "reloading by HTTP is switched off: set --web.enable-lifecycle, or send SIGHUP\n"; a.code != http.StatusForbidden || string(a.body) != want {
		t.Errorf("code %d, body %q", a.code, a.body)
	}
}
