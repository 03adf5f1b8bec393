package schedule

import (
	"cmp"
	"math"
	"time"
)

// service is what the planner holds of a service.
type service struct {
	id       string
	activity Activity
	arrival  uint64 // decides among equals

	askedAt  time.Time // latest request was made
	last     time.Time // data came, zero if never
	retryAt  time.Time // not to be asked before; zero if its latest request succeeded
	failures int       // in a row, as far as others succeeded meanwhile
	// successesThen is how many requests for services had succeeded when this one
	// last failed.
	successesThen uint64
	dataPeriod    time.Duration // the period under which its data came
	phase         *Phase        // nil while services are many

	detailsDue []time.Time // as in the configuration
}

func (p *Planner) uncovered() int {
	return p.count[Running] + p.count[Changing] + p.count[Stopped]
}

// periods returns how many planned periods may pass between two requests for a
// service.
func periods(a Activity) time.Duration {
	switch a {
	case Changing:
		return 2
	case Stopped:
		return 4
	}
	return 1
}

// load returns how many requests uncovered services need in a period.
func (p *Planner) load() float64 {
	n := 0.0
	for c := Running; c < NoMetrics; c++ {
		n += float64(p.count[c]) / float64(periods(c))
	}
	return n
}

// allowed returns the shortest period that the budget allows.
func (p *Planner) allowed() time.Duration {
	perSecond := 1/p.cfg.Spacing.Seconds() - 1/p.listInterval().Seconds() - p.detailRate()
	if interval := p.callInterval(); interval > 0 {
		perSecond -= 1 / interval.Seconds()
	}
	return time.Duration(p.load() / (budgetMargin * perSecond) * float64(time.Second))
}

// period returns the planned refresh period of running services that are fetched
// one by one.
func (p *Planner) period() time.Duration {
	return max(p.cfg.MetricsInterval, p.allowed())
}

// phased reports whether there is room to poll each service at upstream's phase.
func (p *Planner) phased() bool {
	return p.uncovered() <= maxPhased && p.allowed() <= p.cfg.MetricsInterval
}

// counted reports whether the service has to be asked by itself.
func (p *Planner) counted(s *service) bool { return s.activity != NoMetrics && !p.covered(s) }

// recount counts the services that have to be asked by themselves.
func (p *Planner) recount() {
	clear(p.count[:])
	for _, s := range p.list {
		if p.counted(s) {
			p.count[s.activity]++
		}
	}
}

func (p *Planner) nextService(slot time.Time) (Request, bool) {
	r := Request{Call: ServicePage}
	// What the first answer for the organization covers need not be asked for.
	if p.callInterval() > 0 && p.pageAnsweredAt.IsZero() &&
		(p.inFlight(OrganizationPage, "") || p.pageAskedAt.IsZero()) {
		return r, false
	}
	inFlight := 0
	for other := range p.requests {
		if other.Call == r.Call {
			inFlight++
		}
	}
	if inFlight >= min(max(minInFlight, int(10*time.Second/p.cfg.Spacing)), maxInFlight) {
		return r, false
	}
	wait := p.byAge(slot)
	phased := p.phased()
	if phased {
		wait = p.byPhase(slot)
	}
	var best, failed *service
	least := 0.0
	for _, s := range p.list {
		switch {
		case !p.counted(s):
		case s.retryAt.After(slot):
			if (failed == nil || cmp.Or(s.retryAt.Compare(failed.retryAt), cmp.Compare(s.arrival, failed.arrival)) < 0) && !p.inFlight(r.Call, s.id) {
				failed = s
			}
		default:
			w := wait(s)
			if (best == nil || w < least || w == least && p.before(s, best)) && !p.inFlight(r.Call, s.id) {
				best, least = s, w
			}
		}
	}
	switch {
	case best == nil:
	case phased:
		r.At = slot.Add(time.Duration(least))
	default:
		r.At = p.paced(best, -least)
	}
	if failed != nil && (best == nil || failed.retryAt.Before(r.At)) {
		best, r.At = failed, failed.retryAt
	}
	if best == nil {
		return r, false
	}
	// If it is upstream, the key or the way there, find out now and then.
	if rest := p.serviceAskedAt.Add(p.cfg.MetricsInterval); p.failures >= troubleAfter && rest.After(r.At) {
		r.At = rest
	}
	r.Service = best.id
	return r, true
}

// since returns from when on a service has been waiting for its turn.
func (p *Planner) since(s *service) time.Time {
	// One that failed is tried again soon, once. From then on, or if others fail
	// as well, it must not stand in front of them for being the oldest.
	if s.failures > 1 || s.failures == 1 && p.failures >= troubleAfter {
		return s.askedAt
	}
	return s.last
}

// before tells which of two services that wait alike goes first.
func (p *Planner) before(s, other *service) bool {
	return cmp.Or(cmp.Compare(s.activity, other.activity), p.since(s).Compare(p.since(other)), cmp.Compare(s.arrival, other.arrival)) < 0
}

// byPhase returns how long a service is to wait yet, in nanoseconds, where services are
// few.
func (p *Planner) byPhase(slot time.Time) func(*service) float64 {
	period := p.period()
	return func(s *service) float64 {
		switch {
		case s.last.IsZero():
			return 0
		case s.phase == nil || s.activity == Stopped:
			return float64(max(s.last.Add(period*periods(s.activity)).Sub(slot), 0))
		}
		return float64(max(s.phase.Next().Sub(slot), 0))
	}
}

// byAge returns how long a service has been waiting, in negative periods of its
// activity, where services are many.
func (p *Planner) byAge(slot time.Time) func(*service) float64 {
	period := p.period()
	return func(s *service) float64 {
		since := p.since(s)
		if since.IsZero() {
			return math.Inf(-1)
		}
		return -float64(slot.Sub(since)) / float64(period*periods(s.activity))
	}
}

// paced returns when to ask for a service of many, which has been waiting for so many
// periods.
func (p *Planner) paced(s *service, waited float64) time.Time {
	// Asking for one after the other at an even pace renews each within the period.
	// Whatever waits longer, since it is new or since others took its turn, is
	// caught up with as fast as the budget allows.
	pace := time.Duration(float64(p.period()) / p.load())
	if s.failures == 0 && p.failures == 0 && waited > 1 {
		pace = 0
	}
	at := p.serviceAskedAt.Add(pace)
	if fresh := s.last.Add(p.cfg.MetricsInterval * 9 / 10); fresh.After(at) {
		return fresh
	}
	return at
}

func (p *Planner) finishService(s *service, now time.Time, out Outcome) {
	if out.Result == ResultOK {
		p.failures = 0
		p.successes++
		if !p.phased() {
			s.phase = nil
		} else if s.phase == nil {
			s.phase = newPhase(p.cfg)
		}
		if s.phase != nil {
			s.phase.Observe(s.askedAt, now, out.Changed)
		}
		s.last, s.failures, s.retryAt = now, 0, time.Time{}
		s.dataPeriod = p.periodOf(s)
		return
	}
	if out.Result == ResultFailed {
		p.failures++
	}
	if s.phase != nil {
		s.phase.Failed(s.askedAt)
	}
	// While nothing succeeds, nobody is to blame, and nobody waits any longer
	// for that after it is over.
	if s.failures == 0 || p.successes > s.successesThen {
		s.failures++
	}
	s.successesThen = p.successes
	wait := max(p.cfg.MetricsInterval, p.period()/4)
	most := max(probeInterval, 4*p.period())
	s.retryAt = now.Add(min(wait<<min(s.failures-1, 16), most))
}
