package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// upstream answers in place of the network, so that time can be simulated.
type upstream func(*http.Request) (status int, body string, headers []string, err error)

func (u upstream) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body, headers, err := u(r)
	if err != nil {
		return nil, err
	}
	resp := &http.Response{
		StatusCode: status, Header: http.Header{}, ContentLength: int64(len(body)),
		Body: io.NopCloser(strings.NewReader(body)),
	}
	for i := 0; i < len(headers); i += 2 {
		resp.Header.Set(headers[i], headers[i+1])
	}
	return resp, nil
}

// newSimulatedClient has upstream's budget and the default number of retries.
func newSimulatedClient(t *testing.T, u http.RoundTripper, changes ...func(*Config)) *Client {
	t.Helper()
	changes = append([]func(*Config){func(cfg *Config) {
		cfg.Budget = NewBudget(BudgetConfig{Requests: 8, Window: 10 * time.Second})
		cfg.MaxRetries = 0
		cfg.Transport = u
	}}, changes...)
	return newTestClient(t, "http://api.example", changes...)
}

func TestRetries(t *testing.T) {
	const good = `{"result":[]}`
	for _, c := range []struct {
		name    string
		answers []any // status or error, the last one for ever
		change  func(*Config)
		want    []string
		kind    ErrorKind // "" is success
	}{
		{
			name: "good", answers: []any{200},
			want: []string{"services 200 ok"},
		},
		{
			name: "a failure", answers: []any{500, 200},
			want: []string{"services 500 server_error", "services 200 ok"},
		},
		{
			name: "two failures", answers: []any{503, io.ErrUnexpectedEOF, 200},
			want: []string{"services 503 server_error", "services 0 cut", "services 200 ok"},
		},
		{
			name: "no end", answers: []any{502}, kind: KindServerError,
			want: []string{"services 502 server_error", "services 502 server_error", "services 502 server_error"},
		},
		{
			name: "more", answers: []any{502}, kind: KindServerError, change: func(cfg *Config) { cfg.MaxRetries = 4 },
			want: []string{"services 502 server_error", "services 502 server_error", "services 502 server_error", "services 502 server_error", "services 502 server_error"},
		},
		{
			name: "none", answers: []any{502, 200}, kind: KindServerError, change: func(cfg *Config) { cfg.MaxRetries = -1 },
			want: []string{"services 502 server_error"},
		},
		{
			name: "the last counts", answers: []any{502, 403}, kind: KindForbidden,
			want: []string{"services 502 server_error", "services 403 forbidden"},
		},
		{
			name: "4xx", answers: []any{400, 200}, kind: KindBadRequest,
			want: []string{"services 400 bad_request"},
		},
		{
			name: "429", answers: []any{429, 200}, kind: KindRateLimited,
			want: []string{"services 429 rate_limited"},
		},
		{
			name: "no connection", answers: []any{errors.New("no route"), 200},
			want: []string{"services 0 connect", "services 200 ok"},
		},
		{
			name: "timeout", answers: []any{context.DeadlineExceeded, 200}, kind: KindTimeout,
			want: []string{"services 0 timeout"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var seen attempts
				var starts moments
				client := newSimulatedClient(t, upstream(func(_ *http.Request) (int, string, []string, error) {
					n := len(starts.at)
					starts.add()
					switch answer := c.answers[min(n, len(c.answers)-1)].(type) {
					case int:
						return answer, good, nil, nil
					case error:
						return 0, "", nil, answer
					}
					panic("neither a status nor an error")
				}), seen.hook, func(cfg *Config) {
					if c.change != nil {
						c.change(cfg)
					}
				})
				_, err := client.Services(t.Context(), "o")
				if c.kind != "" {
					_ = asTestError(t, err, c.kind)
				} else if err != nil {
					t.Error(err)
				}
				seen.check(t, c.want...)
				if used := client.budget.Usage().Used; used != len(c.want) {
					t.Errorf("%d slots used for %d requests", used, len(c.want))
				}
				starts.checkWindow(t, 1, client.budget.Spacing()-1)
			})
		})
	}
}

// With slots to spare it is the backoff that spaces the attempts.
func TestRetryBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var starts moments
		c := newSimulatedClient(t, upstream(func(_ *http.Request) (int, string, []string, error) {
			starts.add()
			var headers []string
			if len(starts.at) == 3 {
				headers = []string{"Retry-After", "20"}
			}
			// On other answers than a 429 the reset is no advice.
			return 500, "", append(headers, "X-RateLimit-Reset", "25"), nil
		}), func(cfg *Config) {
			cfg.Budget = NewBudget(BudgetConfig{Requests: 1e6, Window: time.Second})
			cfg.MaxRetries = 3
		})
		_, err := c.Services(t.Context(), "o")
		_ = asTestError(t, err, KindServerError)
		for i, want := range []time.Duration{500 * time.Millisecond, time.Second, 20 * time.Second} {
			least := want / 2
			if i == 2 {
				least = want
			}
			if got := starts.at[i+1].Sub(starts.at[i]); got < least || got > want+time.Millisecond {
				t.Errorf("retry %d after %s, want %s to %s", i+1, got, least, want)
			}
		}
	})
}

func TestRetryAfterThatIsTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		c := newSimulatedClient(t, upstream(func(_ *http.Request) (int, string, []string, error) {
			n++
			return 503, "", []string{"Retry-After", "3600"}, nil
		}))
		_, err := c.Services(t.Context(), "o")
		if e := asTestError(t, err, KindServerError); e.RetryAfter != time.Hour || n != 1 {
			t.Errorf("%d requests, retry after %s", n, e.RetryAfter)
		}
	})
}

func TestCancellation(t *testing.T) {
	blocked := upstream(func(r *http.Request) (int, string, []string, error) {
		<-r.Context().Done()
		return 0, "", nil, context.Cause(r.Context())
	})
	failing := upstream(func(_ *http.Request) (int, string, []string, error) { return 500, "", nil, nil })
	first := BudgetConfig{Requests: 1, Window: time.Minute}
	for _, c := range []struct {
		name     string
		upstream upstream
		budget   BudgetConfig
		cancel   time.Duration // after which the caller cancels
		deadline time.Duration // which the caller sets
		returned time.Duration
		kind     ErrorKind
		text     string
	}{
		{
			name: "canceled before", upstream: blocked,
			kind: KindCanceled, text: "list services: canceled",
		},
		{
			name: "canceled in the queue", upstream: blocked, budget: first, cancel: 5 * time.Second, returned: 5 * time.Second,
			kind: KindCanceled, text: "list services: canceled",
		},
		{
			name: "canceled in the request", upstream: blocked, cancel: 5 * time.Second, returned: 5 * time.Second,
			kind: KindCanceled, text: "list services: canceled",
		},
		{
			name: "canceled in the backoff", upstream: failing, cancel: 200 * time.Millisecond, returned: 200 * time.Millisecond,
			kind: KindCanceled, text: "list services: canceled",
		},
		{
			name: "deadline in the queue", upstream: blocked, budget: first, deadline: 5 * time.Second, returned: 5 * time.Second,
			kind: KindTimeout, text: "list services: deadline exceeded before the response was complete",
		},
		{
			name: "deadline in the request", upstream: blocked, deadline: 5 * time.Second, returned: 5 * time.Second,
			kind: KindTimeout, text: "list services: deadline exceeded before the response was complete",
		},
		{
			name: "deadline in the backoff", upstream: failing, deadline: 200 * time.Millisecond, returned: 200 * time.Millisecond,
			kind: KindServerError, text: "list services: API failed (status 500)",
		},
		{
			name: "timeout of the attempt", upstream: blocked, cancel: time.Hour, returned: 30*time.Second + 2,
			kind: KindTimeout, text: "list services: no complete response from api.example within 30s",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := newSimulatedClient(t, c.upstream, func(cfg *Config) {
					if c.budget.Requests == 0 {
						c.budget = BudgetConfig{Requests: 1e9, Window: time.Second}
					}
					cfg.Budget = NewBudget(c.budget)
				})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if c.deadline > 0 {
					ctx, cancel = context.WithTimeout(t.Context(), c.deadline)
					defer cancel()
				} else if c.cancel > 0 {
					timer := time.AfterFunc(c.cancel, cancel)
					defer timer.Stop()
				} else {
					cancel()
				}
				begin := time.Now()
				_, err := client.Services(ctx, "o")
				if got := time.Since(begin); got != c.returned {
					t.Errorf("returned after %s, want %s", got, c.returned)
				}
				if e := asTestError(t, err, c.kind); e.Error() != c.text || e.Endpoint != EndpointServices {
					t.Errorf("error is\n%s\nwant\n%s", e, c.text)
				}
				want := context.Canceled
				if c.kind == KindTimeout {
					want = context.DeadlineExceeded
				}
				if c.kind != KindServerError && !errors.Is(err, want) {
					t.Errorf("error %v does not wrap %v", err, want)
				}
			})
		})
	}
}

// The timeout includes the body, however steadily it drips.
func TestTimeoutInTheBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newSimulatedClient(t, dripping{})
		advance(time.Minute)
		begin := time.Now()
		_, err := c.ServiceMetrics(t.Context(), "o", "s")
		e := asTestError(t, err, KindTimeout)
		if got := time.Since(begin); got != 30*time.Second {
			t.Errorf("returned after %s, want 30s", got)
		}
		if e.StatusCode != http.StatusOK {
			t.Errorf("status %d, want 200", e.StatusCode)
		}
	})
}

// dripping answers with a byte a second.
type dripping struct{}

type drip struct{ ctx context.Context }

func (dripping) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/plain"}},
		Body: drip{r.Context()}, ContentLength: -1,
	}, nil
}

func (d drip) Read(p []byte) (int, error) {
	select {
	case <-time.After(time.Second):
		p[0] = 'a'
		return 1, nil
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	}
}

func (d drip) Close() error { return nil }

func TestTimeoutOnTheWire(t *testing.T) {
	release := make(chan struct{})
	server := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/prometheus") {
			fmt.Fprint(w, "half")
			w.(http.Flusher).Flush()
		}
		<-release
	})
	defer close(release)
	c := newTestClient(t, server.URL, func(cfg *Config) { cfg.Timeout = 50 * time.Millisecond })
	for _, endpoint := range []Endpoint{EndpointServices, EndpointServiceMetrics} {
		e := asTestError(t, callEndpoint(t.Context(), c, endpoint), KindTimeout)
		if !strings.HasSuffix(e.Error(), " within 50ms") {
			t.Error(e)
		}
	}
}

func TestRateLimited(t *testing.T) {
	for _, c := range []struct {
		headers []string
		least   time.Duration
	}{
		{nil, 10 * time.Second}, // the window
		{[]string{"X-RateLimit-Reset", "soon"}, 10 * time.Second},
		{[]string{"X-RateLimit-Reset", "0"}, time.Second},
		{[]string{"X-RateLimit-Reset", "0.2"}, 1200 * time.Millisecond},
		{[]string{"X-RateLimit-Reset", "-8"}, time.Second},
		{[]string{"X-RateLimit-Reset", "6"}, 7 * time.Second},
		{[]string{"X-RateLimit-Reset", "1000000000"}, 2 * time.Minute},
		{[]string{"Retry-After", "30"}, 30 * time.Second},
		{[]string{"Retry-After", "0"}, time.Second},
	} {
		t.Run(fmt.Sprint(c.headers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				refuse := true
				var starts moments
				client := newSimulatedClient(t, upstream(func(_ *http.Request) (int, string, []string, error) {
					starts.add()
					if refuse {
						refuse = false
						return 429, failure(429, "Too many requests"), c.headers, nil
					}
					return 200, `{"result":[]}`, nil, nil
				}))
				_, err := client.Services(t.Context(), "o")
				e := asTestError(t, err, KindRateLimited)
				most := c.least + c.least/4
				if e.RetryAfter < c.least || e.RetryAfter > most {
					t.Errorf("retry after %s, want %s to %s", e.RetryAfter, c.least, most)
				}
				if e.Message != "Too many requests" || e.StatusCode != http.StatusTooManyRequests || e.RequestID == "" {
					t.Errorf("error %+v", e)
				}
				if until := client.budget.Usage().PausedUntil; !until.Equal(starts.at[0].Add(e.RetryAfter)) {
					t.Errorf("paused until %s", until)
				}
				// All that use the budget wait, and come back spaced.
				other := newSimulatedClient(t, client.transport, func(cfg *Config) { cfg.Budget = client.budget })
				var wg sync.WaitGroup
				for _, c := range []*Client{client, other} {
					wg.Go(func() {
						if _, err := c.Services(t.Context(), "o"); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if got := starts.at[1].Sub(starts.at[0]); got < c.least || got > max(most, client.budget.Spacing()) {
					t.Errorf("next request after %s, want %s to %s", got, c.least, most)
				}
				starts.checkWindow(t, 1, client.budget.Spacing()-1)
			})
		})
	}
}

// However eager the callers and whatever the headers say, requests become few
// and stay so for as long as they are refused.
func TestRateLimitStorm(t *testing.T) {
	for _, headers := range [][]string{nil, {"X-RateLimit-Reset", "0"}, {"X-RateLimit-Reset", "0.2"}, {"X-RateLimit-Reset", "1000000000"}, {"X-RateLimit-Reset", "?"}} {
		t.Run(fmt.Sprint(headers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				var starts moments
				c := newSimulatedClient(t, upstream(func(_ *http.Request) (int, string, []string, error) {
					starts.add()
					advance(rand.N(3 * time.Second)) // so that several are in flight
					return 429, "", headers, nil
				}))
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				var wg sync.WaitGroup
				for range 10 {
					wg.Go(func() {
						for ctx.Err() == nil {
							_ = callEndpoint(ctx, c, EndpointServices)
						}
					})
				}
				wg.Wait()
				perQuarter := make([]int, 4)
				for _, at := range starts.at {
					perQuarter[min(int(at.Sub(begin)/(15*time.Minute)), 3)]++
				}
				// Upstream takes three seconds at most to refuse, in which three requests
				// may be under way. Seven doublings lead from the shortest pause to the
				// longest, of which a quarter of an hour holds seven and a half.
				if perQuarter[0] > 3*(7+8) || max(perQuarter[1], perQuarter[2], perQuarter[3]) > 3*8 {
					t.Errorf("requests per quarter of an hour: %v", perQuarter)
				}
				if min(perQuarter[1], perQuarter[2], perQuarter[3]) < 6 {
					t.Errorf("gave up: requests per quarter of an hour: %v", perQuarter)
				}
			})
		})
	}
}

// The whole: pollers and restarts at bad moments against upstream's limiter, a
// sliding window. Not one 429.
func TestSlidingWindowUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			mu      sync.Mutex
			recent  []time.Time
			refused int
			served  int
		)
		limiter := upstream(func(_ *http.Request) (int, string, []string, error) {
			advance(rand.N(300 * time.Millisecond)) // on the way
			mu.Lock()
			defer mu.Unlock()
			now := time.Now()
			for len(recent) > 0 && now.Sub(recent[0]) > 10*time.Second {
				recent = recent[1:]
			}
			if len(recent) >= 10 {
				refused++
				return 429, "", nil, nil
			}
			recent = append(recent, now)
			served++
			if rand.IntN(20) == 0 {
				return 503, "", nil, nil // retried
			}
			return 200, `{"result":[]}`, nil, nil
		})
		for begin := time.Now(); time.Since(begin) < 6*time.Hour; {
			c := newSimulatedClient(t, limiter)
			ctx, cancel := context.WithTimeout(t.Context(), rand.N(2*time.Minute))
			var wg sync.WaitGroup
			for range 5 {
				wg.Go(func() {
					for ctx.Err() == nil {
						_ = callEndpoint(ctx, c, EndpointServices)
					}
				})
			}
			wg.Wait()
			cancel()
		}
		if refused > 0 || served < 10_000 {
			t.Errorf("%d requests refused, %d served", refused, served)
		}
	})
}
