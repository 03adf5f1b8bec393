package command

import (
	"errors"
	"testing"
	"time"

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
		{"no settings yet", []collector.ServiceStatus{pending, good, pending}, "the settings or hostnames of 2 services, each of which takes a request", nil},
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
