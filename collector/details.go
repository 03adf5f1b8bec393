package collector

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/go-kit/log/level"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

const (
	nameInterval     = 6 * time.Hour // names stay
	hostnameInterval = 6 * time.Hour
	backupsInterval  = time.Hour
	quotasInterval   = time.Hour
)

// detail is a call that is made for each service, or once for the organization, beside
// those for the list and for metrics. Together they get a tenth of the budget at most.
type detail struct {
	name         schedule.Call // of the collector whose call it is, or of what it is for
	endpoint     api.Endpoint
	wanted       func(*Organization) (wanted bool, interval time.Duration)
	organization bool // once for all of it
	fetch        func(ctx context.Context, c *api.Client, org, service string) (details, error)
}

// The places of details in allDetails, and in whatever is held of each.
const (
	settingsDetail = iota
	hostnameDetail
	backupsDetail
	quotasDetail
	nameDetail
	numDetails
)

// allDetails returns every detail that there is.
func allDetails() [numDetails]detail {
	return [numDetails]detail{
		settingsDetail: {
			name: "settings", endpoint: api.EndpointServiceConfig,
			wanted: func(o *Organization) (bool, time.Duration) { return o.CollectSettings, o.SettingsInterval },
			fetch: func(ctx context.Context, c *api.Client, org, service string) (details, error) {
				config, err := c.ServiceConfig(ctx, org, service)
				return details{settings: inventory.NumericSettings(config)}, err
			},
		},
		hostnameDetail: {
			name: "hostname", endpoint: api.EndpointService,
			wanted: func(o *Organization) (bool, time.Duration) { return o.wantsHostnames(), hostnameInterval },
			fetch: func(ctx context.Context, c *api.Client, org, service string) (details, error) {
				s, err := c.Service(ctx, org, service)
				return details{hostname: s.Hostname, earliestRestore: s.EarliestRestoreTime}, err
			},
		},
		backupsDetail: {
			name: "backups", endpoint: api.EndpointBackups,
			wanted: func(o *Organization) (bool, time.Duration) { return o.CollectBackups, backupsInterval },
			fetch: func(ctx context.Context, c *api.Client, org, service string) (details, error) {
				backups, err := c.Backups(ctx, org, service)
				return details{backups: backups}, err
			},
		},
		quotasDetail: {
			name: "quotas", endpoint: api.EndpointQuotas, organization: true,
			wanted: func(o *Organization) (bool, time.Duration) { return o.CollectQuotas, quotasInterval },
			fetch: func(ctx context.Context, c *api.Client, org, _ string) (details, error) {
				quotas, err := c.Quotas(ctx, org)
				return details{quotas: quotas}, err
			},
		},
		nameDetail: {
			name: "organization", endpoint: api.EndpointOrganizations, organization: true,
			wanted: func(o *Organization) (bool, time.Duration) {
				return o.CollectInventory && o.ID != "" && o.Name == "", nameInterval
			},
			fetch: func(ctx context.Context, c *api.Client, org, _ string) (details, error) {
				list, err := c.Organizations(ctx)
				for _, o := range list {
					if inventory.CanonicalID(o.ID) == org {
						return details{name: o.Name}, nil
					}
				}
				return details{}, cmp.Or(err, error(&refusedError{"no_organization", "the API key does not see the organization"}))
			},
		},
	}
}

// details is what one call for a detail tells; what others tell is zero. Immutable.
type details struct {
	read bool  // there has been a good attempt; the rest is what the last one told
	err  error // why the latest attempt failed

	settings        []inventory.Setting
	hostname        string
	earliestRestore time.Time // zero where it is not told
	backups         api.Backups
	quotas          []api.Quota
	name            string // of the organization
}

// detail returns what is known of a detail of the service.
func (s *service) detail(i int) *details {
	if d := s.details[i]; d != nil {
		return d
	}
	return &details{}
}

// pending tells whether a detail is wanted that has not been asked for yet, and why the
// latest attempt at one failed.
func (s *service) pending(config *Organization, organization bool) (pending bool, err error) {
	for i, d := range allDetails() {
		if wanted, _ := d.wanted(config); wanted && d.organization == organization {
			pending = pending || s.details[i] == nil
			err = cmp.Or(err, s.detail(i).err)
		}
	}
	return pending, err
}

// Details returns the calls that the organization's collectors make, for a plan of its
// requests.
func (o *Organization) Details() []schedule.Detail {
	var planned []schedule.Detail
	for _, d := range allDetails() {
		if wanted, interval := d.wanted(o); wanted {
			planned = append(planned, schedule.Detail{Call: d.name, Interval: interval, Organization: d.organization})
		}
	}
	return planned
}

// dropDetails forgets what details have brought that the configuration does not want.
func (p *poller) dropDetails() {
	for i, d := range allDetails() {
		if wanted, _ := d.wanted(p.config); wanted {
			continue
		}
		p.state.details[i], p.state.whole.details[i] = condition{}, nil
		for _, s := range p.state.services {
			s.details[i] = nil
		}
	}
}

// discovery is the call that tells which organization a key belongs to.
const discovery schedule.Call = "discovery"

// endpointOf returns the endpoint of a call, and its place in allDetails if it is one.
func endpointOf(call schedule.Call) (endpoint api.Endpoint, place int) {
	switch call {
	case discovery:
		return api.EndpointOrganizations, 0
	case schedule.List:
		return api.EndpointServices, 0
	case schedule.OrganizationPage:
		return api.EndpointOrganizationMetrics, 0
	case schedule.ServicePage:
		return api.EndpointServiceMetrics, 0
	}
	for i, d := range allDetails() {
		if d.name == call {
			return d.endpoint, i
		}
	}
	return "", 0
}

// takeDetail takes in the response to a call for a detail. Where that fails, what was
// last told stands, as the inventory does.
func (p *poller) takeDetail(r *response, now time.Time) {
	st, id := p.state, r.request.Service
	_, i := endpointOf(r.request.Call)
	s := st.services[id]
	if id == "" {
		s = st.whole
	} else if st.inventory == nil || st.inventory.Services[id] == nil {
		return // the service has gone in the meantime
	}
	next := r.details
	next.read = true
	if r.err != nil {
		next = *s.detail(i)
	}
	next.err = r.err
	last := s.details[i]
	s.details[i] = &next
	p.observeDetail(i, r, now)
	switch {
	case last != nil && reflect.DeepEqual(*last, next):
		s.details[i] = last
	case id == "":
		p.identify()
	default:
		p.derive(s)
	}
}

// observeDetail keeps the condition of a detail. What upstream does not offer is no
// failure; where it offers it nowhere, there is no condition.
func (p *poller) observeDetail(i int, r *response, now time.Time) {
	st, d := p.state, allDetails()[i]
	of := st.services
	if d.organization {
		of = map[string]*service{"": st.whole}
	}
	if !notOffered(r.err) {
		p.observeEach(&st.details[i], of, func(s *service) error {
			if err := s.detail(i).err; !notOffered(err) {
				return err
			}
			return nil
		}, now, d.endpoint, fmt.Sprintf("Cannot read %s; keeping what was read last", d.name), fmt.Sprintf("All %s can be read again", d.name))
		if r.err == nil {
			st.details[i].lastSuccess = now
		}
		return
	}
	works := false
	for _, s := range of {
		works = works || s.details[i] != nil && s.details[i].err == nil
	}
	if !works {
		st.details[i] = condition{}
	}
	if !st.notOffered[i] {
		st.notOffered[i] = true
		level.Info(p.logger).Log("msg", "Upstream does not offer this; asking rarely", "collector", d.name, "endpoint", d.endpoint, "service", r.request.Service, "err", r.err)
	}
}
