package collector

import (
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

// hostnameInterval is how often a known hostname is asked for again.
const hostnameInterval = 6 * time.Hour

// planDetails returns the calls that the configuration wants made for each service,
// and drops what others that were made before have brought.
func (p *poller) planDetails() []schedule.Detail {
	var planned []schedule.Detail
	if p.config.CollectConfig {
		planned = append(planned, schedule.Detail{Endpoint: api.EndpointServiceConfig, Interval: p.config.ConfigInterval})
	}
	hostnames := p.config.CollectConfig || slices.ContainsFunc(p.config.EnrichLabels, inventory.EnrichLabel.NeedsHostname)
	if hostnames {
		planned = append(planned, schedule.Detail{Endpoint: api.EndpointService, Interval: hostnameInterval})
	}
	for _, s := range p.state.services {
		kept := *s.details
		if !p.config.CollectConfig {
			kept.settings, s.settingsErr = nil, nil
		}
		if !hostnames {
			kept.hostname, s.hostnameErr = "", nil
		}
		s.details = &kept
	}
	return planned
}

// takeDetail takes in what only a call for one service tells. Where that fails, what
// it last told stands, as the inventory does.
func (p *poller) takeDetail(r *response, now time.Time) {
	st, id, endpoint := p.state, r.request.Service, r.request.Endpoint
	if st.inventory == nil || st.inventory.Services[id] == nil {
		return // the service has gone in the meantime
	}
	s := st.services[id]
	calls, what := &st.settings, "settings"
	failed := func(s *service) *error { return &s.settingsErr }
	if endpoint == api.EndpointService {
		calls, what = &st.hostnames, "hostname"
		failed = func(s *service) *error { return &s.hostnameErr }
	}
	*failed(s) = r.err
	p.observeEach(calls, func(s *service) error { return *failed(s) }, now, endpoint,
		"a service's "+what+" cannot be read; what was read last stands", "every service's "+what+" can be read again")
	if r.err != nil {
		return
	}
	next := *s.details
	if endpoint == api.EndpointService {
		next.hostname = r.detail.Hostname
	} else {
		next.settings = inventory.NumericSettings(r.config)
	}
	if next.hostname != s.details.hostname || !slices.Equal(next.settings, s.details.settings) {
		s.details = &next
		p.derive(s)
	}
}
