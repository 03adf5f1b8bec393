package collector

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

const bytesPerGiB = 1 << 30

// adder returns what appends series with the labels of a service, or of the organization
// if that is "", and more of them. Labels without a value are left out.
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

// inventoryBlock makes what is served of what the list and the calls for details say of
// a service.
func (p *poller) inventoryBlock(of *service) *exposition.Block {
	s := of.entry
	var gauges []exposition.Gauge
	add := adder(&gauges, p.id(), s.ID, s.Name)
	if p.config.CollectInventory {
		add("clickhouse_postgres_service_info", "Information about a Postgres service from the inventory; always 1.", 1,
			labels.Label{Name: "postgres_provider", Value: s.Provider},
			labels.Label{Name: "postgres_region", Value: s.Region},
			labels.Label{Name: "postgres_size", Value: s.Size},
			labels.Label{Name: "postgres_version", Value: s.PostgresVersion},
			labels.Label{Name: "postgres_ha_type", Value: s.HAType},
			labels.Label{Name: "postgres_is_primary", Value: strconv.FormatBool(s.IsPrimary)},
			labels.Label{Name: "postgres_hostname", Value: of.detail(hostnameDetail).hostname})
		if !s.CreatedAt.IsZero() {
			add("clickhouse_postgres_service_created_timestamp_seconds", "Unix timestamp of the creation of a Postgres service.", unixSeconds(s.CreatedAt))
		}
		if s.StorageGiB > 0 {
			add("clickhouse_postgres_service_storage_size_bytes", "Size of the storage of a Postgres service in bytes; absent if the inventory does not report it.", s.StorageGiB*bytesPerGiB)
		}
	}
	if p.config.CollectState {
		add("clickhouse_postgres_service_state", "State that a Postgres service is in; always 1.", 1,
			labels.Label{Name: "state", Value: cmp.Or(s.State, inventory.StateUnknown)})
	}
	if p.config.CollectTags {
		for _, tag := range inventory.ExportedTags(s.Tags, p.config.Tags) {
			add("clickhouse_postgres_service_tag", "Tag of a Postgres service; always 1. A tag without a value has no label value.", 1,
				labels.Label{Name: "key", Value: tag.Key}, labels.Label{Name: "value", Value: tag.Value})
		}
	}
	if d := of.detail(settingsDetail); d.read {
		for _, setting := range inventory.WithAssumed(d.settings, p.config.AssumedSettings) {
			add("clickhouse_postgres_service_setting", "Numeric setting of a Postgres service, in the unit in which it is set; names of PgBouncer settings start with pgbouncer and a dot.",
				setting.Value, labels.Label{Name: "name", Value: setting.Name})
		}
	}
	if b := of.detail(backupsDetail).backups; p.config.CollectBackups {
		if !b.Latest.IsZero() {
			add("clickhouse_postgres_service_last_backup_timestamp_seconds", "Unix timestamp of the end of the newest backup of a Postgres service; absent if there is none.", unixSeconds(b.Latest))
		}
		if b.Total != nil {
			add("clickhouse_postgres_service_retained_backups", "Number of backups of a Postgres service that are retained; absent if upstream does not tell.", float64(*b.Total))
		}
		if at := of.detail(hostnameDetail).earliestRestore; !at.IsZero() {
			add("clickhouse_postgres_service_earliest_restore_timestamp_seconds", "Unix timestamp of the earliest moment to which a Postgres service can be restored; absent if upstream does not tell.", unixSeconds(at))
		}
	}
	return exposition.NewBlock(gauges, p.last(of.listed))
}

// organizationBlock makes what is served of the organization as a whole, nil before its id
// is known.
func (p *poller) organizationBlock() *exposition.Block {
	if p.id() == "" {
		return nil
	}
	var gauges []exposition.Gauge
	add := adder(&gauges, p.id(), "", "")
	if p.config.CollectInventory && p.state.inventory != nil {
		if name := p.name(); name != "" {
			add("clickhouse_postgres_organization_info", "Name of an organization; always 1.", 1, labels.Label{Name: "name", Value: name})
		}
		counts := p.state.inventory.Counts
		for _, state := range slices.Sorted(maps.Keys(counts)) {
			add("clickhouse_postgres_services", "Number of Postgres services of an organization, by state.",
				float64(counts[state]), labels.Label{Name: "state", Value: state})
		}
	}
	for _, q := range p.state.whole.detail(quotasDetail).quotas {
		quota := labels.Label{Name: "quota", Value: q.Code}
		add("clickhouse_postgres_organization_quota_limit", "Limit of a quota of an organization.", q.Limit, quota)
		if q.Usage != nil {
			add("clickhouse_postgres_organization_quota_usage", "How much of a quota an organization uses; may exceed the limit.", *q.Usage, quota)
		}
	}
	return exposition.NewBlock(gauges, p.last(p.state.organization))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
