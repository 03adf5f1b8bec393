package collector

import (
	"maps"
	"slices"
	"time"

	"github.com/go-kit/log/level"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

// publish makes the poller's state what readers see.
func (p *poller) publish(now time.Time) {
	st := p.state
	plan := st.planner.Summary()
	p.expire(now, plan)
	if plan.OrganizationCall == schedule.CallNever && st.organizationPage.tried {
		// It is not asked for any more, so that it cannot recover either.
		st.organizationPage = condition{lastSuccess: st.organizationPage.lastSuccess}
		st.pageRefused = false
		if st.servicePages.err == nil {
			st.metricsErr = nil
		}
	}
	p.observeBudget(plan)
	st.organization = p.organizationBlock()
	p.view.Store(p.newView(now, plan))
	if st.list.tried && (st.organizationPage.tried || st.servicePages.tried || st.noMetrics()) {
		p.tried()
	}
}

// expire drops what is too old to be served.
func (p *poller) expire(now time.Time, plan schedule.Summary) {
	st := p.state
	for id, s := range st.services {
		switch {
		case s.metrics == nil || !reached(now, s.fetchedAt.Add(p.ttl(id))):
		case s.entry == nil:
			delete(st.services, id)
		default:
			s.expire()
		}
	}
	if st.page != nil && reached(now, st.pageAt.Add(max(p.config.MaxAge, plan.Period*5/2))) {
		st.page, st.pageBytes = nil, 0
		st.parser.Forget()
	}
}

// ttl returns for how long a service's metrics are served: a service that is read
// rarely, because the budget allows no more, must not vanish between two readings.
func (p *poller) ttl(id string) time.Duration {
	return max(p.config.MaxAge, p.state.planner.Period(id)*5/2)
}

// observeBudget says once when the budget is too small to keep metrics as young as
// they are meant to be, and once when that is over.
func (p *poller) observeBudget(plan schedule.Summary) {
	st := p.state
	if plan.OrganizationCall != schedule.CallNever &&
		(!st.organizationPage.tried || st.organizationPage.err != nil && !st.pageRefused) {
		return // what the organization's page covers is not known, or it is in trouble
	}
	period := plan.Period.Round(time.Second)
	switch {
	case !st.overBudget && plan.Period > p.config.MaxAge:
		st.overBudget = true
		level.Warn(p.logger).Log("msg", "The rate budget is too small to read every service within "+p.config.Names.MaxAge+", so metrics are served for longer. Ask ClickHouse support for a higher limit and set "+p.config.Names.RateLimit+", select fewer services, or divide them among shards or organizations with an API key each",
			"uncovered_services", plan.Uncovered, "period", period, "max_age", p.config.MaxAge)
	case st.overBudget && plan.Period <= p.config.MaxAge*9/10: // well below, or it would be said again and again
		st.overBudget = false
		level.Info(p.logger).Log("msg", "The rate budget is sufficient again to read every service within "+p.config.Names.MaxAge,
			"uncovered_services", plan.Uncovered, "period", period, "max_age", p.config.MaxAge)
	}
}

// newView makes the view of the present state, using again what did not change.
func (p *poller) newView(now time.Time, plan schedule.Summary) *organizationView {
	st := p.state
	v := &organizationView{poller: p, config: p.config, id: p.id(), name: p.name(), facts: st.facts, whole: *st.whole, plan: plan, bytes: st.pageBytes}
	v.next, _ = st.planner.Next(now)
	for _, s := range st.services {
		v.bytes += s.pageBytes
	}
	if st.list.tried || st.unconfirmed {
		v.services = make([]*serviceView, 0, len(st.services))
		for _, id := range slices.SortedFunc(maps.Keys(st.services), compareIDs) {
			v.services = append(v.services, p.serviceView(st.services[id]))
		}
	}
	v.complete()
	return v
}

// serviceView makes the view of one service, which may be the one before.
func (p *poller) serviceView(s *service) *serviceView {
	st := p.state
	v := &serviceView{service: *s, ttl: p.ttl(s.id)}
	v.asked = !s.fetchedAt.IsZero() || s.err != nil || st.organizationPage.err != nil && !st.pageRefused
	if s.block != nil {
		if p.config.Timestamps {
			v.stamp = s.changedAt
		}
		v.up = s.err == nil && (s.own || st.pageOK && st.page[s.id] != nil)
	}
	var last *serviceView
	if view := p.view.Load(); view != nil && view.id == p.id() && !p.c.options.NoMemo {
		last = view.service(s.id)
	}
	if p.config.CollectServiceHealth && s.id != "" {
		if last != nil {
			v.health = last.health
		}
		// Most services are as they were, and so is what follows from that.
		if v.health == nil || *last != *v {
			v.health = v.healthBlock(p.id(), v.health)
		}
	}
	if last != nil && *last == *v {
		return last
	}
	return v
}
