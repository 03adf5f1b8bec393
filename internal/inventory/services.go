package inventory

import (
	"slices"
	"sort"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
)

// ByID returns the services of a list by id, each once and with its tags sorted:
// upstream's order means nothing.
func ByID(list []api.Service) map[string]api.Service {
	services := make(map[string]api.Service, len(list))
	for _, s := range list {
		if _, twice := services[s.ID]; twice || s.ID == "" {
			continue
		}
		s.Tags = slices.Clone(s.Tags)
		sort.SliceStable(s.Tags, func(i, j int) bool { return s.Tags[i].Key < s.Tags[j].Key })
		services[s.ID] = s
	}
	return services
}

// Same tells whether two answers say the same of a service. Tags must be sorted.
func Same(a, b *api.Service) bool {
	return a.ID == b.ID && a.Name == b.Name && a.Provider == b.Provider && a.Region == b.Region &&
		a.PostgresVersion == b.PostgresVersion && a.Size == b.Size && a.HAType == b.HAType &&
		a.State == b.State && a.StorageGiB == b.StorageGiB && a.IsPrimary == b.IsPrimary &&
		a.CreatedAt.Equal(b.CreatedAt) && slices.Equal(a.Tags, b.Tags)
}
