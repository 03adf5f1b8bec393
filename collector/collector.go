package collector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// Defaults of an [Organization].
const (
	DefaultMetricsInterval   = 30 * time.Second
	DefaultInventoryInterval = 60 * time.Second
	DefaultMaxAge            = 5 * time.Minute
	DefaultConfigInterval    = time.Hour
)

// GCPercent is how much garbage there may be, in percent of what is in use, for
// [runtime/debug.SetGCPercent] where the user has not set GOGC. Nearly all that a
// program with a Collector holds it holds for good, and little of that has pointers to
// follow. So, of 10,000 services, a refresh costs no more processor time than with Go's
// 100, and the peak is lower by a third.
const GCPercent = 25

// Organization says what to poll, and how.
type Organization struct {
	// Name is what the configuration calls the organization, may be "". It must be
	// unique, and so must ID.
	Name string
	// ID is the organization's id. If it is "", the one organization that the key
	// can see is meant; none or several are an error of the organization's health.
	ID string

	// API is what the organization's client is made of. Budget must be set. Hooks
	// are the collector's own, since it counts requests for each organization.
	API api.Config

	MetricsInterval   time.Duration // default 30 s
	InventoryInterval time.Duration // default 60 s
	// MaxAge is for how long metrics are served after they were read, default 5
	// min; longer for services that the budget allows to be read more rarely only.
	MaxAge time.Duration

	EnrichLabels []inventory.EnrichLabel // labels that every series of a service gets
	Rules        []*relabel.Config       // applied after that
	Selection    *inventory.Selection    // services to export, nil for all
	Shard        inventory.Shard         // zero for all
	// Timestamps stamps samples with the moment at which the program first saw
	// their values.
	Timestamps bool

	// CollectConfig adds the settings of each service, and its hostname. They take
	// calls for each service, on which at most a tenth of the budget is spent.
	CollectConfig  bool
	ConfigInterval time.Duration // between two such calls for the settings, default 1 h

	fixedIntervals bool // for tests, see [schedule.Config]
}

// same tells whether polling by o is what polling by other would be. It looks at
// credentials and budgets as objects, not into them.
func (o Organization) same(other Organization) bool {
	if o.API.Budget != other.API.Budget || !identical(o.API.Credentials, other.API.Credentials) ||
		!identical(o.API.Transport, other.API.Transport) {
		return false
	}
	for _, cfg := range []*api.Config{&o.API, &other.API} {
		cfg.Hooks, cfg.Budget, cfg.Credentials, cfg.Transport = api.Hooks{}, nil, nil, nil
	}
	return reflect.DeepEqual(o, other)
}

// identical tells whether two interfaces hold the same value, without a panic where
// values of that type cannot be compared.
func identical(a, b any) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return reflect.TypeOf(a) == reflect.TypeOf(b) && reflect.TypeOf(a).Comparable() && a == b
}

func (o Organization) withDefaults() Organization {
	o.MetricsInterval = cmp.Or(o.MetricsInterval, DefaultMetricsInterval)
	o.InventoryInterval = cmp.Or(o.InventoryInterval, DefaultInventoryInterval)
	o.MaxAge = cmp.Or(o.MaxAge, DefaultMaxAge)
	o.ConfigInterval = cmp.Or(o.ConfigInterval, DefaultConfigInterval)
	return o
}

// Options configure a [Collector].
type Options struct {
	Organizations []Organization
	Logger        log.Logger // nil for none
	// ReservedNames are families of the program's own that upstream must not use,
	// besides those of the collector.
	ReservedNames []string
}

// Collector polls organizations and serves what they answered. Its methods are safe
// for concurrent use.
type Collector struct {
	logger log.Logger
	health *health
	live   names // families that are served besides the pages
	own    names // and those that the collector adds to pages

	snapshot atomic.Pointer[snapshot]

	mu      sync.Mutex // guards what follows
	workers []*worker
	ctx     context.Context //nolint:containedctx // of Run, for workers that Apply starts; nil before
	running sync.WaitGroup
}

// New returns a collector that has not polled anything yet.
func New(o Options) (*Collector, error) {
	c := &Collector{logger: o.Logger, health: newHealth()}
	if c.logger == nil {
		c.logger = log.NewNopLogger()
	}
	c.live = newNames(c.health.names(), o.ReservedNames)
	c.own = newNames(c.health.names(), o.ReservedNames, pageNames())
	c.snapshot.Store(&snapshot{document: &lazyDocument{}, merger: &merger{}})
	if err := c.Apply(o.Organizations); err != nil {
		return nil, err
	}
	return c, nil
}

// Apply replaces what is polled, before Run or during it. Organizations that did not
// change go on undisturbed. One that did keeps its data: new rules, labels and
// selections are applied to what is held without a request. One that is gone takes
// its data along. On an error nothing changes.
func (c *Collector) Apply(organizations []Organization) error {
	if len(organizations) == 0 {
		return errors.New("no organization to poll: configure at least one")
	}
	organizations = slices.Clone(organizations)
	ids, labels := map[string]bool{}, map[string]bool{}
	for i, o := range organizations {
		o = o.withDefaults()
		organizations[i] = o
		label := cmp.Or(o.ID, o.Name)
		switch {
		case o.API.Budget == nil:
			return fmt.Errorf("organization %q has no rate budget: this is a bug", label)
		case o.ID != "" && ids[o.ID]:
			return fmt.Errorf("organization id %s is configured twice: keep one of them", o.ID)
		case label == "" && labels[""]:
			return errors.New("two organizations have neither a name nor an id: give each of them one")
		case labels[label]:
			return fmt.Errorf("two organizations are called %q: give each of them a name of its own", label)
		}
		ids[o.ID], labels[label] = true, true
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	workers := make([]*worker, len(organizations))
	replaced := map[*worker]*worker{} // old → new
	stays := map[*worker]bool{}
	for i, o := range organizations {
		old := c.match(o)
		if old != nil && old.config.same(o) {
			workers[i], stays[old] = old, true
			continue
		}
		w, err := newWorker(c, o)
		if err != nil {
			for j, made := range workers[:i] {
				if made != nil && !stays[made] {
					workers[j].client.Close()
				}
			}
			return fmt.Errorf("organization %q: %w", cmp.Or(o.Name, o.ID), err)
		}
		workers[i] = w
		if old != nil {
			replaced[old] = w
		}
	}

	for _, old := range c.workers {
		if stays[old] {
			continue
		}
		c.end(old)
		if w := replaced[old]; w != nil {
			w.inherit(old)
		} else {
			c.health.end(old.label())
		}
	}
	c.workers = workers
	c.arrange(replaced)
	for _, w := range workers {
		if !stays[w] {
			if w.id.Load() != nil {
				c.health.begin(w.label())
			}
			c.start(w)
		}
	}
	return nil
}

// match returns the worker that polls the organization by its id or, failing that,
// by its name; nil if there is none.
func (c *Collector) match(o Organization) *worker {
	for _, w := range c.workers {
		if o.ID != "" && w.config.ID == o.ID || o.ID == "" && w.config.ID == "" && w.config.Name == o.Name {
			return w
		}
	}
	return nil
}

// arrange makes the snapshot hold a view for each worker, in order. A worker that
// replaces another begins with the other's view.
func (c *Collector) arrange(replaced map[*worker]*worker) {
	for {
		old := c.snapshot.Load()
		next := &snapshot{views: make([]*view, len(c.workers)), document: &lazyDocument{}, merger: old.merger}
		for i, w := range c.workers {
			v := &view{worker: w, name: w.name, document: &lazyDocument{}}
			v.state.plan.Period = w.config.MetricsInterval
			if id := w.id.Load(); id != nil {
				v.id = *id
			}
			v.index(nil)
			for _, was := range old.views {
				if was.worker == w {
					v = was
				} else if replaced[was.worker] == w {
					v = was.handedTo(w)
				}
			}
			next.views[i] = v
		}
		if c.snapshot.CompareAndSwap(old, next) {
			return
		}
	}
}

// handedTo returns the view as another worker's.
func (v *view) handedTo(w *worker) *view {
	next := &view{
		worker: w, id: v.id, name: v.name, services: v.services, unnamed: v.unnamed,
		inventory: v.inventory, state: v.state, document: &lazyDocument{},
	}
	next.index(nil)
	return next
}

// start lets a worker poll, if the collector is running.
func (c *Collector) start(w *worker) {
	if c.ctx == nil {
		return
	}
	ctx, cancel := context.WithCancel(c.ctx)
	w.stop = cancel
	c.running.Go(func() { w.run(ctx) })
}

// end makes a worker stop and waits until it has.
func (c *Collector) end(w *worker) {
	if w.stop == nil {
		w.client.Close()
		return
	}
	w.stop()
	<-w.done
}

// Run polls until ctx ends, then returns nil once nothing is under way any more. It
// must be called once.
func (c *Collector) Run(ctx context.Context) error {
	c.mu.Lock()
	c.ctx = ctx
	for _, w := range c.workers {
		c.start(w) //nolint:contextcheck // it is c.ctx
	}
	c.mu.Unlock()
	<-ctx.Done()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running.Wait()
	return nil
}

// claim makes a discovered organization the worker's, unless another polls it.
func (c *Collector) claim(w *worker, id string) error {
	for {
		old := c.snapshot.Load()
		if v := old.organization(id); v != nil && v.worker != w {
			text := fmt.Sprintf("the organization that the API key sees, %s, is polled already: configure it once", id)
			return &refusedError{"duplicate_organization", text}
		}
		// The view says whose it is before the worker does.
		v := &view{worker: w, id: id, name: w.name, state: w.view().state, document: &lazyDocument{}}
		v.index(nil)
		if c.snapshot.CompareAndSwap(old, old.with(v)) {
			w.id.Store(&id)
			c.health.begin(id)
			return nil
		}
	}
}

// publish makes a view part of what readers see.
func (c *Collector) publish(v *view) {
	for {
		old := c.snapshot.Load()
		if c.snapshot.CompareAndSwap(old, old.with(v)) {
			return
		}
	}
}

// current returns the present snapshot, without data that is too old.
func (c *Collector) current(now time.Time) *snapshot {
	s := c.snapshot.Load()
	if !s.expired(now) {
		return s
	}
	// The workers see to expiry themselves; this is for those that are busy, and
	// for a machine that has just woken up. If somebody else publishes something
	// newer at the same time, so much the better.
	fresh := s.expire(now)
	c.snapshot.CompareAndSwap(s, fresh)
	return fresh
}

// Page returns the series of a service, of a whole organization (service is "") or
// of all of them (both are ""). The document of everything always exists. Of others
// there may be none: then the error is [ErrNotFound] or an [*UnavailableError]. Page
// never waits for upstream.
func (c *Collector) Page(org, service string) (*exposition.Document, error) {
	now := time.Now()
	snap := c.current(now)
	if org == "" && service == "" {
		return snap.everything(), nil
	}
	v := snap.organization(org)
	if v == nil {
		for _, v := range snap.views {
			if v.id == "" {
				// It may be the one that is still looked for.
				return nil, &UnavailableError{Reason: "the organization of an API key is not known yet: " + v.state.found.String()}
			}
		}
		return nil, ErrNotFound
	}
	if service == "" {
		if err := v.unavailable(now); err != nil {
			return nil, err
		}
		return v.page(), nil
	}
	s := v.service(service)
	if s == nil {
		if v.inventory == nil {
			return nil, &UnavailableError{Reason: fmt.Sprintf("the services of organization %s are not known yet: %s", org, v.state.listing.String())}
		}
		return nil, ErrNotFound
	}
	if err := s.unavailable(v, now); err != nil {
		return nil, err
	}
	return s.page(v.worker), nil
}

// Ready tells whether every organization has been tried and there is data of at
// least one: an organization whose key does not work keeps the others' from being
// served no longer than that.
func (c *Collector) Ready() bool {
	data := false
	for _, v := range c.snapshot.Load().views {
		select {
		case <-v.worker.first:
		default:
			return false
		}
		data = data || !v.state.measuredAt.IsZero() || v.state.mute
	}
	return data
}

// WaitFirstRefresh waits until every organization has been tried once, whether that
// succeeded or not, or until ctx ends, whose error it then returns.
func (c *Collector) WaitFirstRefresh(ctx context.Context) error {
	for _, v := range c.snapshot.Load().views {
		select {
		case <-v.worker.first:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
