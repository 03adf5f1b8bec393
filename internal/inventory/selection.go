package inventory

import (
	"fmt"
	"maps"
	"slices"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
)

// Selection says which services of an organization are exported. It is immutable,
// and nil selects every service.
type Selection struct {
	include, exclude []*Matcher
}

// NewSelection returns a selection of the services that match any filter of
// include (or all services, if it is empty) and no filter of exclude.
// The error names the filter and the criterion that is not a regular expression.
func NewSelection(include, exclude []Filter) (*Selection, error) {
	s := &Selection{}
	for _, side := range []struct {
		name    string
		filters []Filter
		to      *[]*Matcher
	}{{"include", include, &s.include}, {"exclude", exclude, &s.exclude}} {
		for i, f := range side.filters {
			m, err := f.Compile()
			if err != nil {
				return nil, fmt.Errorf("%s[%d]: %w", side.name, i, err)
			}
			*side.to = append(*side.to, m)
		}
	}
	return s, nil
}

// Match reports whether the service is selected.
func (s *Selection) Match(service api.Service) bool {
	if s == nil {
		return true
	}
	matches := func(m *Matcher) bool { return m.Match(service) }
	if len(s.include) > 0 && !slices.ContainsFunc(s.include, matches) {
		return false
	}
	return !slices.ContainsFunc(s.exclude, matches)
}

// OnlyIDs returns the ids of the services that may be selected, sorted, if the
// user named ids: then nothing else is of interest and the call for the metrics of
// the whole organization is not made, which a key restricted to a service may not
// make anyway. To have many services of a large organization exported by one call
// instead of one each, choose them by anything else.
func (s *Selection) OnlyIDs() ([]string, bool) {
	if s == nil || len(s.include) == 0 {
		return nil, false
	}
	ids := map[string]struct{}{}
	for _, m := range s.include {
		if m.ids == nil {
			return nil, false
		}
		maps.Copy(ids, m.ids)
	}
	for _, m := range s.exclude {
		if m.onlyIDs() {
			maps.DeleteFunc(ids, func(id string, _ struct{}) bool {
				_, excluded := m.ids[id]
				return excluded || m.ids == nil
			})
		}
	}
	return slices.Sorted(maps.Keys(ids)), true
}
