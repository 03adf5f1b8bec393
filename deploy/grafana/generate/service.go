package main

// service shows everything that is known of one service.
func service() dashboard {
	d := newDashboard(serviceUID, "ClickHouse Postgres / Service",
		"Everything that is known of one Managed Postgres service of ClickHouse Cloud.",
		serviceVariables()...)

	label := func(name string) query {
		return query{"max by (" + name + ") (" + of("", name) + ")", "{{" + name + "}}"}
	}
	d.row("Overview",
		stat("State", "none", "The state that the inventory has.", thresholds(),
			query{"max by (state) (" + of(gauge("clickhouse_postgres_service_state", "state")) + ")", "{{state}}"}).text(),
		stat("Region", "none", "Where the service runs.", thresholds(), label("postgres_region")).text(),
		stat("Size", "none", "The type of its machine.", thresholds(), label("postgres_size")).text(),
		stat("Postgres", "none", "Its major version.", thresholds(), label("postgres_version")).text().size(2, 4),
		stat("Cores", "none", "Processor cores of the service.", thresholds(),
			query{of(gauge("PostgresServer_CPUCores")), ""}).size(2, 4),
		stat("Memory", "bytes", "Memory of the service.", thresholds(),
			query{of(gauge("PostgresServer_MemoryLimitBytes")), ""}).size(3, 4),
		stat("Storage", "bytes", "Storage of the service.", thresholds(),
			query{of(gauge("PostgresServer_StorageLimitBytes")), ""}).size(3, 4),
		stat("Created", "dateTimeFromNow", "When the service was created.", thresholds(),
			query{of("1000 * " + gauge("clickhouse_postgres_service_created_timestamp_seconds")), ""}).size(3, 4),
		stat("Age of data", "s", "How long ago the exporter last got this service's metrics.", thresholds(300, "orange", 600, "red"),
			query{of(age("clickhouse_postgres_service_metrics_last_success_timestamp_seconds")), ""}).size(2, 4),
		timeline("State over time", "The state that the inventory had.",
			query{"max by (state) (" + of(gauge("clickhouse_postgres_service_state", "state")) + ")", "{{state}}"}),
		table("Inventory", "What the inventory knows of the service.",
			[]query{{of("", "postgres_service_name", "postgres_provider", "postgres_region", "postgres_size", "postgres_version", "postgres_ha_type", "postgres_is_primary"), ""}},
			column{"postgres_service_name", "Name", nil},
			column{"postgres_provider", "Provider", nil},
			column{"postgres_region", "Region", nil},
			column{"postgres_size", "Size", nil},
			column{"postgres_version", "Version", nil},
			column{"postgres_ha_type", "High availability", nil},
			column{"postgres_is_primary", "Primary", nil},
			column{"clickhouse_org", "Organization", nil},
			column{"postgres_service", "Id", nil},
		).size(12, 5),
		table("Tags", "The service's tags.",
			[]query{{"group by (" + ids + ", key, value) (" + one("clickhouse_postgres_service_tag") + " and on (" + ids + ") " + of("") + ")", ""}},
			column{"key", "Key", nil},
			column{"value", "Value", nil},
		).hide("clickhouse_org", "postgres_service").size(6, 5),
		table("Status with the metrics", "What upstream's metrics themselves say of the service. Upstream refreshes them about once a minute.",
			[]query{{of(gauge("PostgresServiceInfo", "postgres_status", "postgres_version")), ""}},
			column{"postgres_status", "Status", nil},
			column{"postgres_version", "Version", nil},
		).hide("clickhouse_org", "postgres_service").size(6, 5),
	)

	d.row("Processor, memory, disk",
		timeseries("CPU by mode", "percent", "What the cores did, in percent of all of them. Idle is left out.",
			query{
				of("100 * " + rate("PostgresServer_CPUSeconds_Total", "mode") + ` / on (` + ids + `) group_left () (` + coresIn() + " > 0)"),
				"{{mode}}",
			}).stacked().upTo(100).hidden("idle"),
		timeseries("CPU used", "percent", "Cores at work, in percent of all of them. Waiting for the disk does not count.",
			query{of(cpuUsed()), "used"}).upTo(100).lined(thresholds(90, "orange")),
		timeseries("Memory used and cache", "percent", "Memory in use, and memory used as cache, in percent of all memory.",
			query{of(gauge(memoryUsed)), "used"}, query{of(gauge("PostgresServer_MemoryCachePercent")), "cache"}).upTo(100),
		timeseries("Memory", "bytes", "Memory in use, and what there is.",
			query{of(gauge(memoryUsed) + " / 100 * " + gauge("PostgresServer_MemoryLimitBytes")), "used"},
			query{of(gauge("PostgresServer_MemoryLimitBytes")), "limit"}).fromZero(),
		timeseries("Disk used", "percent", "How full the disk is, and how full it will be in 24 hours going by the last six. Upstream sends a notification at 85 %, and moves the service to a larger disk at 90 %, where its tier allows that.",
			query{of(gauge(diskUsed)), "used"},
			query{of(diskInADay()), "in 24 hours"}).
			lined(thresholds(85, "orange", 90, "red")),
		timeseries("Until read-only", "bytes", "How much can be written until upstream lets the service only read, now and in 24 hours going by the last six. It goes by free space: below 1 GB of disks up to 64 GB, 5 GB up to 128 GB, 7 GB up to 512 GB, 2 % of larger ones.",
			query{of(untilReadOnly(gauge(diskUsed))), "now"},
			query{of(untilReadOnly(diskInADay())), "in 24 hours"}).
			lined(floor("red", 0, "transparent")),
		timeseries("Disk", "bytes", "Disk space in use, and what there is: as the metrics say, and as was ordered where the inventory says it.",
			query{of(storageUsed()), "used"},
			query{of(gauge("PostgresServer_StorageLimitBytes")), "limit"},
			query{of(gauge("clickhouse_postgres_service_storage_size_bytes")), "ordered"}).fromZero(),
		timeseries("Disk operations", "iops", "Reads and writes per second.",
			query{of(rate("PostgresServer_DiskReads_Total")), "reads"}, query{of(rate("PostgresServer_DiskWrites_Total")), "writes"}),
		timeseries("Network", "Bps", "Bytes per second, received and sent.",
			query{of(rate("PostgresServer_NetworkReceiveBytes_Total")), "received"},
			query{of(rate("PostgresServer_NetworkTransmitBytes_Total")), "sent"}),
	)

	d.row("Postgres",
		timeseries("Connections by state", "none", "Connections by what they do, and max_connections if it is known.",
			query{of(gauge("PostgresServer_ActiveConnections", "state")), "{{state}}"},
			query{of(maxConnections()), "max_connections"}).stacked().unstacked("max_connections"),
		timeseries("Connections used", "percent", "Connections in percent of max_connections. "+unknownMaximum,
			query{of(connectionsUsed()), "used"}).upTo(100).lined(thresholds(80, "orange", 95, "red")),
		timeseries("Transactions", "cps", "Transactions per second, committed and rolled back.",
			query{of(rate("PostgresServer_TransactionsCommitted_Total")), "committed"},
			query{of(rate("PostgresServer_TransactionsRolledBack_Total")), "rolled back"}),
		timeseries("Rolled back", "percent", "Share of the transactions that were rolled back.",
			query{of(rollbacks()), "rolled back"}).lined(thresholds(10, "orange")),
		timeseries("Rows", "cps", "Rows per second that queries fetched, inserted, updated and deleted.",
			query{of(rate("PostgresServer_TuplesFetched_Total")), "fetched"},
			query{of(rate("PostgresServer_TuplesInserted_Total")), "inserted"},
			query{of(rate("PostgresServer_TuplesUpdated_Total")), "updated"},
			query{of(rate("PostgresServer_TuplesDeleted_Total")), "deleted"}),
		timeseries("Cache hit ratio", "percent", "Share of the blocks that came from the cache.",
			query{of(gauge(cacheHit)), "hits"}).lined(floor("orange", 90, "transparent")),
		timeseries("Deadlocks", "none", "Deadlocks within the interval around each point.",
			query{of(deadlocks("$__rate_interval")), "deadlocks"}).bars(),
		timeseries("Database sizes", "bytes", "Size on disk of each database.",
			query{of(gauge("PostgresServer_DatabaseSizeBytes", "database")), "{{database}}"}).stacked(),
	)

	d.row("Backups",
		stat("Last backup", "s", "How long ago the last backup was. Upstream makes one a day. Needs the exporter's collector of backups.", thresholds(26*3600, "orange"),
			query{of(lastBackup()), ""}).size(4, 4),
		stat("Backups kept", "none", "Base backups that upstream still has.", thresholds(),
			query{of(gauge("clickhouse_postgres_service_retained_backups")), ""}).size(4, 4),
		stat("Restore from", "dateTimeFromNow", "The earliest moment that can be restored, where upstream tells it. Needs host names, which --enrich.labels=hostname or --collector.settings read.", thresholds(),
			query{of("1000 * " + gauge("clickhouse_postgres_service_earliest_restore_timestamp_seconds")), ""}).size(4, 4),
		timeseries("Age of the last backup", "s", "It falls to zero with each backup, once a day.",
			query{of(lastBackup()), "age"}).lined(thresholds(26*3600, "orange")).size(12, 4),
	)

	d.row("Freshness",
		timeseries("Age of metrics", "s", "How long ago the exporter last got this service's metrics, and how long ago their values last changed.",
			query{of(age("clickhouse_postgres_service_metrics_last_success_timestamp_seconds")), "got"},
			query{of(age("clickhouse_postgres_service_metrics_last_change_timestamp_seconds")), "changed"}).
			lined(thresholds(600, "red")),
		timeline("Metrics are up", "Whether the exporter has metrics of the service that have not expired.",
			query{of(gauge("clickhouse_postgres_service_up")), "up"}).size(12, 8),
	)
	return d
}

// hidden leaves a series out of a chart at first; a click on the legend brings
// it back.
func (p panel) hidden(name string) panel {
	return p.override(name, property("custom.hideFrom", object{"viz": true, "legend": false, "tooltip": true}))
}

// unstacked draws one series of a stacked chart as a line of its own.
func (p panel) unstacked(name string) panel {
	return p.override(name,
		property("custom.stacking", object{"mode": "none", "group": "A"}),
		property("custom.fillOpacity", 0),
		property("color", object{"mode": "fixed", "fixedColor": "red"}))
}

// hide leaves columns out of a table.
func (p panel) hide(fields ...string) panel {
	hidden := p.Transformations[len(p.Transformations)-1]["options"].(object)["excludeByName"].(object)
	for _, f := range fields {
		hidden[f] = true
	}
	return p
}
