package schedule

import (
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
)

func (p *Planner) listInterval() time.Duration {
	// However small the budget is, two of three requests are left for metrics.
	return max(p.cfg.InventoryInterval, 3*p.cfg.Spacing)
}

func (p *Planner) nextList(time.Time) (Request, bool) {
	return Request{Endpoint: api.EndpointServices, At: p.listDue}, !p.listInFlight
}
