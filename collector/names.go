package collector

import (
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// Names of the program's own metrics that describe upstream begin with one of these,
// and other metrics must not, so that more of them can be added.
const (
	servicesName       = "clickhouse_postgres_services"
	upName             = "clickhouse_postgres_up"
	servicePrefix      = "clickhouse_postgres_service_"
	organizationPrefix = "clickhouse_postgres_organization_"
	exporterPrefix     = "clickhouse_postgres_exporter_"
)

// reservedNames returns a function that tells whether upstream's series must not have a
// name, since the program's own have it in some format. Besides names of the collector
// that are those given.
func reservedNames(more []string) func(name string) bool {
	set := map[string]struct{}{servicesName: {}, upName: {}}
	for _, name := range more {
		set[name] = struct{}{}
	}
	own := []string{servicePrefix, organizationPrefix, exporterPrefix}
	return func(name string) bool {
		if slices.ContainsFunc(own, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			return true
		}
		// In OpenMetrics, a counter's family has the name without its suffix.
		family, counter := strings.CutSuffix(name, "_total")
		_, taken := set[name]
		_, familyTaken := set[family]
		return taken || counter && familyTaken
	}
}

// SampleNames returns the names that series of the families have in any format, for
// [Options].ReservedNames: a name that another family's series have must not be among
// them.
func SampleNames(families []*dto.MetricFamily) []string {
	var names []string
	for _, f := range families {
		name := f.GetName()
		names = append(names, name)
		switch f.GetType() {
		case dto.MetricType_COUNTER:
			// OpenMetrics calls the family by the name without its suffix.
			family := strings.TrimSuffix(name, "_total")
			names = append(names, family, family+"_total", family+"_created")
		case dto.MetricType_SUMMARY:
			names = append(names, name+"_sum", name+"_count", name+"_created")
		case dto.MetricType_HISTOGRAM, dto.MetricType_GAUGE_HISTOGRAM:
			names = append(names, name+"_sum", name+"_count", name+"_bucket", name+"_created")
		}
	}
	return names
}
