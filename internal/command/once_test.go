package command

import (
	"errors"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
)

// TestIncomplete has what once waits for, and what it does not.
func TestIncomplete(t *testing.T) {
	read := time.Unix(1, 0)
	forbidden := errors.New("not allowed")
	service := func(change func(*collector.ServiceStatus)) collector.ServiceStatus {
		s := collector.ServiceStatus{Known: true, State: "running", LastSuccess: read}
		change(&s)
		return s
	}
	good := service(func(*collector.ServiceStatus) {})
	pending := service(func(s *collector.ServiceStatus) { s.DetailsPending = true })
	refused := service(func(s *collector.ServiceStatus) { s.DetailsError = forbidden })
	for _, test := range []struct {
		name     string
		services []collector.ServiceStatus
		missing  string
		broken   error
	}{
		{"all is there", []collector.ServiceStatus{good, good}, "", nil},
		{"no metrics yet", []collector.ServiceStatus{good, service(func(s *collector.ServiceStatus) { s.LastSuccess = time.Time{} })}, "the metrics of 1 services", nil},
		{"no metrics to be had", []collector.ServiceStatus{good, service(func(s *collector.ServiceStatus) { s.LastSuccess, s.Error = time.Time{}, "no" })}, "", nil},
		{"no settings yet", []collector.ServiceStatus{pending, good, pending}, "the backups, settings or hostnames of 2 services, each of which takes a request", nil},
		{"no settings of a stopped one", []collector.ServiceStatus{good, {Known: true, State: "stopped", DetailsPending: true}}, "", nil},
		{"settings of one refused", []collector.ServiceStatus{refused, good}, "", nil},
		{"settings refused", []collector.ServiceStatus{refused, refused}, "", forbidden},
	} {
		missing, broken := incomplete(collector.OrganizationStatus{Up: true, InventoryKnown: true, Services: test.services})
		if missing != test.missing || !errors.Is(broken, test.broken) {
			t.Errorf("%s: %q, %v", test.name, missing, broken)
		}
	}
}

// TestIncompleteForNow has trouble that once waits out, and trouble that it does not.
func TestIncompleteForNow(t *testing.T) {
	failed := func(kind api.ErrorKind) collector.CallStatus {
		return collector.CallStatus{Tried: true, Reason: string(kind)}
	}
	listed := collector.CallStatus{Tried: true, OK: true}
	for _, test := range []struct {
		name    string
		status  collector.OrganizationStatus
		missing string // "" if it is given up
	}{
		{"rate limit", collector.OrganizationStatus{Inventory: failed(api.KindRateLimited)}, "the list of services"},
		{"key refused", collector.OrganizationStatus{Inventory: failed(api.KindUnauthorized)}, ""},
		{"rate limit after the list", collector.OrganizationStatus{Inventory: listed, InventoryKnown: true, Metrics: failed(api.KindRateLimited)}, "metrics"},
		{"page refused", collector.OrganizationStatus{Inventory: listed, InventoryKnown: true, Metrics: failed(api.KindBadRequest)}, "metrics"},
		{"pages refused", collector.OrganizationStatus{Inventory: listed, InventoryKnown: true, Metrics: failed(api.KindBadRequest), Sweep: failed(api.KindNotFound)}, ""},
		{"page forbidden", collector.OrganizationStatus{Inventory: listed, InventoryKnown: true, Metrics: failed(api.KindForbidden)}, ""},
	} {
		test.status.Error = "not now"
		if missing, broken := incomplete(test.status); missing != test.missing || (broken == nil) != (test.missing != "") {
			t.Errorf("%s: %q, %v", test.name, missing, broken)
		}
	}
}
