package collector

import (
	"slices"
	"strings"
)

// Names of the program's own metrics.
const (
	upName         = "clickhouse_postgres_up"
	exporterPrefix = "clickhouse_postgres_exporter_"
)

// reservedNames returns a function that tells whether upstream's series must not have a
// name: one of the program's own families, or one that begins like it, as that of its
// samples does in some format. Besides the collector's those are families given.
func reservedNames(families []string) func(name string) bool {
	own := append(slices.Clone(families), upName, "clickhouse_postgres_services", "clickhouse_postgres_service",
		"clickhouse_postgres_organization", strings.TrimSuffix(exporterPrefix, "_"))
	for i, name := range own {
		// In OpenMetrics, a counter's family has the name without its suffix.
		own[i] = strings.TrimSuffix(name, "_total")
	}
	return func(name string) bool {
		return slices.ContainsFunc(own, func(family string) bool {
			rest, ok := strings.CutPrefix(name, family)
			return ok && (rest == "" || rest[0] == '_')
		})
	}
}
