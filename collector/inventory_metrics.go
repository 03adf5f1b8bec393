package collector

import (
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/protobuf/proto"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

const bytesPerGiB = 1 << 30

// gauge is one series that the program makes itself.
type gauge struct {
	name, help string
	labels     []labels.Label // in any order; empty values are left out
	value      float64
}

// inventorySeries returns the inventory metrics of one service.
func (w *worker) inventorySeries(r *record, states []string) *exposition.Block {
	ids := w.ids(r.ID, r.Name)
	with := func(more ...labels.Label) []labels.Label { return append(slices.Clip(ids), more...) }
	truth := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	list := []gauge{{
		name: serviceInfoName,
		help: "What the inventory says of a Postgres service; always 1.",
		labels: with(
			labels.Label{Name: "postgres_provider", Value: r.Provider},
			labels.Label{Name: "postgres_region", Value: r.Region},
			labels.Label{Name: "postgres_size", Value: r.Size},
			labels.Label{Name: "postgres_version", Value: r.PostgresVersion},
			labels.Label{Name: "postgres_ha_type", Value: r.HAType},
			labels.Label{Name: "postgres_is_primary", Value: strconv.FormatBool(r.IsPrimary)},
			labels.Label{Name: "postgres_hostname", Value: r.hostname},
		),
		value: 1,
	}}
	if r.State != "" && !slices.Contains(states, r.State) {
		states = append(slices.Clip(states), r.State)
	}
	for _, state := range states {
		list = append(list, gauge{
			name:   serviceStateName,
			help:   "The state of a Postgres service: 1 for the state it is in, 0 for every other.",
			labels: with(labels.Label{Name: "state", Value: state}),
			value:  truth(state == r.State),
		})
	}
	if !r.CreatedAt.IsZero() {
		list = append(list, gauge{
			name:   serviceCreatedName,
			help:   "When a Postgres service was created, in seconds since 1970.",
			labels: ids,
			value:  float64(r.CreatedAt.UnixMilli()) / 1000,
		})
	}
	if r.StorageGiB > 0 {
		list = append(list, gauge{
			name:   serviceStorageName,
			help:   "Size of a Postgres service's storage in bytes; absent where the inventory does not give it.",
			labels: ids,
			value:  r.StorageGiB * bytesPerGiB,
		})
	}
	list = append(list, gauge{
		name:   servicePrimaryName,
		help:   "Whether a Postgres service is a primary (1) or a read replica (0).",
		labels: ids,
		value:  truth(r.IsPrimary),
	})
	if tags := inventory.TagLabels(r.Tags); len(tags) > 0 {
		list = append(list, gauge{
			name:   serviceTagsName,
			help:   "The tags of a Postgres service: tag_<key> holds a tag's value, tagpresent_<key> is true for a tag without one; always 1.",
			labels: with(tags...),
			value:  1,
		})
	}
	for _, s := range r.settings {
		list = append(list, gauge{
			name:   serviceSettingName,
			help:   "A numeric setting of a Postgres service, in the unit in which it is set; the names of PgBouncer's begin with pgbouncer and a dot.",
			labels: with(labels.Label{Name: "name", Value: s.Name}),
			value:  s.Value,
		})
	}
	return w.relabelledBlock(list)
}

// inventoryTotals returns the organization's services by state.
func (w *worker) inventoryTotals(counts map[string]int) *exposition.Block {
	list := make([]gauge, 0, len(counts))
	for _, state := range slices.Sorted(maps.Keys(counts)) {
		list = append(list, gauge{
			name:   servicesName,
			help:   "Number of Postgres services of an organization by state.",
			labels: []labels.Label{{Name: inventory.OrgLabel, Value: w.label()}, {Name: "state", Value: state}},
			value:  float64(counts[state]),
		})
	}
	return w.relabelledBlock(list)
}

// ids returns the labels that say which service a series is about.
func (w *worker) ids(id, name string) []labels.Label { return idLabels(w.label(), id, name) }

func idLabels(org, id, name string) []labels.Label {
	return []labels.Label{
		{Name: inventory.OrgLabel, Value: org},
		{Name: inventory.ServiceLabel, Value: id},
		{Name: inventory.NameLabel, Value: name},
	}
}

// relabelledBlock makes a block of series that the user's rules apply to, as they
// apply to upstream's.
func (w *worker) relabelledBlock(list []gauge) *exposition.Block {
	kept := list[:0]
	for _, g := range list {
		b := labels.NewScratchBuilder(len(g.labels) + 1)
		b.Add(model.MetricNameLabel, g.name)
		for _, l := range g.labels {
			if l.Value != "" {
				b.Add(l.Name, l.Value)
			}
		}
		b.Sort()
		lset, verdict := w.rewriter.apply(b.Labels())
		if verdict != exposition.Keep {
			continue
		}
		if name := lset.Get(model.MetricNameLabel); name != g.name {
			g.name = strings.Clone(name) // or it would keep all labels in memory
		}
		g.labels = nil
		if w.c.live.has(g.name) {
			continue // a family must not be in a page and in Collect
		}
		lset.Range(func(l labels.Label) {
			if l.Name != model.MetricNameLabel {
				g.labels = append(g.labels, l)
			}
		})
		kept = append(kept, g)
	}
	return newBlock(kept)
}

// newBlock makes a block of series as they are.
func newBlock(list []gauge) *exposition.Block {
	sort.SliceStable(list, func(i, j int) bool { return list[i].name < list[j].name })
	var families []*dto.MetricFamily
	for _, g := range list {
		if len(families) == 0 || families[len(families)-1].GetName() != g.name {
			families = append(families, &dto.MetricFamily{
				Name: proto.String(g.name),
				Help: proto.String(g.help),
				Type: dto.MetricType_GAUGE.Enum(),
			})
		}
		f := families[len(families)-1]
		m := &dto.Metric{Gauge: &dto.Gauge{Value: proto.Float64(g.value)}}
		for _, l := range g.labels {
			if l.Value != "" {
				m.Label = append(m.Label, &dto.LabelPair{Name: proto.String(l.Name), Value: proto.String(l.Value)})
			}
		}
		sort.Slice(m.Label, func(i, j int) bool { return m.Label[i].GetName() < m.Label[j].GetName() })
		f.Metric = append(f.Metric, m)
	}
	block, err := exposition.NewBlock(families)
	if err != nil {
		// Names and labels have been validated, so that this is a bug; but a
		// page without these series is better than none.
		return nil
	}
	return block
}
