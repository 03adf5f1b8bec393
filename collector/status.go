package collector

import (
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

// Status is what the collector knows, for people and for service discovery. It holds
// no secret.
type Status struct {
	Time          time.Time            `json:"time"`
	Organizations []OrganizationStatus `json:"organizations"`
}

// OrganizationStatus is the state of one organization. Durations are in seconds.
type OrganizationStatus struct {
	ID    string `json:"id"` // "" until found
	Name  string `json:"name"`
	Up    bool   `json:"up"`              // the latest requests for the list and for metrics worked
	Error string `json:"error,omitempty"` // what is wrong and what to do, "" if nothing is

	Discovery CallStatus `json:"discovery"` // of the organization's id; not tried where it is given
	Inventory CallStatus `json:"inventory"` // the list of services
	Metrics   CallStatus `json:"metrics"`   // the organization's page
	Sweep     CallStatus `json:"sweep"`     // the services' own pages

	InventoryKnown bool `json:"inventory_known"`       // an empty list of Services means that there are none
	Unconfirmed    bool `json:"unconfirmed,omitempty"` // upstream's latest list was empty, which is not believed before it is repeated

	MetricsCall schedule.OrganizationCall `json:"metrics_call"`           // how the organization's page is used
	Next        RequestStatus             `json:"next_request"`           // Endpoint is "" if none is planned
	PollSeconds float64                   `json:"poll_seconds,omitempty"` // of the latest request for metrics, with retries and waits for the budget

	// How often upstream renews its values, and when next, zero where its rhythm is
	// not known.
	UpstreamRefreshSeconds float64   `json:"upstream_refresh_seconds,omitempty"`
	UpstreamRefreshNext    time.Time `json:"upstream_refresh_next,omitzero"`

	Budget             BudgetStatus    `json:"budget"`
	MaxAgeSeconds      float64         `json:"max_age_seconds"`
	RefreshSeconds     float64         `json:"refresh_period_seconds"` // planned
	UnknownServices    int             `json:"unknown_services"`
	UncoveredServices  int             `json:"uncovered_services"`
	Series             int             `json:"series"`
	PageBytes          int64           `json:"page_bytes"`
	MetricsLastSuccess time.Time       `json:"metrics_last_success,omitzero"` // from whichever endpoint
	ServicesByState    map[string]int  `json:"services_by_state"`
	Services           []ServiceStatus `json:"services"`

	DetailsPending bool `json:"-"` // something is wanted of the organization and has not been asked for yet

	// Names are what the user calls settings, for advice.
	Names SettingNames `json:"-"`
}

// RequestStatus is a planned request.
type RequestStatus struct {
	Endpoint api.Endpoint `json:"endpoint,omitempty"`
	Service  string       `json:"service,omitempty"`
	At       time.Time    `json:"at,omitzero"`
}

// CallStatus is the state of one kind of request.
type CallStatus struct {
	Tried       bool      `json:"tried"`
	OK          bool      `json:"ok"` // the latest one worked
	Error       string    `json:"error,omitempty"`
	Reason      string    `json:"reason,omitempty"` // kind of Error, as in the metrics
	Since       time.Time `json:"since,omitzero"`   // it works, or fails, since then
	LastSuccess time.Time `json:"last_success,omitzero"`
	AgeSeconds  float64   `json:"age_seconds,omitempty"` // since LastSuccess
}

// KeyRefused tells whether the call will fail until somebody sees to the API key.
func (s CallStatus) KeyRefused() bool {
	switch api.ErrorKind(s.Reason) {
	case api.KindUnauthorized, api.KindForbidden, api.KindCredentials:
		return true
	}
	return false
}

// BudgetStatus is the state of the rate budget.
type BudgetStatus struct {
	Used          int       `json:"used"`
	Limit         int       `json:"limit"`
	WindowSeconds float64   `json:"window_seconds"`
	PausedUntil   time.Time `json:"paused_until,omitzero"` // after upstream refused a request
}

// ServiceStatus is the state of one service.
type ServiceStatus struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Known      bool      `json:"known"` // to the inventory; if not, only its id, name and metrics are known
	Provider   string    `json:"provider,omitempty"`
	Region     string    `json:"region,omitempty"`
	Size       string    `json:"size,omitempty"`
	HAType     string    `json:"ha_type,omitempty"`
	Version    string    `json:"version,omitempty"`
	State      string    `json:"state,omitempty"`
	Primary    bool      `json:"primary"`
	Tags       []api.Tag `json:"tags,omitempty"` // sorted by key
	Hostname   string    `json:"hostname,omitempty"`
	StorageGiB float64   `json:"storage_gib,omitempty"`
	CreatedAt  time.Time `json:"created_at,omitzero"`
	LastBackup time.Time `json:"last_backup,omitzero"`

	Up             bool      `json:"up"`     // the latest request for its metrics brought them
	Series         int       `json:"series"` // of upstream's that are served
	LastSuccess    time.Time `json:"last_success,omitzero"`
	LastChange     time.Time `json:"last_change,omitzero"` // when its values were first seen
	DataAgeSeconds float64   `json:"data_age_seconds,omitempty"`
	Error          string    `json:"error,omitempty"`
	Reason         string    `json:"reason,omitempty"` // kind of Error, as in the metrics

	DetailsPending bool  `json:"-"` // backups, settings or the hostname are wanted and have not been asked for yet
	DetailsError   error `json:"-"` // why the latest attempt at them failed

	// What its metrics say, nil if they do not or are too old to be served.
	CPUUsedRatio  *float64 `json:"cpu_used_ratio,omitempty"` // of all cores, between the last two changes
	Connections   *float64 `json:"connections,omitempty"`    // in all states
	DiskUsedRatio *float64 `json:"disk_used_ratio,omitempty"`
	DiskSizeBytes *float64 `json:"disk_size_bytes,omitempty"` // or else StorageGiB
}

// Listed returns the service as the inventory lists it, for an inventory.Filter.
func (s *ServiceStatus) Listed() api.Service {
	return api.Service{
		ID: s.ID, Name: s.Name, Provider: s.Provider, Region: s.Region, PostgresVersion: s.Version, Size: s.Size, HAType: s.HAType, State: s.State,
		StorageGiB: s.StorageGiB, Tags: s.Tags, IsPrimary: s.Primary, CreatedAt: s.CreatedAt,
	}
}

// Status returns what is known at the moment. It waits for nothing.
func (c *Collector) Status() Status {
	now := time.Now()
	status := Status{Time: now.Round(0), Organizations: []OrganizationStatus{}}
	for _, v := range c.views(now) {
		status.Organizations = append(status.Organizations, v.status(now))
	}
	return status
}

func (v *organizationView) status(now time.Time) OrganizationStatus {
	usage := v.config.API.Budget.Usage()
	next, _ := endpointOf(v.next.Call)
	o := OrganizationStatus{
		ID: v.id, Name: v.name, Up: v.up,
		Discovery:      v.discovery.status(now),
		Inventory:      v.list.status(now),
		Metrics:        v.organizationPage.status(now),
		Sweep:          v.servicePages.status(now),
		InventoryKnown: v.inventory != nil,
		Unconfirmed:    v.unconfirmed,
		MetricsCall:    v.plan.OrganizationCall,
		PollSeconds:    v.pollTook.Seconds(),
		Next:           RequestStatus{Endpoint: next, Service: v.next.Service, At: v.next.At.Round(0)},
		Budget: BudgetStatus{
			Used: usage.Used, Limit: usage.Limit, WindowSeconds: usage.Window.Seconds(), PausedUntil: usage.PausedUntil.Round(0),
		},
		MaxAgeSeconds:      v.config.MaxAge.Seconds(),
		Names:              v.config.Names,
		RefreshSeconds:     v.plan.Period.Seconds(),
		UnknownServices:    v.unknown,
		UncoveredServices:  v.plan.Uncovered,
		Series:             v.series,
		PageBytes:          int64(v.bytes),
		MetricsLastSuccess: v.metricsAt.Round(0),
		ServicesByState:    map[string]int{},
		Services:           make([]ServiceStatus, 0, len(v.services)),
	}
	if v.plan.PhaseLearned {
		o.UpstreamRefreshSeconds = v.plan.PhasePeriod.Seconds()
		o.UpstreamRefreshNext = v.plan.PhaseNext.Round(0)
	}
	for _, err := range []error{v.discovery.err, v.list.err, v.metricsErr} {
		if o.Error == "" && err != nil {
			o.Error = err.Error()
		}
	}
	o.DetailsPending, _ = v.whole.pending(v.config, true)
	for _, s := range v.services {
		if s.id == "" {
			continue
		}
		status := s.status(now)
		status.DetailsPending, status.DetailsError = s.pending(v.config, false)
		o.Services = append(o.Services, status)
		if s.entry != nil {
			o.ServicesByState[s.entry.State]++
		}
	}
	return o
}

func (c condition) status(now time.Time) CallStatus {
	s := CallStatus{Tried: c.tried, OK: c.ok(), Since: c.since.Round(0), LastSuccess: c.lastSuccess.Round(0)}
	if c.err != nil {
		s.Error, s.Reason = c.err.Error(), c.reason
	}
	if !c.lastSuccess.IsZero() {
		s.AgeSeconds = age(now, c.lastSuccess).Seconds()
	}
	return s
}

func (s *serviceView) status(now time.Time) ServiceStatus {
	o := ServiceStatus{ID: s.id, Name: s.name(), Up: s.up}
	if s.err != nil {
		o.Error = s.err.Error()
		o.Reason, _ = reason(s.err)
	}
	if e := s.entry; e != nil {
		o.Known = true
		o.Provider, o.Region, o.Size, o.HAType = e.Provider, e.Region, e.Size, e.HAType
		o.Version, o.State, o.Primary, o.Tags = e.PostgresVersion, e.State, e.IsPrimary, e.Tags
		o.LastBackup = s.detail(backupsDetail).backups.Latest
		o.Hostname, o.StorageGiB, o.CreatedAt = s.detail(hostnameDetail).hostname, e.StorageGiB, e.CreatedAt
	}
	if s.block != nil {
		o.Series = s.block.Series()
		o.CPUUsedRatio, o.Connections = s.utilization.cpu, s.utilization.connections
		o.DiskUsedRatio, o.DiskSizeBytes = s.utilization.disk, s.utilization.diskSize
	}
	if !s.fetchedAt.IsZero() {
		o.LastSuccess, o.LastChange = s.fetchedAt.Round(0), s.changedAt.Round(0)
		o.DataAgeSeconds = age(now, s.fetchedAt).Seconds()
	}
	return o
}
