package schedule

import "time"

// detailRetry and detailRefused are after how long a detail is asked for again that
// could not be had, or that upstream will not give: for this service or key, or at all.
const (
	detailRetry   = 10 * time.Minute
	detailRefused = 6 * time.Hour
)

// detailRate returns how many requests per second are set aside for details.
func (p *Planner) detailRate() float64 {
	n := 0.0
	for _, d := range p.cfg.Details {
		of := len(p.list)
		if d.Organization {
			of = 1
		}
		n += float64(of) / max(d.Interval, time.Second).Seconds()
	}
	return min(n, 0.1/p.cfg.Spacing.Seconds())
}

func (p *Planner) nextDetail(time.Time) (r Request, ok bool) {
	var best *service
	var due time.Time
	consider := func(s *service) {
		for i, d := range p.cfg.Details {
			at := s.detailsDue[i]
			sooner := best == nil || at.Before(due) || at.Equal(due) && s.arrival < best.arrival
			if sooner && d.Organization == (s == p.organization) && !p.inFlight(d.Call, s.id) {
				best, due, r = s, at, Request{Call: d.Call, Service: s.id}
			}
		}
	}
	for _, s := range p.list {
		if s.activity != NoMetrics {
			consider(s)
		}
	}
	if p.knowsList {
		consider(p.organization)
	}
	if r.At = p.detailAskedAt.Add(10 * p.cfg.Spacing); due.After(r.At) {
		r.At = due
	}
	return r, best != nil
}

func (p *Planner) finishDetail(s *service, call Call, now time.Time, out Outcome) {
	for i, d := range p.cfg.Details {
		if d.Call != call {
			continue
		}
		wait := d.Interval
		switch out.Result {
		case ResultFailed:
			wait = min(wait, detailRetry)
		case ResultRefused:
			wait = max(wait, detailRefused)
		}
		s.detailsDue[i] = now.Add(wait)
	}
}
