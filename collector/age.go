package collector

import "time"

// age returns how long ago then was. It is never negative, and right after a
// suspension of the machine and after a wall clock that was set back: see the
// package comment.
func age(now, then time.Time) time.Duration {
	return max(now.Sub(then), now.Round(0).Sub(then.Round(0)), 0)
}

// reached tells whether the instant t has come, by either clock.
func reached(now, t time.Time) bool {
	return !now.Before(t) || !now.Round(0).Before(t.Round(0))
}

// unixSeconds returns a moment as the value of a metric.
func unixSeconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
