package schedule

import (
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// detailRate returns how many requests per second are set aside for details.
func (p *Planner) detailRate() float64 {
	n := 0.0
	for _, d := range p.cfg.Details {
		n += float64(len(p.services)) / max(d.Interval, time.Second).Seconds()
	}
	return min(n, 0.1/p.cfg.Spacing.Seconds())
}

func (p *Planner) nextDetail(time.Time) (r Request, ok bool) {
	var best *service
	var due time.Time
	for _, s := range p.services {
		for i, at := range s.detailsDue {
			sooner := best == nil || at.Before(due) || at.Equal(due) && s.arrival < best.arrival
			if endpoint := p.cfg.Details[i].Endpoint; sooner && s.activity != inventory.NoMetrics && !p.inFlight(endpoint, s.id) {
				best, due, r = s, at, Request{Endpoint: endpoint, Service: s.id}
			}
		}
	}
	if r.At = p.detailAskedAt.Add(10 * p.cfg.Spacing); due.After(r.At) {
		r.At = due
	}
	return r, best != nil
}

func (p *Planner) finishDetail(s *service, endpoint api.Endpoint, now time.Time, out Outcome) {
	for i, d := range p.cfg.Details {
		wait := d.Interval
		if out.Result != ResultOK {
			wait = min(wait, probeInterval)
		}
		if d.Endpoint == endpoint {
			s.detailsDue[i] = now.Add(wait)
		}
	}
}
