package api

import (
	"math"
	"net/http"
	"testing"
	"time"
)

func TestRefusalDelay(t *testing.T) {
	now := time.Date(2026, 5, 25, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name                    string
		reset, retryAfter, date string
		want                    time.Duration
		ok                      bool
	}{
		{name: "absent"},
		{name: "seconds", reset: "7", want: 8 * time.Second, ok: true},
		{name: "white space", reset: " 7 ", want: 8 * time.Second, ok: true},
		{name: "fractional", reset: "0.2", want: 1200 * time.Millisecond, ok: true},
		{name: "exponent", reset: "2e0", want: 3 * time.Second, ok: true},
		{name: "zero", reset: "0", want: time.Second, ok: true},
		{name: "negative", reset: "-3.5", want: time.Second, ok: true},
		{name: "huge", reset: "1000000000", want: 1000000001 * time.Second, ok: true},
		{name: "absurd", reset: "9e99", want: math.MaxInt64, ok: true},
		{name: "out of range", reset: "1e999", want: math.MaxInt64, ok: true},
		{name: "out of range below", reset: "-1e999", want: time.Second, ok: true},
		{name: "tiny", reset: "1e-999", want: time.Second, ok: true},
		{name: "garbage", reset: "soon"},
		{name: "not a number", reset: "NaN"},
		{name: "infinity", reset: "Inf"},
		{name: "hexadecimal", reset: "0x10"},
		{name: "underscore", reset: "1_0"},
		{name: "signs", reset: "+-+"},
		{name: "a list", reset: "1, 2"},

		{name: "retry-after seconds", retryAfter: "7", want: 7 * time.Second, ok: true},
		{name: "retry-after zero", retryAfter: "0", want: 0, ok: true},
		{name: "retry-after date", retryAfter: "Mon, 25 May 2026 12:00:20 GMT", want: 20 * time.Second, ok: true},
		{name: "retry-after date by upstream's clock", retryAfter: "Mon, 25 May 2026 15:00:20 GMT", date: "Mon, 25 May 2026 15:00:15 GMT", want: 5 * time.Second, ok: true},
		{name: "retry-after date gone", retryAfter: "Sun, 24 May 2026 12:00:00 GMT", want: 0, ok: true},
		{name: "retry-after far date", retryAfter: "Fri, 31 Dec 9999 23:59:59 GMT", want: math.MaxInt64, ok: true},
		{name: "retry-after garbage", retryAfter: "tomorrow"},

		{name: "both, reset later", reset: "7", retryAfter: "2", want: 8 * time.Second, ok: true},
		{name: "both, retry-after later", reset: "7", retryAfter: "20", want: 20 * time.Second, ok: true},
		{name: "both, one garbage", reset: "?", retryAfter: "20", want: 20 * time.Second, ok: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := http.Header{}
			for name, value := range map[string]string{"X-RateLimit-Reset": c.reset, "Retry-After": c.retryAfter, "Date": c.date} {
				if value != "" {
					h.Set(name, value)
				}
			}
			if got, ok := refusalDelay(h, now); got != c.want || ok != c.ok {
				t.Errorf("got %s, %t; want %s, %t", got, ok, c.want, c.ok)
			}
		})
	}
}

func FuzzRefusalDelay(f *testing.F) {
	for _, s := range []string{"", "0", "0.2", "-1", "1e9", "1e999", "NaN", "0x1p4", "Mon, 25 May 2026 12:00:20 GMT", "garbage"} {
		f.Add(s, "", "")
		f.Add("", s, "Mon, 25 May 2026 12:00:00 GMT")
	}
	f.Fuzz(func(t *testing.T, reset, retryAfter, date string) {
		h := http.Header{"X-Ratelimit-Reset": {reset}, "Retry-After": {retryAfter}, "Date": {date}}
		delay, ok := refusalDelay(h, time.Unix(1779710400, 0))
		if delay < 0 || (!ok && delay != 0) {
			t.Errorf("delay %s, %t", delay, ok)
		}
		for _, refusals := range []int{1, 2, 100} {
			if pause := pauseAfter(delay, refusals, 0.999); pause < minPause || pause > maxPause+maxPause/4 {
				t.Errorf("pause of %s", pause)
			}
		}
	})
}

func TestBackoff(t *testing.T) {
	for retries, most := range map[int]time.Duration{
		0: 500 * time.Millisecond, 1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second,
		5: 10 * time.Second, 15: 10 * time.Second, 64: 10 * time.Second, math.MaxInt: 10 * time.Second,
		-1: 500 * time.Millisecond,
	} {
		if least, almost := backoff(retries, 0), backoff(retries, 0.999999); least != most/2 || almost < most*9/10 || almost > most {
			t.Errorf("backoff after %d retries is %s to %s, want half to whole of %s", retries, least, almost, most)
		}
	}
}

func TestRetryPolicy(t *testing.T) {
	for _, c := range []struct {
		e       Error
		retries int
		wait    time.Duration
		retry   bool
	}{
		{Error{Kind: KindServerError, StatusCode: 500}, 0, 250 * time.Millisecond, true},
		{Error{Kind: KindServerError, StatusCode: 503}, 1, 500 * time.Millisecond, true},
		{Error{Kind: KindServerError, StatusCode: 503}, 2, 0, false},
		{Error{Kind: KindServerError, StatusCode: 501}, 0, 0, false},
		{Error{Kind: KindServerError, StatusCode: 503, RetryAfter: 7 * time.Second}, 0, 7 * time.Second, true},
		{Error{Kind: KindServerError, StatusCode: 503, RetryAfter: time.Millisecond}, 0, 250 * time.Millisecond, true},
		{Error{Kind: KindServerError, StatusCode: 503, RetryAfter: time.Hour}, 0, 0, false},
		{Error{Kind: KindCut}, 0, 250 * time.Millisecond, true},
		{Error{Kind: KindConnect}, 0, 250 * time.Millisecond, true},
		{Error{Kind: KindRateLimited, StatusCode: 429}, 0, 0, false},
		{Error{Kind: KindUnauthorized, StatusCode: 401}, 0, 0, false},
		{Error{Kind: KindForbidden, StatusCode: 403}, 0, 0, false},
		{Error{Kind: KindNotFound, StatusCode: 404}, 0, 0, false},
		{Error{Kind: KindBadRequest, StatusCode: 400}, 0, 0, false},
		{Error{Kind: KindRedirect, StatusCode: 302}, 0, 0, false},
		{Error{Kind: KindUnexpectedStatus, StatusCode: 204}, 0, 0, false},
		{Error{Kind: KindContentType, StatusCode: 200}, 0, 0, false},
		{Error{Kind: KindTooLarge, StatusCode: 200}, 0, 0, false},
		{Error{Kind: KindDecode, StatusCode: 200}, 0, 0, false},
		{Error{Kind: KindTimeout}, 0, 0, false},
		{Error{Kind: KindDNS}, 0, 0, false},
		{Error{Kind: KindTLS}, 0, 0, false},
		{Error{Kind: KindCredentials}, 0, 0, false},
		{Error{Kind: KindCanceled}, 0, 0, false},
	} {
		if wait, retry := retryAfter(&c.e, c.retries, 2, 0); wait != c.wait || retry != c.retry {
			t.Errorf("%s %d after %d retries: %s, %t; want %s, %t", c.e.Kind, c.e.StatusCode, c.retries, wait, retry, c.wait, c.retry)
		}
	}
}
