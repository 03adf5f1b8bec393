package main

import "fmt"

// exporterHealth shows whether the exporter does its work, and what keeps it
// from it.
func exporterHealth() dashboard {
	const build = "clickhouse_postgres_exporter_build_info"
	d := newDashboard(exporterUID, "ClickHouse Postgres / Exporter",
		"Whether the exporter gets what it needs from ClickHouse Cloud, how fresh that is, and what it costs.",
		datasourceVariable(),
		several(variable("organization", "Organization", "label_values(clickhouse_postgres_up, clickhouse_org)")),
		several(variable("instance", "Exporter", "label_values("+build+", instance)")))

	// own is a selector of a metric of the exporter's own.
	own := func(metric string) string {
		return fmt.Sprintf(`clickhouse_postgres_exporter_%s{clickhouse_org=~"$organization", instance=~"$instance"}`, metric)
	}
	// by is a gauge of the exporter's own, per organization and exporter.
	by := func(metric string) string {
		return "max by (clickhouse_org, instance) (" + own(metric) + ")"
	}
	// each is a counter's rate per second, per organization, exporter and more.
	each := func(metric, labels string) string {
		return fmt.Sprintf("sum by (clickhouse_org, instance%s) (rate(%s[$__rate_interval]))", labels, own(metric))
	}
	// process is a metric that all Go programs have, of the exporters only.
	process := func(expr string) string {
		return fmt.Sprintf(`%s and on (job, instance) %s{instance=~"$instance"}`, expr, build)
	}
	// orNone draws a line at zero while there is nothing to count.
	orNone := func(expr string) string {
		return expr + ` or label_replace(0 * max by (clickhouse_org) (clickhouse_postgres_up{clickhouse_org=~"$organization", instance=~"$instance"}), "reason", "none", "", "")`
	}
	const who = "{{instance}} {{clickhouse_org}}"

	good := floor("red", 1, "green")
	d.row("Now",
		stat("Exporters", "none", "Exporters that Prometheus gets answers from.", floor("red", 1, "green"),
			query{`count(` + build + `{instance=~"$instance"}) or vector(0)`, ""}),
		stat("Organizations up", "none", "Organizations whose metrics arrive, at one exporter at least.", good,
			query{`count(max by (clickhouse_org) (clickhouse_postgres_up{clickhouse_org=~"$organization", instance=~"$instance"}) == 1) or vector(0)`, ""}),
		stat("Organizations down", "none", "Organizations whose metrics arrive at no exporter.", thresholds(1, "red"),
			query{`count(max by (clickhouse_org) (clickhouse_postgres_up{clickhouse_org=~"$organization", instance=~"$instance"}) == 0) or vector(0)`, ""}),
		stat("Without metrics", "none", "Services that run, but whose metrics do not arrive.", thresholds(1, "orange"),
			query{fmt.Sprintf(`count(max by (%s) (clickhouse_postgres_service_up{clickhouse_org=~"$organization"}) == 0 and on (%s) clickhouse_postgres_service_state{state="running"}) or vector(0)`, ids, ids), ""}),
		stat("Oldest metrics", "s", "Age of the metrics that arrived longest ago, of services that run.", thresholds(300, "orange", 600, "red"),
			query{fmt.Sprintf(`max(time() - max by (%s) (clickhouse_postgres_service_metrics_last_success_timestamp_seconds{clickhouse_org=~"$organization"}) and on (%s) clickhouse_postgres_service_state{state="running"})`, ids, ids), ""}),
		stat("Oldest inventory", "s", "Age of the list of services that was read longest ago.", thresholds(300, "orange", 900, "red"),
			query{"max(time() - " + by("inventory_last_success_timestamp_seconds") + ")", ""}),
		stat("Refusals, 1 h", "none", "Requests that upstream refused with 429 in the last hour.", thresholds(1, "orange"),
			query{"sum(increase(" + own("api_rate_limit_refusals_total") + "[1h])) or vector(0)", ""}),
		stat("Configuration", "none", "Whether every exporter runs with the configuration it was last given.", good,
			query{`min(clickhouse_postgres_exporter_config_last_reload_successful{instance=~"$instance"})`, ""}).
			mapped("0", "refused", "1", "good"),
	)
	d.row("Freshness",
		timeseries("Organizations up", "none", "1 while an organization's metrics arrive.",
			query{`max by (clickhouse_org, instance) (clickhouse_postgres_up{clickhouse_org=~"$organization", instance=~"$instance"})`, who}).upTo(1),
		timeseries("Age of metrics and inventory", "s", "How long ago each was last read.",
			query{"time() - " + by("metrics_last_success_timestamp_seconds"), "metrics " + who},
			query{"time() - " + by("inventory_last_success_timestamp_seconds"), "inventory " + who}),
		timeseries("Age of services' metrics", "s", "The median and the oldest over all services.",
			query{fmt.Sprintf(`quantile by (clickhouse_org) (0.5, time() - max by (%s) (clickhouse_postgres_service_metrics_last_success_timestamp_seconds{clickhouse_org=~"$organization"}))`, ids), "median {{clickhouse_org}}"},
			query{fmt.Sprintf(`max by (clickhouse_org) (time() - max by (%s) (clickhouse_postgres_service_metrics_last_success_timestamp_seconds{clickhouse_org=~"$organization"}))`, ids), "oldest {{clickhouse_org}}"}),
		timeseries("Planned refresh period", "s", "How often each service can be refreshed within the request budget, and for how long metrics are served at least.",
			query{by("planned_refresh_period_seconds"), "period " + who},
			query{by("metrics_max_age_seconds"), "max age " + who}),
		timeseries("Services", "none", "Services in the inventory; of these, those beyond what the organization-wide endpoint answers; and services with metrics that the inventory does not know.",
			query{`sum by (clickhouse_org) (max by (clickhouse_org, state) (clickhouse_postgres_services{clickhouse_org=~"$organization"}))`, "inventory {{clickhouse_org}}"},
			query{by("uncovered_services"), "uncovered " + who},
			query{by("unknown_services"), "unknown " + who}),
		timeseries("Age of backups, quotas and settings", "s", "How long ago each of these collectors last read everything. They do so once an hour.",
			query{fmt.Sprintf("time() - max by (clickhouse_org, instance, collector) (%s)", own("collector_last_success_timestamp_seconds")), "{{collector}} " + who}),
		timeline("Collectors succeed", "Whether the last requests of each collector were answered.",
			query{fmt.Sprintf("max by (clickhouse_org, instance, collector) (%s)", own("collector_success")), "{{collector}} " + who}).size(12, 8),
		timeseries("Scrape duration", "s", "How long Prometheus waits for the exporter's page.",
			query{process("scrape_duration_seconds"), "{{instance}}"}),
	)
	d.row("Organizations",
		table("Organizations", "What is known of each organization.",
			[]query{
				{`group by (clickhouse_org, name) (clickhouse_postgres_organization_info{clickhouse_org=~"$organization"})`, ""},
				{`sum by (clickhouse_org) (max by (clickhouse_org, state) (clickhouse_postgres_services{clickhouse_org=~"$organization"}))`, ""},
			},
			column{"name", "Name", nil},
			column{"clickhouse_org", "Id", nil},
			column{"Value #B", "Services", []object{decimals(0)}},
		).size(12, 8),
		table("Quotas", "What the quotas of each organization allow, and how much of that is used. Needs the exporter's collector of quotas.",
			[]query{
				{`max by (clickhouse_org, quota) (clickhouse_postgres_organization_quota_limit{clickhouse_org=~"$organization"})`, ""},
				{`max by (clickhouse_org, quota) (clickhouse_postgres_organization_quota_usage{clickhouse_org=~"$organization"})`, ""},
			},
			column{"quota", "Quota", nil},
			column{"Value #A", "Limit", []object{decimals(0)}},
			column{"Value #B", "Used", []object{decimals(0)}},
			column{"clickhouse_org", "Organization", nil},
		).size(12, 8),
	)
	d.row("Requests to ClickHouse Cloud",
		timeseries("Requests", "reqps", "Requests per second, by endpoint and HTTP status code; 0 is no answer.",
			query{each("api_requests_total", ", endpoint, code"), "{{instance}} {{endpoint}} {{code}}"}),
		timeseries("Failures by reason", "reqps", "Failed requests per second.",
			query{orNone(each("api_request_failures_total", ", endpoint, reason")), "{{instance}} {{endpoint}} {{reason}}"}),
		timeseries("Request budget", "none", "Requests in the current window, and how many the exporter may make.",
			query{by("api_budget_used_requests"), "used " + who}, query{by("api_budget_requests"), "budget " + who}),
		timeseries("Refused for being too many", "none", "Requests answered with 429, within the interval around each point.",
			query{"sum by (clickhouse_org, instance) (increase(" + own("api_rate_limit_refusals_total") + "[$__rate_interval]))", who}).bars(),
		timeseries("Waits for the budget", "percentunit", "Share of the time that requests waited for their turn; more than 100 % when several wait at once.",
			query{each("api_rate_limit_wait_seconds_total", ""), "waiting " + who}),
		timeseries("Waits", "cps", "How often requests had to wait for their turn, per second.",
			query{each("api_rate_limit_waits_total", ""), who}),
		timeseries("Duration of a poll", "s", "Median and 95th percentile, by endpoint, waits included.",
			query{"histogram_quantile(0.5, sum by (clickhouse_org, endpoint, le) (rate(" + own("poll_duration_seconds_bucket") + "[$__rate_interval])))", "median {{endpoint}} {{clickhouse_org}}"},
			query{"histogram_quantile(0.95, sum by (clickhouse_org, endpoint, le) (rate(" + own("poll_duration_seconds_bucket") + "[$__rate_interval])))", "95 % {{endpoint}} {{clickhouse_org}}"}),
		timeseries("Pages refused", "none", "Pages that could not be read whole, within the interval around each point.",
			query{orNone("sum by (clickhouse_org, instance, endpoint, reason) (increase(" + own("pages_refused_total") + "[$__rate_interval]))"), "{{instance}} {{endpoint}} {{reason}}"}).bars(),
	)
	d.row("What is exported",
		timeseries("Series", "none", "Series that the exporter holds.", query{by("series"), who}).fromZero(),
		timeseries("Page size", "bytes", "Size of the page of metrics, uncompressed.", query{by("page_bytes"), who}).fromZero(),
		timeseries("Series dropped", "cps", "Series left out per second: duplicates, those that rules drop, those with a name of the exporter's own, invalid ones.",
			query{orNone(each("series_dropped_total", ", reason")), "{{instance}} {{reason}}"}),
		timeseries("Unknown types, partial discovery", "cps", "Metric families per second whose type is not known and is downgraded; responses of service discovery per second that lack an organization, since its key is refused; panics per second, each of them a bug.",
			query{each("families_downgraded_total", ""), "types " + who},
			query{`sum by (instance) (rate(clickhouse_postgres_exporter_discovery_partial_total{instance=~"$instance"}[$__rate_interval]))`, "discovery {{instance}}"},
			query{`sum by (instance) (rate({__name__=~"clickhouse_postgres_exporter_(http_)?panics_total", instance=~"$instance"}[$__rate_interval]))`, "panics {{instance}}"}),
		timeseries("Organizations not found", "none", "Organizations of which nothing is exported, since their API keys have not told their ids yet.",
			query{`max by (instance) (clickhouse_postgres_exporter_undiscovered_organizations{instance=~"$instance"})`, "{{instance}}"}),
		timeseries("Age of the configuration", "s", "How long ago each exporter last took over a configuration.",
			query{`time() - max by (instance) (clickhouse_postgres_exporter_config_last_reload_success_timestamp_seconds{instance=~"$instance"})`, "{{instance}}"}),
	)
	d.row("Process",
		timeseries("CPU", "percentunit", "Processor time per second; 100 % is one core.",
			query{process("rate(process_cpu_seconds_total[$__rate_interval])"), "{{instance}}"}),
		timeseries("Memory", "bytes", "Resident memory, and Go's heap in use.",
			query{process("process_resident_memory_bytes"), "resident {{instance}}"},
			query{process("go_memstats_heap_inuse_bytes"), "heap {{instance}}"}),
		timeseries("Goroutines", "none", "Goroutines. A number that only grows is a leak.",
			query{process("go_goroutines"), "{{instance}}"}),
		table("Versions", "What is running.",
			[]query{{"group by (instance, version, revision, goversion) (" + build + `{instance=~"$instance"})`, ""}},
			column{"instance", "Exporter", nil},
			column{"version", "Version", nil},
			column{"revision", "Revision", nil},
			column{"goversion", "Go", nil},
		).size(12, 8),
	)
	return d
}

// mapped shows words instead of values: each value is followed by its word.
func (p panel) mapped(pairs ...string) panel {
	options := object{}
	for i := 0; i+1 < len(pairs); i += 2 {
		options[pairs[i]] = object{"text": pairs[i+1], "index": i / 2}
	}
	p.defaults()["mappings"] = []object{{"type": "value", "options": options}}
	return p
}
