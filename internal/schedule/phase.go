package schedule

import "time"

const (
	// upstreamRefresh is how often upstream renews its values, about.
	upstreamRefresh = time.Minute
	// periodTolerance is how far from that a learned period may be. Outside of it
	// there is nothing to gain that would be worth the risk of being wrong.
	periodTolerance = upstreamRefresh / 5

	// leastInterval is the shortest interval at which it pays to wait for a refresh:
	// those who ask for more polls want to hear of failures at that pace too.
	leastInterval = 10 * time.Second

	// leastWindow is how exactly a refresh is predicted at best. Narrower windows
	// would be missed by the jitter of upstream and of the way to it.
	leastWindow = 3 * time.Second
	// windowGrowth is added to both ends of a window with each period that passes.
	windowGrowth = 250 * time.Millisecond
	// learnedWindow is how wide the window may be for the phase to count as known.
	learnedWindow = 10 * time.Second

	// maxTokens bounds how many polls that were saved can be made up for at once.
	maxTokens = 3
)

// Phase learns at which moments upstream renews its values, so that the program
// can ask just after, with no more requests than it would spend by asking at a
// fixed interval.
//
// What it knows is a window: a span of time in which the next refresh is expected.
// It asks in the middle of the window, and, unless the values have changed by then,
// again at its end: either way the window has been halved and the values are fresh.
// From refresh to refresh the window moves on by the learned period and grows a little.
// If upstream turns out later than the window, the search goes on behind it in growing
// steps; if it keeps being earlier than the middle, the window stretches to the front.
// The second poll of a minute that needs only one is spent halfway between two
// refreshes, so that upstream is never out of sight for long.
//
// Polls are an interval apart where no such rhythm is found or where it is lost, and
// where the interval leaves less than two polls for each refresh or is so short that
// there is nothing to gain. Polls at the learned rhythm are up to three intervals
// apart, and never much more than a minute.
//
// It is made by newPhase, holds no clock and is not safe for concurrent use.
type Phase struct {
	interval time.Duration
	fixed    bool      // never tracks
	due      time.Time // of the next poll

	tokens    float64   // polls that may be made, as of countedAt
	countedAt time.Time // zero before the first poll

	asked time.Time // the last poll that was answered

	// While searching.
	changedAt time.Time // end of the last change
	quiet     bool      // a poll since then found nothing new
	rhythm    int       // changes in a row that fit the period
	holdOff   time.Time // until then no new attempt at tracking is made
	timesLost int       // how often tracking was given up

	// While tracking.
	tracking   bool
	period     time.Duration
	lo, hi     time.Time // the refresh is expected after lo, and not after hi
	expected   time.Time // middle of the window as it was predicted
	early      int       // refreshes in a row that came before the first poll in the window
	late       int       // polls in a row after the window that found nothing new
	unexpected int       // changes at moments when there should be none, recently
}

// newPhase returns a learner that asks for one poll per interval on average.
func newPhase(cfg Config) *Phase {
	return &Phase{interval: cfg.MetricsInterval, fixed: cfg.FixedIntervals, period: upstreamRefresh}
}

// Next returns when to poll next. It is the zero time before the first poll: at
// once.
func (p *Phase) Next() time.Time { return p.due }

// Learned returns how long upstream's period is and when the next refresh is
// expected, if that is known.
func (p *Phase) Learned() (period time.Duration, next time.Time, ok bool) {
	if !p.tracking || p.hi.Sub(p.lo) > learnedWindow {
		return 0, time.Time{}, false
	}
	return p.period, p.lo.Add(p.hi.Sub(p.lo) / 2), true
}

// Failed takes in that a poll, asked at the given time, brought no answer to
// learn from.
func (p *Phase) Failed(asked time.Time) {
	p.spend(asked)
	p.due = asked.Add(p.interval)
}

// Observe takes in an answer: when it was asked for, when it came, and whether its
// values differ from those of the answer before.
func (p *Phase) Observe(asked, answered time.Time, changed bool) {
	p.spend(asked)
	before, first := p.asked, p.asked.IsZero()
	p.asked = asked
	switch {
	case first:
	case p.tracking:
		p.track(before, asked, answered, changed)
	default:
		p.search(before, asked, answered, changed)
	}
	p.schedule()
}

// search looks for changes that are about one period apart.
func (p *Phase) search(before, asked, answered time.Time, changed bool) {
	if !changed {
		p.quiet = true
		return
	}
	apart, quiet := answered.Sub(p.changedAt), p.quiet
	first := p.changedAt.IsZero()
	p.changedAt, p.quiet = answered, false
	window := answered.Sub(before)
	switch {
	case first:
		return
	case quiet && apart >= upstreamRefresh-p.interval && apart <= upstreamRefresh+p.interval && window < upstreamRefresh:
		p.rhythm++
	default:
		p.rhythm = 0
	}
	// Halving windows takes two polls for each refresh.
	if p.fixed || p.rhythm < 2 || asked.Before(p.holdOff) ||
		p.interval < leastInterval || 2*p.interval > upstreamRefresh+periodTolerance {
		return
	}
	p.tracking, p.period = true, upstreamRefresh
	p.early, p.late, p.unexpected = 0, 0, 0
	p.lo, p.hi = before, answered
	p.advance()
}

// track narrows the window by what a poll has found.
func (p *Phase) track(before, asked, answered time.Time, changed bool) {
	if asked.Sub(p.hi) > 10*p.period {
		p.lose(asked) // suspended, perhaps
		return
	}
	missed := false
	for asked.Sub(p.hi) > p.period/2 {
		missed = missed || p.late == 0
		p.late = 0
		p.advance()
	}
	switch {
	case missed && !changed:
		p.lose(asked)
	case missed:
		// Polls failed or came late. The change was due in the window before, but
		// may also be that of this one.
		if asked.After(p.lo) {
			p.advance()
		}
	case !changed && !asked.After(p.lo):
		// Halfway, and all is quiet.
	case !changed:
		p.lo, p.early = asked, 0
		if asked.Before(p.hi) {
			return
		}
		p.late++
		if p.hi = asked.Add(leastWindow / 2 << p.late); p.hi.Sub(p.expected) > p.period/2 {
			p.lose(asked)
		}
	case !asked.After(p.lo):
		// A refresh where there should be none.
		if p.unexpected += 2; p.unexpected > 4 {
			p.lose(asked)
		}
	default:
		p.refreshed(before, answered)
	}
	// Polls that all come late let the window grow, until it says nothing any more.
	if p.tracking && p.hi.Sub(p.lo) > p.period {
		p.lose(asked)
	}
}

// refreshed takes in that upstream's values moved within the window, after the
// poll before and not after the given answer.
func (p *Phase) refreshed(before, answered time.Time) {
	if answered.Before(p.hi) {
		p.hi = answered
	}
	p.unexpected = max(p.unexpected-1, 0)
	if before.Before(p.lo) {
		// That it was not before the window was assumed, not seen.
		p.early++
	} else {
		p.early = 0
	}
	if width := p.hi.Sub(p.lo); width <= learnedWindow {
		off := p.lo.Add(width / 2).Sub(p.expected)
		p.period += off / 6
	}
	if p.early > 2 {
		p.lo = p.lo.Add(-(leastWindow / 4) << min(p.early-2, 6))
	}
	if p.early > 10 || p.period < upstreamRefresh-periodTolerance || p.period > upstreamRefresh+periodTolerance {
		p.lose(answered)
		return
	}
	p.late = 0
	p.advance()
}

// advance moves the window to the next refresh.
func (p *Phase) advance() {
	p.lo = p.lo.Add(p.period - windowGrowth)
	p.hi = p.hi.Add(p.period + windowGrowth)
	if short := leastWindow - p.hi.Sub(p.lo); short > 0 {
		p.lo = p.lo.Add(-short / 2)
		p.hi = p.hi.Add(short / 2)
	}
	p.expected = p.lo.Add(p.hi.Sub(p.lo) / 2)
}

// lose falls back to plain polling. Each time it takes longer until the next try.
func (p *Phase) lose(now time.Time) {
	p.tracking, p.rhythm, p.quiet = false, 0, false
	p.changedAt = time.Time{}
	p.holdOff = now.Add(time.Minute << min(p.timesLost, 5))
	p.timesLost++
}

// schedule sets when to poll next.
func (p *Phase) schedule() {
	regular := p.asked.Add(p.interval)
	if !p.tracking {
		p.due = regular
		return
	}
	if p.asked.After(p.lo) {
		p.due = p.affordable(p.hi, 1)
		return
	}
	p.due = p.affordable(p.lo.Add(p.hi.Sub(p.lo)/2), 1)
	// In between, if that leaves two for the window.
	if regular.Before(p.lo.Add(-p.interval/3)) && !p.affordable(regular, 1).After(regular) &&
		!p.affordable(p.due, 3).After(p.due) {
		p.due = regular
	}
}

// spend takes the token of a poll.
func (p *Phase) spend(at time.Time) {
	p.tokens = p.tokensAt(at) - 1
	p.countedAt = at
}

// tokensAt returns how many polls may be made at the time.
func (p *Phase) tokensAt(at time.Time) float64 {
	if p.countedAt.IsZero() {
		return 2
	}
	return min(p.tokens+float64(at.Sub(p.countedAt))/float64(p.interval), maxTokens)
}

// affordable returns the first moment, not before t, at which there are tokens
// for n polls.
func (p *Phase) affordable(t time.Time, n float64) time.Time {
	if short := n - p.tokensAt(t); short > 0 {
		return t.Add(time.Duration(short * float64(p.interval)))
	}
	return t
}
