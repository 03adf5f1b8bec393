package collector

import (
	"maps"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

// hostnameInterval is how often a known hostname is asked for again.
const hostnameInterval = 6 * time.Hour

// detailing is how it goes with one of the calls for a service that are no pages.
type detailing struct {
	condition
	failed map[string]error // services for which it last failed, and why
}

// planDetails returns the calls that the configuration wants made for each service,
// and drops what others that were made before have brought.
func (w *worker) planDetails() []schedule.Detail {
	var details []schedule.Detail
	if w.config.CollectConfig {
		details = append(details, schedule.Detail{Endpoint: api.EndpointServiceConfig, Interval: w.config.ConfigInterval})
	} else {
		clear(w.settings)
	}
	byHostname := func(l inventory.EnrichLabel) bool { return l.String() == "hostname" }
	if w.config.CollectConfig || slices.ContainsFunc(w.config.EnrichLabels, byHostname) {
		details = append(details, schedule.Detail{Endpoint: api.EndpointService, Interval: hostnameInterval})
	} else {
		clear(w.hostnames)
	}
	maps.DeleteFunc(w.details, func(endpoint api.Endpoint, _ *detailing) bool {
		return !slices.ContainsFunc(details, func(d schedule.Detail) bool { return d.Endpoint == endpoint })
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
		settings := inventory.NumericSettings(a.config)
		if slices.Equal(w.settings[id], settings) {
			return
		}
		w.settings[id] = settings
	}
	w.takeList(w.listed, w.inventory.fetchedAt, false)
}
