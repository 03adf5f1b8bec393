package collector

import (
	"maps"
	"slices"
	"strconv"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

const bytesPerGiB = 1 << 30

// inventoryGauges returns what the inventory says of one service.
func inventoryGauges(of *listedInput, states []string) []exposition.Gauge {
	s := of.entry
	series := labelsOf(of.org, s.ID, s.Name)
	gauges := []exposition.Gauge{{
		Name: serviceInfoName,
		Help: "What the inventory says of a Postgres service; always 1.",
		Labels: series(
			labels.Label{Name: "postgres_provider", Value: s.Provider},
			labels.Label{Name: "postgres_region", Value: s.Region},
			labels.Label{Name: "postgres_size", Value: s.Size},
			labels.Label{Name: "postgres_version", Value: s.PostgresVersion},
			labels.Label{Name: "postgres_ha_type", Value: s.HAType},
			labels.Label{Name: "postgres_is_primary", Value: strconv.FormatBool(s.IsPrimary)},
			labels.Label{Name: "postgres_hostname", Value: of.details.hostname},
		),
		Value: 1,
	}}
	if s.State != "" && !slices.Contains(states, s.State) {
		states = append(slices.Clip(states), s.State)
	}
	for _, state := range states {
		gauges = append(gauges, exposition.Gauge{
			Name:   serviceStateName,
			Help:   "The state of a Postgres service: 1 for the state it is in, 0 for every other.",
			Labels: series(labels.Label{Name: "state", Value: state}),
			Value:  truth(state == s.State),
		})
	}
	if !s.CreatedAt.IsZero() {
		gauges = append(gauges, exposition.Gauge{
			Name:   serviceCreatedName,
			Help:   "When a Postgres service was created, in seconds since 1970.",
			Labels: series(),
			Value:  unixSeconds(s.CreatedAt),
		})
	}
	if s.StorageGiB > 0 {
		gauges = append(gauges, exposition.Gauge{
			Name:   serviceStorageName,
			Help:   "Size of a Postgres service's storage in bytes; absent where the inventory does not give it.",
			Labels: series(),
			Value:  s.StorageGiB * bytesPerGiB,
		})
	}
	gauges = append(gauges, exposition.Gauge{
		Name:   servicePrimaryName,
		Help:   "Whether a Postgres service is a primary (1) or a read replica (0).",
		Labels: series(),
		Value:  truth(s.IsPrimary),
	})
	if tags := inventory.TagLabels(s.Tags); len(tags) > 0 {
		gauges = append(gauges, exposition.Gauge{
			Name:   serviceTagsName,
			Help:   "The tags of a Postgres service: tag_<key> holds a tag's value, tagpresent_<key> is true for a tag without one; always 1.",
			Labels: series(tags...),
			Value:  1,
		})
	}
	for _, setting := range of.details.settings {
		gauges = append(gauges, exposition.Gauge{
			Name:   serviceSettingName,
			Help:   "A numeric setting of a Postgres service, in the unit in which it is set; the names of PgBouncer's begin with pgbouncer and a dot.",
			Labels: series(labels.Label{Name: "name", Value: setting.Name}),
			Value:  setting.Value,
		})
	}
	return gauges
}

// inventoryTotals returns the organization's services by state.
func inventoryTotals(org string, inv *inventory.Inventory) []exposition.Gauge {
	gauges := make([]exposition.Gauge, 0, len(inv.Counts))
	for _, state := range slices.Sorted(maps.Keys(inv.Counts)) {
		gauges = append(gauges, exposition.Gauge{
			Name:   servicesName,
			Help:   "Number of Postgres services of an organization by state.",
			Labels: labels.FromStrings(inventory.OrgLabel, org, "state", state),
			Value:  float64(inv.Counts[state]),
		})
	}
	return gauges
}

// labelsOf returns what makes the labels of a series about a service: those that say
// which, and more. Labels without a value are left out.
func labelsOf(org, id, name string) func(more ...labels.Label) labels.Labels {
	b := labels.NewScratchBuilder(8)
	return func(more ...labels.Label) labels.Labels {
		b.Reset()
		for _, l := range append(more, labels.Label{Name: inventory.OrgLabel, Value: org},
			labels.Label{Name: inventory.ServiceLabel, Value: id}, labels.Label{Name: inventory.NameLabel, Value: name}) {
			if l.Value != "" {
				b.Add(l.Name, l.Value)
			}
		}
		b.Sort()
		return b.Labels()
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
