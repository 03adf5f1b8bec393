package api

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// defaultWindow is upstream's documented window.
	defaultWindow = 10 * time.Second

	// minPause and maxPause bound what a 429 can ask for, before jitter. The
	// lower one keeps a reset of 0 from being an invitation to hammer, the upper
	// one keeps an absurd reset from stopping the exporter for the day.
	minPause = time.Second
	maxPause = 2 * time.Minute
)

// BudgetConfig says how many requests this process may start in any window. What
// other users of the same API key need must already be taken off.
type BudgetConfig struct {
	Requests int           // at least 1; less is taken as 1
	Window   time.Duration // 0 or less is taken as 10s, the window that upstream documents
}

// BudgetUsage is a snapshot of a [Budget].
type BudgetUsage struct {
	Used        int           // requests started within the last window
	Limit       int           // requests allowed in a window
	Window      time.Duration // length of the window
	PausedUntil time.Time     // zero when not paused
}

// Budget spaces the requests of one API key evenly. It is safe for concurrent
// use; every client that uses the key must share it.
//
// Spacing, unlike a bucket of tokens, has no credit that a restart could refill
// or a pause could save up: the first slot comes one spacing after creation, so
// that a process in a crash loop stays within the limit too, and a machine that
// wakes from suspension goes on at the same pace. Only monotonic time counts, so
// that a corrected clock changes nothing.
type Budget struct {
	limit   int
	window  time.Duration
	spacing time.Duration

	// turn holds a value while a waiter is at the head of the queue. The runtime
	// serves blocked senders in the order of their arrival, which makes the
	// channel the queue, and one that a canceled waiter can leave.
	turn chan struct{}

	mu       sync.Mutex
	next     time.Time   // no start before
	paused   time.Time   // nor before this
	starts   []time.Time // of the last window, oldest first
	refusals int         // 429s in a row, those of one storm counted once
	refused  time.Time   // when the last of them was counted
}

// NewBudget returns a budget whose first slot is one spacing away.
func NewBudget(cfg BudgetConfig) *Budget {
	limit, window := max(cfg.Requests, 1), cfg.Window
	if window <= 0 {
		window = defaultWindow
	}
	// The hundredth on top keeps a request that waits a moment in the network,
	// and then arrives together with the next one, from being one too many.
	spacing := window / time.Duration(limit)
	spacing += spacing/100 + 1
	return &Budget{
		limit:   limit,
		window:  window,
		spacing: spacing,
		turn:    make(chan struct{}, 1),
		next:    time.Now().Add(spacing),
	}
}

// Wait blocks until the caller may start one request and returns how long that
// took. Callers are served in the order of their arrival. The error is that of
// ctx, and then no slot was used.
func (b *Budget) Wait(ctx context.Context) (waited time.Duration, err error) {
	asked := time.Now()
	select {
	case b.turn <- struct{}{}:
	case <-ctx.Done():
		return time.Since(asked), ctx.Err()
	}
	defer func() { <-b.turn }()

	for {
		if err := ctx.Err(); err != nil {
			return time.Since(asked), err
		}
		remaining := b.take()
		if remaining <= 0 {
			return time.Since(asked), nil
		}
		timer := time.NewTimer(remaining)
		select {
		case <-timer.C: // look again: a pause may have begun meanwhile
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// take uses the slot if it is due, or else returns how far away it is.
func (b *Budget) take() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	due := b.next
	if b.paused.After(due) {
		due = b.paused
	}
	if remaining := due.Sub(now); remaining > 0 {
		return remaining
	}
	b.next = now.Add(b.spacing)
	b.forget(now)
	b.starts = append(b.starts, now)
	return 0
}

// forget drops the starts that have left the window.
func (b *Budget) forget(now time.Time) {
	n := 0
	for n < len(b.starts) && now.Sub(b.starts[n]) > b.window {
		n++
	}
	b.starts = append(b.starts[:0], b.starts[n:]...)
}

// PauseUntil starts no request before t. It never shortens a pause.
func (b *Budget) PauseUntil(t time.Time) {
	// A t without a monotonic reading is compared with the wall clock here, once.
	d := time.Until(t)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pause(d)
}

func (b *Budget) pause(d time.Duration) {
	if until := time.Now().Add(d); until.After(b.paused) {
		b.paused = until
	}
}

// Spacing is the least time between two starts, a little more than the window
// divided by the requests allowed in it.
func (b *Budget) Spacing() time.Duration { return b.spacing }

// Usage returns what is used of the budget now.
func (b *Budget) Usage() BudgetUsage {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.forget(now)
	u := BudgetUsage{Used: len(b.starts), Limit: b.limit, Window: b.window}
	if b.paused.After(now) {
		u.PausedUntil = b.paused
	}
	return u
}

// refuse pauses the budget after a 429 to a request that began at started, and
// returns the pause. asked is what upstream asked for; not given is the window.
func (b *Budget) refuse(started time.Time, asked time.Duration, given bool) time.Duration {
	if !given {
		asked = b.window
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	// Several requests in flight may meet the same refusal. Only one that began
	// after the last pause was imposed says that the pause was too short.
	if b.refusals == 0 || started.After(b.refused) {
		b.refusals++
		b.refused = time.Now()
	}
	b.pause(pauseAfter(asked, b.refusals, rand.Float64()))
	return time.Until(b.paused)
}

// accept ends a row of refusals: a request that began at started was answered by
// something other than a 429.
func (b *Budget) accept(started time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if started.After(b.refused) {
		b.refusals = 0
	}
}

// pauseAfter is the pause for the given number of refusals in a row: what
// upstream asked for within the bounds, doubled for every refusal after the
// first, and lengthened by up to a quarter (random is in [0,1)) so that processes
// refused together do not come back together.
func pauseAfter(asked time.Duration, refusals int, random float64) time.Duration {
	pause := min(max(asked, minPause), maxPause)
	for ; refusals > 1 && pause < maxPause; refusals-- {
		pause = min(2*pause, maxPause)
	}
	return pause + time.Duration(random*float64(pause)/4)
}
