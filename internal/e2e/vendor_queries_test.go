package e2e

import (
	"fmt"
	"maps"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// vendorQueries are what a dashboard for upstream's own endpoint asks: by the
// documented names and labels, and by the service's name, as its variable
// does. They stand in for the dashboard that ClickHouse publishes, which is
// not part of this project.
var vendorQueries = []string{
	// The variable Service.
	`group by (postgres_service_name) (PostgresServiceInfo)`,
	// The table of services.
	`PostgresServiceInfo{postgres_service_name=~".*"}`,
	`PostgresServer_CPUCores{postgres_service_name=~".*"}`,
	`PostgresServer_MemoryLimitBytes{postgres_service_name=~".*"}`,
	`PostgresServer_StorageLimitBytes{postgres_service_name=~".*"}`,
	// Processor, in percent of the cores, and by mode.
	`100 * sum by (postgres_service_name) (rate(PostgresServer_CPUSeconds_Total{postgres_service_name=~".*", mode!="idle"}[1m])) / on (postgres_service_name) PostgresServer_CPUCores{postgres_service_name=~".*"}`,
	`sum by (mode) (rate(PostgresServer_CPUSeconds_Total{postgres_service_name=~".*"}[1m]))`,
	`PostgresServer_MemoryUsedPercent{postgres_service_name=~".*"}`,
	`PostgresServer_MemoryCachePercent{postgres_service_name=~".*"}`,
	`PostgresServer_FilesystemUsedPercent{postgres_service_name=~".*"}`,
	`PostgresServer_MemoryUsedPercent{postgres_service_name=~".*"} * PostgresServer_MemoryLimitBytes{postgres_service_name=~".*"} / 100`,
	`sum by (postgres_service_name, state) (PostgresServer_ActiveConnections{postgres_service_name=~".*"})`,
	`sum by (postgres_service_name) (rate(PostgresServer_TransactionsCommitted_Total{postgres_service_name=~".*"}[1m]))`,
	`rate(PostgresServer_TransactionsRolledBack_Total{postgres_service_name=~".*"}[1m]) / (rate(PostgresServer_TransactionsCommitted_Total{postgres_service_name=~".*"}[1m]) + rate(PostgresServer_TransactionsRolledBack_Total{postgres_service_name=~".*"}[1m]))`,
	`rate(PostgresServer_TuplesFetched_Total{postgres_service_name=~".*"}[1m])`,
	`rate(PostgresServer_TuplesInserted_Total{postgres_service_name=~".*"}[1m])`,
	`rate(PostgresServer_TuplesUpdated_Total{postgres_service_name=~".*"}[1m])`,
	`rate(PostgresServer_TuplesDeleted_Total{postgres_service_name=~".*"}[1m])`,
	`rate(PostgresServer_DiskReads_Total{postgres_service_name=~".*"}[1m])`,
	`rate(PostgresServer_DiskWrites_Total{postgres_service_name=~".*"}[1m])`,
	`rate(PostgresServer_NetworkReceiveBytes_Total{postgres_service_name=~".*"}[1m])`,
	`rate(PostgresServer_NetworkTransmitBytes_Total{postgres_service_name=~".*"}[1m])`,
	`sum by (postgres_service_name, database) (PostgresServer_DatabaseSizeBytes{postgres_service_name=~".*"})`,
	`increase(PostgresServer_Deadlocks_Total{postgres_service_name=~".*"}[1m])`,
	`PostgresServer_CacheHitRatio{postgres_service_name=~".*"}`,
}

// A dashboard made for upstream's endpoint shows the same with the exporter as
// its source: Prometheus scrapes upstream as its vendor documents, and the
// exporter by the same path, and every query yields the same series.
func TestVendorStyleQueries(t *testing.T) {
	// Values stand still, so that the two scrapes can be compared.
	sim, environment := upstream(t, simulator.Config{Services: 6, Seed: 1})
	e := startExporter(t, environment, quick...)
	c := sim.Config()
	direct := httptest.NewServer(sim)
	defer direct.Close()
	path := fmt.Sprintf("metrics_path: /v1/organizations/%s/postgres/prometheus\nhonor_labels: true", c.OrganizationID)
	fromUpstream := job{
		name: "managed-postgres", target: strings.TrimPrefix(direct.URL, "http://"),
		settings: path + fmt.Sprintf("\nbasic_auth: {username: %q, password: %q}", c.KeyID, c.KeySecret),
	}
	fromExporter := job{name: "managed-postgres", target: e.address, settings: path}
	vendor, ours := startServer(t, fromUpstream), startServer(t, fromExporter)
	atVendor, atOurs := vendor.settled(t, 1), ours.settled(t, 1)

	inlined := []string{"postgres_region", "postgres_size", "postgres_state", "instance", "job"}
	shown := func(v promql.Vector) map[string]float64 {
		m := make(map[string]float64)
		for _, s := range v {
			m[labels.NewBuilder(s.Metric).Del(inlined...).Labels().String()] = s.F
		}
		return m
	}
	for _, expr := range vendorQueries {
		want, got := shown(vendor.queryAt(t, expr, atVendor)), shown(ours.queryAt(t, expr, atOurs))
		if len(want) == 0 {
			t.Errorf("upstream itself has nothing for %s", expr)
		}
		if !maps.EqualFunc(got, want, near) {
			t.Errorf("%s yields\n%v\ninstead of\n%v", expr, got, want)
		}
	}
}
