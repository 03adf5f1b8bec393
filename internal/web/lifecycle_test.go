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
