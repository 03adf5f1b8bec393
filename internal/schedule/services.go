package schedule

import (
	"math"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// service is what the planner holds of a service.
type service struct {
	id       string
	activity inventory.Activity

	covered  bool      // by the latest answer for the organization
	asking   bool      // in flight
	askedAt  time.Time // latest request was made
	last     time.Time // data came, zero if never
	retryAt  time.Time // not to be asked before; zero if its latest request succeeded
	failures int       // in a row, as far as others succeeded meanwhile
	// successesThen is how many requests for services had succeeded when this one
	// last failed.
	successesThen uint64
	dataPeriod    time.Duration // the period under which its data came
	phase         *Phase        // nil while services are many

	queue *queue[*service] // nil when in none
	place

	details []*detailCall
}

func (p *Planner) uncovered() int {
	return p.count[inventory.Running] + p.count[inventory.Changing] + p.count[inventory.Stopped]
}

// periods returns how many planned periods may pass between two requests for a
// service.
func periods(a inventory.Activity) time.Duration {
	switch a {
	case inventory.Changing:
		return 2
	case inventory.Stopped:
		return 4
	}
	return 1
}

// load returns how many requests uncovered services need in a period.
func (p *Planner) load() float64 {
	n := 0.0
	for c := inventory.Running; c < inventory.NoMetrics; c++ {
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

// update changes a service and keeps queues and counts in step.
func (p *Planner) update(s *service, change func()) {
	if s.queue != nil {
		s.queue.remove(s)
		s.queue = nil
	}
	if s.counted() {
		p.count[s.activity]--
	}
	change()
	if s.counted() {
		p.count[s.activity]++
	}
	p.enqueue(s)
}

// counted reports whether the service has to be fetched by itself.
func (s *service) counted() bool { return s.activity != inventory.NoMetrics && !s.covered }

// enqueue puts a service, which is in no queue, where it waits for its turn.
func (p *Planner) enqueue(s *service) {
	switch {
	case !s.counted() || s.asking:
		return
	case !s.retryAt.IsZero():
		s.queue, s.key = &p.waiting, s.retryAt
	default:
		s.queue, s.key = &p.ready[s.activity], s.last
		// One that failed is tried again soon, once. From then on, or if others fail
		// as well, it must not stand in front of them for being the oldest.
		if s.failures > 1 || s.failures == 1 && p.failures >= troubleAfter {
			s.key = s.askedAt
		}
	}
	s.queue.push(s)
}

func (p *Planner) nextService(slot time.Time) (Request, bool) {
	for p.waiting.len() > 0 && !p.waiting.first().key.After(slot) {
		s := p.waiting.first()
		p.update(s, func() { s.retryAt = time.Time{} })
	}
	r := Request{Endpoint: api.EndpointServiceMetrics}
	// What the first answer for the organization covers need not be asked for.
	if p.callInterval() > 0 && p.pageAnsweredAt.IsZero() && (p.pageInFlight || p.pageAskedAt.IsZero()) {
		return r, false
	}
	if p.servicesInFlight >= min(max(minInFlight, int(10*time.Second/p.cfg.Spacing)), MaxInFlight) {
		return r, false
	}
	var best *service
	if p.phased() {
		best, r.At = p.mostDue(slot)
	} else {
		best, r.At = p.mostAged(slot)
	}
	if p.waiting.len() > 0 && (best == nil || p.waiting.first().key.Before(r.At)) {
		best = p.waiting.first()
		r.At = best.key
	}
	if best == nil {
		return r, false
	}
	if p.failures >= troubleAfter {
		// Upstream, the key or the way there. Find out now and then.
		if rest := p.serviceAskedAt.Add(p.cfg.MetricsInterval); rest.After(r.At) {
			r.At = rest
		}
	}
	r.Service = best.id
	return r, true
}

// mostDue returns which of a few services is due first, and when.
func (p *Planner) mostDue(slot time.Time) (best *service, at time.Time) {
	for c := range p.ready {
		for _, s := range p.ready[c].items {
			var due time.Time
			switch {
			case s.last.IsZero():
				due = slot
			case s.phase == nil || s.activity == inventory.Stopped:
				due = s.last.Add(p.period() * periods(s.activity))
			default:
				due = s.phase.Next()
			}
			if due.Before(slot) {
				due = slot
			}
			if best == nil || due.Before(at) || due.Equal(at) && s.activity == best.activity && s.before(&best.place) {
				best, at = s, due
			}
		}
	}
	return best, at
}

// mostAged returns which of many services has data that is the oldest, measured by
// the period of its class, and when it is to be asked.
func (p *Planner) mostAged(slot time.Time) (best *service, at time.Time) {
	period := p.period()
	oldest := 0.0 // in periods
	for c := range p.ready {
		if p.ready[c].len() == 0 {
			continue
		}
		s := p.ready[c].first()
		if s.key.IsZero() {
			best, oldest = s, math.Inf(1)
			break
		}
		if age := float64(slot.Sub(s.key)) / float64(period*periods(s.activity)); best == nil || age > oldest {
			best, oldest = s, age
		}
	}
	if best == nil {
		return nil, at
	}
	// Asking for one after the other at an even pace renews each within the period.
	// Whatever waits longer, since it is new or since others took its turn, is
	// caught up with as fast as the budget allows.
	pace := time.Duration(float64(period) / p.load())
	if best.failures == 0 && p.failures == 0 && oldest > 1 {
		pace = 0
	}
	at = p.serviceAskedAt.Add(pace)
	if fresh := best.last.Add(p.cfg.MetricsInterval * 9 / 10); fresh.After(at) {
		at = fresh
	}
	return best, at
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
		p.update(s, func() {
			s.asking, s.last = false, now
			s.failures, s.retryAt = 0, time.Time{}
		})
		s.dataPeriod = p.periodOf(s)
		return
	}
	if out.Result == ResultFailed {
		p.failures++
	}
	if s.phase != nil {
		s.phase.Failed(s.askedAt)
	}
	p.update(s, func() {
		s.asking = false
		// While nothing succeeds, nobody is to blame, and nobody waits any longer
		// for that after it is over.
		if s.failures == 0 || p.successes > s.successesThen {
			s.failures++
		}
		s.successesThen = p.successes
		wait := max(p.cfg.MetricsInterval, p.period()/4)
		most := max(probeInterval, 4*p.period())
		s.retryAt = now.Add(min(wait<<min(s.failures-1, 16), most))
	})
}
