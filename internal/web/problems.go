package web

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

// The severities of problems, worst first.
const (
	severityError   = "error"   // data is missing, or soon will be; a service cannot be used
	severityWarning = "warning" // something is wrong, data is served
	severityNotice  = "notice"  // good to know
)

// problem is something that an operator should know of.
type problem struct {
	// The same kind of trouble of the same organization is one problem, however its
	// details change.
	organizationID, kind string

	Severity     string `json:"severity"`
	Organization string `json:"organization,omitempty"` // id, or name while that is not known
	Title        string `json:"title"`
	Detail       string `json:"detail,omitempty"`
	Remedy       string `json:"remedy"`
	// Since is when it was first seen, zero if that is not known.
	Since time.Time `json:"since,omitzero"`
	// Until is when it was resolved, zero if it is not.
	Until time.Time `json:"until,omitzero"`

	// For the page: how long it has lasted, and a link to the services it is about.
	Duration string `json:"-"`
	Link     string `json:"-"`

	query string // of the page, which selects the services it is about; "" for none
}

// slowRefresh is the refresh interval of services that is worth a notice: twice that of
// upstream.
const slowRefresh = 2 * time.Minute

// findProblems returns what is wrong, worst first.
func findProblems(s collector.Status) []problem {
	found := make([]problem, 0, len(s.Organizations))
	for i := range s.Organizations {
		o := &s.Organizations[i]
		for _, p := range organizationProblems(o, s.Time) {
			p.organizationID, p.Organization = o.ID, cmp.Or(o.ID, o.Name)
			found = append(found, p)
		}
	}
	rank := func(p problem) int {
		return slices.Index([]string{severityError, severityWarning, severityNotice}, p.Severity)
	}
	slices.SortStableFunc(found, func(a, b problem) int { return cmp.Compare(rank(a), rank(b)) })
	return found
}

func organizationProblems(o *collector.OrganizationStatus, now time.Time) []problem {
	var found []problem
	maxAge := formatDuration(o.MaxAgeSeconds)

	switch {
	case o.ID == "" && o.Discovery.KeyRefused():
		return append(found, keyProblem(o, o.Discovery))
	case o.ID == "" && o.Error != "":
		return append(found, problem{
			kind: "organization", Severity: severityError, Title: "Cannot find the organization of the API key", Detail: o.Error, Since: o.Discovery.Since,
			Remedy: "Check the API key, or set " + o.Names.OrganizationID + ". The exporter keeps trying.",
		})
	case o.Inventory.KeyRefused() && (!o.Metrics.Tried || o.Metrics.KeyRefused()):
		return append(append(found, keyProblem(o, o.Inventory)), serviceProblems(o)...)
	}
	if o.Inventory.Tried && !o.Inventory.OK {
		p := problem{
			kind: "inventory", Severity: severityError, Title: "Cannot read the list of services", Detail: o.Inventory.Error, Since: o.Inventory.Since,
			Remedy: "Fix the cause given in the message. The exporter keeps trying, and serves the metrics it can read.",
		}
		if o.InventoryKnown {
			p.Severity = severityWarning
			p.Remedy = "No metrics are lost and no labels change: the exporter keeps using the last list, which is " + formatDuration(o.Inventory.AgeSeconds) + " old. If the problem persists, fix the cause given in the message."
		}
		found = append(found, p)
	}
	if o.Unconfirmed {
		found = append(found, problem{
			kind: "unconfirmed", Severity: severityWarning, Title: "The list of services is suddenly empty",
			Detail: "The exporter keeps the previous services until a second empty list confirms it.",
			Remedy: "If the services were deleted, there is nothing to do. If not, check the status of ClickHouse Cloud.",
		})
	}
	// An organization's page that upstream refuses is no problem: the services' own
	// pages are read instead.
	if o.Metrics.Tried && !o.Metrics.OK && o.MetricsCall != schedule.CallRefused {
		p := problem{
			kind: "metrics", Severity: severityWarning, Title: "Cannot read metrics", Detail: o.Metrics.Error, Since: o.Metrics.Since,
			Remedy: "The exporter keeps trying. If the problem persists, fix the cause given in the message. The last metrics are served until they are " + maxAge + " old.",
		}
		if _, _, ok := dataAges(o); !ok {
			p.Severity = severityError
			p.Remedy = "There are no metrics to serve. The exporter keeps trying. If the problem persists, fix the cause given in the message."
		}
		found = append(found, p)
	}
	if o.Budget.PausedUntil.After(now) {
		found = append(found, problem{
			kind: "rate limit", Severity: severityWarning, Title: "ClickHouse Cloud refuses requests because of its rate limit",
			Detail: "The exporter makes no request for another " + formatDuration(o.Budget.PausedUntil.Sub(now).Seconds()) + ".",
			Remedy: "Other programs probably use the same API key: give the exporter its own key, or lower " + o.Names.RateUse + ".",
		})
	}
	return append(found, serviceProblems(o)...)
}

// keyProblem is a key with which nothing can be read.
func keyProblem(o *collector.OrganizationStatus, call collector.CallStatus) problem {
	p := problem{
		kind: "key", Severity: severityError, Title: "ClickHouse Cloud refuses the API key", Detail: call.Error, Since: call.Since,
		Remedy: "There are no metrics to serve.",
	}
	if call.Reason == string(api.KindCredentials) {
		p.Title = "Cannot read the API key"
	}
	if _, _, ok := dataAges(o); ok {
		p.Severity, p.Remedy = severityWarning, "The last metrics are served until they are "+formatDuration(o.MaxAgeSeconds)+" old."
	}
	p.Remedy += " The exporter keeps trying, and recovers as soon as the key works."
	return p
}

// serviceProblems returns the problems of an organization's services.
func serviceProblems(o *collector.OrganizationStatus) []problem {
	var found []problem
	maxAge := formatDuration(o.MaxAgeSeconds)
	var stale, missing, unavailable, readOnly, low []*collector.ServiceStatus
	for i := range o.Services {
		s := &o.Services[i]
		if s.State == inventory.StateUnavailable {
			unavailable = append(unavailable, s)
		}
		switch diskClass(s) {
		case "bad":
			readOnly = append(readOnly, s)
		case "warn":
			low = append(low, s)
		}
		switch {
		case s.Error != "" && s.Series > 0:
			stale = append(stale, s)
		case s.Error != "" || isExpired(s):
			missing = append(missing, s)
		}
	}
	if len(missing) > 0 {
		p := problem{
			kind: "no metrics", Severity: severityError, Title: plural(len(missing), "service has", "services have") + " no metrics",
			Detail: serviceNames(missing),
			Remedy: "Their last metrics, if any, are more than " + maxAge + " old and no longer served. The table shows the error of each service. Series return with the next successful request.",
			query:  "problems=1",
		}
		if e := firstError(missing); e != "" {
			p.Detail += ": " + e
		}
		found = append(found, p)
	}
	if len(stale) > 0 {
		found = append(found, problem{
			kind: "stale metrics", Severity: severityWarning, Title: "Cannot read the metrics of " + plural(len(stale), "service", "services"),
			Detail: serviceNames(stale) + ": " + firstError(stale),
			Remedy: "The exporter keeps trying. If the problem persists, fix the cause given in the message. The last metrics are served until they are too old.",
			query:  "problems=1",
		})
	}
	if len(unavailable) > 0 {
		found = append(found, problem{
			kind: "unavailable", Severity: severityWarning, Title: "ClickHouse Cloud reports " + plural(len(unavailable), "service", "services") + " as unavailable",
			Detail: serviceNames(unavailable),
			Remedy: "This concerns Postgres, not the exporter: see the ClickHouse Cloud console.",
			query:  "state=" + inventory.StateUnavailable,
		})
	}
	if len(readOnly) > 0 {
		found = append(found, problem{
			kind: "read-only", Severity: severityError, Title: plural(len(readOnly), "service has", "services have") + " too little free disk space to write",
			Detail: serviceNames(readOnly),
			Remedy: "ClickHouse Cloud lets such a service only read. Free disk space, or choose a larger disk in the ClickHouse Cloud console.",
			query:  "problems=1&sort=disk&order=desc",
		})
	}
	if len(low) > 0 {
		found = append(found, problem{
			kind: "disk space", Severity: severityWarning, Title: plural(len(low), "service uses", "services use") + " more than " + formatPercent(diskWarning) + " of the disk",
			Detail: serviceNames(low),
			Remedy: "At 90" + narrowSpace + "% ClickHouse Cloud chooses a larger disk if the tier allows it. If it does not, free disk space.",
			query:  "problems=1&sort=disk&order=desc",
		})
	}
	if o.UnknownServices > 0 {
		found = append(found, problem{
			kind: "unknown", Severity: severityNotice, Title: plural(o.UnknownServices, "service is", "services are") + " in the metrics but not in the list of services",
			Remedy: "This is normal for a minute after a service was created or deleted. If it persists, the API key may lack permission to list every service.",
		})
	}
	if o.UncoveredServices > 0 && o.RefreshSeconds > slowRefresh.Seconds() {
		p := problem{
			kind: "slow refresh", Severity: severityNotice, Title: "The request budget allows one read of each service every " + formatDuration(o.RefreshSeconds),
			Detail: plural(o.UncoveredServices, "service is", "services are") + " missing from the organization's page and read one by one.",
			Remedy: "If ClickHouse support raises the key's rate limit, raise " + o.Names.RateLimit + "; or divide the services among shards with an API key each, or select fewer services.",
		}
		if o.RefreshSeconds > o.MaxAgeSeconds {
			p.Severity = severityWarning
		}
		found = append(found, p)
	}
	return found
}

// isPending tells whether a service should have metrics but has not been read yet, which
// takes a while after a start or in a large fleet.
func isPending(s *collector.ServiceStatus) bool {
	return s.State == inventory.StateRunning && s.LastSuccess.IsZero() && s.Error == ""
}

// neverRead returns how many services should have metrics but were never read.
func neverRead(o *collector.OrganizationStatus) int {
	n := 0
	for i := range o.Services {
		if s := &o.Services[i]; s.State == inventory.StateRunning && s.LastSuccess.IsZero() {
			n++
		}
	}
	return n
}

// isExpired tells whether a service should have metrics and had some, which are too old.
func isExpired(s *collector.ServiceStatus) bool {
	return s.Series == 0 && s.State == inventory.StateRunning && !s.LastSuccess.IsZero()
}

// hasProblem tells whether the table's filter for problems selects a service.
func hasProblem(s *collector.ServiceStatus) bool {
	return s.Error != "" || isExpired(s) || s.State == inventory.StateUnavailable || diskClass(s) != ""
}

func firstError(services []*collector.ServiceStatus) string {
	for _, s := range services {
		if s.Error != "" {
			return s.Error
		}
	}
	return ""
}

// serviceNames lists the first few services.
func serviceNames(services []*collector.ServiceStatus) string {
	const limit = 5
	list := make([]string, 0, limit)
	for _, s := range services[:min(len(services), limit)] {
		list = append(list, cmp.Or(s.Name, s.ID))
	}
	text := strings.Join(list, ", ")
	if n := len(services) - limit; n > 0 {
		text += fmt.Sprintf(" and %s more", formatInteger(n))
	}
	return text
}
