package collector

import (
	"math"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
)

const (
	// organizationMetricsCap is how many services upstream's call for the metrics
	// of a whole organization answers for. What it does above is not documented.
	organizationMetricsCap = 100
	// probeInterval is how often that call is tried while it is known to be of no use.
	probeInterval = 10 * time.Minute
	// uselessAnswers is how many answers in a row may be of no use before that is
	// taken as known.
	uselessAnswers = 3

	// planMargin is the part of the budget that planning counts on. The rest makes
	// up for retries and for calls that come late.
	planMargin = 0.9
	// fewServices is how many services, fetched one by one, are each polled at
	// upstream's phase. More of them would stand in each other's way at that moment.
	fewServices = 8
	// troubleAfter is how many failures in a row suggest that it is not the
	// services that fail.
	troubleAfter = 5
	// leastInFlight and mostInFlight bound how many services are asked at a time,
	// however slowly upstream answers.
	leastInFlight, mostInFlight = 8, 64
)

// PlannerConfig configures a [Planner].
type PlannerConfig struct {
	Spacing           time.Duration // least time between two requests, see [api.Budget.Spacing]
	MetricsInterval   time.Duration // between polls of the same metrics; the least refresh period
	InventoryInterval time.Duration // between polls of the list

	// NoOrganizationMetrics says that the call for the metrics of the whole
	// organization must not be made, since the user named the services.
	NoOrganizationMetrics bool

	// Details are calls for each service that may take their time.
	Details []Detail
}

// Detail is a call that is made for each service once per interval. All details
// together get at most a tenth of the budget.
type Detail struct {
	Endpoint api.Endpoint
	Interval time.Duration
}

// PlannedService is what the planner needs to know of a service.
type PlannedService struct {
	ID    string
	State string // as upstream has it, "" = not known
}

// Request is a planned request to upstream.
type Request struct {
	Endpoint api.Endpoint
	Service  string    // "" for those about the organization
	At       time.Time // when to make it; not before
}

// Result is how a request ended, as far as planning is concerned.
type Result int

const (
	// ResultOK is an answer that could be used.
	ResultOK Result = iota
	// ResultFailed says nothing about what was asked for: upstream, the way to it,
	// the key or the budget may be the reason.
	ResultFailed
	// ResultRefused means that upstream understood and will not answer: a status of
	// 4xx except 401, 403, 408 and 429.
	ResultRefused
)

// Outcome is what came of a request. All but Result is for metrics that were
// answered.
type Outcome struct {
	Result   Result
	Changed  bool     // values differ from those of the answer before
	Services []string // of a whole organization: ids of the services in the answer
}

// OrganizationCall says how the call for the metrics of a whole organization is used.
type OrganizationCall string

// The uses of that call.
const (
	CallRegularly OrganizationCall = "regularly"
	CallRefused   OrganizationCall = "refused" // by upstream, so that it is tried rarely
	CallUseless   OrganizationCall = "useless" // answers for none of the services, or for one, so that it is tried rarely
	CallNever     OrganizationCall = "never"   // there is one service, or the user named ids
)

// Plan is what a [Planner] is up to.
type Plan struct {
	Services  int           // to be exported
	Uncovered int           // of these, fetched one by one
	Period    time.Duration // in which the metrics of every running service are fetched once

	OrganizationCall OrganizationCall

	// The rhythm of upstream's refreshes, where it has been learned.
	PhaseLearned bool
	PhasePeriod  time.Duration
	PhaseNext    time.Time
}

// Planner decides which request an organization's budget is spent on next.
//
// The list of services and the metrics of the whole organization come first, each
// at its interval. What the latest answer for the organization does not cover is
// fetched service by service: those with the oldest data first, running services
// before others, and evenly spread over a period that is as short as the rest of
// the budget allows. A service that turns up in an answer for the organization is
// not asked for as long as that goes on; when it drops out again its turn is where
// the age of its data puts it. So a truncated answer may have any members, and
// change them, and an answer that is refused, as well as an organization that
// grows or shrinks past upstream's cap, is just the extreme case.
//
// A service that fails while others do not is asked less and less often, and
// services that can answer nothing are not asked: being created or deleted. Where
// everything fails, requests become rare, none loses its place, and all resume with
// the first success.
//
// Decisions take time logarithmic in the number of services. A Planner holds no
// clock and is not safe for concurrent use. Several requests may be under way at a
// time, but never two for the same thing.
type Planner struct {
	cfg PlannerConfig

	startedAt time.Time // the latest request
	paused    time.Time
	underWay  map[Request]struct{} // without At

	listAt    time.Time // next list is due
	listing   bool      // in flight
	listEnded bool      // once, well or not
	knowsList bool
	total     int // services of the organization, selected or not

	call       OrganizationCall
	calling    bool                // in flight
	calledAt   time.Time           // latest call was made, zero if none
	answeredAt time.Time           // latest good answer
	covering   map[string]struct{} // by that answer; nil = by none
	useless    int                 // answers in a row that were of no use
	phase      *Phase

	services  map[string]*plannedService
	count     [classes]int                    // uncovered services by class
	ready     [classes]queue[*plannedService] // to be asked, by the age of their data
	waiting   queue[*plannedService]          // have failed, by the time of the next attempt
	inFlight  int
	sweptAt   time.Time // latest request for a service
	successes uint64    // of such requests
	failures  int       // of such requests, in a row
	arrivals  uint64

	details    queue[*plannedDetail] // by due time
	detailedAt time.Time
}

// class says how much a service's metrics are worth asking for.
type class int

const (
	classRunning  class = iota
	classChanging       // may be running, is about to run, or in a state not known here
	classIdle           // will answer the same until somebody starts it
	classMute           // being created or deleted: nothing to be had
	classes
)

func classOf(state string) class {
	switch state {
	case "running", "":
		return classRunning
	case "stopped":
		return classIdle
	case "creating", "deleting":
		return classMute
	}
	return classChanging
}

// periods returns how many planned periods may pass between two requests.
func (c class) periods() time.Duration {
	switch c {
	case classChanging:
		return 2
	case classIdle:
		return 4
	}
	return 1
}

// plannedService is what the planner holds of a service.
type plannedService struct {
	id    string
	class class

	covered  bool      // by the latest answer for the organization
	asking   bool      // in flight
	askedAt  time.Time // latest request was made
	last     time.Time // data came, zero if never
	retryAt  time.Time // not to be asked before; zero if its latest request succeeded
	failures int       // in a row, as far as others succeeded meanwhile
	since    uint64    // successes when it last failed
	promised time.Duration
	phase    *Phase // nil while services are many

	queue *queue[*plannedService] // nil when in none
	place

	details []*plannedDetail
}

// NewPlanner returns a planner for an organization of which nothing is known yet.
// The first request is the list, at once.
func NewPlanner(cfg PlannerConfig, now time.Time) *Planner {
	p := &Planner{listAt: now, call: CallRegularly, services: map[string]*plannedService{}}
	p.Reconfigure(cfg)
	return p
}

// Reconfigure changes what NewPlanner was given and keeps all that has been learned.
// Requests under way are forgotten; do not report them any more.
func (p *Planner) Reconfigure(cfg PlannerConfig) {
	cfg.Spacing = max(cfg.Spacing, time.Millisecond)
	cfg.MetricsInterval = max(cfg.MetricsInterval, time.Millisecond)
	cfg.InventoryInterval = max(cfg.InventoryInterval, time.Millisecond)
	if p.phase == nil || cfg.MetricsInterval != p.cfg.MetricsInterval {
		p.phase = NewPhase(cfg.MetricsInterval)
		for _, s := range p.services {
			s.phase = nil
		}
	}
	p.cfg = cfg
	p.listing, p.calling, p.inFlight = false, false, 0
	p.underWay = map[Request]struct{}{}
	p.details = queue[*plannedDetail]{}
	for _, s := range p.services {
		s.details = nil
		p.addDetails(s)
		p.update(s, func() { s.asking = false })
	}
}

// SetInventory tells which services are to be exported, and how many the
// organization has in all. It may be called at any time, also before the list has
// been read, for services of which the ids are known.
func (p *Planner) SetInventory(now time.Time, selected []PlannedService, total int) {
	p.knowsList, p.total = true, total
	seen := make(map[string]struct{}, len(selected))
	for _, want := range selected {
		seen[want.ID] = struct{}{}
		c := classOf(want.State)
		s, ok := p.services[want.ID]
		if !ok {
			s = &plannedService{id: want.ID, class: classMute, place: place{arrival: p.arrivals}}
			p.arrivals++
			if _, ok := p.covering[s.id]; ok {
				s.covered, s.last = true, p.answeredAt
			}
			// It may have been forgotten while it was asked.
			if _, s.asking = p.underWay[Request{Endpoint: api.EndpointServiceMetrics, Service: s.id}]; s.asking {
				p.inFlight++
			}
			p.services[s.id] = s
			p.addDetails(s)
		}
		if !ok || s.class != c {
			p.update(s, func() {
				s.class = c
				s.failures, s.retryAt = 0, time.Time{}
			})
		}
	}
	for id, s := range p.services {
		if _, ok := seen[id]; !ok {
			p.forget(s)
		}
	}
	p.dropOldCoverage(now)
}

func (p *Planner) forget(s *plannedService) {
	p.update(s, func() { s.class = classMute })
	for _, d := range s.details {
		if d.index >= 0 {
			p.details.remove(d)
		}
	}
	if s.asking {
		p.inFlight--
	}
	delete(p.services, s.id)
}

// PauseUntil keeps anything from being planned before t.
func (p *Planner) PauseUntil(t time.Time) {
	if t.After(p.paused) {
		p.paused = t
	}
}

// Next returns the request to be made next and when, which may be in the past or
// the future. There is none while all that could be asked is under way; something
// must be reported then before there is another.
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
	for _, candidate := range []func(time.Time) (Request, bool){p.nextList, p.nextCall, p.nextService, p.nextDetail} {
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
	p.underWay[r] = struct{}{}
	switch r.Endpoint {
	case api.EndpointServices:
		p.listing = true
		p.listAt = now.Add(p.listInterval())
	case api.EndpointOrganizationMetrics:
		p.calling = true
		p.calledAt = now
	case api.EndpointServiceMetrics:
		p.sweptAt = now
		if s := p.services[r.Service]; s != nil && !s.asking {
			p.inFlight++
			p.update(s, func() { s.asking, s.askedAt = true, now })
		}
	default:
		p.startDetail(r, now)
	}
}

// Finished takes in how a request ended. The request is one that Next returned; its
// At does not matter.
func (p *Planner) Finished(r Request, now time.Time, out Outcome) {
	r.At = time.Time{}
	delete(p.underWay, r)
	switch r.Endpoint {
	case api.EndpointServices:
		p.listing, p.listEnded = false, true
		if out.Result != ResultOK && !p.knowsList {
			// Without it nothing else gets going.
			if soon := now.Add(p.cfg.MetricsInterval); soon.Before(p.listAt) {
				p.listAt = soon
			}
		}
	case api.EndpointOrganizationMetrics:
		p.calling = false
		p.finishCall(now, out)
	case api.EndpointServiceMetrics:
		if s := p.services[r.Service]; s != nil && s.asking {
			p.inFlight--
			p.finishService(s, now, out)
		}
	default:
		p.finishDetail(r, now, out)
	}
}

// Period returns in which time the service's metrics are renewed, by plan. While
// a plan changes it is the longer one of that under which the service's data came
// and the new one: data does not become too old by a change of mind.
func (p *Planner) Period(id string) time.Duration {
	s := p.services[id]
	if s == nil {
		return max(p.cfg.MetricsInterval, p.apart())
	}
	return max(p.periodOf(s), s.promised)
}

// apart returns how far apart polls may be that follow upstream's rhythm: the period
// of data is never taken for shorter.
func (p *Planner) apart() time.Duration {
	return min(upstreamRefresh, 2*p.cfg.MetricsInterval)
}

func (p *Planner) periodOf(s *plannedService) time.Duration {
	period := p.period() * s.class.periods()
	if s.covered {
		period = p.callInterval()
	}
	return max(period, p.apart())
}

// Plan returns a summary.
func (p *Planner) Plan() Plan {
	plan := Plan{Services: len(p.services), Uncovered: p.uncovered(), Period: p.period(), OrganizationCall: p.callMode()}
	if p.covering != nil {
		plan.Period = max(plan.Period, p.callInterval())
	}
	phase := p.phase
	if plan.OrganizationCall != CallRegularly {
		phase = nil
		if len(p.services) == 1 {
			for _, s := range p.services {
				phase = s.phase
			}
		}
	}
	if phase != nil {
		plan.PhasePeriod, plan.PhaseNext, plan.PhaseLearned = phase.Learned()
	}
	return plan
}

// The list.

func (p *Planner) listInterval() time.Duration {
	// However small the budget is, two of three requests are left for metrics.
	return max(p.cfg.InventoryInterval, 3*p.cfg.Spacing)
}

func (p *Planner) nextList(time.Time) (Request, bool) {
	return Request{Endpoint: api.EndpointServices, At: p.listAt}, !p.listing
}

// The call for the metrics of the whole organization.

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

func (p *Planner) nextCall(slot time.Time) (Request, bool) {
	r := Request{Endpoint: api.EndpointOrganizationMetrics, At: slot}
	interval := p.callInterval()
	// The first list tells whether the call should be made at all.
	if interval == 0 || p.calling || !p.listEnded {
		return r, false
	}
	switch {
	case p.calledAt.IsZero():
	case interval == p.cfg.MetricsInterval:
		r.At = p.phase.Next()
	default:
		r.At = p.calledAt.Add(interval)
	}
	return r, true
}

func (p *Planner) finishCall(now time.Time, out Outcome) {
	switch out.Result {
	case ResultFailed:
		p.phase.Failed(p.calledAt)
		return
	case ResultRefused:
		p.phase.Failed(p.calledAt)
		p.call, p.useless = CallRefused, 0
		p.dropCoverage()
		return
	}
	p.phase.Observe(p.calledAt, now, out.Changed)
	p.answeredAt = now
	p.covering = make(map[string]struct{}, len(out.Services))
	for _, id := range out.Services {
		p.covering[id] = struct{}{}
	}
	useful, askable := 0, 0
	for id, s := range p.services {
		_, covered := p.covering[id]
		switch {
		case covered:
			useful++
			p.update(s, func() {
				s.covered, s.last = true, now
				s.failures, s.retryAt = 0, time.Time{}
			})
		case s.covered:
			p.update(s, func() { s.covered = false })
		}
		if s.class != classMute {
			askable++
		}
	}
	// An answer for one service is worth as much as asking that service.
	if useful >= 2 || askable < 2 {
		p.call, p.useless = CallRegularly, 0
	} else if p.useless++; p.useless >= uselessAnswers || p.call != CallRegularly {
		p.call = CallUseless
		p.dropCoverage()
		return
	}
	for id := range p.covering {
		if s := p.services[id]; s != nil {
			s.promised = p.periodOf(s)
		}
	}
}

// dropOldCoverage hands over to single requests what answers for the organization
// have not covered for a while.
func (p *Planner) dropOldCoverage(now time.Time) {
	if p.covering == nil {
		return
	}
	interval := p.callInterval()
	if interval == 0 || now.Sub(p.answeredAt) > max(interval, p.apart())*5/2 {
		p.dropCoverage()
	}
}

func (p *Planner) dropCoverage() {
	p.covering = nil
	for _, s := range p.services {
		if s.covered {
			p.update(s, func() { s.covered = false })
		}
	}
}

// Single services.

func (p *Planner) uncovered() int {
	return p.count[classRunning] + p.count[classChanging] + p.count[classIdle]
}

// load returns how many requests uncovered services need in a period.
func (p *Planner) load() float64 {
	n := 0.0
	for c := classRunning; c < classMute; c++ {
		n += float64(p.count[c]) / float64(c.periods())
	}
	return n
}

// allowed returns the shortest period that the budget allows.
func (p *Planner) allowed() time.Duration {
	perSecond := 1/p.cfg.Spacing.Seconds() - 1/p.listInterval().Seconds() - p.detailRate()
	if interval := p.callInterval(); interval > 0 {
		perSecond -= 1 / interval.Seconds()
	}
	return time.Duration(p.load() / (planMargin * perSecond) * float64(time.Second))
}

// period returns the planned refresh period of running services that are fetched
// one by one.
func (p *Planner) period() time.Duration {
	return max(p.cfg.MetricsInterval, p.allowed())
}

// few reports whether there is room to poll each service when it pleases.
func (p *Planner) few() bool {
	return p.uncovered() <= fewServices && p.allowed() <= p.cfg.MetricsInterval
}

// update changes a service and keeps queues and counts in step.
func (p *Planner) update(s *plannedService, change func()) {
	if s.queue != nil {
		s.queue.remove(s)
		s.queue = nil
	}
	if s.counted() {
		p.count[s.class]--
	}
	change()
	if s.counted() {
		p.count[s.class]++
	}
	p.enqueue(s)
}

// counted reports whether the service has to be fetched by itself.
func (s *plannedService) counted() bool { return s.class != classMute && !s.covered }

// enqueue puts a service, which is in no queue, where it waits for its turn.
func (p *Planner) enqueue(s *plannedService) {
	switch {
	case !s.counted() || s.asking:
		return
	case !s.retryAt.IsZero():
		s.queue, s.key = &p.waiting, s.retryAt
	default:
		s.queue, s.key = &p.ready[s.class], s.last
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
	if p.callInterval() > 0 && p.answeredAt.IsZero() && (p.calling || p.calledAt.IsZero()) {
		return r, false
	}
	if p.inFlight >= min(max(leastInFlight, int(10*time.Second/p.cfg.Spacing)), mostInFlight) {
		return r, false
	}
	var best *plannedService
	if p.few() {
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
		if rest := p.sweptAt.Add(p.cfg.MetricsInterval); rest.After(r.At) {
			r.At = rest
		}
	}
	r.Service = best.id
	return r, true
}

// mostDue returns which of a few services is due first, and when.
func (p *Planner) mostDue(slot time.Time) (best *plannedService, at time.Time) {
	for c := range p.ready {
		for _, s := range p.ready[c].items {
			var due time.Time
			switch {
			case s.last.IsZero():
				due = slot
			case s.phase == nil || s.class == classIdle:
				due = s.last.Add(p.period() * s.class.periods())
			default:
				due = s.phase.Next()
			}
			if due.Before(slot) {
				due = slot
			}
			if best == nil || due.Before(at) || due.Equal(at) && s.class == best.class && s.before(&best.place) {
				best, at = s, due
			}
		}
	}
	return best, at
}

// mostAged returns which of many services has data that is the oldest, measured by
// the period of its class, and when it is to be asked.
func (p *Planner) mostAged(slot time.Time) (best *plannedService, at time.Time) {
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
		if age := float64(slot.Sub(s.key)) / float64(period*s.class.periods()); best == nil || age > oldest {
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
	at = p.sweptAt.Add(pace)
	if fresh := best.last.Add(p.cfg.MetricsInterval * 9 / 10); fresh.After(at) {
		at = fresh
	}
	return best, at
}

func (p *Planner) finishService(s *plannedService, now time.Time, out Outcome) {
	if out.Result == ResultOK {
		p.failures = 0
		p.successes++
		if !p.few() {
			s.phase = nil
		} else if s.phase == nil {
			s.phase = NewPhase(p.cfg.MetricsInterval)
		}
		if s.phase != nil {
			s.phase.Observe(s.askedAt, now, out.Changed)
		}
		p.update(s, func() {
			s.asking, s.last = false, now
			s.failures, s.retryAt = 0, time.Time{}
		})
		s.promised = p.periodOf(s)
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
		if s.failures == 0 || p.successes > s.since {
			s.failures++
		}
		s.since = p.successes
		wait := max(p.cfg.MetricsInterval, p.period()/4)
		most := max(probeInterval, 4*p.period())
		s.retryAt = now.Add(min(wait<<min(s.failures-1, 16), most))
	})
}

// Details.

// plannedDetail is one slow call for one service.
type plannedDetail struct {
	service *plannedService
	detail  Detail
	place   // by due time, in no queue while in flight
}

func (p *Planner) addDetails(s *plannedService) {
	for i, d := range p.cfg.Details {
		item := &plannedDetail{service: s, detail: d, place: place{arrival: s.arrival*uint64(len(p.cfg.Details)) + uint64(i)}}
		s.details = append(s.details, item)
		if _, asking := p.underWay[Request{Endpoint: d.Endpoint, Service: s.id}]; asking {
			item.index = -1
			continue
		}
		p.details.push(item)
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
	for d.service.class == classMute && !d.key.After(slot) {
		p.details.set(d, slot.Add(p.listInterval()))
		d = p.details.first()
	}
	at := p.detailedAt.Add(10 * p.cfg.Spacing)
	if d.key.After(at) {
		at = d.key
	}
	return Request{Endpoint: d.detail.Endpoint, Service: d.service.id, At: at}, true
}

func (p *Planner) detailOf(r Request) *plannedDetail {
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
	p.detailedAt = now
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
