package schedule

import (
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// detailCall is one slow call for one service.
type detailCall struct {
	service *service
	detail  Detail
	place   // by due time, in no queue while in flight
}

func (p *Planner) addDetails(s *service) {
	for i, d := range p.cfg.Details {
		item := &detailCall{service: s, detail: d, place: place{arrival: s.arrival*uint64(len(p.cfg.Details)) + uint64(i)}}
		s.details = append(s.details, item)
		if _, asking := p.requests[Request{Endpoint: d.Endpoint, Service: s.id}]; asking {
			item.index = -1
			continue
		}
		p.details.push(item)
	}
}

func (p *Planner) rebuildDetails() {
	p.details = queue[*detailCall]{}
	for _, s := range p.services {
		s.details = nil
		p.addDetails(s)
	}
}

// detailRate returns how many requests per second are set aside for details.
func (p *Planner) detailRate() float64 {
	n := 0.0
	for _, d := range p.cfg.Details {
		n += float64(len(p.services)) / max(d.Interval, time.Second).Seconds()
	}
	return min(n, 0.1/p.cfg.Spacing.Seconds())
}

func (p *Planner) nextDetail(slot time.Time) (Request, bool) {
	if p.details.len() == 0 {
		return Request{}, false
	}
	d := p.details.first()
	for d.service.activity == inventory.NoMetrics && !d.key.After(slot) {
		p.details.set(d, slot.Add(p.listInterval()))
		d = p.details.first()
	}
	at := p.detailAskedAt.Add(10 * p.cfg.Spacing)
	if d.key.After(at) {
		at = d.key
	}
	return Request{Endpoint: d.detail.Endpoint, Service: d.service.id, At: at}, true
}

func (p *Planner) detailOf(r Request) *detailCall {
	if s := p.services[r.Service]; s != nil {
		for _, d := range s.details {
			if d.detail.Endpoint == r.Endpoint {
				return d
			}
		}
	}
	return nil
}

func (p *Planner) startDetail(r Request, now time.Time) {
	p.detailAskedAt = now
	if d := p.detailOf(r); d != nil && d.index >= 0 {
		p.details.remove(d)
	}
}

func (p *Planner) finishDetail(r Request, now time.Time, out Outcome) {
	d := p.detailOf(r)
	if d == nil || d.index >= 0 {
		return
	}
	wait := d.detail.Interval
	if out.Result != ResultOK {
		wait = min(wait, probeInterval)
	}
	d.key = now.Add(wait)
	p.details.push(d)
}
