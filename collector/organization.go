package collector

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

const (
	// tombstoneAge is for how long metrics of a service are ignored after it has
	// left the inventory: upstream's pages lag behind its list.
	tombstoneAge = 5 * time.Minute
	// emptyPageGrace is for how long a service that turned running may be absent
	// from an otherwise empty page.
	emptyPageGrace = 3 * time.Minute
)

// worker polls one organization. Everything below "state" belongs to the goroutine
// of run: what others see of it is the view that it publishes.
type worker struct {
	c      *Collector
	config Organization
	client *api.Client
	logger log.Logger

	id   atomic.Pointer[string] // of the organization, nil until it is known
	stop context.CancelFunc     // set when started
	done chan struct{}          // closed when run has returned

	merger merger // for the organization's page

	first     chan struct{} // closed when the first refresh has ended
	firstOnce sync.Once

	// state
	memory
	rewriter *rewriter
}

// memory is what a worker holds, and hands over to the worker that replaces it
// after a change of configuration.
type memory struct {
	plan *schedule.Planner // nil before the first run

	name        string // the organization's, as far as known
	inventory   *heldInventory
	listed      []api.Service // what inventory was made of, before selection
	unconfirmed bool          // the last list was empty and must be confirmed
	excluded    map[string]struct{}
	tombstones  map[string]time.Time // when a service left the inventory
	hostnames   map[string]string
	settings    map[string][]inventory.Setting

	source       *exposition.Source            // of the organization's page
	pageHeld     bool                          // whether there is one
	pageAt       time.Time                     // when it came
	onPage       map[string]struct{}           // services named by that page
	pageBytes    int64                         // its size
	apart        map[string]*exposition.Source // of the services' own pages, and of what that page last said of those it leaves out
	ownBytes     map[string]int64              // sizes of the services' own pages
	samples      map[string]*sample            // by service, "" for series that name none
	unknownNames map[string]string             // what upstream calls services that the inventory does not know
	failed       map[string]error              // why a service's own page could not be had
	details      map[api.Endpoint]*detailing   // the calls for a service that are no pages

	epochs   uint32 // given out so far
	rulesAge uint32 // how often rules have been replaced

	found, listing, paging, sweeping condition

	slow       bool      // the refresh period that the budget allows exceeds MaxAge
	measuredAt time.Time // when metrics last came, from whichever endpoint
	measureErr error     // why the latest attempt at the organization's page, or else at a service's, failed
	pageTried  bool      // the organization's page has been tried
	lineFeed   bool      // some page that was taken in ended in a line feed

	pollTook time.Duration // latest request for metrics, from whichever endpoint
}

// sample is the newest metrics of one service. Immutable.
type sample struct {
	block     *exposition.Block
	epoch     uint64 // of the rewriter, when it labelled them
	fetchedAt time.Time
	changedAt time.Time // when the program first saw these values
	own       bool      // came from the service's own page
	figures   figures
}

// workerState is the part of a view that is plain facts.
type workerState struct {
	up                               bool
	found, listing, paging, sweeping condition
	measuredAt                       time.Time
	measureErr                       error
	maxAge                           time.Duration
	bytes                            int64
	plan                             schedule.Summary
	next                             schedule.Request // zero if nothing is planned
	mute                             bool             // no service can have metrics now
	unconfirmed                      bool             // the latest list was empty, and is not believed yet
	pollTook                         time.Duration
}

func newMemory() memory {
	return memory{
		excluded:     map[string]struct{}{},
		tombstones:   map[string]time.Time{},
		hostnames:    map[string]string{},
		settings:     map[string][]inventory.Setting{},
		source:       exposition.NewSource(),
		onPage:       map[string]struct{}{},
		apart:        map[string]*exposition.Source{},
		ownBytes:     map[string]int64{},
		samples:      map[string]*sample{},
		unknownNames: map[string]string{},
		failed:       map[string]error{},
		details:      map[api.Endpoint]*detailing{},
	}
}

func newWorker(c *Collector, o Organization) (*worker, error) {
	w := &worker{
		c: c, config: o, memory: newMemory(),
		first: make(chan struct{}),
		done:  make(chan struct{}),
	}
	w.name = o.Name
	w.rulesAge = 1
	w.logger = log.With(c.logger, "org", log.Valuer(func() any { return w.label() }))
	if o.ID != "" {
		w.id.Store(&o.ID)
	}
	o.API.Hooks = c.health.hooks(w.label)
	client, err := api.New(o.API)
	if err != nil {
		return nil, err
	}
	w.client = client
	return w, nil
}

// label is what the organization is called in metrics and logs. Safe for concurrent
// use.
func (w *worker) label() string {
	if id := w.id.Load(); id != nil {
		return *id
	}
	return w.config.Name
}

// inherit takes over what another worker of the same organization, which must have
// ended, has learned, and applies the own rules, labels and selection to it.
func (w *worker) inherit(old *worker) {
	if w.id.Load() == nil {
		w.id.Store(old.id.Load())
	}
	name, age := w.name, old.rulesAge+1
	w.memory = old.memory
	w.rulesAge = age
	if name != "" {
		w.name = name
	}
	select {
	case <-old.first:
		w.firstOnce.Do(func() { close(w.first) })
	default:
	}
}

// run polls until ctx ends.
func (w *worker) run(ctx context.Context) {
	defer close(w.done)
	defer w.client.Close()
	now := time.Now()
	w.rewriter = &rewriter{
		relabeller:   relabeller{rules: w.config.Rules, builder: labels.NewBuilder(labels.EmptyLabels())},
		scope:        exposition.NewRuleScope(w.config.Rules),
		enriched:     w.config.EnrichLabels,
		own:          w.c.own,
		rulesAge:     w.rulesAge,
		unknownNames: w.unknownNames,
	}
	w.schedule(now)
	if w.inventory != nil { // inherited
		w.takeList(w.listed, w.inventory.fetchedAt, true)
		w.publish(now)
	}
	if !w.discover(ctx) {
		return
	}
	w.poll(ctx)
}

// schedule sets up the planner, which keeps what an inherited one has learned.
func (w *worker) schedule(now time.Time) {
	ids, onlyIDs := w.config.Selection.OnlyIDs()
	cfg := schedule.Config{
		Spacing:               w.config.API.Budget.Spacing(),
		MetricsInterval:       w.config.MetricsInterval,
		InventoryInterval:     jittered(w.config.InventoryInterval),
		NoOrganizationMetrics: onlyIDs,
		FixedIntervals:        w.config.fixedIntervals,
	}
	cfg.Details = w.planDetails()
	if w.plan != nil {
		w.plan.Reconfigure(cfg)
		return
	}
	w.plan = schedule.New(cfg, now)
	if onlyIDs {
		// Named services can be read even if the list never can.
		var named []schedule.Service
		for _, id := range ids {
			if w.config.Shard.Owns(id) {
				named = append(named, schedule.Service{ID: id})
			}
		}
		w.plan.SetServices(now, named, len(ids))
	}
}

// jittered returns the interval changed by up to a fiftieth, so that exporters that
// were started together do not ask together for ever. The metrics need none: they
// are asked for when upstream is seen to renew them.
func jittered(interval time.Duration) time.Duration {
	return interval - interval/50 + rand.N(interval/25+1)
}

// answer is how a request ended.
type answer struct {
	request  schedule.Request
	took     time.Duration
	err      error
	services []api.Service
	page     *api.Page
	detail   api.ServiceDetail
	config   api.ServiceConfig
}

// receivedAt returns how old the answer's page is at most.
func (a answer) receivedAt(now time.Time) time.Time {
	if at := a.page.ReceivedAt; !at.IsZero() && at.Before(now) {
		return at
	}
	return now
}

// poll makes the requests that the planner plans, each in a goroutine of its own,
// and takes in the answers, one at a time.
func (w *worker) poll(ctx context.Context) {
	answers := make(chan answer)
	inFlight := 0
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		if w.view().expired(now) {
			w.publish(now)
		}
		wake := now.Add(time.Hour)
		if at := w.view().expires; !at.IsZero() && at.Before(wake) {
			wake = at
		}
		for inFlight < schedule.MaxInFlight+8 { // the planner sees to that; it must not hang on its being right
			r, ok := w.plan.Next(now)
			if !ok {
				break
			}
			if r.At.After(now) {
				if r.At.Before(wake) {
					wake = r.At
				}
				break
			}
			w.plan.Started(r, now)
			inFlight++
			go func() { answers <- w.ask(ctx, r) }()
		}
		timer.Reset(max(wake.Sub(now), time.Millisecond))
		select {
		case <-ctx.Done():
			for ; inFlight > 0; inFlight-- {
				<-answers
			}
			return
		case a := <-answers:
			inFlight--
			if ctx.Err() == nil {
				w.take(a, time.Now())
			}
		case <-timer.C:
		}
	}
}

// ask makes one request. It touches nothing of the worker's state.
func (w *worker) ask(ctx context.Context, r schedule.Request) answer {
	a := answer{request: r}
	start := time.Now()
	id := w.label()
	switch r.Endpoint {
	case api.EndpointServices:
		a.services, a.err = w.client.Services(ctx, id)
	case api.EndpointOrganizationMetrics:
		a.page, a.err = w.client.OrganizationMetrics(ctx, id)
	case api.EndpointServiceMetrics:
		a.page, a.err = w.client.ServiceMetrics(ctx, id, r.Service)
	case api.EndpointService:
		a.detail, a.err = w.client.Service(ctx, id, r.Service)
	case api.EndpointServiceConfig:
		a.config, a.err = w.client.ServiceConfig(ctx, id, r.Service)
	default:
		a.err = fmt.Errorf("request of an unknown kind %q was planned: this is a bug", r.Endpoint)
	}
	a.took = time.Since(start)
	return a
}

// take takes in an answer and publishes what came of it.
func (w *worker) take(a answer, now time.Time) {
	w.c.health.polled(w.label(), a.request.Endpoint, a.took)
	outcome := schedule.Outcome{}
	switch a.request.Endpoint {
	case api.EndpointServices:
		a.err = w.takeAnyList(a, now)
	case api.EndpointOrganizationMetrics:
		w.pollTook = a.took
		a.err = w.takePage(a, now, &outcome)
	case api.EndpointServiceMetrics:
		w.pollTook = a.took
		a.err = w.takeServicePage(a, now, &outcome)
	case api.EndpointService, api.EndpointServiceConfig:
		w.takeDetail(a, now)
	}
	if a.err != nil && refusedPage(a.err) {
		w.c.health.refused(w.label(), a.request.Endpoint, reason(a.err))
	}
	w.c.health.unsent(w.label(), a.request.Endpoint, a.err)
	outcome.Result = resultOf(a.err)
	w.plan.Finished(a.request, now, outcome)
	if usage := w.config.API.Budget.Usage(); usage.PausedUntil.After(now) {
		w.plan.PauseUntil(usage.PausedUntil)
	}
	w.publish(now)
}

// observe keeps a condition and logs when it changes.
func (w *worker) observe(c *condition, now time.Time, err error, endpoint api.Endpoint, firstMessage string) {
	next, changed, lasted := c.observe(now, err)
	*c = next
	switch changed {
	case firstSuccess:
		level.Info(w.logger).Log("msg", firstMessage, "endpoint", endpoint)
	case nowFailing:
		level.Warn(w.logger).Log("msg", "refresh fails; what was read last is served until it is too old",
			"endpoint", endpoint, "reason", next.reason, "err", err)
	case recovered:
		level.Info(w.logger).Log("msg", "refresh works again", "endpoint", endpoint, "after", lasted.Round(time.Second))
	}
}
