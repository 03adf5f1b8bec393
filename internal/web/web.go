// Package web is the exporter's HTTP interface, a file for each part:
//
//	metric_pages.go  metrics of everything, of an organization, of a service
//	discovery.go     targets for Prometheus's HTTP service discovery
//	lifecycle.go     health, readiness, reload
//	routes.go        what is common to all paths
//	status.go        the status page, as HTML and as JSON; its view, table and charts apart
//	server.go        timeouts and limits
//
// Every page is served from what the collector holds in memory. No request causes a
// request to upstream, or waits for one, with one exception: before the first refresh
// after a start there is nothing to serve, so that a scrape waits for it, for at most
// ten seconds and within the client's scrape timeout, rather than leave a gap. Pages
// of metrics are encoded once per snapshot and form by package exposition and only
// written here.
package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
)

// Collector is the source of all pages. Its methods are safe for concurrent use, and
// none but WaitFirstRefresh waits for upstream.
type Collector interface {
	// Page returns the metrics of a service, of an organization where service is "",
	// or of everything where both are "", which cannot fail. The documents have no
	// family in common. The error is collector.ErrNotFound or
	// *collector.UnavailableError.
	Page(org, service string) ([]*exposition.Document, error)
	// Health returns the part of the page of everything that is about organizations and
	// about how the reading of services goes.
	Health() []*exposition.Document
	// WaitFirstRefresh returns nil as soon as every organization has been polled once,
	// successfully or not, and an error if ctx ends sooner.
	WaitFirstRefresh(ctx context.Context) error
	// Ready tells whether there is something to serve.
	Ready() bool
	// Status returns what is known of each organization and service.
	Status() collector.Status
}

// Options configures [NewHandler]. All but Collector is optional.
type Options struct {
	Collector Collector
	// ExporterMetrics gathers the exporter's own metrics, which are part of the page at
	// TelemetryPath, at most once a second. Nil for none.
	ExporterMetrics prometheus.Gatherer
	// Encoder encodes pages of metrics.
	Encoder *exposition.Encoder
	// TelemetryPath is where all metrics are exposed. Default /metrics.
	TelemetryPath string
	// PreferOpenMetrics serves OpenMetrics to clients that accept it among other
	// formats. By default they get a format that keeps every TYPE.
	PreferOpenMetrics bool
	// ExternalURL is where clients reach the exporter, for the addresses of targets
	// in service discovery; see [ParseExternalURL]. Nil takes the Host of the request.
	ExternalURL *url.URL
	// RoutePrefix is the path below which all pages are served, such as /exporter, ""
	// for none.
	RoutePrefix string
	// Reload is called, never concurrently, for a POST or PUT to /-/reload. Nil refuses
	// these.
	Reload func() error
	// Name is shown on the status page.
	Name string
	// Build says what the program was built from, as the status has it: version,
	// revision and more.
	Build map[string]string
	// History provides the charts of the status page, nil for none. The caller runs it.
	History *History
	// Metrics count failures of the HTTP interface.
	Metrics *Metrics
	// Logger logs panics, and once per change incomplete metrics and incomplete
	// service discovery.
	Logger log.Logger
}

// CheckTelemetryPath says why p cannot be where metrics are served, or
// returns nil.
func CheckTelemetryPath(p string) error {
	switch {
	case !strings.HasPrefix(p, "/"):
		return fmt.Errorf("path %q must begin with /", p)
	case p == "/":
		return errors.New("path / is the status page: choose another, such as /metrics")
	case path.Clean(p) != p:
		return fmt.Errorf("path %q is not in its shortest form: write %q", p, path.Clean(p))
	case strings.ContainsAny(p, "{}%?# \t\r\n"):
		return fmt.Errorf("path %q must not contain {}%%?# or white space", p)
	}
	switch first, _, _ := strings.Cut(p[1:], "/"); first {
	case "-", "v1", "api", "debug", "sd": // in use, or reserved
		return fmt.Errorf("path %q is reserved: the exporter itself uses /%s", p, first)
	}
	return nil
}

// NewHandler returns the handler of all paths. It is safe for concurrent use.
func NewHandler(o Options) (http.Handler, error) {
	if o.TelemetryPath == "" {
		o.TelemetryPath = "/metrics"
	}
	if err := CheckTelemetryPath(o.TelemetryPath); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = log.NewNopLogger()
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(prometheus.NewRegistry())
	}
	if o.Encoder == nil {
		o.Encoder = &exposition.Encoder{}
	}
	status, err := newStatusPage(o)
	if err != nil {
		return nil, fmt.Errorf("load the status page: %w", err)
	}
	pages := &metricPages{collector: o.Collector, encoder: o.Encoder, preferOpenMetrics: o.PreferOpenMetrics}
	if o.ExporterMetrics != nil {
		pages.exporterMetrics = &exporterMetrics{gatherer: o.ExporterMetrics, logger: o.Logger}
	}
	reload := reloadHandler(o.Reload)

	mux := http.NewServeMux()
	// A GET pattern takes HEAD too; the mux responds to other methods with 405 and Allow.
	mux.HandleFunc("GET "+o.TelemetryPath, pages.all)
	mux.HandleFunc("GET "+o.TelemetryPath+"/exporter", pages.health)
	for _, slash := range []string{"", "/{$}"} {
		mux.HandleFunc("GET /v1/organizations/{org}/postgres/prometheus"+slash, pages.organization)
		mux.HandleFunc("GET /v1/organizations/{org}/postgres/{first}/{second}"+slash, pages.service)
	}
	mux.Handle("GET "+discoveryPath, &discovery{
		collector: o.Collector, externalURL: o.ExternalURL, routePrefix: o.RoutePrefix, metrics: o.Metrics, logger: o.Logger,
	})
	mux.HandleFunc("GET "+healthyPath, healthy)
	mux.HandleFunc("GET "+readyPath, ready(o.Collector))
	mux.Handle("POST /-/reload", reload)
	mux.Handle("PUT /-/reload", reload)
	mux.HandleFunc("GET /{$}", status.serveHTML)
	mux.HandleFunc("GET "+assetPath+"{name}", status.serveAsset)
	mux.HandleFunc("GET /api/v1/status", status.serveJSON)
	return o.Metrics.recoverPanics(secure(prefixed(o.RoutePrefix, respondOptions(mux))), o.Logger), nil
}
