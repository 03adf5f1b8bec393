package collector

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// health counts what happens and describes what is: the program's metrics about
// itself, for each organization. Safe for concurrent use.
type health struct {
	pollDuration *prometheus.HistogramVec
	requests, failures, refusals, waits, waitSeconds, drops, pagesRefused,
	downgrades, panics *prometheus.CounterVec

	vecs []interface { // all of them
		prometheus.Collector
		DeletePartialMatch(labels prometheus.Labels) int
	}
	gauges       map[*prometheus.Desc]func(v *organizationView) float64 // not a number where there is none
	undiscovered *prometheus.Desc
	// Of collectors that make requests.
	collectorSuccess, collectorLastSuccess *prometheus.Desc
}

func newHealth() *health {
	h := &health{pollDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    exporterPrefix + "poll_duration_seconds",
		Help:    "Duration of a poll of upstream in seconds, including retries and waits for the rate budget.",
		Buckets: []float64{.1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120},
	}, []string{inventory.OrgLabel, "endpoint"})}
	h.vecs = append(h.vecs, h.pollDuration)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: exporterPrefix + name, Help: help}, append([]string{inventory.OrgLabel}, labels...))
		h.vecs = append(h.vecs, vec)
		return vec
	}
	h.requests = counter("api_requests_total", "Total number of HTTP requests to upstream, by status code; none if there was no response.", "endpoint", "code")
	h.failures = counter("api_request_failures_total", "Total number of HTTP requests to upstream that yielded no usable response, by reason.", "endpoint", "reason")
	h.refusals = counter("api_rate_limit_refusals_total", "Total number of HTTP requests that upstream refused because of its rate limit (429).")
	h.waits = counter("api_rate_limit_waits_total", "Total number of HTTP requests that had to wait for the rate budget.")
	h.waitSeconds = counter("api_rate_limit_wait_seconds_total", "Total time that HTTP requests have waited for the rate budget, in seconds.")
	h.drops = counter("series_dropped_total", "Total number of upstream series that were dropped, by reason: duplicate (another series has the same labels), rule (a relabelling rule dropped it), reserved (the exporter itself exports that name), invalid (Prometheus would refuse it).", "reason")
	h.pagesRefused = counter("pages_refused_total", "Total number of responses with status 200 that were refused as a whole, by reason.", "endpoint", "reason")
	h.downgrades = counter("families_downgraded_total", "Total number of upstream metric families of an unknown type, which are exported as the nearest known type.")
	h.panics = counter("panics_total", "Total number of panics, each of them a bug, after which the organization's data was dropped and read again.")

	h.undiscovered = prometheus.NewDesc(exporterPrefix+"undiscovered_organizations",
		"Number of organizations of which nothing is exported, since their API keys have not told their ids yet.", nil, nil)
	collector := []string{inventory.OrgLabel, "collector"}
	h.collectorSuccess = prometheus.NewDesc(exporterPrefix+"collector_success",
		"Whether the last requests of a collector succeeded; absent before the first, and where upstream does not offer what it collects.", collector, nil)
	h.collectorLastSuccess = prometheus.NewDesc(exporterPrefix+"collector_last_success_timestamp_seconds",
		"Unix timestamp of the last successful request of a collector.", collector, nil)
	h.gauges = map[*prometheus.Desc]func(v *organizationView) float64{}
	gauge := func(name, help string, value func(v *organizationView) float64) {
		h.gauges[prometheus.NewDesc(name, help, []string{inventory.OrgLabel}, nil)] = value
	}
	gauge(upName, "Whether the last requests for an organization's list of services and for its metrics succeeded.",
		func(v *organizationView) float64 { return truth(v.up) })
	gauge(exporterPrefix+"inventory_last_success_timestamp_seconds", "Unix timestamp of the last successful read of the list of services.",
		func(v *organizationView) float64 { return moment(v.list.lastSuccess) })
	gauge(exporterPrefix+"metrics_last_success_timestamp_seconds", "Unix timestamp of the last successful read of metrics, of the organization or of a single service.",
		func(v *organizationView) float64 { return moment(v.metricsAt) })
	gauge(exporterPrefix+"api_budget_requests", "Number of HTTP requests that the exporter may make per rate limit window.",
		func(v *organizationView) float64 { return float64(v.config.API.Budget.Usage().Limit) })
	gauge(exporterPrefix+"api_budget_used_requests", "Number of HTTP requests made in the current rate limit window.",
		func(v *organizationView) float64 { return float64(v.config.API.Budget.Usage().Used) })
	gauge(exporterPrefix+"series", "Number of upstream series that are currently exported.",
		func(v *organizationView) float64 { return float64(v.series) })
	gauge(exporterPrefix+"page_bytes", "Size of the upstream metrics pages currently held, in bytes.",
		func(v *organizationView) float64 { return float64(v.bytes) })
	gauge(exporterPrefix+"unknown_services", "Number of services that appear in the metrics but not in the list of services.",
		func(v *organizationView) float64 { return float64(v.unknown) })
	gauge(exporterPrefix+"uncovered_services", "Number of services that are missing from the organization's metrics page and are read one by one.",
		func(v *organizationView) float64 { return float64(v.plan.Uncovered) })
	gauge(exporterPrefix+"planned_refresh_period_seconds", "Planned time in which the metrics of every running service are read once within the rate budget, in seconds.",
		func(v *organizationView) float64 { return v.plan.Period.Seconds() })
	gauge(exporterPrefix+"metrics_max_age_seconds", "Configured maximum age of served metrics in seconds; services that are read less often are served for two and a half refresh periods.",
		func(v *organizationView) float64 { return v.config.MaxAge.Seconds() })
	return h
}

// moment returns the timestamp of something that has happened, not a number for zero. If
// the wall clock has been set back since then, an age must not be negative.
func moment(t time.Time) float64 {
	if t.IsZero() {
		return math.NaN()
	}
	return min(unixSeconds(t), unixSeconds(time.Now()))
}

// begin makes the counters of an organization appear as zero rather than with
// their first event, which no rate would see.
func (h *health) begin(org string) {
	if org == "" {
		return
	}
	for _, c := range []*prometheus.CounterVec{h.refusals, h.waits, h.waitSeconds, h.downgrades, h.panics} {
		c.WithLabelValues(org)
	}
	h.dropped(org, exposition.Drops{})
}

// end removes the counters of an organization that is polled no longer.
func (h *health) end(org string) {
	for _, v := range h.vecs {
		v.DeletePartialMatch(prometheus.Labels{inventory.OrgLabel: org})
	}
}

// hooks returns what an organization's client reports to. The organization's id may
// only become known later, so that it is asked for each time. Without one, nothing is
// counted: whatever a metric calls an organization, it always does.
func (h *health) hooks(org func() string) api.Hooks {
	return api.Hooks{
		RequestDone: func(endpoint api.Endpoint, code int, err error, _ time.Duration) {
			var request *api.Error
			if org() == "" || errors.As(err, &request) && request.Kind == api.KindCanceled {
				return // if the program is stopping, nothing is wrong with upstream
			}
			status := "none"
			if code != 0 {
				status = strconv.Itoa(code)
			}
			h.requests.WithLabelValues(org(), string(endpoint), status).Inc()
			if code == http.StatusTooManyRequests {
				h.refusals.WithLabelValues(org()).Inc()
			}
			if err != nil {
				h.failed(org(), endpoint, err)
			}
		},
		BudgetWait: func(_ api.Endpoint, waited time.Duration) {
			if org() != "" && waited > 0 {
				h.waits.WithLabelValues(org()).Inc()
				h.waitSeconds.WithLabelValues(org()).Add(waited.Seconds())
			}
		},
	}
}

func (h *health) failed(org string, endpoint api.Endpoint, err error) {
	kind, _ := reason(err)
	h.failures.WithLabelValues(org, string(endpoint), kind).Inc()
}

// unsent counts a call that failed before any request was sent, of which hooks do not
// hear.
func (h *health) unsent(org string, endpoint api.Endpoint, err error) {
	var request *api.Error
	if errors.As(err, &request) && request.StatusCode == 0 &&
		(request.Kind == api.KindCredentials || request.Kind == api.KindBadRequest) {
		h.failed(org, endpoint, err)
	}
}

// dropped counts what was left out of a page that was taken in.
func (h *health) dropped(org string, d exposition.Drops) {
	if org == "" {
		return // nothing is exported of an organization before its id is known
	}
	for reason, n := range map[string]int{"duplicate": d.Duplicate, "rule": d.Rule, "reserved": d.Reserved, "invalid": d.Invalid} {
		h.drops.WithLabelValues(org, reason).Add(float64(n))
	}
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, vec := range c.health.vecs {
		vec.Describe(ch)
	}
	for desc := range c.health.gauges {
		ch <- desc
	}
	for _, desc := range []*prometheus.Desc{c.health.undiscovered, c.health.collectorSuccess, c.health.collectorLastSuccess} {
		ch <- desc
	}
}

// Collect implements [prometheus.Collector]: the health of every organization. That
// of each service is part of the pages. It waits for nothing.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	for _, vec := range c.health.vecs {
		vec.Collect(ch)
	}
	undiscovered := 0
	for _, v := range c.views(time.Now()) {
		if v.id == "" {
			undiscovered++
			continue
		}
		for desc, of := range c.health.gauges {
			if value := of(v); !math.IsNaN(value) {
				ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, v.id)
			}
		}
		for i, d := range allDetails() {
			if of := v.details[i]; of.tried {
				ch <- prometheus.MustNewConstMetric(c.health.collectorSuccess, prometheus.GaugeValue, truth(of.err == nil), v.id, string(d.name))
				if at := moment(of.lastSuccess); !math.IsNaN(at) {
					ch <- prometheus.MustNewConstMetric(c.health.collectorLastSuccess, prometheus.GaugeValue, at, v.id, string(d.name))
				}
			}
		}
	}
	ch <- prometheus.MustNewConstMetric(c.health.undiscovered, prometheus.GaugeValue, float64(undiscovered))
}
