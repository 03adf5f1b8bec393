package collector

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

// pageNames are the families of its own that the collector adds to pages. Those of
// [Collector.Collect] come on top.
func pageNames() []string {
	return []string{
		serviceInfoName, serviceStateName, serviceCreatedName, serviceStorageName,
		servicePrimaryName, serviceTagsName, serviceSettingName, servicesName,
		serviceUpName, serviceLastSuccessName, serviceLastChangeName,
	}
}
