// Package command is what the program does besides serving metrics: check, once and
// healthcheck.
package command

import (
	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/config"
)

// load returns what is to be polled, for commands that read the configuration once.
func load(c *config.Config) ([]collector.Organization, error) {
	if err := c.Organization.CheckKey(); err != nil {
		return nil, err
	}
	return config.NewLoader(c).Load()
}
