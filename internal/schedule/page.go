package schedule

import (
	"time"
)

func (p *Planner) callMode() OrganizationCall {
	if p.cfg.NoOrganizationMetrics || p.knowsList && len(p.services) <= 1 {
		return CallNever
	}
	return p.call
}

// callInterval returns 0 if no call is to be made.
func (p *Planner) callInterval() time.Duration {
	interval := p.cfg.MetricsInterval
	switch p.callMode() {
	case CallNever:
		return 0
	case CallRefused:
		interval *= 2
		if p.total > organizationMetricsCap {
			interval = max(interval, probeInterval)
		}
	case CallUseless:
		interval = max(interval, probeInterval)
	}
	// Together with the list it leaves something for single services, if there are any.
	least := p.cfg.Spacing * 3 / 2
	if p.uncovered() > 0 {
		least = 4 * p.cfg.Spacing
	}
	return max(interval, least)
}

func (p *Planner) nextPage(slot time.Time) (Request, bool) {
	r := Request{Call: OrganizationPage, At: slot}
	interval := p.callInterval()
	// The first list tells whether the call should be made at all.
	if interval == 0 || p.inFlight(OrganizationPage, "") || !p.listEnded {
		return r, false
	}
	switch {
	case p.pageAskedAt.IsZero():
	case interval == p.cfg.MetricsInterval:
		r.At = p.phase.Next()
	default:
		r.At = p.pageAskedAt.Add(interval)
	}
	return r, true
}

func (p *Planner) finishPage(now time.Time, out Outcome) {
	if out.Result != ResultOK {
		p.phase.Failed(p.pageAskedAt)
		if out.Result == ResultRefused {
			p.call, p.uselessPages = CallRefused, 0
			p.dropCoverage()
		}
		return
	}
	p.phase.Observe(p.pageAskedAt, now, out.Changed)
	p.pageAnsweredAt = now
	p.pageCovers = make(map[string]struct{}, len(out.Services))
	for _, id := range out.Services {
		p.pageCovers[id] = struct{}{}
	}
	useful, askable := 0, 0
	for _, s := range p.list {
		if p.covered(s) {
			useful++
			s.last, s.failures, s.retryAt = now, 0, time.Time{}
		}
		if s.activity != NoMetrics {
			askable++
		}
	}
	p.recount()
	// An answer for one service is worth as much as asking that service.
	if useful >= 2 || askable < 2 {
		p.call, p.uselessPages = CallRegularly, 0
	} else if p.uselessPages++; p.uselessPages >= maxUselessPages || p.call != CallRegularly {
		p.call = CallUseless
		p.dropCoverage()
		return
	}
	for id := range p.pageCovers {
		if s := p.services[id]; s != nil {
			s.dataPeriod = p.periodOf(s)
		}
	}
}

// dropOldCoverage hands over to single requests what answers for the organization
// have not covered for a while.
func (p *Planner) dropOldCoverage(now time.Time) {
	if p.pageCovers == nil {
		return
	}
	interval := p.callInterval()
	if interval == 0 || now.Sub(p.pageAnsweredAt) > max(interval, p.minPeriod())*5/2 {
		p.dropCoverage()
	}
}

func (p *Planner) dropCoverage() {
	p.pageCovers = nil
	p.recount()
}

// covered tells whether the latest answer for the organization has the service.
func (p *Planner) covered(s *service) bool {
	_, ok := p.pageCovers[s.id]
	return ok
}
