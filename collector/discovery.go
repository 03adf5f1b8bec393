package collector

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
)

// discover finds the organization that the key can see, unless its id is given. It
// tries until it succeeds, and returns false when ctx ends before.
func (w *worker) discover(ctx context.Context) bool {
	for w.id.Load() == nil {
		start := time.Now()
		list, err := w.client.Organizations(ctx)
		if ctx.Err() != nil {
			return false
		}
		w.c.health.polled(w.label(), api.EndpointOrganizations, time.Since(start))
		w.c.health.unsent(w.label(), api.EndpointOrganizations, err)
		if err == nil {
			err = w.claim(list)
		}
		now := time.Now()
		w.observe(&w.found, now, err, api.EndpointOrganizations, "organization found")
		if err != nil {
			w.publish(now)
			w.firstOnce.Do(func() { close(w.first) })
			timer := time.NewTimer(w.config.InventoryInterval)
			select {
			case <-ctx.Done():
				timer.Stop()
				return false
			case <-timer.C:
			}
		}
	}
	return true
}

// claim takes the one organization of the list as the worker's own.
func (w *worker) claim(list []api.Organization) error {
	switch len(list) {
	case 0:
		return &refusedError{"no_organization", "the API key sees no organization: give the key access to one, or set the organization id"}
	case 1:
	default:
		text := fmt.Sprintf("the API key sees %d organizations: set the organization id to the one to export", len(list))
		return &refusedError{"several_organizations", text}
	}
	org := list[0]
	if err := w.c.claim(w, org.ID); err != nil {
		return err
	}
	if w.name == "" {
		w.name = org.Name
	}
	return nil
}
