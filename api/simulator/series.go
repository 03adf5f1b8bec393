package simulator

import (
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator/internal/metrics"
)

// Sample is one series and its value.
type Sample struct {
	Name, Type string // family's name, and gauge or counter
	Labels     map[string]string
	Value      float64
}

// Series returns every series of every service, with the values served at a time: what the
// organization-wide page would show if it had no limit. The fleet is that of the refresh in
// force at the time if that is one of the last few, and otherwise today's.
func (s *Simulator) Series(at time.Time) []Sample {
	v := s.viewAt(at)
	all := make([]Sample, 0, len(v.services)*metrics.SeriesPerService)
	for _, svc := range v.services {
		all = append(all, samples(s.config.OrganizationID, svc, v.tick, v.asOf)...)
	}
	return all
}

// ServiceSeries returns the part of Series that one service reports, nil for an unknown one.
func (s *Simulator) ServiceSeries(id string, at time.Time) []Sample {
	v := s.viewAt(at)
	for _, svc := range v.services {
		if svc.id == id {
			return samples(s.config.OrganizationID, svc, v.tick, v.asOf)
		}
	}
	return nil
}

// Covered returns the ids of the services on the organization-wide page at a time, in order of
// creation: all of them up to the limit. With CapReject it is nil above the limit.
func (s *Simulator) Covered(at time.Time) []string {
	v := s.viewAt(at)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rejects(v) {
		return nil
	}
	var ids []string
	for _, svc := range s.within(v) {
		ids = append(ids, svc.id)
	}
	return ids
}

// samples returns what appendPage renders for one service.
func samples(organization string, v *service, tick, asOf time.Time) []Sample {
	labels := func(more ...string) map[string]string {
		l := map[string]string{"clickhouse_org": organization, "postgres_service": v.id, "postgres_service_name": v.name}
		for i := 0; i < len(more); i += 2 {
			l[more[i]] = more[i+1]
		}
		return l
	}
	state := v.stateAt(asOf)
	families := metrics.Families()
	all := []Sample{{families[0].Name, families[0].Type, labels("postgres_status", state, "postgres_version", v.version), 1}}
	if state != stateRunning {
		return all
	}
	var values [metrics.SeriesPerService]float64
	v.Values(tick, &values)
	next := 1
	for _, f := range families[1:] {
		for i := range f.Series() {
			var l map[string]string
			switch f.Label {
			case "":
				l = labels()
			case "database":
				l = labels(f.Label, v.Profile.Databases[i])
			default:
				l = labels(f.Label, f.Values[i])
			}
			all = append(all, Sample{f.Name, f.Type, l, values[next]})
			next++
		}
	}
	return all
}
