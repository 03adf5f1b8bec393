package web

import (
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
)

// pages serves metrics.
type pages struct {
	collector         Collector
	encoder           *exposition.Encoder
	own               *ownMetrics // nil for none
	preferOpenMetrics bool
}

// everything serves all organizations and the exporter's own metrics. These
// tell what is wrong when upstream's are missing; without them a page with
// nothing on it would look like an organization without services.
func (p *pages) everything(w http.ResponseWriter, r *http.Request) {
	p.begin(w, r)
	documents, err := p.collector.Page("", "")
	if err != nil {
		p.refuse(w, err)
		return
	}
	if p.own != nil {
		p.write(w, r, append(slices.Clip(documents), p.own.document())...)
		return
	}
	series := 0
	for _, d := range documents {
		series += d.Series()
	}
	if series == 0 && !p.collector.Ready() {
		plain(w, http.StatusServiceUnavailable, p.trouble())
		return
	}
	p.write(w, r, documents...)
}

func (p *pages) organization(w http.ResponseWriter, r *http.Request) {
	p.one(w, r, r.PathValue("org"), "")
}

func (p *pages) service(w http.ResponseWriter, r *http.Request) {
	p.one(w, r, r.PathValue("org"), r.PathValue("id"))
}

// one serves what upstream serves at the same path.
func (p *pages) one(w http.ResponseWriter, r *http.Request, org, service string) {
	p.begin(w, r)
	documents, err := p.collector.Page(org, service)
	if err != nil {
		p.refuse(w, err)
		return
	}
	p.write(w, r, documents...)
}

func (p *pages) ready(w http.ResponseWriter, _ *http.Request) {
	if p.collector.Ready() {
		plain(w, http.StatusOK, "ready")
		return
	}
	plain(w, http.StatusServiceUnavailable, "not ready: "+p.trouble())
}

// trouble says why there is no data.
func (p *pages) trouble() string {
	for _, o := range p.collector.Status().Organizations {
		if o.Error != "" {
			return o.Error
		}
	}
	return "nothing has been heard from upstream yet"
}

// begin waits for the first refresh, which takes no time but in the first
// moments after a start.
func (p *pages) begin(w http.ResponseWriter, r *http.Request) {
	// One who announced patience beyond the server's general bound gets it, for
	// waiting and reading together; nobody holds on to an old snapshot for
	// longer. On an error the general bound stays, which is as well.
	if d := announced(r.Header); d > writeTimeout {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d))
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience(r.Header))
	defer cancel()
	// Whatever comes of it, the page says what there is to say.
	_ = p.collector.WaitFirstRefresh(ctx)
}

// What a scraper announces is believed up to maxAnnounced; defaultAnnounced
// is assumed of one that says nothing. Of either, answerTime is kept for
// making, sending and reading the page. However long a scraper would wait, after
// maxPatience it is told what there is to say.
const (
	maxAnnounced     = 2 * time.Minute
	defaultAnnounced = 10 * time.Second
	maxPatience      = 10 * time.Second
	answerTime       = 500 * time.Millisecond
)

// announced returns how long the client will wait for its answer.
func announced(h http.Header) time.Duration {
	seconds, err := strconv.ParseFloat(h.Get("X-Prometheus-Scrape-Timeout-Seconds"), 64)
	if err != nil || math.IsNaN(seconds) || seconds <= 0 {
		return defaultAnnounced
	}
	if seconds >= maxAnnounced.Seconds() {
		return maxAnnounced
	}
	return time.Duration(seconds * float64(time.Second))
}

// patience returns how much of that may go by before an answer is begun.
func patience(h http.Header) time.Duration {
	d := announced(h)
	return min(max(d-answerTime, d/2), maxPatience)
}

// write answers with the documents in the format and encoding that suit the
// client best.
func (p *pages) write(w http.ResponseWriter, r *http.Request, documents ...*exposition.Document) {
	format, encoding := exposition.Negotiate(r.Header, p.preferOpenMetrics)
	body := p.encoder.Encode(format, encoding, documents...)

	h := w.Header()
	h.Set("Vary", "Accept, Accept-Encoding")
	// May be kept, must be asked about again: a page held back by a cache
	// would be a lie about its age.
	h.Set("Cache-Control", "no-cache")
	if body.ETag != "" {
		h.Set("ETag", body.ETag)
		if matches(r.Header.Values("If-None-Match"), body.ETag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
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

// refuse answers an error of the collector in one line of plain text.
func (p *pages) refuse(w http.ResponseWriter, err error) {
	var unavailable *collector.UnavailableError
	switch {
	case errors.Is(err, collector.ErrNotFound):
		plain(w, http.StatusNotFound, err.Error())
	case errors.As(err, &unavailable):
		plain(w, http.StatusServiceUnavailable, err.Error())
	default:
		plain(w, http.StatusInternalServerError, err.Error())
	}
}

// matches tells whether If-None-Match names the tag. The comparison is weak,
// as the header's definition asks.
func matches(header []string, tag string) bool {
	tag = strings.TrimPrefix(tag, "W/")
	for _, line := range header {
		// No tag of ours holds a comma, so none is mistaken.
		for candidate := range strings.SplitSeq(line, ",") {
			candidate = strings.TrimSpace(candidate)
			if candidate == "*" || strings.TrimPrefix(candidate, "W/") == tag {
				return true
			}
		}
	}
	return false
}

// maxLine bounds answers that may quote what the client asked for.
const maxLine = 500

// plain answers one line of text, whatever the message holds.
func plain(w http.ResponseWriter, code int, message string) {
	if len(message) > maxLine {
		message = message[:maxLine] + "…"
	}
	message = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(message, "\uFFFD"))
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(message)+1))
	w.WriteHeader(code)
	// The server drops the body of an answer to HEAD.
	_, _ = w.Write([]byte(message + "\n"))
}
