// Package command is what the program does besides serving metrics: check, once and
// healthcheck.
package command

import (
	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/config"
)

// load returns what is to be polled, for commands that read the configuration once, and
// the budgets that an exporter of the same configuration has; see [config.Loader.LoadBeside].
func load(c *config.Config) (organizations []collector.Organization, exporters []*api.Budget, err error) {
	if err := c.Organization.CheckKey(); err != nil {
		return nil, nil, err
	}
	return config.NewLoader(c).LoadBeside()
}
