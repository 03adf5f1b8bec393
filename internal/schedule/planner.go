// Package schedule decides which request of an organization its rate budget is spent
// on next, and when. It is pure: it asks nobody and holds no clock.
package schedule

import (
	"slices"
	"time"
)

const (
	// organizationMetricsCap is how many services upstream's call for the metrics
	// of a whole organization answers for. What it does above is not documented.
	organizationMetricsCap = 100
	maxUselessPages        = 3                // how many of its answers in a row may be of no use before it is tried rarely
	probeInterval          = 10 * time.Minute // how often that is

	// budgetMargin is the part of the budget that planning counts on. The rest makes
	// up for retries and for calls that come late.
	budgetMargin = 0.9
	// maxPhased is how many services, fetched one by one, are each polled at
	// upstream's phase. More of them would stand in each other's way at that moment.
	maxPhased = 8
	// troubleAfter is how many failures in a row suggest that it is not the
	// services that fail.
	troubleAfter = 5
	// minInFlight and maxInFlight bound how many services are asked at a time,
	// however slowly upstream answers.
	minInFlight, maxInFlight = 8, 64
)

// Planner decides which request an organization's budget is spent on next.
//
// The list of services and the metrics of the whole organization come first, each
// at its interval. What the latest answer for the organization does not cover is
// fetched service by service: those with the oldest data first, running services
// before others, and evenly spread over a period that is as short as the rest of
// the budget allows. So an answer that is cut off may have any members, and change
// them; one that is refused, and an organization that grows or shrinks past upstream's
// cap, are just the extreme cases.
//
// A service that fails while others do not is asked less and less often. Where
// everything fails, requests become rare, none loses its place, and all resume with
// the first success.
//
// A Planner holds no clock and is not safe for concurrent use. Several requests may be
// under way at a time, but never two for the same thing.
type Planner struct {
	cfg Config

	startedAt time.Time // the latest request
	paused    time.Time
	requests  map[Request]struct{} // in flight, without At

	listDue   time.Time
	listEnded bool // once, well or not
	knowsList bool
	total     int // services of the organization, selected or not

	call           OrganizationCall
	pageAskedAt    time.Time           // latest call was made, zero if none
	pageAnsweredAt time.Time           // latest good answer
	pageCovers     map[string]struct{} // services in that answer; nil = none
	uselessPages   int                 // answers in a row that were of no use
	phase          *Phase

	services       map[string]*service
	list           []*service // the same
	organization   *service   // for what is asked for once for all of them
	arrivals       uint64
	count          [activities]int // services that have to be asked by themselves, see recount
	serviceAskedAt time.Time       // latest request for a service
	successes      uint64          // of such requests
	failures       int             // of such requests, in a row
	detailAskedAt  time.Time       // latest request for a detail
}

// New returns a planner for an organization of which nothing is known yet.
// The first request is the list, at once.
func New(cfg Config, now time.Time) *Planner {
	p := &Planner{listDue: now, call: CallRegularly, services: map[string]*service{}, organization: &service{}, requests: map[Request]struct{}{}}
	p.Reconfigure(cfg)
	return p
}

// Reconfigure changes what New was given and keeps all that has been learned.
func (p *Planner) Reconfigure(cfg Config) {
	cfg.Spacing = max(cfg.Spacing, time.Millisecond)
	cfg.MetricsInterval = max(cfg.MetricsInterval, time.Millisecond)
	cfg.InventoryInterval = max(cfg.InventoryInterval, time.Millisecond)
	anew := p.phase == nil || cfg.MetricsInterval != p.cfg.MetricsInterval
	otherDetails := !slices.Equal(cfg.Details, p.cfg.Details)
	p.cfg = cfg
	if anew {
		p.phase = newPhase(cfg)
	}
	for _, s := range append(slices.Clip(p.list), p.organization) {
		if otherDetails {
			s.detailsDue = make([]time.Time, len(cfg.Details))
		}
		if anew {
			s.phase = nil
		}
	}
}

// Abort takes in that all requests in flight have been given up.
func (p *Planner) Abort() { clear(p.requests) }

func (p *Planner) inFlight(call Call, service string) bool {
	_, ok := p.requests[Request{Call: call, Service: service}]
	return ok
}

// SetServices tells which services are to be exported, and how many the
// organization has in all. It may be called at any time, also before the list has
// been read, for services of which the ids are known.
func (p *Planner) SetServices(now time.Time, selected []Service, total int) {
	p.knowsList, p.total = true, total
	last := p.services
	p.services, p.list = make(map[string]*service, len(selected)), nil
	for _, want := range selected {
		if p.services[want.ID] != nil {
			continue
		}
		s, ok := last[want.ID]
		if !ok {
			s = &service{id: want.ID, activity: want.Activity, arrival: p.arrivals, detailsDue: make([]time.Time, len(p.cfg.Details))}
			p.arrivals++
			if p.covered(s) {
				s.last = p.pageAnsweredAt
			}
		}
		if s.activity != want.Activity {
			s.activity, s.failures, s.retryAt = want.Activity, 0, time.Time{}
		}
		p.services[s.id] = s
		p.list = append(p.list, s)
	}
	p.recount()
	p.dropOldCoverage(now)
}

// PauseUntil keeps anything from being planned before t.
func (p *Planner) PauseUntil(t time.Time) {
	if t.After(p.paused) {
		p.paused = t
	}
}

// Next returns the request to be made next and when, which may be in the future.
// There is none while all that could be asked is under way.
func (p *Planner) Next(now time.Time) (Request, bool) {
	p.dropOldCoverage(now)
	slot := now
	for _, t := range []time.Time{p.startedAt.Add(p.cfg.Spacing), p.paused} {
		if t.After(slot) {
			slot = t
		}
	}
	var best Request
	found := false
	// In the order of what goes first when several are due.
	for _, candidate := range []func(time.Time) (Request, bool){p.nextList, p.nextPage, p.nextService, p.nextDetail} {
		r, ok := candidate(slot)
		if !ok {
			continue
		}
		if r.At.Before(slot) {
			r.At = slot
		}
		if !found || r.At.Before(best.At) {
			best, found = r, true
		}
	}
	return best, found
}

// Started takes in that the request is being made. Every started request must be
// reported by [Planner.Finished].
func (p *Planner) Started(r Request, now time.Time) {
	p.startedAt = now
	r.At = time.Time{}
	p.requests[r] = struct{}{}
	switch r.Call {
	case List:
		p.listDue = now.Add(p.listInterval())
	case OrganizationPage:
		p.pageAskedAt = now
	case ServicePage:
		p.serviceAskedAt = now
		if s := p.services[r.Service]; s != nil {
			s.askedAt = now
		}
	default:
		p.detailAskedAt = now
	}
}

// Finished takes in how a request ended. The request is one that Next returned; its
// At does not matter.
func (p *Planner) Finished(r Request, now time.Time, out Outcome) {
	if !p.inFlight(r.Call, r.Service) {
		return
	}
	delete(p.requests, Request{Call: r.Call, Service: r.Service})
	s := p.services[r.Service]
	if r.Service == "" {
		s = p.organization
	}
	switch {
	case r.Call == List:
		p.listEnded = true
		if soon := now.Add(p.cfg.MetricsInterval); out.Result != ResultOK && !p.knowsList && soon.Before(p.listDue) {
			p.listDue = soon // without it nothing else gets going
		}
	case r.Call == OrganizationPage:
		p.finishPage(now, out)
	case s == nil: // gone in the meantime
	case r.Call == ServicePage:
		p.finishService(s, now, out)
	default:
		p.finishDetail(s, r.Call, now, out)
	}
}

// Period returns in which time the service's metrics are renewed, by sum. While
// a plan changes it is the longer one of that under which the service's data came
// and the new one: data does not become too old by a change of mind.
func (p *Planner) Period(id string) time.Duration {
	s := p.services[id]
	if s == nil {
		return max(p.cfg.MetricsInterval, p.minPeriod())
	}
	return max(p.periodOf(s), s.dataPeriod)
}

// minPeriod returns how far apart polls may be that follow upstream's rhythm: the
// period of data is never taken for shorter.
func (p *Planner) minPeriod() time.Duration {
	return min(upstreamRefresh, 2*p.cfg.MetricsInterval)
}

func (p *Planner) periodOf(s *service) time.Duration {
	period := p.period() * periods(s.activity)
	if p.covered(s) {
		period = p.callInterval()
	}
	return max(period, p.minPeriod())
}

// Summary returns what the planner is up to.
func (p *Planner) Summary() Summary {
	sum := Summary{Uncovered: p.uncovered(), Period: p.period(), OrganizationCall: p.callMode()}
	if p.pageCovers != nil {
		sum.Period = max(sum.Period, p.callInterval())
	}
	var phase *Phase
	if sum.OrganizationCall == CallRegularly {
		phase = p.phase
	} else if len(p.list) == 1 {
		phase = p.list[0].phase
	}
	if phase != nil {
		sum.PhasePeriod, sum.PhaseNext, sum.PhaseLearned = phase.Learned()
	}
	return sum
}

func (p *Planner) listInterval() time.Duration {
	// However small the budget is, two of three requests are left for metrics.
	return max(p.cfg.InventoryInterval, 3*p.cfg.Spacing)
}

func (p *Planner) nextList(time.Time) (Request, bool) {
	return Request{Call: List, At: p.listDue}, !p.inFlight(List, "")
}
