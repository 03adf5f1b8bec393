package simulator

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator/internal/seeded"
)

// CapMode says what the organization-wide metrics page does when the organization has more
// services than Config.OrgMetricsLimit. The API documents the limit, but not what happens above
// it.
type CapMode int

const (
	// CapTruncate leaves services out: always the same ones as long as none is created or
	// deleted, in no obvious order.
	CapTruncate CapMode = iota
	// CapTruncateRotating leaves other services out at every refresh.
	CapTruncateRotating
	// CapReject answers 400.
	CapReject
)

func (s *Simulator) rejects(v *view) bool {
	limit := s.config.OrgMetricsLimit
	return s.config.CapMode == CapReject && limit >= 0 && len(v.services) > limit
}

// within returns the services that the organization-wide page covers.
func (s *Simulator) within(v *view) []*service {
	limit := s.config.OrgMetricsLimit
	if limit < 0 || len(v.services) <= limit {
		return v.services
	}
	order := "cap"
	if s.config.CapMode == CapTruncateRotating {
		order += strconv.FormatInt(v.tick.UnixNano(), 10)
	}
	type ranked struct {
		rank  uint64
		index int
	}
	all := make([]ranked, len(v.services))
	for i, svc := range v.services {
		all[i] = ranked{seeded.Hash(svc.Key, order), i}
	}
	slices.SortFunc(all, func(a, b ranked) int { return cmp.Compare(a.rank, b.rank) })
	all = all[:limit]
	slices.SortFunc(all, func(a, b ranked) int { return cmp.Compare(a.index, b.index) })
	covered := make([]*service, limit)
	for i, r := range all {
		covered[i] = v.services[r.index]
	}
	return covered
}
