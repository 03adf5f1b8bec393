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
	running := of("max by (" + ids + ") (" + one("clickhouse_postgres_service_state", `state="running"`) + ")")

	d.row("Attention",
		stat("Services", "none", "Services that the variables select.", thresholds(), query{count(of("")), ""}),
		stat("Not running", "none", "Services in any other state than running.",
			thresholds(1, "orange"), query{count(running + " == 0"), ""}),
		stat("Disk ≥ 85 %", "none", "Services that have used 85 % of their disk or more.",
			thresholds(1, "red"), query{count(of(disk) + " >= 85"), ""}),
		stat("CPU ≥ 90 %", "none", "Services that use 90 % of their cores or more.",
			thresholds(1, "orange"), query{count(of(cpu) + " >= 90"), ""}),
		stat("Memory ≥ 90 %", "none", "Services that use 90 % of their memory or more.",
			thresholds(1, "orange"), query{count(of(memory) + " >= 90"), ""}),
		stat("Connections ≥ 80 %", "none", "Services with 80 % of max_connections in use or more. Shows a dash without the exporter's collector of settings, which knows max_connections.",
			thresholds(1, "red"), query{"count(" + of(connectionsUsed()) + " >= 80) or 0 * count(" + of(maxConnections()) + ")", ""}),
		stat("Cache hits < 90 %", "none", "Services that read more than one in ten blocks from disk.",
			thresholds(1, "orange"), query{count(of(cache) + " < 90"), ""}),
		stat("Deadlocks, 1 h", "none", "Deadlocks of all services in the last hour.",
			thresholds(5, "orange"), query{"sum(" + of(deadlocks("1h")) + ") or vector(0)", ""}),
		table("What needs attention first", "One line per service, ordered by the resource that is closest to its limit. The name leads to the service's own dashboard. The columns of connections against their maximum need the exporter's collector of settings.",
			[]query{
				{of("", "postgres_service_name", "postgres_region", "postgres_size", "postgres_version"), ""},
				{of(gauge("clickhouse_postgres_service_state", "state") + " == 1"), ""},
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
			percentage("Value #D", "Disk", thresholds(85, "orange", 95, "red")),
			percentage("Value #E", "CPU", thresholds(80, "orange", 90, "red")),
			percentage("Value #F", "Memory", thresholds(80, "orange", 90, "red")),
			column{"Value #G", "Connections", []object{unitOf("none"), decimals(0)}},
			percentage("Value #H", "Connections used", thresholds(80, "orange", 95, "red")),
			percentage("Value #I", "Cache hits", floor("red", 90, "orange", 95, "green")),
			column{"Value #J", "Transactions", []object{unitOf("cps"), decimals(1)}},
			column{"Value #K", "Rolled back", []object{unitOf("percent"), decimals(1), shaded(thresholds(10, "orange")), coloured()}},
			column{"Value #L", "Deadlocks, 1 h", []object{decimals(0), shaded(thresholds(1, "orange")), coloured()}},
			column{"Value #M", "Age of data", []object{unitOf("s"), decimals(0), shaded(thresholds(300, "orange", 600, "red")), coloured()}},
			column{"postgres_region", "Region", nil},
			column{"postgres_size", "Size", nil},
			column{"postgres_version", "Version", nil},
			column{"clickhouse_org", "Organization", nil},
			column{"postgres_service", "Id", nil},
		).sorted("Scarcest used", true),
	)

	d.row("States",
		timeseries("Services by state", "none", "How many services are in which state.",
			query{"sum by (state) (" + of(gauge("clickhouse_postgres_service_state", "state")+" == 1") + ")", "{{state}}"}).
			stacked().size(12, 8),
		table("Services not running", "Services in any other state than running. Empty when all run.",
			[]query{
				{of("", "postgres_service_name", "postgres_region", "postgres_size") + " unless on (" + ids + ") " +
					one("clickhouse_postgres_service_state", `state="running"`) + " == 1", ""},
				{of("max by (" + ids + ", state) (" + one("clickhouse_postgres_service_state", `state!="running"`) + ") == 1"), ""},
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
			query{top(named(disk)), name}).upTo(100).lined(thresholds(85, "orange", 95, "red")).linked(),
		timeseries("Disk full in a day's time", "percent", "Where a straight line through the last six hours of disk usage will be in 24 hours. From 100 % on the disk is full before.",
			query{top(named("max by (" + ids + ") (predict_linear(" + one(diskUsed) + "[6h], 24 * 3600))")), name}).
			lined(thresholds(100, "red")).linked(),
		timeseries("CPU used", "percent", "The busiest processors. Waiting for the disk does not count.",
			query{top(named(cpu)), name}).upTo(100).lined(thresholds(90, "orange")).linked(),
		timeseries("Memory used", "percent", "The fullest memories, without cache and buffers.",
			query{top(named(memory)), name}).upTo(100).lined(thresholds(90, "orange")).linked(),
		timeseries("Connections", "none", "The most connections, of all states.",
			query{top(named(connections())), name}).linked(),
		timeseries("Connections used", "percent", "The most connections compared with max_connections. Needs the exporter's collector of settings.",
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
