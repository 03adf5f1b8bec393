package web

import (
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
)

// metricPages serves metrics.
type metricPages struct {
	collector         Collector
	encoder           *exposition.Encoder
	exporterMetrics   *exporterMetrics // nil for none
	preferOpenMetrics bool
}

// all serves all organizations and the exporter's own metrics.
func (p *metricPages) all(w http.ResponseWriter, r *http.Request) {
	p.waitFirstRefresh(w, r)
	documents, err := p.collector.Page("", "")
	if err != nil {
		respondError(w, err)
		return
	}
	p.withExporterMetrics(w, r, documents)
}

// health serves what no page of an organization or a service has, so that whoever
// scrapes these stores every series once.
func (p *metricPages) health(w http.ResponseWriter, r *http.Request) {
	p.waitFirstRefresh(w, r)
	p.withExporterMetrics(w, r, p.collector.Health())
}

// withExporterMetrics adds the exporter's own metrics. These tell what is wrong when
// upstream's are missing; without them an empty page would look like an organization
// without services.
func (p *metricPages) withExporterMetrics(w http.ResponseWriter, r *http.Request, documents []*exposition.Document) {
	if p.exporterMetrics != nil {
		p.write(w, r, append(slices.Clip(documents), p.exporterMetrics.document())...)
		return
	}
	series := 0
	for _, d := range documents {
		series += d.Series()
	}
	if series == 0 && !p.collector.Ready() {
		respondText(w, http.StatusServiceUnavailable, unavailableReason(p.collector))
		return
	}
	p.write(w, r, documents...)
}

// organization and service serve what upstream serves at the same path.
func (p *metricPages) organization(w http.ResponseWriter, r *http.Request) {
	p.page(w, r, r.PathValue("org"), "")
}

// The id may also come last: that is how upstream's guide has it.
func (p *metricPages) service(w http.ResponseWriter, r *http.Request) {
	const prometheus = "prometheus"
	switch first, second := r.PathValue("first"), r.PathValue("second"); prometheus {
	case second:
		p.page(w, r, r.PathValue("org"), first)
	case first:
		p.page(w, r, r.PathValue("org"), second)
	default:
		respondText(w, http.StatusNotFound, "page not found")
	}
}

func (p *metricPages) page(w http.ResponseWriter, r *http.Request, org, service string) {
	p.waitFirstRefresh(w, r)
	documents, err := p.collector.Page(org, service)
	if err != nil {
		respondError(w, err)
		return
	}
	p.write(w, r, documents...)
}

// waitFirstRefresh waits until there is something to serve, which takes time only in
// the first moments after a start.
func (p *metricPages) waitFirstRefresh(w http.ResponseWriter, r *http.Request) {
	// A client with a scrape timeout beyond the server's write timeout gets it, for
	// waiting and reading together; nobody holds on to an old snapshot for longer. On
	// an error the server's timeout stays, which does no harm.
	if d := scrapeTimeout(r.Header); d > writeTimeout {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d))
	}
	ctx, cancel := context.WithTimeout(r.Context(), maxWait(r.Header))
	defer cancel()
	// Whether the wait succeeds or not, the page says what is known.
	_ = p.collector.WaitFirstRefresh(ctx)
}

// A scrape timeout that a client announces counts up to maxScrapeTimeout;
// defaultScrapeTimeout is assumed where it announces none. Of either, responseTime is
// kept for making, sending and reading the page. However long a client would wait,
// it gets a response after waitLimit.
const (
	maxScrapeTimeout     = 2 * time.Minute
	defaultScrapeTimeout = 10 * time.Second
	waitLimit            = 10 * time.Second
	responseTime         = 500 * time.Millisecond
)

// scrapeTimeout returns how long the client waits for its response.
func scrapeTimeout(h http.Header) time.Duration {
	seconds, err := strconv.ParseFloat(h.Get("X-Prometheus-Scrape-Timeout-Seconds"), 64)
	if err != nil || math.IsNaN(seconds) || seconds <= 0 {
		return defaultScrapeTimeout
	}
	if seconds >= maxScrapeTimeout.Seconds() {
		return maxScrapeTimeout
	}
	return time.Duration(seconds * float64(time.Second))
}

// maxWait returns how much of the scrape timeout may pass before the response begins.
func maxWait(h http.Header) time.Duration {
	d := scrapeTimeout(h)
	return min(max(d-responseTime, d/2), waitLimit)
}

// write responds with the documents in the format and encoding that the client
// prefers.
func (p *metricPages) write(w http.ResponseWriter, r *http.Request, documents ...*exposition.Document) {
	format, encoding := exposition.Negotiate(r.Header, p.preferOpenMetrics)
	body := p.encoder.Encode(format, encoding, documents...)

	h := w.Header()
	h.Set("Vary", "Accept, Accept-Encoding")
	// Caches may store a page but must revalidate it: a stale one would hide its age.
	h.Set("Cache-Control", "no-cache")
	if notModified(w, r, body.ETag) {
		return
	}
	h.Set("Content-Type", string(format))
	if encoding != exposition.Identity {
		h.Set("Content-Encoding", string(encoding))
	}
	h.Set("Content-Length", strconv.FormatInt(body.Len, 10))
	if r.Method == http.MethodHead {
		return
	}
	for _, chunk := range body.Chunks {
		if _, err := w.Write(chunk); err != nil {
			return // the client is gone
		}
	}
}

// respondError responds with an error of the collector.
func respondError(w http.ResponseWriter, err error) {
	var unavailable *collector.UnavailableError
	code := http.StatusInternalServerError
	switch {
	case errors.Is(err, collector.ErrNotFound):
		code = http.StatusNotFound
	case errors.As(err, &unavailable):
		code = http.StatusServiceUnavailable
	}
	respondText(w, code, err.Error())
}
