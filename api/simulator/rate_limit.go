package simulator

import "time"

// limiter is a sliding window per API key: at most limit requests are let through in any
// window. A request that is refused takes no place in the window. The caller locks.
type limiter struct {
	limit  int // 0 or less: no limit
	window time.Duration
	taken  map[string][]time.Time
}

// take asks for a place at now. If there is none, it returns how long until there is one.
func (l *limiter) take(key string, now time.Time) (wait time.Duration, ok bool) {
	if l.limit <= 0 {
		return 0, true
	}
	if l.taken == nil {
		l.taken = make(map[string][]time.Time)
	}
	recent := l.taken[key][:0]
	for _, t := range l.taken[key] {
		// A clock that was set back must not lock a key out: times in the future are forgotten.
		if age := now.Sub(t); age >= 0 && age < l.window {
			recent = append(recent, t)
		}
	}
	defer func() { l.taken[key] = recent }()
	if len(recent) >= l.limit {
		return recent[len(recent)-l.limit].Add(l.window).Sub(now), false
	}
	recent = append(recent, now)
	return 0, true
}

// SetRateLimit changes the limit of every key: n requests in any window, no limit when n is 0.
func (s *Simulator) SetRateLimit(n int, window time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limiter.limit, s.limiter.window = n, window
}
