package collector

import (
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
)

// ServiceFilter describes services: those for which every criterion that is given
// holds. Regular expressions match the whole of a value, as in Prometheus.
type ServiceFilter struct {
	IDs    []string          // the service's id is one of these
	Name   string            // regular expression, "" = not given
	Region string            // likewise
	State  string            // likewise; the service comes and goes with its state
	Tags   map[string]string // key of a tag that the service has → regular expression of its value, which is "" for a tag without one
}

// Selection says which services of an organization are exported. It is immutable,
// and nil selects every service.
type Selection struct {
	include, exclude []matcher
}

// matcher is a compiled ServiceFilter.
type matcher struct {
	ids                 map[string]struct{} // nil = not given
	name, region, state *regexp.Regexp      // likewise
	tags                map[string]*regexp.Regexp
}

// NewSelection returns a selection of the services that match any filter of
// include (or all services, if it is empty) and no filter of exclude.
// The error names the filter and the criterion that is not a regular expression.
func NewSelection(include, exclude []ServiceFilter) (*Selection, error) {
	s := &Selection{}
	for _, side := range []struct {
		name    string
		filters []ServiceFilter
		to      *[]matcher
	}{{"include", include, &s.include}, {"exclude", exclude, &s.exclude}} {
		for i, f := range side.filters {
			m, err := compileFilter(f)
			if err != nil {
				return nil, fmt.Errorf("%s[%d]: %w", side.name, i, err)
			}
			*side.to = append(*side.to, m)
		}
	}
	return s, nil
}

func compileFilter(f ServiceFilter) (matcher, error) {
	var m matcher
	if len(f.IDs) > 0 {
		m.ids = make(map[string]struct{}, len(f.IDs))
		for _, id := range f.IDs {
			m.ids[id] = struct{}{}
		}
	}
	for _, c := range []struct {
		name, pattern string
		to            **regexp.Regexp
	}{{"name", f.Name, &m.name}, {"region", f.Region, &m.region}, {"state", f.State, &m.state}} {
		if c.pattern == "" {
			continue
		}
		re, err := compileWhole(c.pattern)
		if err != nil {
			return matcher{}, fmt.Errorf("%s: %w", c.name, err)
		}
		*c.to = re
	}
	for key, pattern := range f.Tags {
		re, err := compileWhole(pattern)
		if err != nil {
			return matcher{}, fmt.Errorf("tag %s: %w", key, err)
		}
		if m.tags == nil {
			m.tags = make(map[string]*regexp.Regexp, len(f.Tags))
		}
		m.tags[key] = re
	}
	return m, nil
}

// compileWhole compiles a regular expression that matches whole values only.
func compileWhole(pattern string) (*regexp.Regexp, error) {
	// First as it is: "a)(b" must not become valid by what is put around it.
	if _, err := regexp.Compile(pattern); err != nil {
		return nil, err
	}
	return regexp.Compile("^(?s:" + pattern + ")$")
}

// Match reports whether the service is selected.
func (s *Selection) Match(service api.Service) bool {
	if s == nil {
		return true
	}
	matches := func(m matcher) bool { return m.match(service) }
	if len(s.include) > 0 && !slices.ContainsFunc(s.include, matches) {
		return false
	}
	return !slices.ContainsFunc(s.exclude, matches)
}

func (m matcher) match(s api.Service) bool {
	if m.ids != nil {
		if _, ok := m.ids[s.ID]; !ok {
			return false
		}
	}
	if m.name != nil && !m.name.MatchString(s.Name) ||
		m.region != nil && !m.region.MatchString(s.Region) ||
		m.state != nil && !m.state.MatchString(s.State) {
		return false
	}
	for key, re := range m.tags {
		if !slices.ContainsFunc(s.Tags, func(t api.Tag) bool { return t.Key == key && re.MatchString(t.Value) }) {
			return false
		}
	}
	return true
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
		if m.name == nil && m.region == nil && m.state == nil && len(m.tags) == 0 {
			maps.DeleteFunc(ids, func(id string, _ struct{}) bool {
				_, excluded := m.ids[id]
				return excluded || m.ids == nil
			})
		}
	}
	return slices.Sorted(maps.Keys(ids)), true
}
