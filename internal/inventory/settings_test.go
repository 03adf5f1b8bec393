package inventory

import (
	"slices"
	"testing"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
)

func TestNumericSettings(t *testing.T) {
	got := NumericSettings(api.ServiceConfig{
		Postgres: map[string]string{
			"max_connections": "500", "random_page_cost": "1.1", "negative": "-1", "large": "1e6", "plus": "+3",
			"work_mem": "64MB", "statement_timeout": "30s", "fsync": "on", "default_transaction_isolation": "read committed",
			"empty": "", "nan": "NaN", "infinite": "inf", "too large": "1e999", "hexadecimal": "0x10", "grouped": "1_000",
			"spaced": " 1", "dots": "1.2.3", "sign": "-", "exponent": "e5", "": "5",
		},
		PgBouncer: map[string]string{"max_connections": "7", "default_pool_size": "16", "pool_mode": "transaction"},
	})
	want := []Setting{
		{"large", 1e6},
		{"max_connections", 500},
		{"negative", -1},
		{"pgbouncer.default_pool_size", 16},
		{"pgbouncer.max_connections", 7},
		{"plus", 3},
		{"random_page_cost", 1.1},
	}
	if !slices.Equal(got, want) {
		t.Errorf("settings:\n%v\nwant\n%v", got, want)
	}
}
