package collector

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-kit/log"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// Options configure a [Collector].
type Options struct {
	Organizations []Organization
	Logger        log.Logger // nil for none
	// Reserved are families of the program's own, besides those of the collector, whose
	// names upstream's series must not have.
	Reserved []string
	// NoMemo is for tests: nothing that was computed before is used again. It
	// changes no byte of any page.
	NoMemo bool

	onResponse func(*poller, *response) // for tests: before a response is taken in
	noJitter   bool                     // for tests that must come out alike each time
}

// Collector polls organizations and serves what they answered. Its methods are safe
// for concurrent use.
type Collector struct {
	options  Options
	health   *health
	reserved func(name string) bool // see reservedNames

	pollers atomic.Pointer[[]*poller]
	claims  sync.Mutex // of ids: held while pollers, or the id of one of them, are replaced

	memo *memo // of the page of several organizations

	mu      sync.Mutex      // guards what follows, and one Apply at a time
	ctx     context.Context //nolint:containedctx // of Run, for pollers that Apply starts; nil before
	running sync.WaitGroup
}

// New returns a collector that has not polled anything yet.
func New(o Options) (*Collector, error) {
	if o.Logger == nil {
		o.Logger = log.NewNopLogger()
	}
	c := &Collector{options: o, health: newHealth(), reserved: reservedNames(o.Reserved), memo: &memo{off: o.NoMemo}}
	c.pollers.Store(&[]*poller{})
	if err := c.Apply(o.Organizations); err != nil {
		return nil, err
	}
	return c, nil
}

// Run polls until ctx ends, then returns nil once nothing is under way any more. It
// must be called once.
func (c *Collector) Run(ctx context.Context) error {
	c.mu.Lock()
	c.ctx = ctx
	for _, p := range *c.pollers.Load() {
		c.start(p) //nolint:contextcheck // it is c.ctx
	}
	c.mu.Unlock()
	<-ctx.Done()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running.Wait()
	return nil
}

// views returns what the organizations look like now, in order.
func (c *Collector) views(now time.Time) []*organizationView {
	pollers := *c.pollers.Load()
	views := make([]*organizationView, len(pollers))
	for i, p := range pollers {
		views[i] = p.current(now)
	}
	return views
}

// Page returns the series of a service, of a whole organization (service is "") or
// of all of them (both are ""), as documents that have no family in common: what
// upstream and the inventory say, and of all of them also [Collector.Health]. The page
// of everything always exists. Of others there may be none: then the error is
// [ErrNotFound] or an [*UnavailableError]. Page never waits for upstream.
func (c *Collector) Page(org, service string) ([]*exposition.Document, error) {
	org, service = inventory.CanonicalID(org), inventory.CanonicalID(service)
	now := time.Now()
	views := c.views(now)
	if org == "" && service == "" {
		return append(c.everything(views), c.healthOf(views)...), nil
	}
	for _, v := range views {
		switch {
		case v.id != org || org == "":
		case service == "":
			return v.page(now)
		default:
			return v.servicePage(service, now)
		}
	}
	for _, v := range views {
		if v.id == "" {
			// It may be the one that is still looked for.
			return nil, &UnavailableError{Reason: "the organization of an API key is not known yet: " + v.discovery.String()}
		}
	}
	return nil, ErrNotFound
}

// Health returns the part of the page of everything that is about organizations, and
// about how the reading of each service goes. No other page has it: one that has
// expired could not say so.
func (c *Collector) Health() []*exposition.Document { return c.healthOf(c.views(time.Now())) }

func (c *Collector) healthOf(views []*organizationView) []*exposition.Document {
	if len(views) == 1 {
		return []*exposition.Document{views[0].health()}
	}
	return []*exposition.Document{c.memo.mergeHealth(views...)}
}

// everything returns upstream's series and the inventory of all organizations.
func (c *Collector) everything(views []*organizationView) []*exposition.Document {
	if len(views) == 1 {
		return []*exposition.Document{views[0].main()}
	}
	var parts []exposition.Part
	for _, v := range views {
		parts = v.parts(parts)
	}
	doc, _ := c.memo.merge(&c.memo.main, parts)
	return []*exposition.Document{doc}
}

// Ready tells whether every organization has been tried and there is data of at
// least one: an organization whose key does not work keeps the others' from being
// served no longer than that.
func (c *Collector) Ready() bool {
	data := false
	for _, p := range *c.pollers.Load() {
		select {
		case <-p.first:
		default:
			return false
		}
		v := p.view.Load()
		data = data || !v.metricsAt.IsZero() || v.noMetrics()
	}
	return data
}

// WaitFirstRefresh waits until every organization has been tried once, whether that
// succeeded or not, or until ctx ends, whose error it then returns.
func (c *Collector) WaitFirstRefresh(ctx context.Context) error {
	for _, p := range *c.pollers.Load() {
		select {
		case <-p.first:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// ErrNotFound is returned by [Collector.Page] for an organization or a service
// that is not known.
var ErrNotFound = errors.New("unknown organization or service")

// UnavailableError is returned by [Collector.Page] for something that is known,
// but of which there is no data: not yet, or not any more.
type UnavailableError struct {
	Reason string // one plain sentence, fit for the body of a 503
}

func (e *UnavailableError) Error() string { return e.Reason }
