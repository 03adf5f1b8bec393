package schedule

import (
	"time"
)

// Config configures a [Planner].
type Config struct {
	Spacing           time.Duration // least time between two requests
	MetricsInterval   time.Duration // between polls of the same metrics; the least refresh period
	InventoryInterval time.Duration // between polls of the list

	// NoOrganizationMetrics says that the call for the metrics of the whole
	// organization must not be made, since the user named the services.
	NoOrganizationMetrics bool

	FixedIntervals bool // polls are an interval apart, whatever upstream's rhythm: to compare with

	Details []Detail
}

// Call is what a request asks for.
type Call string

// The calls for the list and for metrics. Any other is that of a [Detail].
const (
	List             Call = "list"
	OrganizationPage Call = "organization page"
	ServicePage      Call = "service page"
)

// Detail is a call that is made once per interval, for each service or once for the
// organization, and may take its time: all details together get at most a tenth of the
// budget.
type Detail struct {
	Call         Call
	Interval     time.Duration
	Organization bool
}

// Activity says what can be expected of a service's metrics.
type Activity int

// The activities, those whose metrics are worth most first.
const (
	Running   Activity = iota
	Changing           // may be running, is about to run, or in a state not known here
	Stopped            // answers the same until somebody starts it
	NoMetrics          // being created or deleted

	activities // how many there are
)

// Service is what the planner needs to know of a service.
type Service struct {
	ID       string
	Activity Activity
}

// Request is a planned request to upstream.
type Request struct {
	Call    Call
	Service string    // "" for those about the organization
	At      time.Time // when to make it; not before
}

// Result is how a request ended, as far as planning is concerned.
type Result int

const (
	// ResultOK is an answer that could be used.
	ResultOK Result = iota
	// ResultFailed says nothing about what was asked for: upstream, the way to it,
	// the key or the budget may be the reason.
	ResultFailed
	// ResultRefused means that upstream understood and will not answer.
	ResultRefused
)

// Outcome is what came of a request. All but Result is for metrics that were
// answered.
type Outcome struct {
	Result   Result
	Changed  bool     // values differ from those of the answer before
	Services []string // of a whole organization: ids of the services in the answer
}

// OrganizationCall says how the call for the metrics of a whole organization is used.
type OrganizationCall string

// The uses of that call.
const (
	CallRegularly OrganizationCall = "regularly"
	CallRefused   OrganizationCall = "refused" // by upstream, so that it is tried rarely
	CallUseless   OrganizationCall = "useless" // answers for none of the services, or for one, so that it is tried rarely
	CallNever     OrganizationCall = "never"   // there is one service, or the user named ids
)

// Summary is what a [Planner] is up to.
type Summary struct {
	Uncovered int           // services to be exported that are fetched one by one
	Period    time.Duration // in which the metrics of every running service are fetched once

	OrganizationCall OrganizationCall

	// The rhythm of upstream's refreshes, where it has been learned.
	PhaseLearned bool
	PhasePeriod  time.Duration
	PhaseNext    time.Time
}
