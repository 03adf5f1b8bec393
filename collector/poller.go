package collector

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

// poller polls one organization and owns all that is known of it. What others see is
// the view that it publishes.
type poller struct {
	c *Collector
	// identity is the organization's id, "" until it is known, and what upstream calls
	// it, if that is known.
	identity atomic.Pointer[api.Organization]
	view     atomic.Pointer[organizationView]

	first   chan struct{} // closed when the first refresh has ended
	tried   func()        // closes it
	reloads chan func()
	done    chan struct{} // closed when run has returned

	// For the collector, which guards them.
	applied *Organization
	stop    context.CancelFunc // set when started

	memo *memo

	// What follows belongs to the goroutine of run; before that is started, to the
	// collector.
	logger   log.Logger
	config   *Organization
	client   *api.Client
	rules    *exposition.Rules
	state    *state
	panicked string // what was logged of the latest panic

	responses chan response
	inFlight  int
	requests  context.Context //nolint:containedctx // of the requests in flight, which a new client ends
	cancel    context.CancelFunc
}

// id returns the organization's id, "" until it is known. Safe for concurrent use.
func (p *poller) id() string { return p.identity.Load().ID }

// name returns what people call the organization, "" if that is not known.
func (p *poller) name() string {
	name := cmp.Or(p.config.Name, p.identity.Load().Name)
	if name == "" && p.state != nil {
		return p.state.whole.detail(nameDetail).name
	}
	return name
}

// identify has logs say which organization it is, as far as that is known.
func (p *poller) identify() {
	p.logger = p.c.options.Logger
	if id := p.id(); id != "" {
		p.logger = log.With(p.logger, "org", id)
	}
	if name := p.name(); name != "" {
		p.logger = log.With(p.logger, "org_name", name)
	}
}

// response is how a request ended.
type response struct {
	request  schedule.Request
	endpoint api.Endpoint
	took     time.Duration
	err      error
	list     []api.Organization
	services []api.Service
	page     *api.Page
	details  details
	panicked any // and where, if it did
	stack    []byte
}

// receivedAt returns how old the response's page is at most.
func (r *response) receivedAt(now time.Time) time.Time {
	if at := r.page.ReceivedAt; !at.IsZero() && at.Before(now) {
		return at
	}
	return now
}

// newPoller returns a poller that has not been given its configuration yet.
func newPoller(c *Collector, config *Organization) *poller {
	p := &poller{
		c: c, first: make(chan struct{}), reloads: make(chan func()), done: make(chan struct{}),
		memo: &memo{off: c.options.NoMemo}, responses: make(chan response),
	}
	p.tried = sync.OnceFunc(func() { close(p.first) })
	p.identity.Store(&api.Organization{ID: config.ID})
	return p
}

// reload has the poller apply a new configuration, and waits until it has.
func (p *poller) reload(config *Organization, client *api.Client) {
	if p.stop == nil {
		p.apply(config, client)
		return
	}
	applied := make(chan struct{})
	select {
	case p.reloads <- func() {
		defer close(applied)
		p.apply(config, client)
	}:
		<-applied
	case <-p.done:
	}
}

// apply makes a configuration the poller's, and applies it to what is held. The client
// is nil if the present one does.
func (p *poller) apply(config *Organization, client *api.Client) {
	now := time.Now()
	last := p.config
	p.config = config
	p.identify()
	if client != nil {
		p.abort()
		if p.client != nil {
			p.client.Close()
		}
		p.client = client
	}
	if last == nil || !reflect.DeepEqual(last.Rules, config.Rules) {
		p.setRules()
	}
	if last == nil {
		p.startOver(now)
		return
	}
	if config.ID != "" {
		p.state.discoverAt = time.Time{}
	} else if client != nil || last.ID != "" {
		p.state.discoverAt = now
	}
	p.dropDetails()
	p.state.planner.Reconfigure(p.plan())
	if p.state.inventory != nil {
		p.setInventory(p.state.listed, p.state.inventory.ReadAt)
	} else {
		lastIDs, lastOnly := last.named()
		if ids, only := config.named(); only != lastOnly || !slices.Equal(ids, lastIDs) {
			p.abort()
			p.startPlan(now)
		}
		p.applyToHeld()
	}
	p.publish(now)
}

// setRules makes the rules that go with the configuration.
func (p *poller) setRules() {
	// Ids are exported as they are compared.
	canonical := make([]*relabel.Config, 0, len(p.config.Rules)+2)
	for _, label := range []string{inventory.OrgLabel, inventory.ServiceLabel} {
		rule := relabel.DefaultRelabelConfig
		rule.Action, rule.SourceLabels, rule.TargetLabel = relabel.Lowercase, model.LabelNames{model.LabelName(label)}, label
		rule.NameValidationScheme = model.UTF8Validation
		canonical = append(canonical, &rule)
	}
	p.rules = &exposition.Rules{Relabel: append(canonical, p.config.Rules...), Reserved: p.c.reserved}
}

// plan returns what the planner has to know of the configuration.
func (p *poller) plan() schedule.Config {
	_, onlyIDs := p.config.named()
	return schedule.Config{
		Spacing:               p.config.API.Budget.Spacing(),
		MetricsInterval:       p.config.MetricsInterval,
		InventoryInterval:     p.jittered(p.config.InventoryInterval),
		NoOrganizationMetrics: onlyIDs,
		FixedIntervals:        p.config.fixedIntervals,
		Details:               p.config.Details(),
	}
}

// jittered returns the interval changed by up to a fiftieth, so that exporters that
// were started together do not ask together for ever. The metrics need none: they
// are asked for when upstream is seen to renew them.
func (p *poller) jittered(interval time.Duration) time.Duration {
	if p.c.options.noJitter {
		return interval
	}
	return interval - interval/50 + rand.N(interval/25+1)
}

// run polls until ctx ends.
func (p *poller) run(ctx context.Context) {
	defer close(p.done)
	defer func() { p.client.Close() }()
	for ctx.Err() == nil {
		p.poll(ctx)
	}
}

// poll makes the requests that are planned, each in a goroutine of its own, and takes
// in the responses, one at a time. It returns when ctx ends, or after a panic.
func (p *poller) poll(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	p.requests, p.cancel = context.WithCancel(ctx)
	defer p.abort()
	defer func() {
		if v := recover(); v != nil {
			p.recovered(v, debug.Stack())
		}
	}()
	for {
		now := time.Now()
		if p.view.Load().expired(now) {
			p.publish(now)
		}
		timer.Reset(max(p.ask(now).Sub(now), time.Millisecond)) //nolint:contextcheck // it is p.requests
		select {
		case <-ctx.Done():
			return
		case reload := <-p.reloads:
			reload()
			if p.requests.Err() != nil {
				p.requests, p.cancel = context.WithCancel(ctx)
			}
		case r := <-p.responses:
			p.inFlight--
			switch {
			case ctx.Err() != nil:
			case r.panicked != nil:
				p.recovered(r.panicked, r.stack)
				return
			default:
				p.take(&r, time.Now())
			}
		case <-timer.C:
		}
	}
}

// abort ends the requests in flight, whose responses nobody wants any more.
func (p *poller) abort() {
	if p.cancel == nil {
		return // not started
	}
	p.cancel()
	for ; p.inFlight > 0; p.inFlight-- {
		<-p.responses
	}
	if p.state != nil {
		p.state.planner.Abort()
		p.state.discovering = false
	}
}

// recovered takes in that a response was taken in with a panic: what is held may be
// wrong, so that the organization starts over. It waits before it asks for anything,
// since what led to the panic may well be there again.
func (p *poller) recovered(v any, stack []byte) {
	if id := p.id(); id != "" {
		p.c.health.panics.WithLabelValues(id).Inc()
	}
	if text := fmt.Sprint(v); text != p.panicked {
		p.panicked = text
		level.Error(p.logger).Log("msg", "Panic while processing a response; dropping the organization's data and reading it again. This is a bug, please report it",
			"panic", text, "stack", string(stack))
	}
	now := time.Now()
	again := now.Add(p.config.MetricsInterval)
	undiscovered := !p.state.discoverAt.IsZero()
	p.startOver(now)
	p.state.planner.PauseUntil(again)
	if undiscovered {
		p.state.discoverAt = again
	}
}

// ask begins the requests that are due and returns when to look again.
func (p *poller) ask(now time.Time) time.Time {
	wake := now.Add(time.Hour)
	sooner := func(t time.Time) {
		if !t.IsZero() && t.Before(wake) {
			wake = t
		}
	}
	sooner(p.view.Load().expires)
	st := p.state
	if at := st.discoverAt; !at.IsZero() && !st.discovering {
		if now.Before(at) {
			sooner(at)
		} else {
			st.discovering = true
			p.begin(schedule.Request{Call: discovery})
		}
	}
	if p.id() == "" {
		return wake
	}
	for {
		r, ok := st.planner.Next(now)
		if !ok {
			return wake
		}
		if r.At.After(now) {
			sooner(r.At)
			return wake
		}
		st.planner.Started(r, now)
		p.begin(r)
	}
}

func (p *poller) begin(r schedule.Request) {
	p.inFlight++
	ctx, client, org := p.requests, p.client, p.id()
	go func() { p.responses <- request(ctx, client, org, r) }()
}

// request makes one request.
func request(ctx context.Context, client *api.Client, org string, r schedule.Request) (resp response) {
	var place int
	resp.request = r
	resp.endpoint, place = endpointOf(r.Call)
	start := time.Now()
	defer func() {
		resp.took = time.Since(start)
		if v := recover(); v != nil {
			resp.panicked, resp.stack = v, debug.Stack()
		}
	}()
	switch r.Call {
	case discovery:
		resp.list, resp.err = client.Organizations(ctx)
	case schedule.List:
		resp.services, resp.err = client.Services(ctx, org)
	case schedule.OrganizationPage:
		resp.page, resp.err = client.OrganizationMetrics(ctx, org)
	case schedule.ServicePage:
		resp.page, resp.err = client.ServiceMetrics(ctx, org, r.Service)
	default:
		resp.details, resp.err = allDetails()[place].fetch(ctx, client, org, r.Service)
	}
	return resp
}

// take takes in a response and publishes what came of it.
func (p *poller) take(r *response, now time.Time) {
	if p.c.options.onResponse != nil {
		p.c.options.onResponse(p, r)
	}
	if r.request.Call == discovery {
		p.takeOrganizations(r, now)
		p.publish(now)
		return
	}
	p.c.health.pollDuration.WithLabelValues(p.id(), string(r.endpoint)).Observe(r.took.Seconds())
	outcome := schedule.Outcome{}
	switch r.request.Call {
	case schedule.List:
		r.err = p.takeList(r, now)
	case schedule.OrganizationPage:
		p.state.pollTook = r.took
		r.err = p.takePage(r, now, &outcome)
	case schedule.ServicePage:
		p.state.pollTook = r.took
		r.err = p.takeServicePage(r, now, &outcome)
	default:
		p.takeDetail(r, now)
	}
	if kind, content := reason(r.err); content {
		p.c.health.pagesRefused.WithLabelValues(p.id(), string(r.endpoint), kind).Inc()
	}
	p.c.health.unsent(p.id(), r.endpoint, r.err)
	outcome.Result = p.result(r.request.Call, r.err)
	p.state.planner.Finished(r.request, now, outcome)
	if usage := p.config.API.Budget.Usage(); usage.PausedUntil.After(now) {
		p.state.planner.PauseUntil(usage.PausedUntil)
	}
	p.publish(now)
}
