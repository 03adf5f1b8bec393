package collector

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"github.com/go-kit/log/level"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

// parse has a parser read the page of a response.
func (p *poller) parse(parser *exposition.Parser, r *response) (*exposition.Page, error) {
	if r.err != nil {
		return nil, r.err
	}
	page := r.page
	// OpenMetrics says where it ends, so that the parser would refuse one that was cut.
	whole := page.Complete || len(page.Body) == 0 || bytes.HasSuffix(page.Body, []byte("\n")) || bytes.HasSuffix(page.Body, []byte("\n# EOF"))
	if !whole {
		return nil, &refusedError{"parse", "the metrics page ends in the middle of a line, so it may have been cut off; keeping the last good page"}
	}
	if p.c.options.NoMemo {
		parser.Forget()
	}
	parsed, err := parser.Parse(page.Body, page.ContentType)
	if err != nil {
		return nil, err
	}
	if parsed.Downgraded > 0 {
		p.c.health.downgrades.WithLabelValues(p.id()).Add(float64(parsed.Downgraded))
		if !p.state.downgraded {
			p.state.downgraded = true
			level.Warn(p.logger).Log("msg", "Upstream has metric families of an unknown type; exporting them as the nearest known type", "families", parsed.Downgraded)
		}
	}
	return parsed, nil
}

// takePage takes in the response to a call for the organization's page.
func (p *poller) takePage(r *response, now time.Time, outcome *schedule.Outcome) error {
	st := p.state
	page, err := p.parse(st.parser, r)
	if err == nil && len(page.Groups) == 0 && !st.mayBeEmpty(now) {
		err = &refusedError{"empty", "the organization's metrics page is unexpectedly empty; keeping the last good page"}
	}
	st.pageOK = err == nil
	st.pageRefused = p.result(r.request.Call, err) == schedule.ResultRefused
	if st.pageRefused && st.inventory != nil && len(st.inventory.IDs) > 1 {
		// Upstream may refuse the page of an organization with too many services, and
		// to keys that may read services only: then every service's own page is read,
		// and nothing is wrong.
		if st.organizationPage.err == nil {
			level.Info(p.logger).Log("msg", "Upstream refuses the organization's metrics page; reading each service's page instead", "err", err)
		}
		st.organizationPage = st.organizationPage.after(now, err)
		return err
	}
	p.observe(&st.organizationPage, now, err, r.endpoint, "Metrics read")
	st.metricsErr = err
	if err != nil {
		return err
	}
	p.setPage(page, r.receivedAt(now), outcome)
	return nil
}

// setPage makes a page the organization's newest.
func (p *poller) setPage(page *exposition.Page, at time.Time, outcome *schedule.Outcome) {
	st := p.state
	st.metricsAt, st.pageAt, st.pageBytes = at, at, page.Bytes
	st.page = make(map[string]*exposition.Metrics, len(page.Groups))
	for id, m := range p.byID(page.Groups) {
		if id != "" {
			outcome.Services = append(outcome.Services, id)
		}
		st.page[id] = m
		if !p.exports(id, at) {
			continue
		}
		s := p.service(id)
		if p.setMetrics(s, m, at, false) {
			outcome.Changed = true
		}
		st.page[id] = s.metrics
		p.c.health.dropped(p.id(), s.block.Dropped())
	}
	// What the inventory does not know lives only as long as upstream names it.
	for id, s := range st.services {
		if s.entry == nil && st.page[id] == nil {
			delete(st.services, id)
			outcome.Changed = true
		}
	}
}

// byID returns the groups of a page by the service's id as it is written here.
func (p *poller) byID(groups map[string]*exposition.Metrics) map[string]*exposition.Metrics {
	byID := make(map[string]*exposition.Metrics, len(groups))
	for _, spelling := range slices.Sorted(maps.Keys(groups)) {
		id := inventory.CanonicalID(spelling)
		// One service in two spellings; of these, the one in lower case comes last.
		p.c.health.dropped(p.id(), exposition.Drops{Duplicate: byID[id].Series()})
		byID[id] = groups[spelling]
	}
	return byID
}

// takeServicePage takes in the response to a call for a service's own page.
func (p *poller) takeServicePage(r *response, now time.Time, outcome *schedule.Outcome) error {
	st, id := p.state, r.request.Service
	if st.inventory != nil && st.inventory.Services[id] == nil {
		return r.err // the service has gone in the meantime
	}
	s := p.service(id)
	parser := s.parser
	if parser == nil {
		parser = st.parser.Like()
	}
	page, err := p.parse(parser, r)
	if err == nil && len(page.Groups) == 0 && s.mustHaveMetrics(now) {
		err = &refusedError{"empty", "the service's metrics page is empty although the service is running; keeping the last good page"}
	}
	s.err = err
	p.observeEach(&st.servicePages, st.services, func(s *service) error { return s.err }, now, r.endpoint,
		"Cannot read a service's metrics page; serving its last good data until it is too old",
		"Every service's metrics page can be read again")
	if err != nil {
		if p.result(r.request.Call, err) != schedule.ResultRefused && (!st.organizationPage.tried || st.organizationPage.err != nil) {
			st.metricsErr = err
		}
		return err
	}
	if !st.organizationPage.tried || st.organizationPage.err != nil {
		st.metricsErr = nil
	}
	at := r.receivedAt(now)
	st.metricsAt = at
	if m := page.Groups[""]; m != nil {
		outcome.Changed = p.setMetrics(s, m, at, true)
		s.parser, s.pageBytes = parser, page.Bytes
		p.c.health.dropped(p.id(), s.block.Dropped())
	}
	outcome.Services = []string{id}
	return nil
}

// mayBeEmpty tells whether an organization's page without series is believable.
func (st *state) mayBeEmpty(now time.Time) bool {
	if st.inventory == nil {
		return false
	}
	for _, s := range st.services {
		if s.mustHaveMetrics(now) {
			return false
		}
	}
	return true
}

// mustHaveMetrics tells whether upstream must have metrics of the service: it runs, and
// not only just now.
func (s *service) mustHaveMetrics(now time.Time) bool {
	if !s.entry.Running() {
		return false
	}
	started := s.entry.RunningSince
	return !s.fetchedAt.IsZero() || started.IsZero() || age(now, started) >= emptyPageGrace
}
