package modeltest

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// This file contains everything that the model test knows about the program's API.

// maxAge is more than two and a half refresh periods of every service, whatever the planner plans,
// so that none is served for longer. The longest period is that of one stopped service, which is
// read in every fourth period, beside five running ones that are read from their own pages: 4 ·
// 5.25 / (0.9 · (1/5.05 - 1/15.15 - 1/20.2 - 0.1/5.05)) = 372 s, at one request in 5.05 s, some of
// which go to the list, the organization's page and details.
const maxAge = 20 * time.Minute

const organizationID = "0b8f7a3c-0000-4000-8000-00000000000a"

// variants are the collectors that run side by side, with the same events.
func variants() []collector.Options {
	return []collector.Options{{}, {NoMemo: true}}
}

// budget allows a request in 5.05 s. The list is asked for every three of these, for
// that is more than InventoryInterval: then the interval has no random part.
func budget() *api.Budget {
	return api.NewBudget(api.BudgetConfig{Requests: 2, Window: 10 * time.Second})
}

// organization returns the collector's configuration.
func (c config) organization(transport http.RoundTripper, budget *api.Budget) (collector.Organization, error) {
	o := collector.Organization{
		Name: "shop",
		ID:   c.written([]string{organizationID})[0],
		API: api.Config{
			BaseURL:     "http://upstream.test",
			Credentials: api.StaticCredentials("key", "secret"),
			Budget:      budget,
			Timeout:     time.Hour,
			MaxRetries:  -1, // a retry comes after a random while
			Transport:   transport,
		},
		MetricsInterval:      15 * time.Second,
		InventoryInterval:    time.Second,
		MaxAge:               maxAge,
		Rules:                c.rules(),
		Shard:                inventory.Shard{Index: c.shardIndex, Count: c.shardCount},
		Timestamps:           c.timestamps,
		CollectSettings:      c.settings,
		CollectBackups:       c.backups,
		CollectQuotas:        c.quotas,
		CollectInventory:     !c.off["inventory"],
		CollectState:         !c.off["state"],
		CollectTags:          !c.off["tags"],
		Tags:                 c.tags,
		CollectServiceHealth: !c.off["service-health"],
	}
	if c.findOut {
		o.ID = ""
	}
	if c.assume {
		o.AssumedSettings = []inventory.Setting{{Name: "max_connections", Value: 100}}
	}
	var err error
	if o.EnrichLabels, err = inventory.ParseEnrichLabels(c.enrich); err != nil {
		return o, err
	}
	if c.selection != nil {
		var filters [2][]inventory.Filter
		for i, list := range [2][]filter{c.selection.include, c.selection.exclude} {
			for _, f := range list {
				filters[i] = append(filters[i], inventory.Filter{IDs: c.written(f.ids), Name: f.name, Region: f.region, State: f.state, Tags: f.tags})
			}
		}
		o.Selection, err = inventory.NewSelection(filters[0], filters[1])
	}
	return o, err
}

// written returns ids as the user wrote them.
func (c config) written(ids []string) []string {
	if !c.upper || ids == nil {
		return ids
	}
	var upper []string
	for _, id := range ids {
		upper = append(upper, strings.ToUpper(id))
	}
	return upper
}

// owns reports whether a service belongs to the shard.
func (c config) owns(id string) bool {
	return inventory.Shard{Index: c.shardIndex, Count: c.shardCount}.Owns(id)
}

// The answers that a page may get.
const (
	served      = "served"
	notFound    = "not found"
	unavailable = "unavailable"
)

// serve returns a page in the text format and in OpenMetrics.
func serve(c *collector.Collector, org, service string) (text, openMetrics []byte, status string) {
	docs, err := c.Page(org, service)
	var none *collector.UnavailableError
	switch {
	case errors.Is(err, collector.ErrNotFound):
		return nil, nil, notFound
	case errors.As(err, &none):
		return nil, nil, unavailable
	case err != nil:
		return nil, nil, err.Error()
	}
	encode := func(f expfmt.Format) []byte {
		return bytes.Join(new(exposition.Encoder).Encode(f, exposition.Identity, docs...).Chunks, nil)
	}
	return encode(exposition.Text), encode(exposition.OpenMetrics), served
}

// serveHealth returns the health page of the organization, in the text format.
func serveHealth(c *collector.Collector) ([]byte, error) {
	registry := prometheus.NewRegistry()
	if err := registry.Register(c); err != nil {
		return nil, err
	}
	families, err := registry.Gather()
	var page bytes.Buffer
	for _, mf := range families {
		switch mf.GetName() {
		case "clickhouse_postgres_up", "clickhouse_postgres_exporter_unknown_services",
			"clickhouse_postgres_exporter_inventory_last_success_timestamp_seconds",
			"clickhouse_postgres_exporter_metrics_last_success_timestamp_seconds":
			_, failed := expfmt.MetricFamilyToText(&page, mf)
			err = errors.Join(err, failed)
		}
	}
	return page.Bytes(), err
}

// complaints collects log lines that indicate a bug in the program. Safe for concurrent use.
type complaints struct {
	mu    sync.Mutex
	lines []string
}

func (l *complaints) logger() log.Logger { return log.NewLogfmtLogger(l) }

func (l *complaints) Write(line []byte) (int, error) {
	if s := string(line); strings.Contains(s, "level=error") || strings.Contains(s, "panic") || strings.Contains(s, "bug") {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lines = append(l.lines, s)
	}
	return len(line), nil
}

func (l *complaints) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "")
}
