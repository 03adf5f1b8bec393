package collector

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// Why a series was dropped, as label values.
const (
	dropDuplicate = "duplicate"
	dropRule      = "rule"
	dropReserved  = "reserved"
	dropInvalid   = "invalid"
)

// health counts what happens and describes what is: the program's metrics about
// itself, for each organization. Safe for concurrent use.
type health struct {
	pollDuration *prometheus.HistogramVec
	requests     *prometheus.CounterVec
	failures     *prometheus.CounterVec
	refusals     *prometheus.CounterVec
	waits        *prometheus.CounterVec
	waitSeconds  *prometheus.CounterVec
	drops        *prometheus.CounterVec
	pagesRefused *prometheus.CounterVec
	downgrades   *prometheus.CounterVec
	panics       *prometheus.CounterVec

	up               *prometheus.Desc
	inventorySuccess *prometheus.Desc
	metricsSuccess   *prometheus.Desc
	budget           *prometheus.Desc
	budgetUsed       *prometheus.Desc
	series           *prometheus.Desc
	pageBytes        *prometheus.Desc
	unknown          *prometheus.Desc
	uncovered        *prometheus.Desc
	period           *prometheus.Desc
	maxAge           *prometheus.Desc
}

func newHealth() *health {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: exporterPrefix + name, Help: help},
			append([]string{inventory.OrgLabel}, labels...))
	}
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, []string{inventory.OrgLabel}, nil)
	}
	return &health{
		pollDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    exporterPrefix + "poll_duration_seconds",
			Help:    "How long a poll of upstream took, with its retries and its waits for the rate budget, in seconds.",
			Buckets: []float64{.1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120},
		}, []string{inventory.OrgLabel, "endpoint"}),
		requests:     counter("api_requests_total", "HTTP requests made to upstream by status code; none: no answer came.", "endpoint", "code"),
		failures:     counter("api_request_failures_total", "HTTP requests to upstream that brought no usable answer, by kind of failure.", "endpoint", "reason"),
		refusals:     counter("api_rate_limit_refusals_total", "HTTP requests that upstream refused because of its rate limit (429)."),
		waits:        counter("api_rate_limit_waits_total", "HTTP requests that had to wait for the rate budget."),
		waitSeconds:  counter("api_rate_limit_wait_seconds_total", "How long HTTP requests have waited for the rate budget, in seconds."),
		drops:        counter("series_dropped_total", "Upstream's series that were left out: duplicate (another one has the same labels), rule (by a relabelling rule), reserved (its name is one of the exporter's own), invalid (a rule left it without a valid name).", "reason"),
		pagesRefused: counter("pages_refused_total", "Answers of upstream that came with status 200 and were refused whole, by kind of trouble.", "endpoint", "reason"),

		downgrades: counter("families_downgraded_total", "Families of upstream's metrics whose type was not known, so that they were served as of the nearest type."),
		panics:     counter("panics_total", "Panics, which are bugs, after which all that was read of the organization was dropped and read anew."),

		up:               desc(upName, "Whether the latest requests for an organization's list of services and for its metrics worked."),
		inventorySuccess: desc(exporterPrefix+"inventory_last_success_timestamp_seconds", "When the list of services was last read, in seconds since 1970."),
		metricsSuccess:   desc(exporterPrefix+"metrics_last_success_timestamp_seconds", "When metrics, of the organization or of a service, were last read, in seconds since 1970."),
		budget:           desc(exporterPrefix+"api_budget_requests", "HTTP requests that the exporter allows itself in the window of upstream's rate limit."),
		budgetUsed:       desc(exporterPrefix+"api_budget_used_requests", "HTTP requests made in the present window of upstream's rate limit."),
		series:           desc(exporterPrefix+"series", "Upstream's series that are held and served."),
		pageBytes:        desc(exporterPrefix+"page_bytes", "Size of the upstream metrics pages that are held, in bytes."),
		unknown:          desc(exporterPrefix+"unknown_services", "Services that the metrics name and the list of services does not."),
		uncovered:        desc(exporterPrefix+"uncovered_services", "Services that the organization's metrics page leaves out, so that their own pages are read."),
		period:           desc(exporterPrefix+"planned_refresh_period_seconds", "In how long, within the rate budget, the metrics of every running service are to be read once, in seconds."),
		maxAge:           desc(exporterPrefix+"metrics_max_age_seconds", "For how long metrics are served after they were read, or for two and a half refresh periods if that is longer, in seconds."),
	}
}

func (h *health) vecs() []prometheus.Collector {
	return []prometheus.Collector{
		h.pollDuration, h.requests, h.failures, h.refusals, h.waits, h.waitSeconds, h.drops, h.pagesRefused,
		h.downgrades, h.panics,
	}
}

func (h *health) descs() []*prometheus.Desc {
	return []*prometheus.Desc{
		h.up, h.inventorySuccess, h.metricsSuccess, h.budget, h.budgetUsed, h.series, h.pageBytes,
		h.unknown, h.uncovered, h.period, h.maxAge,
	}
}

// names are the names of all of them.
func (h *health) names() []string {
	// All but up have the exporter's prefix, which is reserved as a whole.
	return []string{upName}
}

// begin makes the counters of an organization appear as zero rather than with
// their first event, which no rate would see.
func (h *health) begin(org string) {
	for _, c := range []*prometheus.CounterVec{h.refusals, h.waits, h.waitSeconds, h.downgrades, h.panics} {
		c.WithLabelValues(org)
	}
	for _, reason := range []string{dropDuplicate, dropRule, dropReserved, dropInvalid} {
		h.drops.WithLabelValues(org, reason)
	}
}

// end removes the counters of an organization that is polled no longer.
func (h *health) end(org string) {
	which := prometheus.Labels{inventory.OrgLabel: org}
	h.pollDuration.DeletePartialMatch(which)
	for _, c := range []*prometheus.CounterVec{
		h.requests, h.failures, h.refusals, h.waits, h.waitSeconds, h.drops, h.pagesRefused, h.downgrades, h.panics,
	} {
		c.DeletePartialMatch(which)
	}
}

// hooks returns what an organization's client reports to. What the organization is
// called may only become known later, so that it is asked for each time.
func (h *health) hooks(org func() string) api.Hooks {
	return api.Hooks{
		RequestDone: func(endpoint api.Endpoint, code int, err error, _ time.Duration) {
			var request *api.Error
			if errors.As(err, &request) && request.Kind == api.KindCanceled {
				return // the program is stopping: nothing is wrong with upstream
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
				h.failures.WithLabelValues(org(), string(endpoint), reason(err)).Inc()
			}
		},
		BudgetWait: func(_ api.Endpoint, waited time.Duration) {
			if waited > 0 {
				h.waits.WithLabelValues(org()).Inc()
				h.waitSeconds.WithLabelValues(org()).Add(waited.Seconds())
			}
		},
	}
}

// unsent counts a call that failed before any request was sent, of which hooks do not
// hear.
func (h *health) unsent(org string, endpoint api.Endpoint, err error) {
	var request *api.Error
	if errors.As(err, &request) && request.StatusCode == 0 &&
		(request.Kind == api.KindCredentials || request.Kind == api.KindBadRequest) {
		h.failures.WithLabelValues(org, string(endpoint), reason(err)).Inc()
	}
}

func (h *health) polled(org string, endpoint api.Endpoint, took time.Duration) {
	h.pollDuration.WithLabelValues(org, string(endpoint)).Observe(took.Seconds())
}

func (h *health) refused(org string, endpoint api.Endpoint, reason string) {
	h.pagesRefused.WithLabelValues(org, string(endpoint), reason).Inc()
}

func (h *health) downgrade(org string, n int) { h.downgrades.WithLabelValues(org).Add(float64(n)) }

func (h *health) panicked(org string) { h.panics.WithLabelValues(org).Inc() }

func (h *health) drop(org, reason string, n int) {
	h.drops.WithLabelValues(org, reason).Add(float64(n))
}

// dropped counts what was left out of a page that was taken in.
func (h *health) dropped(org string, d exposition.Drops) {
	h.drop(org, dropDuplicate, d.Duplicate)
	h.drop(org, dropRule, d.Rule)
	h.drop(org, dropReserved, d.Reserved)
	h.drop(org, dropInvalid, d.Invalid)
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, vec := range c.health.vecs() {
		vec.Describe(ch)
	}
	for _, desc := range c.health.descs() {
		ch <- desc
	}
}

// Collect implements [prometheus.Collector]: the health of every organization. That
// of each service is part of the pages. It waits for nothing.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	for _, vec := range c.health.vecs() {
		vec.Collect(ch)
	}
	now := time.Now()
	for _, v := range c.views(now) {
		gauge := func(desc *prometheus.Desc, value float64) {
			ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, v.label())
		}
		moment := func(desc *prometheus.Desc, t time.Time) {
			if t.IsZero() {
				return
			}
			if t.Round(0).After(now.Round(0)) {
				t = now // the wall clock has been set back: an age must not be negative
			}
			gauge(desc, unixSeconds(t))
		}
		gauge(c.health.up, truth(v.up))
		moment(c.health.inventorySuccess, v.list.lastSuccess)
		moment(c.health.metricsSuccess, v.metricsAt)
		usage := v.config.API.Budget.Usage()
		gauge(c.health.budget, float64(usage.Limit))
		gauge(c.health.budgetUsed, float64(usage.Used))
		gauge(c.health.series, float64(v.series))
		gauge(c.health.pageBytes, float64(v.bytes))
		gauge(c.health.unknown, float64(v.unknown))
		gauge(c.health.uncovered, float64(v.plan.Uncovered))
		gauge(c.health.period, v.plan.Period.Seconds())
		gauge(c.health.maxAge, v.config.MaxAge.Seconds())
	}
}
