package collector

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
)

// hostnameInterval is how often a known hostname is asked for again.
const hostnameInterval = 6 * time.Hour

// pgBouncerPrefix tells PgBouncer's settings from those of Postgres, some of which
// have the same names. Settings of Postgres' own extensions are named alike.
const pgBouncerPrefix = "pgbouncer."

// setting is a numeric setting of a service.
type setting struct {
	name  string
	value float64
}

// numericSettings returns those settings that are plain numbers, sorted by name.
// Texts, switches and numbers with a unit (on, 64MB, 30s) are left out: a number
// without its unit would be another one.
func numericSettings(config api.ServiceConfig) []setting {
	var list []setting
	add := func(prefix string, values map[string]string) {
		for name, text := range values {
			if v, ok := plainNumber(text); ok && name != "" {
				list = append(list, setting{prefix + name, v})
			}
		}
	}
	add("", config.Postgres)
	add(pgBouncerPrefix, config.PgBouncer)
	slices.SortStableFunc(list, func(a, b setting) int { return cmp.Compare(a.name, b.name) })
	return list
}

// plainNumber understands decimal numbers, and nothing else that the language takes
// for one: no inf, no 0x10, no 1_000.
func plainNumber(text string) (float64, bool) {
	for _, c := range text {
		if (c < '0' || c > '9') && c != '.' && c != '-' && c != '+' && c != 'e' && c != 'E' {
			return 0, false
		}
	}
	v, err := strconv.ParseFloat(text, 64)
	return v, err == nil && !math.IsInf(v, 0)
}

// detailing is how it goes with one of the calls for a service that are no pages.
type detailing struct {
	condition
	failed map[string]error // services for which it last failed, and why
}

// planDetails returns the calls that the configuration wants made for each service,
// and drops what others that were made before have brought.
func (w *worker) planDetails() []Detail {
	var details []Detail
	if w.config.CollectConfig {
		details = append(details, Detail{Endpoint: api.EndpointServiceConfig, Interval: w.config.ConfigInterval})
	} else {
		clear(w.settings)
	}
	byHostname := func(l EnrichLabel) bool { return l.token == "hostname" }
	if w.config.CollectConfig || slices.ContainsFunc(w.config.EnrichLabels, byHostname) {
		details = append(details, Detail{Endpoint: api.EndpointService, Interval: hostnameInterval})
	} else {
		clear(w.hostnames)
	}
	maps.DeleteFunc(w.details, func(endpoint api.Endpoint, _ *detailing) bool {
		return !slices.ContainsFunc(details, func(d Detail) bool { return d.Endpoint == endpoint })
	})
	return details
}

// takeDetail takes in what only a call for one service tells. Where that fails, what
// it last told stands, as the inventory does.
func (w *worker) takeDetail(a answer, now time.Time) {
	id, endpoint := a.request.Service, a.request.Endpoint
	if w.inventory == nil || w.inventory.services[id] == nil {
		return // the service has gone in the meantime
	}
	d := w.details[endpoint]
	if d == nil {
		d = &detailing{failed: map[string]error{}}
		w.details[endpoint] = d
	}
	delete(d.failed, id)
	if a.err != nil {
		d.failed[id] = a.err
	}
	what := "settings"
	if endpoint == api.EndpointService {
		what = "hostname"
	}
	w.observeEach(&d.condition, d.failed, now, endpoint,
		"a service's "+what+" cannot be read; what was read last stands", "every service's "+what+" can be read again")
	switch {
	case a.err != nil:
		return
	case endpoint == api.EndpointService:
		if w.hostnames[id] == a.detail.Hostname {
			return
		}
		w.hostnames[id] = a.detail.Hostname
	default:
		settings := numericSettings(a.config)
		if slices.Equal(w.settings[id], settings) {
			return
		}
		w.settings[id] = settings
	}
	w.takeList(w.listed, w.inventory.fetchedAt, false)
}
