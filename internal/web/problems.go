package web

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

// severity says how bad a problem is.
type severity string

const (
	failure severity = "error"   // data is missing, or will be
	warning severity = "warning" // something is not as it should be, data is served
	notice  severity = "notice"  // good to know
)

func (s severity) rank() int { return slices.Index([]severity{failure, warning, notice}, s) }

// problemKey tells problems apart. The same trouble of the same organization
// is one problem, however its details change.
type problemKey struct{ organization, kind string }

// problem is something that an operator wants to know of, in plain words.
type problem struct {
	key problemKey

	Severity     severity `json:"severity"`
	Organization string   `json:"organization,omitempty"` // id, or name while that is not known
	Title        string   `json:"title"`
	Detail       string   `json:"detail,omitempty"`
	Remedy       string   `json:"remedy"`
	// Since is when it was first seen, zero if that is not known.
	Since time.Time `json:"since,omitzero"`
	// Until is when it was found to be over, zero if it is not.
	Until time.Time `json:"until,omitzero"`

	query string // selects the services it is about on the page, "" if it is not about services
}

// slowRefresh is how long the metrics of a service may take to be renewed
// before it is worth a notice: twice as long as upstream takes.
const slowRefresh = 2 * time.Minute

// findProblems returns what is wrong, worst first.
func findProblems(s collector.Status) []problem {
	found := make([]problem, 0, len(s.Organizations))
	for i := range s.Organizations {
		found = append(found, organizationProblems(&s.Organizations[i], s.Time)...)
	}
	slices.SortStableFunc(found, func(a, b problem) int { return cmp.Compare(a.Severity.rank(), b.Severity.rank()) })
	return found
}

func organizationProblems(o *collector.OrganizationStatus, now time.Time) []problem {
	var found []problem
	add := func(kind string, p problem) {
		p.key, p.Organization = problemKey{o.ID, kind}, cmp.Or(o.ID, o.Name)
		found = append(found, p)
	}
	maxAge := spell(o.MaxAgeSeconds)

	if o.ID == "" && o.Error != "" {
		add("organization", problem{
			Severity: failure, Title: "The organization of the API key is not known", Detail: o.Error,
			Remedy: "Check the API key, or name the organization with --api.organization-id. The exporter keeps trying.",
		})
		return found
	}
	if o.Inventory.Tried && !o.Inventory.OK {
		p := problem{
			Severity: failure, Title: "The list of services cannot be read", Detail: o.Inventory.Error, Since: o.Inventory.Since,
			Remedy: "Mend what the message names. The exporter keeps asking, and serves what it can meanwhile.",
		}
		if o.InventoryKnown {
			p.Severity = warning
			p.Remedy = "Nothing is lost: the last known list, " + spell(o.Inventory.AgeSeconds) + " old, stands until a new one comes, and no label changes. If this lasts, mend what the message names."
		}
		add("inventory", p)
	}
	if o.Unconfirmed {
		add("unconfirmed", problem{
			Severity: warning, Title: "The list of services came back empty",
			Detail: "It was not empty before, so one such answer is not believed.",
			Remedy: "Nothing to do if the services were deleted: the next answer confirms it. If not, look for trouble at ClickHouse Cloud.",
		})
	}
	// A page that upstream refuses to make for so many services is no problem:
	// the services' own are read instead.
	if o.Metrics.Tried && !o.Metrics.OK && o.MetricsCall != schedule.CallRefused {
		p := problem{
			Severity: warning, Title: "Metrics cannot be read", Detail: o.Metrics.Error, Since: o.Metrics.Since,
			Remedy: "The last good metrics are served until they are " + maxAge + " old, then their series end. Mend what the message names; if it names nothing, wait: the exporter keeps asking.",
		}
		if _, _, ok := dataAges(*o); !ok {
			p.Severity = failure
			p.Remedy = "There are no metrics to serve. Mend what the message names; if it names nothing, wait: the exporter keeps asking."
		}
		add("metrics", p)
	}
	if o.Budget.PausedUntil.After(now) {
		add("rate limit", problem{
			Severity: warning, Title: "ClickHouse Cloud refuses requests because of its rate limit",
			Detail: "No request is made for another " + spell(o.Budget.PausedUntil.Sub(now).Seconds()) + ".",
			Remedy: "Other programs probably use the same API key: give the exporter a key of its own, or lower --api.rate-use.",
		})
	}

	var failing, silent, unavailable []*collector.ServiceStatus
	for i := range o.Services {
		s := &o.Services[i]
		if s.State == inventory.StateUnavailable {
			unavailable = append(unavailable, s)
		}
		switch {
		case s.Error != "" && s.Series > 0:
			failing = append(failing, s)
		case s.Error != "" || lost(s):
			silent = append(silent, s)
		}
	}
	if len(silent) > 0 {
		p := problem{
			Severity: failure, Title: plural(len(silent), "service has", "services have") + " no metrics",
			Detail: names(silent),
			Remedy: "Their last metrics, if there were any, are more than " + maxAge + " old, so their series have ended. The table says why for each service. Series come back with the first answer.",
			query:  "problems=1",
		}
		if e := firstError(silent); e != "" {
			p.Detail += ": " + e
		}
		add("silent", p)
	}
	if len(failing) > 0 {
		add("failing", problem{
			Severity: warning, Title: "The metrics of " + plural(len(failing), "service", "services") + " cannot be read",
			Detail: names(failing) + ": " + firstError(failing),
			Remedy: "Their last good metrics are served until they are too old, then their series end. Mend what the message names; if it names nothing, wait.",
			query:  "problems=1",
		})
	}
	if len(unavailable) > 0 {
		add("unavailable", problem{
			Severity: warning, Title: "ClickHouse Cloud says that " + plural(len(unavailable), "service is", "services are") + " unavailable",
			Detail: names(unavailable),
			Remedy: "This is about Postgres, not about the exporter: see the ClickHouse Cloud console.",
			query:  "state=unavailable",
		})
	}
	if o.UnknownServices > 0 {
		add("unknown", problem{
			Severity: notice, Title: plural(o.UnknownServices, "service is", "services are") + " in the metrics but not in the list of services",
			Remedy: "Normal for a minute after a service was created or deleted. If it stays, the API key may not be allowed to list every service.",
		})
	}
	if o.UncoveredServices > 0 && o.RefreshSeconds > slowRefresh.Seconds() {
		p := problem{
			Severity: notice, Title: "The request budget allows each service to be read every " + spell(o.RefreshSeconds),
			Detail: plural(o.UncoveredServices, "service is", "services are") + " missing from the organization's page and read one by one.",
			Remedy: "If support raises the key's rate limit, raise --api.rate-limit; or share the services among shards that have keys of their own, or select fewer of them.",
		}
		if o.RefreshSeconds > o.MaxAgeSeconds {
			p.Severity = warning
		}
		add("slow", p)
	}
	return found
}

// unread tells whether a service should have metrics and has not been read yet,
// which takes a while after a start or in a large fleet.
func unread(s *collector.ServiceStatus) bool {
	return s.State == inventory.StateRunning && s.LastSuccess.IsZero() && s.Error == ""
}

// lost tells whether a service should have metrics, had some, and has none now.
func lost(s *collector.ServiceStatus) bool {
	return s.Series == 0 && s.State == inventory.StateRunning && !s.LastSuccess.IsZero()
}

// troubled tells whether a service is what the filter for problems is for.
func troubled(s *collector.ServiceStatus) bool {
	return s.Error != "" || lost(s) || s.State == inventory.StateUnavailable
}

func firstError(services []*collector.ServiceStatus) string {
	for _, s := range services {
		if s.Error != "" {
			return s.Error
		}
	}
	return ""
}

// names lists services, but not too many.
func names(services []*collector.ServiceStatus) string {
	const most = 5
	list := make([]string, 0, most)
	for _, s := range services[:min(len(services), most)] {
		list = append(list, cmp.Or(s.Name, s.ID))
	}
	text := strings.Join(list, ", ")
	if n := len(services) - most; n > 0 {
		text += fmt.Sprintf(" and %s more", thousands(n))
	}
	return text
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return thousands(n) + " " + many
}
