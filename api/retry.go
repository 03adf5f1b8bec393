package api

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	firstBackoff = 500 * time.Millisecond
	maxBackoff   = 10 * time.Second
	// maxRetryAfter is how long a call waits because a 5xx asks for it. Beyond,
	// the caller's next poll is the retry.
	maxRetryAfter = 30 * time.Second
)

// retryAfter decides whether an attempt that failed with e is followed by another
// one, after how many there were already, and when. random is in [0,1).
func retryAfter(e *Error, retries, maxRetries int, random float64) (wait time.Duration, retry bool) {
	if retries >= maxRetries || !retryable(e) || e.RetryAfter > maxRetryAfter {
		return 0, false
	}
	return max(backoff(retries, random), e.RetryAfter), true
}

// retryable tells whether the same request may well succeed in a moment. What
// took the whole timeout is left to the next poll: a black hole would hold a call
// for several times as long; so is what a human has to mend.
func retryable(e *Error) bool {
	switch e.Kind {
	case KindServerError:
		return e.StatusCode != http.StatusNotImplemented
	case KindCut, KindConnect:
		return true
	}
	return false
}

// backoff doubles with every retry, and lies between half of that and the whole
// of it, so that what failed together does not come again together.
func backoff(retries int, random float64) time.Duration {
	d := maxBackoff
	if retries < 16 {
		d = min(firstBackoff<<max(retries, 0), maxBackoff)
	}
	return d/2 + time.Duration(random*float64(d/2))
}

// refusalDelay returns how long a 429 asks its client to wait: the later of what
// X-RateLimit-Reset and Retry-After say. It is at least 0 and has no upper bound.
// ok is false if neither header makes sense.
func refusalDelay(h http.Header, now time.Time) (delay time.Duration, ok bool) {
	delay, ok = retryAfterDelay(h, now)
	// Upstream's own Terraform provider adds a second, since the reset may be
	// rounded down.
	if reset, given := parseSeconds(h.Get("X-RateLimit-Reset")); given {
		delay, ok = max(delay, saturatingAdd(reset, time.Second)), true
	}
	return delay, ok
}

// retryAfterDelay returns what Retry-After says, in seconds or as a date, which
// counts from the answer's own date or else from now. It is at least 0.
func retryAfterDelay(h http.Header, now time.Time) (delay time.Duration, ok bool) {
	text := h.Get("Retry-After")
	if d, ok := parseSeconds(text); ok {
		return d, true
	}
	at, ok := parseHTTPDate(text)
	if !ok {
		return 0, false
	}
	if date, dated := parseHTTPDate(h.Get("Date")); dated {
		now = date // the same clock, so that its error cancels out
	}
	return max(at.Sub(now), 0), true
}

// parseSeconds takes seconds as a decimal number; what is less than 0 is 0, what
// is more than a duration holds is the longest one.
func parseSeconds(s string) (time.Duration, bool) {
	s = strings.TrimSpace(s)
	// ParseFloat takes more than numbers, such as nan, infinity and 0x1p-2.
	if s == "" || strings.Trim(s, "0123456789.+-eE") != "" {
		return 0, false
	}
	v, err := strconv.ParseFloat(s, 64)
	switch {
	case err != nil && !math.IsInf(v, 0): // out of range yields an infinity
		return 0, false
	case v <= 0:
		return 0, true
	case v >= math.MaxInt64/float64(time.Second):
		return math.MaxInt64, true
	}
	return time.Duration(v * float64(time.Second)), true
}

func parseHTTPDate(s string) (time.Time, bool) {
	t, err := http.ParseTime(strings.TrimSpace(s))
	return t, err == nil
}

func saturatingAdd(a, b time.Duration) time.Duration {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
