// Package inventory is what is known of an organization's services and what follows
// from it: which of them are exported, what can be expected of them by their states,
// and the labels and numbers that they get. It is pure data and functions: it asks
// nobody, and holds no clock.
package inventory

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
)

// Inventory is a list of services that was believed. Immutable.
type Inventory struct {
	Services map[string]*Service // by id
	IDs      []string            // sorted
	Counts   map[string]int      // services by state, of all documented states
	ReadAt   time.Time
}

// Service is what the list says of one service, with its tags sorted. Immutable, and
// the same from list to list while nothing about the service changes.
type Service struct {
	api.Service

	// RunningSince is when the service was first seen running, zero if it already
	// was when the organization was first seen.
	RunningSince time.Time
}

// Running tells whether the service is known and running.
func (s *Service) Running() bool { return s != nil && s.State == StateRunning }

// Next returns the inventory after a list, of the services that ByID made of it.
// The inventory before may be nil.
func (i *Inventory) Next(services map[string]api.Service, readAt time.Time) *Inventory {
	first := i == nil
	if first {
		i = &Inventory{}
	}
	next := &Inventory{
		Services: make(map[string]*Service, len(services)),
		IDs:      slices.Sorted(maps.Keys(services)),
		Counts:   map[string]int{},
		ReadAt:   readAt,
	}
	for _, state := range States() {
		next.Counts[state] = 0
	}
	for _, id := range next.IDs {
		s, last := &Service{Service: services[id]}, i.Services[id]
		switch {
		case last != nil && reflect.DeepEqual(&last.Service, &s.Service):
			s = last
		case !s.Running():
		case last.Running():
			s.RunningSince = last.RunningSince
		case !first:
			s.RunningSince = readAt
		}
		next.Services[id] = s
		next.Counts[cmp.Or(s.State, StateUnknown)]++
	}
	return next
}

// CanonicalID returns how the id of an organization or a service is written here:
// upstream takes and may give it in whichever case.
func CanonicalID(id string) string { return strings.ToLower(id) }

// ByID returns the services of a list by id, each once and with its tags sorted:
// upstream's order means nothing.
func ByID(list []api.Service) map[string]api.Service {
	services := make(map[string]api.Service, len(list))
	for _, s := range list {
		s.ID = CanonicalID(s.ID)
		if _, twice := services[s.ID]; twice || s.ID == "" {
			continue
		}
		s.Tags = slices.Clone(s.Tags)
		slices.SortStableFunc(s.Tags, func(a, b api.Tag) int { return cmp.Compare(a.Key, b.Key) })
		services[s.ID] = s
	}
	return services
}
