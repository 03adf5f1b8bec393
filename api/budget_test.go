package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// advance lets simulated time pass.
func advance(d time.Duration) { <-time.After(d) }

// moments is a record of moments, safe for concurrent use.
type moments struct {
	mu sync.Mutex
	at []time.Time
}

func (m *moments) add() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at = append(m.at, time.Now())
}

// checkWindow fails the test if any closed window holds more than limit moments.
func (m *moments) checkWindow(t *testing.T, limit int, window time.Duration) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.at {
		if i+limit < len(m.at) {
			if span := m.at[i+limit].Sub(m.at[i]); span <= window {
				t.Fatalf("starts %d to %d lie within %s, more than %d in a window of %s", i, i+limit, span, limit, window)
			}
		}
	}
}

func TestBudgetWindow(t *testing.T) {
	const callers = 20
	configs := []BudgetConfig{
		{Requests: 8, Window: 10 * time.Second},
		{Requests: 10, Window: 10 * time.Second},
		{Requests: 1, Window: 10 * time.Second},
		{Requests: 3, Window: 10 * time.Second},    // not divisible
		{Requests: 1000, Window: 10 * time.Second}, // a raised limit
	}
	scenarios := map[string]func(ctx context.Context, b *Budget, starts *moments){
		"always waiting": func(ctx context.Context, b *Budget, starts *moments) {
			for {
				if _, err := b.Wait(ctx); err != nil {
					return
				}
				starts.add()
			}
		},
		"idle at times": func(ctx context.Context, b *Budget, starts *moments) {
			for {
				advance(rand.N(40 * b.Spacing()))
				if _, err := b.Wait(ctx); err != nil {
					return
				}
				starts.add()
			}
		},
		"impatient": func(ctx context.Context, b *Budget, starts *moments) {
			for ctx.Err() == nil {
				short, cancel := context.WithTimeout(ctx, rand.N(30*b.Spacing()))
				if _, err := b.Wait(short); err == nil {
					starts.add()
				}
				cancel()
			}
		},
		"paused at times": func(ctx context.Context, b *Budget, starts *moments) {
			for {
				if _, err := b.Wait(ctx); err != nil {
					return
				}
				starts.add()
				if rand.IntN(10) == 0 {
					b.PauseUntil(time.Now().Add(rand.N(20 * b.Spacing())))
				}
			}
		},
	}
	for _, cfg := range configs {
		for name, scenario := range scenarios {
			t.Run(fmt.Sprintf("%d/%s", cfg.Requests, name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := NewBudget(cfg)
					var starts moments
					ctx, cancel := context.WithTimeout(t.Context(), 500*b.Spacing())
					defer cancel()
					var wg sync.WaitGroup
					for range callers {
						wg.Go(func() { scenario(ctx, b, &starts) })
					}
					wg.Wait()
					if len(starts.at) < 20 {
						t.Errorf("only %d starts in 500 spacings", len(starts.at))
					}
					starts.checkWindow(t, cfg.Requests, cfg.Window)
				})
			})
		}
	}
}

// A process that is restarted over and over, at whichever moment, stays within
// the window though no budget knows of the one before.
func TestBudgetCrashLoop(t *testing.T) {
	for _, lifetime := range []string{"one request", "random"} {
		t.Run(lifetime, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := BudgetConfig{Requests: 8, Window: 10 * time.Second}
				var starts moments
				for range 200 {
					b := NewBudget(cfg)
					ctx, cancel := context.WithTimeout(t.Context(), rand.N(10*b.Spacing()))
					for {
						if lifetime == "one request" {
							ctx = t.Context()
						}
						if _, err := b.Wait(ctx); err != nil {
							break
						}
						starts.add()
						if lifetime == "one request" {
							break
						}
					}
					cancel()
				}
				if len(starts.at) < 150 {
					t.Errorf("only %d starts", len(starts.at))
				}
				starts.checkWindow(t, cfg.Requests, cfg.Window)
			})
		})
	}
}

func TestBudgetIsEvenAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(BudgetConfig{Requests: 8, Window: 10 * time.Second})
		created := time.Now()
		type start struct {
			caller int
			after  time.Duration
			waited time.Duration
		}
		var mu sync.Mutex
		var got []start
		var wg sync.WaitGroup
		for caller := range 30 {
			wg.Go(func() {
				waited, err := b.Wait(t.Context())
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				got = append(got, start{caller, time.Since(created), waited})
			})
			synctest.Wait() // it is in the queue
		}
		wg.Wait()
		for i, s := range got {
			after := time.Duration(i+1) * b.Spacing()
			if want := (start{i, after, after}); s != want {
				t.Fatalf("start %d is %+v, want %+v", i, s, want)
			}
		}
	})
}

func TestBudgetSavesNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(BudgetConfig{Requests: 8, Window: 10 * time.Second})
		advance(time.Hour) // or suspended
		for i, want := range []time.Duration{0, b.Spacing(), b.Spacing()} {
			if waited, err := b.Wait(t.Context()); err != nil || waited != want {
				t.Errorf("wait %d took %s (error %v), want %s", i, waited, err, want)
			}
		}
	})
}

func TestBudgetCanceledWaiterLeavesItsSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(BudgetConfig{Requests: 8, Window: 10 * time.Second})
		created := time.Now()
		head, cancelHead := context.WithCancel(t.Context())
		third, cancelThird := context.WithCancel(t.Context())
		after := make([]time.Duration, 4)
		errs := make([]error, 4)
		var wg sync.WaitGroup
		for i, ctx := range []context.Context{head, t.Context(), third, t.Context()} {
			wg.Go(func() {
				_, errs[i] = b.Wait(ctx)
				after[i] = time.Since(created)
			})
			synctest.Wait()
		}
		cancelHead()
		cancelThird()
		synctest.Wait()
		if !errors.Is(errs[0], context.Canceled) || !errors.Is(errs[2], context.Canceled) || after[0] != 0 || after[2] != 0 {
			t.Errorf("canceled waiters returned %v after %s and %v after %s, want at once", errs[0], after[0], errs[2], after[2])
		}
		wg.Wait()
		if errs[1] != nil || errs[3] != nil || after[1] != b.Spacing() || after[3] != 2*b.Spacing() {
			t.Errorf("others started after %s and %s (errors %v, %v), want after one and two spacings of %s",
				after[1], after[3], errs[1], errs[3], b.Spacing())
		}
		if used := b.Usage().Used; used != 2 {
			t.Errorf("%d requests used, want 2", used)
		}
	})
}

func TestBudgetCanceledBeforehand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(BudgetConfig{Requests: 8, Window: 10 * time.Second})
		advance(time.Minute) // a slot is free
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 50 {
			if waited, err := b.Wait(ctx); !errors.Is(err, context.Canceled) || waited != 0 {
				t.Fatalf("waited %s, error %v; want a canceled context at once", waited, err)
			}
		}
		if used := b.Usage().Used; used != 0 {
			t.Errorf("%d requests used, want none", used)
		}
	})
}

func TestBudgetPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(BudgetConfig{Requests: 8, Window: 10 * time.Second})
		if until := b.Usage().PausedUntil; !until.IsZero() {
			t.Errorf("a new budget is paused until %s", until)
		}
		begin := time.Now()
		started := make(chan time.Duration, 2)
		for range 2 {
			go func() {
				if _, err := b.Wait(t.Context()); err != nil {
					t.Error(err)
				}
				started <- time.Since(begin)
			}()
		}
		synctest.Wait() // one sleeps already, towards an earlier slot
		b.PauseUntil(begin.Add(time.Minute))
		b.PauseUntil(begin.Add(time.Second))              // does not shorten
		b.PauseUntil(begin.Add(2 * time.Minute).Round(0)) // no monotonic reading
		b.PauseUntil(time.Time{})
		if until := b.Usage().PausedUntil; !until.Equal(begin.Add(2 * time.Minute)) {
			t.Errorf("paused until %s after the beginning, want 2m", until.Sub(begin))
		}
		if got := <-started; got != 2*time.Minute {
			t.Errorf("first start after %s, want 2m", got)
		}
		if got := <-started; got != 2*time.Minute+b.Spacing() {
			t.Errorf("second start after %s, want 2m and a spacing of %s", got, b.Spacing())
		}
		if until := b.Usage().PausedUntil; !until.IsZero() {
			t.Errorf("still paused until %s", until)
		}
	})
}

func TestBudgetUsage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(BudgetConfig{Requests: 4, Window: 10 * time.Second})
		for range 10 {
			if _, err := b.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		want := BudgetUsage{Used: 4, Limit: 4, Window: 10 * time.Second}
		if got := b.Usage(); got != want {
			t.Errorf("usage %+v, want %+v", got, want)
		}
		advance(5 * time.Second)
		want.Used = 2
		if got := b.Usage(); got != want {
			t.Errorf("usage %+v, want %+v", got, want)
		}
		advance(6 * time.Second)
		want.Used = 0
		if got := b.Usage(); got != want {
			t.Errorf("usage %+v, want %+v", got, want)
		}
	})
}

func TestBudgetOfNothing(t *testing.T) {
	if u := NewBudget(BudgetConfig{}).Usage(); u.Limit != 1 || u.Window != 10*time.Second {
		t.Errorf("zero config yields %+v, want 1 request in 10s", u)
	}
	if u := NewBudget(BudgetConfig{Requests: -5, Window: -1}).Usage(); u.Limit != 1 || u.Window != 10*time.Second {
		t.Errorf("negative config yields %+v, want 1 request in 10s", u)
	}
}

func TestBudgetRefusals(t *testing.T) {
	within := func(t *testing.T, got, least time.Duration) {
		t.Helper()
		if most := least + least/4; got < least || got > most {
			t.Errorf("pause of %s, want %s to %s", got, least, most)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(BudgetConfig{Requests: 8, Window: 10 * time.Second})
		refuse := func(asked time.Duration, given bool) time.Duration {
			if _, err := b.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			started := time.Now()
			advance(50 * time.Millisecond)
			return b.refuse(started, asked, given)
		}
		// In a row: doubled up to the cap, whatever upstream asks for.
		for _, least := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 120, 120, 120} {
			within(t, refuse(0, true), least*time.Second)
		}
		// An answer ends the row.
		if _, err := b.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.accept(time.Now())
		within(t, refuse(3*time.Second, true), 3*time.Second)
		_, _ = b.Wait(t.Context())
		b.accept(time.Now())
		within(t, refuse(0, false), 10*time.Second) // not given: the window
		_, _ = b.Wait(t.Context())
		b.accept(time.Now())
		within(t, refuse(1e9*time.Second, true), 2*time.Minute)

		// Requests in flight together are refused together, which counts once; nor
		// does the late success of one of them end the row.
		_, _ = b.Wait(t.Context())
		b.accept(time.Now())
		_, _ = b.Wait(t.Context())
		early := time.Now()
		advance(time.Second)
		for range 5 {
			within(t, b.refuse(early, 8*time.Second, true), 8*time.Second)
		}
		b.accept(early)
		within(t, refuse(8*time.Second, true), 16*time.Second)
	})
}

func TestPauseAfter(t *testing.T) {
	for _, c := range []struct {
		asked    time.Duration
		refusals int
		random   float64
		want     time.Duration
	}{
		{0, 1, 0, time.Second},
		{-time.Hour, 1, 0, time.Second},
		{200 * time.Millisecond, 1, 0, time.Second},
		{3 * time.Second, 1, 0, 3 * time.Second},
		{4 * time.Second, 1, 0.5, 4500 * time.Millisecond},
		{4 * time.Second, 3, 0, 16 * time.Second},
		{90 * time.Second, 2, 0, 2 * time.Minute},
		{1<<63 - 1, 1, 0, 2 * time.Minute},
		{1<<63 - 1, math.MaxInt, 0.99, 2*time.Minute + 29700*time.Millisecond},
		{0, math.MaxInt, 0, 2 * time.Minute},
	} {
		if got := pauseAfter(c.asked, c.refusals, c.random); got != c.want {
			t.Errorf("pauseAfter(%s, %d, %v) = %s, want %s", c.asked, c.refusals, c.random, got, c.want)
		}
	}
}
