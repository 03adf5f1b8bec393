// Package web is the exporter's HTTP surface: pages of metrics, health,
// reload and the status page.
//
// Every page is answered from what the collector holds in memory. No request
// ever causes, or waits for, a request to upstream, with one exception that is
// bounded by the scraper's own timeout and by ten seconds: before the first refresh after a start
// there is nothing to serve, so the scrape waits for it rather than leave a
// gap. The bytes of a page are made once per snapshot by package exposition
// and only written here.
package web

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
)

// Collector is what the pages are made from. All methods are safe for
// concurrent use and none of them waits for upstream, but for
// WaitFirstRefresh.
type Collector interface {
	// Page returns the metrics, in documents without a common family, of one service, of an organization when the
	// service is "", or of everything when both are "", which cannot fail. The
	// error is collector.ErrNotFound or *collector.UnavailableError.
	Page(org, service string) ([]*exposition.Document, error)
	// WaitFirstRefresh returns nil as soon as every organization has been
	// polled once, successfully or not, and an error when ctx ends sooner.
	WaitFirstRefresh(ctx context.Context) error
	// Ready tells whether there is something to serve.
	Ready() bool
	// Status tells more about that.
	Status() collector.Status
}

// Options says what to serve.
type Options struct {
	Collector Collector
	// Own are the exporter's own metrics, which join the page at
	// TelemetryPath; nil for none. They are gathered at most once a second.
	Own prometheus.Gatherer
	// TelemetryPath is where everything is exposed. Default /metrics.
	TelemetryPath string
	// PreferOpenMetrics answers OpenMetrics to those who accept it beside
	// other formats. By default they get a format that keeps every TYPE.
	PreferOpenMetrics bool
	// ExternalURL is where clients reach the exporter, for the addresses of targets
	// in service discovery; see ParseExternalURL. Nil means by whatever Host they
	// asked.
	ExternalURL *url.URL
	// Reload is called, never twice at once, for a POST or PUT to /-/reload.
	// Nil means that there is nothing to reload, which succeeds.
	Reload func() error
	// Name and Version are shown on the status page.
	Name, Version string
	// History is what the status page's plots are drawn from, nil for none. The
	// caller runs it.
	History *History
	// Metrics count what goes wrong here. Nil for none.
	Metrics *Metrics
	// Logger tells of bugs, and of broken own metrics and partial discovery once per
	// change. Nil for silence.
	Logger log.Logger
}

// CheckTelemetryPath says why p cannot be where metrics are served, or
// returns nil.
func CheckTelemetryPath(p string) error {
	switch {
	case !strings.HasPrefix(p, "/"):
		return fmt.Errorf("path %q must begin with /", p)
	case p == "/":
		return errors.New("path / is the status page, choose another such as /metrics")
	case path.Clean(p) != p:
		return fmt.Errorf("path %q must be written %q", p, path.Clean(p))
	case strings.ContainsAny(p, "{}%?# \t\r\n"):
		return fmt.Errorf("path %q must not hold any of {}%%?# or white space", p)
	}
	switch first, _, _ := strings.Cut(p[1:], "/"); first {
	case "-", "v1", "api", "debug", "sd": // ours, now or one day
		return fmt.Errorf("path %q is not free: /%s is used by the exporter itself", p, first)
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
	status, err := newStatusPage(o)
	if err != nil {
		return nil, fmt.Errorf("make the status page: %w", err)
	}
	p := &pages{collector: o.Collector, encoder: &exposition.Encoder{}, preferOpenMetrics: o.PreferOpenMetrics}
	if o.Own != nil {
		p.own = &ownMetrics{gatherer: o.Own, logger: o.Logger}
	}
	r := &reloader{reload: o.Reload}

	mux := http.NewServeMux()
	// A GET pattern takes HEAD too; the mux answers 405 with Allow to others.
	mux.HandleFunc("GET "+o.TelemetryPath, p.everything)
	mux.HandleFunc("GET /v1/organizations/{org}/postgres/prometheus", p.organization)
	mux.HandleFunc("GET /v1/organizations/{org}/postgres/{id}/prometheus", p.service)
	mux.Handle("GET "+discoveryPath, &discovery{collector: o.Collector, external: o.ExternalURL, metrics: o.Metrics, logger: o.Logger})
	mux.HandleFunc("GET "+healthyPath, healthy)
	mux.HandleFunc("GET "+readyPath, p.ready)
	mux.HandleFunc("POST /-/reload", r.ServeHTTP)
	mux.HandleFunc("PUT /-/reload", r.ServeHTTP)
	mux.Handle("GET /{$}", status)
	mux.HandleFunc("GET "+assetPath+"{name}", status.serveAsset)
	mux.HandleFunc("GET /api/v1/status", status.serveJSON)
	return o.Metrics.catchPanics(guard(mux), o.Logger), nil
}

// guard sets the headers that every answer carries and refuses paths that are
// not in their shortest form, which the mux would answer with a redirect.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		setDefault(h, "X-Content-Type-Options", "nosniff")
		setDefault(h, "X-Frame-Options", "deny")
		setDefault(h, "Referrer-Policy", "no-referrer")
		setDefault(h, "Content-Security-Policy", contentSecurityPolicy)
		if p := r.URL.EscapedPath(); path.Clean(p) != p && p != "*" {
			plain(w, http.StatusNotFound, "no such page")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// setDefault leaves alone what the operator's web configuration has set.
func setDefault(h http.Header, key, value string) {
	if h.Get(key) == "" {
		h.Set(key, value)
	}
}

const (
	// Prometheus keeps its connections between scrapes, whose interval is
	// seldom above a few minutes.
	idleTimeout = 5 * time.Minute
	// readTimeout bounds a request that trickles in; no request here has a
	// body worth reading.
	readTimeout = 15 * time.Second
	// writeTimeout bounds an answer, unless the scraper announced that it
	// will wait for longer.
	writeTimeout = time.Minute
	// maxHeaderBytes is plenty for a scrape, which carries a few hundred.
	maxHeaderBytes = 64 << 10
)

// NewServer returns a server for handler with bounds on everything that a
// client can take its time with. When ctx ends, requests that wait for the
// first refresh stop waiting; answers in progress are completed. The server
// does not stop by itself: call its Shutdown.
func NewServer(ctx context.Context, handler http.Handler, logger log.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          ServerLog(logger),
	}
}

// ServerLog returns an ErrorLog for net/http's servers. Almost all that they
// say is about clients that hang up or fail the TLS handshake, as port checks
// do all day; it is logged at level debug.
func ServerLog(logger log.Logger) *stdlog.Logger {
	return stdlog.New(serverLog{logger}, "", 0)
}

type serverLog struct{ logger log.Logger }

func (l serverLog) Write(p []byte) (int, error) {
	leveled := level.Debug(l.logger)
	if strings.Contains(string(p), "panic") {
		leveled = level.Error(l.logger)
	}
	return len(p), leveled.Log("msg", "HTTP server", "err", strings.TrimSpace(string(p)))
}
