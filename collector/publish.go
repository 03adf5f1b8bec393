package collector

import (
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
	p.published = p.newView(now, plan)
	p.c.publish(p.published)
	if st.list.tried && (st.pageTried || st.servicePages.tried || st.noMetrics()) {
		p.firstOnce.Do(func() { close(p.first) })
	}
}

// expire drops what is too old to be served.
func (p *poller) expire(now time.Time, plan schedule.Summary) {
	st := p.state
	for id, s := range st.services {
		switch {
		case s.metrics == nil || !reached(now, s.fetchedAt.Add(p.ttl(id))):
		case s.entry == nil:
			p.forget(id)
		default:
			s.expire()
		}
	}
	if reached(now, st.pageAt.Add(max(p.config.MaxAge, plan.Period*5/2))) {
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
		(!st.pageTried || st.organizationPage.err != nil && !st.pageRefused) {
		return // what the organization's page covers is not known, or it is in trouble
	}
	period := plan.Period.Round(time.Second)
	switch {
	case !st.overBudget && plan.Period > p.config.MaxAge:
		st.overBudget = true
		level.Warn(p.logger).Log("msg", "the rate budget is too small to read every service's metrics within --metrics.max-age, so that they are served for longer; ask ClickHouse support for a raised limit and set --api.rate-limit to it, divide the services among exporters (shards, organizations) with an API key each, or select fewer services",
			"uncovered_services", plan.Uncovered, "period", period, "max_age", p.config.MaxAge)
	case st.overBudget && plan.Period <= p.config.MaxAge*9/10: // well below, or it would be said again and again
		st.overBudget = false
		level.Info(p.logger).Log("msg", "the rate budget suffices again to read every service's metrics within --metrics.max-age",
			"uncovered_services", plan.Uncovered, "period", period, "max_age", p.config.MaxAge)
	}
}

// newView makes the view of the present state, using again what did not change.
func (p *poller) newView(now time.Time, plan schedule.Summary) *organizationView {
	st := p.state
	v := p.emptyView()
	v.plan, v.up = plan, p.up()
	v.discovery, v.list, v.organizationPage, v.servicePages = st.discovery, st.list, st.organizationPage, st.servicePages
	v.metricsAt, v.metricsErr, v.pollTook = st.metricsAt, st.metricsErr, st.pollTook
	v.inventory, v.totals = st.inventory, st.totals
	v.noMetrics, v.unconfirmed = st.noMetrics(), st.unconfirmed
	v.bytes = st.pageBytes
	v.next, _ = st.planner.Next(now)
	ids := make([]string, 0, len(st.services))
	for id, s := range st.services {
		v.bytes += s.pageBytes
		if id != "" {
			ids = append(ids, id)
		}
	}
	// At start, metrics are held back until the first list has been tried.
	if st.list.tried || st.unconfirmed {
		slices.Sort(ids)
		v.services = make([]*serviceView, 0, len(ids))
		for _, id := range ids {
			v.services = append(v.services, p.newServiceView(st.services[id]))
		}
		if s := st.services[""]; s != nil && s.block != nil {
			v.unnamed = p.newServiceView(s)
		}
	}
	v.summarize()
	return v
}

// emptyView makes a view of an organization of which nothing is known but who it is.
func (p *poller) emptyView() *organizationView {
	v := &organizationView{poller: p, id: p.identity.Load().ID, name: p.config.Name}
	if v.name == "" {
		v.name = p.state.foundName
	}
	config := p.config
	v.config = &config
	v.lazily()
	return v
}

// newServiceView makes the view of one service.
func (p *poller) newServiceView(s *service) *serviceView {
	f := serviceFacts{
		org: p.label(), id: s.id, entry: s.entry, hostname: s.details.hostname,
		block: s.block, listed: s.listed,
		fetchedAt: s.fetchedAt, changedAt: s.changedAt, ttl: p.ttl(s.id), utilization: s.utilization,
	}
	switch {
	case s.entry != nil:
		f.name = s.entry.Name
	case s.id != "":
		f.name = s.upstreamName()
	}
	if s.err != nil {
		f.failed = s.err.Error()
	}
	if s.block != nil {
		if p.config.Timestamps {
			f.stamp = s.changedAt
		}
		if s.own {
			f.up = s.err == nil
		} else {
			f.up = p.state.organizationPage.ok() && s.onPage
		}
	}
	if s.view == nil || s.view.serviceFacts != f || p.c.noMemo {
		s.view = newServiceView(f, s.memo)
	}
	return s.view
}

// up tells whether the latest calls for the list and for metrics worked.
func (p *poller) up() bool {
	st := p.state
	if !st.list.ok() {
		return false
	}
	if st.organizationPage.tried && !st.pageRefused {
		return st.organizationPage.err == nil
	}
	if st.noMetrics() {
		return true
	}
	// Read service by service: up as long as some can be read.
	some, failed := false, 0
	for _, s := range st.services {
		some = some || s.own && s.block != nil
		if s.err != nil {
			failed++
		}
	}
	return some && failed < len(st.inventory.IDs)
}
