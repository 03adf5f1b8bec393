package main

// fleet shows all services, and first what needs attention.
func fleet() dashboard {
	variables := serviceVariables()
	for i, v := range variables {
		if v["name"] == "service" {
			variables[i] = several(v)
		}
	}
	d := newDashboard(fleetUID, "ClickHouse Postgres / Fleet",
		"All Managed Postgres services of ClickHouse Cloud, and first those that need attention.",
		append(variables, topVariable(), tagVariable())...)

	disk, memory, cpu, cache := gauge(diskUsed), gauge(memoryUsed), cpuUsed(), gauge(cacheHit)
	notRunning := of("") + " unless on (" + ids + ") " + one("clickhouse_postgres_service_state", `state="running"`)

	backup := lastBackup() + " and on (" + ids + ") " + one("clickhouse_postgres_service_info", `postgres_is_primary="true"`)

	attention := []panel{
		stat("Services", "none", "Services that the variables select.", thresholds(), query{count(of("")), ""}),
		stat("Not running", "none", "Services in any other state than running.",
			thresholds(1, "orange"), query{count(notRunning), ""}),
		stat("Read-only", "none", "Services of which so little disk is free that upstream lets them only read.",
			thresholds(1, "red"), query{count(of(untilReadOnly(disk)) + " < 0"), ""}),
		stat("Read-only in a day", "none", "Services that a straight line through the last six hours leads to being read-only within 24 hours, unless upstream moves them to larger disks before.",
			thresholds(1, "orange"), query{count(of(untilReadOnly(diskInADay())) + " < 0"), ""}),
		stat("Disk ≥ 85 %", "none", "Services that have used 85 % of their disk or more, at which upstream sends a notification.",
			thresholds(1, "red"), query{count(of(disk) + " >= 85"), ""}),
		stat("Last backup > 26 h", "none", "Primaries whose last backup is older than 26 hours. Upstream makes one a day. Shows a dash without the exporter's collector of backups.",
			thresholds(1, "orange"), query{"count(" + of(backup) + " > 26 * 3600) or 0 * count(" + of(backup) + ")", ""}),
		stat("CPU ≥ 90 %", "none", "Services that use 90 % of their cores or more.",
			thresholds(1, "orange"), query{count(of(cpu) + " >= 90"), ""}),
		stat("Memory ≥ 90 %", "none", "Services that use 90 % of their memory or more.",
			thresholds(1, "orange"), query{count(of(memory) + " >= 90"), ""}),
		stat("Connections ≥ 80 %", "none", "Services with 80 % of max_connections in use or more. "+unknownMaximum+" Shows a dash if it is known of none.",
			thresholds(1, "red"), query{"count(" + of(connectionsUsed()) + " >= 80) or 0 * count(" + of(maxConnections()) + ")", ""}),
		stat("Cache hits < 90 %", "none", "Services that read more than one in ten blocks from disk.",
			thresholds(1, "orange"), query{count(of(cache) + " < 90"), ""}),
		stat("Deadlocks, 1 h", "none", "Deadlocks of all services in the last hour.",
			thresholds(5, "orange"), query{"sum(" + of(deadlocks("1h")) + ") or vector(0)", ""}),
		stat("Quota used", "percent", "How much of its quota of Postgres services the organization that is closest to it has used. Shows a dash without the exporter's collector of quotas.",
			thresholds(90, "orange", 100, "red"), query{"max(" + quotaUsed() + ")", ""}),
		table("What needs attention first", "One line per service, ordered by the resource that is closest to its limit. The name leads to the service's own dashboard. Connections used are empty of services whose maximum is not known. "+unknownMaximum,
			[]query{
				{of("", "postgres_service_name", "postgres_region", "postgres_size", "postgres_version"), ""},
				{of(gauge("clickhouse_postgres_service_state", "state")), ""},
				{of(worst(disk, memory, cpu, connectionsUsed())), ""},
				{of(disk), ""},
				{of(cpu), ""},
				{of(memory), ""},
				{of(connections()), ""},
				{of(connectionsUsed()), ""},
				{of(cache), ""},
				{of(transactions()), ""},
				{of(rollbacks()), ""},
				{of(deadlocks("1h")), ""},
				{of(age("clickhouse_postgres_service_metrics_last_success_timestamp_seconds")), ""},
				{of(untilReadOnly(disk)), ""},
				{of(lastBackup()), ""},
			},
			column{"postgres_service_name", "Service", []object{
				width(200),
				property("links", []object{serviceLink("${__data.fields.clickhouse_org}", "${__data.fields.postgres_service}")}),
			}},
			column{"state", "State", []object{
				coloured(),
				property("mappings", []object{
					{"type": "value", "options": object{
						"running":     object{"color": "green", "index": 0},
						"unavailable": object{"color": "red", "index": 1},
					}},
					{"type": "regex", "options": object{"pattern": ".+", "result": object{"color": "orange", "index": 2}}},
				}),
			}},
			column{"resource", "Scarcest", nil},
			percentage("Value #C", "Scarcest used", thresholds(80, "orange", 90, "red")),
			percentage("Value #D", "Disk", thresholds(85, "orange", 90, "red")),
			column{"Value #N", "Until read-only", []object{unitOf("bytes"), decimals(1), shaded(floor("red", 0, "transparent")), coloured()}},
			percentage("Value #E", "CPU", thresholds(80, "orange", 90, "red")),
			percentage("Value #F", "Memory", thresholds(80, "orange", 90, "red")),
			column{"Value #G", "Connections", []object{unitOf("none"), decimals(0)}},
			percentage("Value #H", "Connections used", thresholds(80, "orange", 95, "red")),
			percentage("Value #I", "Cache hits", floor("red", 90, "orange", 95, "green")),
			column{"Value #J", "Transactions", []object{unitOf("cps"), decimals(1)}},
			column{"Value #K", "Rolled back", []object{unitOf("percent"), decimals(1), shaded(thresholds(10, "orange")), coloured()}},
			column{"Value #L", "Deadlocks, 1 h", []object{decimals(0), shaded(thresholds(1, "orange")), coloured()}},
			column{"Value #M", "Age of data", []object{unitOf("s"), decimals(0), shaded(thresholds(300, "orange", 600, "red")), coloured()}},
			column{"Value #O", "Last backup", []object{unitOf("s"), decimals(0), shaded(thresholds(26*3600, "orange")), coloured()}},
			column{"postgres_region", "Region", nil},
			column{"postgres_size", "Size", nil},
			column{"postgres_version", "Version", nil},
			column{"clickhouse_org", "Organization", nil},
			column{"postgres_service", "Id", nil},
		).sorted("Scarcest used", true),
	}
	for i := range attention[:len(attention)-1] {
		attention[i] = attention[i].size(4, 4)
	}
	d.row("Attention", attention...)

	d.row("States",
		timeseries("Services by state", "none", "How many services are in which state.",
			query{"sum by (state) (" + of(gauge("clickhouse_postgres_service_state", "state")) + ")", "{{state}}"}).
			stacked().size(12, 8),
		table("Services not running", "Services in any other state than running. Empty when all run.",
			[]query{
				{of("", "postgres_service_name", "postgres_region", "postgres_size") + " unless on (" + ids + ") " +
					one("clickhouse_postgres_service_state", `state="running"`), ""},
				{of("max by (" + ids + ", state) (" + one("clickhouse_postgres_service_state", `state!="running"`) + ")"), ""},
			},
			column{"postgres_service_name", "Service", []object{
				property("links", []object{serviceLink("${__data.fields.clickhouse_org}", "${__data.fields.postgres_service}")}),
			}},
			column{"state", "State", nil},
			column{"postgres_region", "Region", nil},
			column{"postgres_size", "Size", nil},
			column{"clickhouse_org", "Organization", nil},
			column{"postgres_service", "Id", nil},
		).size(12, 8),
	)

	const name = "{{postgres_service_name}}"
	d.row("Services at the top",
		timeseries("Disk used", "percent", "The fullest disks.",
			query{top(named(disk)), name}).upTo(100).lined(thresholds(85, "orange", 90, "red")).linked(),
		timeseries("Until read-only", "bytes", "The least that can be written until upstream lets a service only read. Upstream moves a service to a larger disk when 90 % are in use, where its tier allows that.",
			query{bottom(named(untilReadOnly(disk))), name}).lined(floor("red", 0, "transparent")).linked(),
		timeseries("Until read-only, in a day", "bytes", "The same in 24 hours, where a straight line through the last six leads. Below zero a service will be read-only before.",
			query{bottom(named(untilReadOnly(diskInADay()))), name}).lined(floor("red", 0, "transparent")).linked(),
		timeseries("CPU used", "percent", "The busiest processors. Waiting for the disk does not count.",
			query{top(named(cpu)), name}).upTo(100).lined(thresholds(90, "orange")).linked(),
		timeseries("Memory used", "percent", "The fullest memories, without cache and buffers.",
			query{top(named(memory)), name}).upTo(100).lined(thresholds(90, "orange")).linked(),
		timeseries("Connections", "none", "The most connections, of all states.",
			query{top(named(connections())), name}).linked(),
		timeseries("Connections used", "percent", "The most connections compared with max_connections. "+unknownMaximum,
			query{top(named(connectionsUsed())), name}).upTo(100).lined(thresholds(80, "orange", 95, "red")).linked(),
		timeseries("Lowest cache hit ratios", "percent", "Services with the lowest share of blocks that came from the cache.",
			query{bottom(named(cache)), name}).lined(floor("orange", 90, "transparent")).linked(),
		timeseries("Deadlocks", "none", "Deadlocks within the interval around each point.",
			query{top(named(deadlocks("$__rate_interval"))), name}).bars().linked(),
		timeseries("Transactions", "cps", "The most transactions per second, committed and rolled back.",
			query{top(named(transactions())), name}).linked(),
		timeseries("Rolled back", "percent", "The greatest shares of transactions that were rolled back.",
			query{top(named(rollbacks())), name}).lined(thresholds(10, "orange")).linked(),
		timeseries("Disk operations", "iops", "The most reads and writes per second.",
			query{top(named(rate("PostgresServer_DiskReads_Total") + " + " + rate("PostgresServer_DiskWrites_Total"))), name}).linked(),
		timeseries("Network", "Bps", "The most bytes per second, received and sent.",
			query{top(named(rate("PostgresServer_NetworkReceiveBytes_Total") + " + " + rate("PostgresServer_NetworkTransmitBytes_Total"))), name}).linked(),
	)

	groups := []struct {
		by, legend string
		sum        func(expr string) string
	}{
		{"region", "{{postgres_region}}", func(e string) string { return sumBy("postgres_region", e) }},
		{"size", "{{postgres_size}}", func(e string) string { return sumBy("postgres_size", e) }},
		{"tag", "{{tag}}", sumByTag},
	}
	bars := make([]panel, 0, 4*len(groups))
	for _, g := range groups {
		tagged := ""
		if g.by == "tag" {
			tagged = " The variable Tag says which. Services without it are one group."
		}
		bars = append(bars,
			bargauge("Services by "+g.by, "none", "How many services there are by "+g.by+"."+tagged,
				query{top(g.sum("group by (" + ids + ") (" + one("clickhouse_postgres_service_info") + ")")), g.legend}).size(6, 8),
			bargauge("Cores used by "+g.by, "none", "How many cores are at work by "+g.by+"."+tagged,
				query{top(g.sum(coresUsed())), g.legend}).size(6, 8),
			bargauge("Disk used by "+g.by, "bytes", "How much disk space is used by "+g.by+"."+tagged,
				query{top(g.sum(storageUsed())), g.legend}).size(6, 8),
			bargauge("Transactions by "+g.by, "cps", "How many transactions per second there are by "+g.by+"."+tagged,
				query{top(g.sum(transactions())), g.legend}).size(6, 8),
		)
	}
	d.row("By region, size and tag", bars...)
	return d
}

// unknownMaximum tells why panels on max_connections may lack services.
const unknownMaximum = "The maximum is known with the exporter's --collector.settings, of services that set max_connections, and of all others with --settings.assume besides."

// quotaUsed is how many percent of its quota of services an organization has used.
func quotaUsed() string {
	quota := func(metric string) string {
		return `max by (clickhouse_org) (` + metric + `{clickhouse_org=~"$organization", quota="postgres-services-per-organization"})`
	}
	return "100 * " + quota("clickhouse_postgres_organization_quota_usage") + " / " + quota("clickhouse_postgres_organization_quota_limit")
}

// worst is the resource of each service that is closest to its limit, with the
// resource's name as a label.
func worst(disk, memory, cpu, connections string) string {
	resource := func(name, expr string) string {
		return `label_replace(` + expr + `, "resource", "` + name + `", "", "")`
	}
	return "topk by (" + ids + ") (1, " +
		resource("disk", disk) + " or " + resource("memory", memory) + " or " +
		resource("CPU", cpu) + " or " + resource("connections", connections) + ")"
}
