package collector

import (
	"errors"
	"net/http"
	"time"

	"github.com/go-kit/log/level"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

// condition is whether something that is tried again and again works, and since
// when, so that only changes are logged.
type condition struct {
	tried       bool
	err         error     // why the latest attempt failed, nil if it did not
	reason      string    // kind of err, for telling whether it is still the same failure
	since       time.Time // when it began to fail, or to work
	lastSuccess time.Time // zero if never
}

// after returns the condition after an attempt.
func (c condition) after(now time.Time, err error) condition {
	next := condition{tried: true, err: err, since: c.since, lastSuccess: c.lastSuccess}
	if err == nil {
		next.lastSuccess = now
	} else {
		next.reason, _ = reason(err)
	}
	if !c.tried || (err == nil) != (c.err == nil) {
		next.since = now
	}
	return next
}

// ok tells whether the latest attempt worked.
func (c condition) ok() bool { return c.tried && c.err == nil }

// refusedError says that an answer came whole but cannot be what was asked for.
type refusedError struct {
	reason string // label value
	text   string
}

func (e *refusedError) Error() string { return e.text }

// reason returns the kind of an error as a label value, and whether it is about the
// content of a response that came with status 200, rather than about getting one.
func reason(err error) (kind string, content bool) {
	var refused *refusedError
	var parse *exposition.ParseError
	var request *api.Error
	switch {
	case errors.As(err, &refused):
		return refused.reason, true
	case errors.As(err, &parse):
		return "parse", true
	case errors.As(err, &request):
		return string(request.Kind), request.StatusCode == http.StatusOK
	}
	return "other", false
}

// notOffered tells whether upstream understood a request and will not answer it.
func notOffered(err error) bool {
	switch code := status(err); code {
	case http.StatusUnauthorized, http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	default:
		return code >= 400 && code < 500 || code == http.StatusNotImplemented
	}
}

// status returns the HTTP status that an error is about, 0 if it is about none.
func status(err error) int {
	if request := (*api.Error)(nil); errors.As(err, &request) {
		return request.StatusCode
	}
	return 0
}

// result tells the planner how a call ended. A key may be allowed to list services and
// read them, but not the organization's page or details: then these are as good as
// refused, while a key that is refused everything may be mended at any moment.
func (p *poller) result(call schedule.Call, err error) schedule.Result {
	if err == nil {
		return schedule.ResultOK
	}
	failed := !notOffered(err)
	switch core := call == schedule.List || call == schedule.ServicePage; status(err) {
	case http.StatusForbidden:
		failed = core || !p.state.list.ok()
	case http.StatusNotImplemented:
		failed = core || call == schedule.OrganizationPage
	}
	if failed {
		return schedule.ResultFailed
	}
	return schedule.ResultRefused
}

// String says how it stands, for people.
func (c condition) String() string {
	switch {
	case !c.tried:
		return "the first request has not been answered yet"
	case c.err != nil:
		return c.err.Error()
	}
	return "all is well"
}

// observe keeps a condition and logs when it changes.
func (p *poller) observe(c *condition, now time.Time, err error, endpoint api.Endpoint, begun string) {
	failure := "Refresh failed; serving the last good data"
	if c.lastSuccess.IsZero() {
		failure = "Refresh failed; nothing has been read yet"
	}
	p.note(c, now, err, endpoint, begun, failure, "Refresh works again")
}

// observeEach keeps the condition of calls that are made for one service after the
// other: it fails from the first service for which one fails until none does, so that
// one failing service does not make a line at every turn.
func (p *poller) observeEach(c *condition, of map[string]*service, failed func(*service) error, now time.Time, endpoint api.Endpoint, failure, recovery string) {
	var err error
	first := ""
	for id, s := range of {
		if e := failed(s); e != nil && (err == nil || id < first) {
			err, first = e, id
		}
	}
	if err != nil && c.err != nil {
		c.err = err
		return
	}
	p.note(c, now, err, endpoint, "", failure, recovery)
}

func (p *poller) note(c *condition, now time.Time, err error, endpoint api.Endpoint, begun, failure, recovery string) {
	last := *c
	*c = last.after(now, err)
	switch {
	case err != nil && (last.err == nil || last.reason != c.reason):
		level.Warn(p.logger).Log("msg", failure, "endpoint", endpoint, "reason", c.reason, "err", err)
	case err == nil && last.err != nil:
		level.Info(p.logger).Log("msg", recovery, "endpoint", endpoint, "after", age(now, last.since).Round(time.Second))
	case err == nil && !last.tried && begun != "":
		level.Info(p.logger).Log("msg", begun, "endpoint", endpoint)
	}
}

// age returns how long ago then was, never less than 0; see the package comment.
func age(now, then time.Time) time.Duration {
	return max(now.Sub(then), now.Round(0).Sub(then.Round(0)), 0)
}

// reached tells whether the instant t has come, by either clock.
func reached(now, t time.Time) bool {
	return !now.Before(t) || !now.Round(0).Before(t.Round(0))
}

// unixSeconds returns a moment as the value of a metric.
func unixSeconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
