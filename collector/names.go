package collector

import (
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// Names of the program's own metrics that describe upstream: one place, since they
// are also the names that upstream may not use.
const (
	serviceInfoName        = "clickhouse_postgres_service_info"
	serviceStateName       = "clickhouse_postgres_service_state"
	serviceCreatedName     = "clickhouse_postgres_service_created_timestamp_seconds"
	serviceStorageName     = "clickhouse_postgres_service_storage_size_bytes"
	servicePrimaryName     = "clickhouse_postgres_service_primary"
	serviceTagsName        = "clickhouse_postgres_service_tags_info"
	serviceSettingName     = "clickhouse_postgres_service_setting"
	servicesName           = "clickhouse_postgres_services"
	serviceUpName          = "clickhouse_postgres_service_up"
	serviceLastSuccessName = "clickhouse_postgres_service_metrics_last_success_timestamp_seconds"
	serviceLastChangeName  = "clickhouse_postgres_service_metrics_last_change_timestamp_seconds"
	upName                 = "clickhouse_postgres_up"

	exporterPrefix = "clickhouse_postgres_exporter_"
)

// ownNames returns functions that tell whether a name is one of the series of the
// program's own: live, that are served besides upstream's and the inventory's, or all.
func ownNames(reserved []string) (live, all func(name string) bool) {
	reserved = slices.Concat(reserved, []string{upName, serviceUpName, serviceLastSuccessName, serviceLastChangeName})
	return names(reserved), names(append(reserved, serviceInfoName, serviceStateName, serviceCreatedName, serviceStorageName,
		servicePrimaryName, serviceTagsName, serviceSettingName, servicesName))
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

// names returns a function that tells whether a name is on the list, or one that the
// exporter keeps for itself.
func names(list []string) func(name string) bool {
	set := map[string]struct{}{}
	for _, name := range list {
		set[name] = struct{}{}
	}
	return func(name string) bool {
		if _, ok := set[name]; ok || strings.HasPrefix(name, exporterPrefix) {
			return true
		}
		// In OpenMetrics, a counter's family has the name without its suffix.
		family, counter := strings.CutSuffix(name, "_total")
		_, ok := set[family]
		return counter && ok
	}
}
