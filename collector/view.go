package collector

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

// organizationView is what one organization looks like at one moment. Immutable;
// documents are made when first asked for.
type organizationView struct {
	poller *poller
	config *Organization
	id     string // "" until it is known
	name   string // "" if it is not known
	facts

	plan     schedule.Summary
	next     schedule.Request // zero if nothing is planned
	bytes    int              // of the pages that are held
	services []*serviceView   // see compareIDs; nil before the first list was tried
	whole    service          // has details of the organization

	// What follows from the services.
	up      bool      // the latest calls for the list and for metrics worked
	expires time.Time // when the first data becomes too old, zero if there is none
	series  int       // upstream's series held
	unknown int       // services that only the metrics name

	main   func() *exposition.Document // upstream's series and the inventory
	health func() *exposition.Document // of the organization and its services
}

// complete fills in what follows from the services.
func (v *organizationView) complete() {
	v.expires, v.series, v.unknown = time.Time{}, 0, 0
	own, failed := false, 0
	for _, s := range v.services {
		if at := s.expires(); s.block != nil && (v.expires.IsZero() || at.Before(v.expires)) {
			v.expires = at
		}
		v.series += s.block.Series()
		own = own || s.own && s.block != nil
		if s.entry == nil && s.id != "" && v.inventory != nil {
			v.unknown++
		}
		if s.err != nil {
			failed++
		}
	}
	switch {
	case !v.list.ok():
		v.up = false
	case v.organizationPage.tried && !v.pageRefused:
		v.up = v.organizationPage.err == nil
	default: // read service by service: up as long as some can be read
		v.up = v.noMetrics() || own && failed < len(v.inventory.IDs)
	}

	p := v.poller
	v.main = sync.OnceValue(func() *exposition.Document {
		doc, changed := p.memo.merge(&p.memo.main, v.parts(nil))
		if changed {
			p.c.health.dropped(v.id, exposition.Drops{Duplicate: doc.Duplicates()})
		}
		return doc
	})
	v.health = sync.OnceValue(func() *exposition.Document { return p.memo.mergeHealth(v) })
}

// expired tells whether some of the view's data has become too old.
func (v *organizationView) expired(now time.Time) bool {
	return !v.expires.IsZero() && reached(now, v.expires)
}

// current returns what the organization looks like now.
func (p *poller) current(now time.Time) *organizationView {
	v := p.view.Load()
	if !v.expired(now) {
		return v
	}
	// The poller sees to expiry itself; this is for one that is busy, and for a
	// machine that has just woken up. If something newer is published at the same
	// time, so much the better.
	fresh := v.expire(now)
	p.view.CompareAndSwap(v, fresh)
	return fresh
}

// expire returns the view without the data that is too old.
func (v *organizationView) expire(now time.Time) *organizationView {
	next := *v
	next.services = nil
	for _, s := range v.services {
		switch {
		case !s.expired(now):
			next.services = append(next.services, s)
		case s.entry != nil: // or else nothing is left
			next.services = append(next.services, s.expire(v.id))
		}
	}
	next.complete()
	return &next
}

// compareIDs orders services by id; "", for series that name no service, is last.
func compareIDs(a, b string) int {
	if a == "" || b == "" {
		return cmp.Compare(b, a)
	}
	return cmp.Compare(a, b)
}

// service returns the view of a service, nil if there is none.
func (v *organizationView) service(id string) *serviceView {
	i, ok := slices.BinarySearchFunc(v.services, id, func(s *serviceView, id string) int { return compareIDs(s.id, id) })
	if !ok {
		return nil
	}
	return v.services[i]
}

// parts appends the blocks of the organization's services.
func (v *organizationView) parts(parts []exposition.Part) []exposition.Part {
	for _, s := range v.services {
		parts = s.parts(parts)
	}
	return parts
}

// page returns the organization's page, or why there is none.
func (v *organizationView) page(now time.Time) ([]*exposition.Document, error) {
	switch {
	case !v.expires.IsZero(): // there are series
	case v.noMetrics() && v.list.ok(): // there are none, which is right
	case v.metricsAt.IsZero() || reached(now, v.metricsAt.Add(v.config.MaxAge)):
		return nil, unavailable("organization "+v.id, now, v.metricsAt, v.metricsErr, "the first request has not been answered yet")
	}
	return []*exposition.Document{v.main()}, nil
}

// servicePage returns the page of a service, or why there is none.
func (v *organizationView) servicePage(id string, now time.Time) ([]*exposition.Document, error) {
	s := v.service(id)
	switch {
	case s == nil && v.inventory == nil:
		return nil, &UnavailableError{Reason: fmt.Sprintf("the services of organization %s are not known yet: %s", v.id, v.list.String())}
	case s == nil:
		return nil, ErrNotFound
	case s.block != nil:
	case s.entry != nil && !s.entry.Running() && !reached(now, v.inventory.ReadAt.Add(v.config.MaxAge)):
		// A service that does not run may have no metrics, or no longer, and that is
		// no outage: what the inventory says is the whole answer.
	default:
		return nil, unavailable("service "+s.id, now, s.fetchedAt, cmp.Or(s.err, v.metricsErr), "it has not been read yet, or upstream's page does not include it")
	}
	return []*exposition.Document{s.page()}, nil
}

// unavailable says why there are no metrics of something of which the last ones came
// at a time, which is zero if there never were any.
func unavailable(what string, now, last time.Time, err error, otherwise string) error {
	if err != nil {
		otherwise = err.Error()
	}
	if last.IsZero() {
		return &UnavailableError{Reason: fmt.Sprintf("no metrics for %s: %s", what, otherwise)}
	}
	reason := fmt.Sprintf("the metrics of %s have expired: the last ones are %s old", what, age(now, last).Round(time.Second))
	if err != nil {
		reason += "; " + otherwise
	}
	return &UnavailableError{Reason: reason}
}
