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

// inventoryGauges returns what the list and the calls for details say of one service.
func inventoryGauges(org string, of *service, states []string) []exposition.Gauge {
	var gauges []exposition.Gauge
	s := of.entry
	add := adder(&gauges, org, s.ID, s.Name)
	add("clickhouse_postgres_service_info", "Information about a Postgres service from the inventory; always 1.", 1,
		labels.Label{Name: "postgres_provider", Value: s.Provider},
		labels.Label{Name: "postgres_region", Value: s.Region},
		labels.Label{Name: "postgres_size", Value: s.Size},
		labels.Label{Name: "postgres_version", Value: s.PostgresVersion},
		labels.Label{Name: "postgres_ha_type", Value: s.HAType},
		labels.Label{Name: "postgres_is_primary", Value: strconv.FormatBool(s.IsPrimary)},
		labels.Label{Name: "postgres_hostname", Value: of.details.hostname})
	if s.State != "" && !slices.Contains(states, s.State) {
		states = append(slices.Clip(states), s.State)
	}
	for _, state := range states {
		add("clickhouse_postgres_service_state", "State of a Postgres service: 1 for its current state, 0 for all others.",
			truth(state == s.State), labels.Label{Name: "state", Value: state})
	}
	if !s.CreatedAt.IsZero() {
		add("clickhouse_postgres_service_created_timestamp_seconds", "Unix timestamp of the creation of a Postgres service.", unixSeconds(s.CreatedAt))
	}
	if s.StorageGiB > 0 {
		add("clickhouse_postgres_service_storage_size_bytes", "Size of the storage of a Postgres service in bytes; absent if the inventory does not report it.", s.StorageGiB*bytesPerGiB)
	}
	add("clickhouse_postgres_service_primary", "Whether a Postgres service is a primary (1) or a read replica (0).", truth(s.IsPrimary))
	if tags := inventory.TagLabels(s.Tags); len(tags) > 0 {
		add("clickhouse_postgres_service_tags_info", "Tags of a Postgres service: tag_<key> is the value of a tag, tagpresent_<key> is true for a tag without a value; always 1.", 1, tags...)
	}
	for _, setting := range of.details.settings {
		add("clickhouse_postgres_service_setting", "Numeric setting of a Postgres service, in the unit in which it is set; names of PgBouncer settings start with pgbouncer and a dot.",
			setting.Value, labels.Label{Name: "name", Value: setting.Name})
	}
	return gauges
}

// inventoryTotals returns the organization's services by state.
func inventoryTotals(org string, inv *inventory.Inventory) []exposition.Gauge {
	var gauges []exposition.Gauge
	add := adder(&gauges, org, "", "")
	for _, state := range slices.Sorted(maps.Keys(inv.Counts)) {
		add(servicesName, "Number of Postgres services of an organization, by state.",
			float64(inv.Counts[state]), labels.Label{Name: "state", Value: state})
	}
	return gauges
}

// adder returns what appends series about a service, with the labels that say which
// and more of them. Labels without a value are left out.
func adder(gauges *[]exposition.Gauge, org, id, name string) func(name, help string, value float64, more ...labels.Label) {
	of := []labels.Label{{Name: inventory.OrgLabel, Value: org}, {Name: inventory.ServiceLabel, Value: id}, {Name: inventory.NameLabel, Value: name}}
	b := labels.NewScratchBuilder(len(of))
	return func(name, help string, value float64, more ...labels.Label) {
		b.Reset()
		for _, l := range slices.Concat(of, more) {
			if l.Value != "" {
				b.Add(l.Name, l.Value)
			}
		}
		b.Sort()
		*gauges = append(*gauges, exposition.Gauge{Name: name, Help: help, Labels: b.Labels(), Value: value})
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
