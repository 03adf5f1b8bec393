package main

import (
	"fmt"
	"strings"
)

// The identity of a service. Joins are by these and never by name: names
// change, and two services may share one.
const ids = "clickhouse_org, postgres_service"

// one is a selector of an upstream or inventory metric for the services that
// the variables name. What else the variables say (region, size, state) is not
// a label of these metrics unless the exporter was told to inline it, so that
// comes from a join with the inventory: see [of].
func one(metric string, matchers ...string) string {
	return metric + "{" + strings.Join(append([]string{
		`clickhouse_org=~"$organization"`, `postgres_service=~"$service"`,
	}, matchers...), ", ") + "}"
}

// gauge is a metric per service (and further labels): the maximum over what
// the exporters of an HA pair, or scrapes of it by several jobs, say.
func gauge(metric string, labels ...string) string {
	return "max by (" + join(ids, labels...) + ") (" + one(metric) + ")"
}

// rate is a counter's rate per second, per service (and further labels).
func rate(metric string, labels ...string) string {
	return "max by (" + join(ids, labels...) + ") (rate(" + one(metric) + "[$__rate_interval]))"
}

// of keeps of an expression what is about services that the variables select,
// and gives it the labels that the inventory has of these. Exactly one series
// of the inventory per service is taken, also while exporters disagree.
func of(expr string, labels ...string) string {
	info := fmt.Sprintf(`topk by (%s) (1, group by (%s) (%s and on (%s) %s))`,
		ids, join(ids, labels...),
		one("clickhouse_postgres_service_info", `postgres_region=~"$region"`, `postgres_size=~"$size"`),
		ids, one("clickhouse_postgres_service_state", `state=~"$state"`))
	if expr == "" {
		return info
	}
	return fmt.Sprintf(`(%s) * on (%s) group_left (%s) %s`, expr, ids, strings.Join(labels, ", "), info)
}

// named is [of] with the service's name for the legend.
func named(expr string) string { return of(expr, "postgres_service_name") }

// top keeps the greatest few.
func top(expr string) string { return "topk($top, " + expr + ")" }

// bottom keeps the smallest few.
func bottom(expr string) string { return "bottomk($top, " + expr + ")" }

// count counts the services for which a comparison holds, 0 for none.
func count(comparison string) string { return "count(" + comparison + ") or vector(0)" }

// sumBy adds up an expression per service by a label of the inventory.
func sumBy(label, expr string) string { return fmt.Sprintf("sum by (%s) (%s)", label, of(expr, label)) }

// sumByTag adds up an expression per service by the value of the tag that was
// chosen. Services without that tag, or without any, are one group; all are
// while there is no tag to choose.
func sumByTag(expr string) string {
	tags := `label_replace(` + one("clickhouse_postgres_service_tag", `key="$tag"`) + `, "tag", "(no value)", "", "")`
	tags = `label_replace(` + tags + `, "tag", "$1", "value", "(.+)")`
	tags += " or on (" + ids + `) label_replace(` + one("clickhouse_postgres_service_info") + `, "tag", "(none)", "", "")`
	return fmt.Sprintf(`sum by (tag) ((%s) * on (%s) group_left (tag) topk by (%s) (1, group by (%s, tag) (%s)))`,
		of(expr), ids, ids, ids, tags)
}

func join(first string, more ...string) string {
	return strings.Join(append([]string{first}, more...), ", ")
}

const (
	diskUsed   = "PostgresServer_FilesystemUsedPercent"
	memoryUsed = "PostgresServer_MemoryUsedPercent"
	cacheHit   = "PostgresServer_CacheHitRatio"
)

// cpuUsed is the percentage of its cores that a service uses. A processor that
// waits for the disk is not used. It is a ratio of counters, which is right also
// where they are read less often than they change.
func cpuUsed() string {
	return "100 * " + coresIn(`mode!~"idle|iowait"`) + " / (" + coresIn() + " > 0)"
}

// coresIn is how many cores are in the modes that match, all together.
func coresIn(matchers ...string) string {
	return fmt.Sprintf(`sum by (%s) (max by (%s, mode) (rate(%s[$__rate_interval])))`,
		ids, ids, one("PostgresServer_CPUSeconds_Total", matchers...))
}

func coresUsed() string { return cpuUsed() + " / 100 * " + gauge("PostgresServer_CPUCores") }

func connections() string {
	return fmt.Sprintf("sum by (%s) (%s)", ids, gauge("PostgresServer_ActiveConnections", "state"))
}

// maxConnections is known only with the exporter's collector of settings, of services
// that set it, or with --settings.assume.
func maxConnections() string {
	return fmt.Sprintf("max by (%s) (%s)", ids, one("clickhouse_postgres_service_setting", `name="max_connections"`))
}

func connectionsUsed() string {
	return "100 * " + connections() + " / (" + maxConnections() + " > 0)"
}

func transactions() string {
	return rate("PostgresServer_TransactionsCommitted_Total") + " + " + rate("PostgresServer_TransactionsRolledBack_Total")
}

func rollbacks() string {
	return "100 * " + rate("PostgresServer_TransactionsRolledBack_Total") + " / ((" + transactions() + ") > 0)"
}

func deadlocks(window string) string {
	return fmt.Sprintf("max by (%s) (increase(%s[%s]))", ids, one("PostgresServer_Deadlocks_Total"), window)
}

func storageUsed() string {
	return gauge(diskUsed) + " / 100 * " + gauge("PostgresServer_StorageLimitBytes")
}

// storage is the size of a service's disk, from the inventory if upstream's metrics
// do not tell it.
func storage() string {
	return "(" + gauge("PostgresServer_StorageLimitBytes") + " or " + gauge("clickhouse_postgres_service_storage_size_bytes") + ")"
}

// untilReadOnly is how much can be written until upstream lets a service only read,
// when so many percent of its disk are in use. It takes a certain free space for
// that, by the size of the disk; deploy/prometheus/rules/disks.yml has the same.
func untilReadOnly(used string) string {
	size := storage()
	return size + " * (1 - " + used + " / 100) - (" +
		"0 * (" + size + " <= 64e9) + 1e9 or " +
		"0 * (" + size + " <= 128e9) + 5e9 or " +
		"0 * (" + size + " <= 512e9) + 7e9 or " +
		"0.02 * " + size + ")"
}

// diskInADay is how many percent of a disk will be in use in 24 hours, going by the
// last six.
func diskInADay() string {
	return "max by (" + ids + ") (predict_linear(" + one(diskUsed) + "[6h], 24 * 3600))"
}

// lastBackup is how long ago the last backup was.
func lastBackup() string { return age("clickhouse_postgres_service_last_backup_timestamp_seconds") }

// age is how long ago a timestamp metric was.
func age(metric string) string { return "time() - " + gauge(metric) }

// Variables.

// datasourceVariable chooses among Prometheus data sources.
func datasourceVariable() object {
	return object{
		"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus",
		"current": object{}, "hide": 0, "includeAll": false, "multi": false, "options": []object{},
		"refresh": 1, "regex": "", "skipUrlSync": false,
	}
}

// variable is filled from the inventory.
func variable(name, label, expr string) object {
	return object{
		"name": name, "label": label, "type": "query", "datasource": source(),
		"definition": expr,
		"query":      object{"query": expr, "refId": "PrometheusVariableQueryEditor-VariableQuery", "qryType": queryType(expr)},
		"current":    object{}, "hide": 0, "includeAll": false, "multi": false, "options": []object{},
		"refresh": 2,                                   // when the time range changes, so that new services appear
		"regex":   "", "skipUrlSync": false, "sort": 5, // alphabetical, whatever the case
	}
}

// queryType is the number by which Grafana's query editor knows a kind of
// variable query.
func queryType(expr string) int {
	switch {
	case strings.HasPrefix(expr, "label_names("):
		return 0
	case strings.HasPrefix(expr, "label_values("):
		return 1
	default: // query_result(
		return 3
	}
}

// several lets the user choose any number; all is everything, also what was
// not there when the list was made.
func several(v object) object {
	v["multi"], v["includeAll"], v["allValue"] = true, true, ".*"
	v["current"] = object{"text": []string{"All"}, "value": []string{"$__all"}}
	return v
}

// serviceVariables are those that select services. They are filled from the
// inventory, so that they do not depend on which labels are inlined.
func serviceVariables() []object {
	const info = "clickhouse_postgres_service_info"
	service := variable("service", "Service", fmt.Sprintf(
		`query_result(group by (postgres_service, postgres_service_name) (%s{clickhouse_org=~"$organization", postgres_region=~"$region", postgres_size=~"$size"} and on (%s) clickhouse_postgres_service_state{state=~"$state"}))`,
		info, ids,
	))
	// Chosen by name, known by id.
	service["regex"] = `/postgres_service="(?<value>[^"]+)",postgres_service_name="(?<text>.*)"\}/`
	return []object{
		datasourceVariable(),
		several(variable("organization", "Organization", "label_values("+info+", clickhouse_org)")),
		several(variable("region", "Region", "label_values("+info+`{clickhouse_org=~"$organization"}, postgres_region)`)),
		several(variable("size", "Size", "label_values("+info+`{clickhouse_org=~"$organization", postgres_region=~"$region"}, postgres_size)`)),
		several(variable("state", "State", `label_values(clickhouse_postgres_service_state{clickhouse_org=~"$organization"}, state)`)),
		service,
	}
}

// topVariable is how many series a top-N panel shows.
func topVariable() object {
	counts := []string{"5", "10", "20", "50"}
	v := object{
		"name": "top", "label": "Top", "type": "custom", "query": strings.Join(counts, ","),
		"current": object{"text": "10", "value": "10"}, "hide": 0, "includeAll": false, "multi": false, "skipUrlSync": false,
	}
	options := make([]object, 0, len(counts))
	for _, n := range counts {
		options = append(options, object{"text": n, "value": n, "selected": n == "10"})
	}
	v["options"] = options
	return v
}

// tagVariable is the key of the tag to group by.
func tagVariable() object {
	return variable("tag", "Tag", `label_values(clickhouse_postgres_service_tag{clickhouse_org=~"$organization"}, key)`)
}
