package inventory

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/relabel"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
)

// Filter describes services: those for which every criterion that is given holds.
// Regular expressions match the whole of a value, as in Prometheus. The selection of
// the configuration file, service discovery and the status page all filter by it.
type Filter struct {
	IDs    []string          // the service's id is one of these, in whichever case
	Name   string            // regular expression, "" = not given
	Region string            // likewise
	State  string            // likewise; the service comes and goes with its state
	Tags   map[string]string // key of a tag that the service has → regular expression of its value, which is "" for a tag without one
}

// AnyValue is the regular expression of a criterion of a [Filter] that every value meets.
const AnyValue = ".*"

// OneOf returns a regular expression for a criterion of a [Filter] that is met by
// the values alone, "" for none.
func OneOf(values ...string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = regexp.QuoteMeta(v)
	}
	return strings.Join(quoted, "|")
}

// Matcher is a compiled [Filter]. Immutable.
type Matcher struct {
	ids    map[string]bool          // nil = not given
	others []func(api.Service) bool // all criteria but that
}

// Compile returns an error that names the criterion that is not a regular expression.
func (f Filter) Compile() (*Matcher, error) {
	m := &Matcher{}
	if len(f.IDs) > 0 {
		m.ids = make(map[string]bool, len(f.IDs))
	}
	for _, id := range f.IDs {
		m.ids[CanonicalID(id)] = true
	}
	for _, c := range []struct {
		name, pattern string
		value         func(api.Service) string
	}{
		{"name", f.Name, func(s api.Service) string { return s.Name }},
		{"region", f.Region, func(s api.Service) string { return s.Region }},
		{"state", f.State, func(s api.Service) string { return s.State }},
	} {
		if c.pattern == "" {
			continue
		}
		re, err := compile(c.pattern)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		m.others = append(m.others, func(s api.Service) bool { return re.MatchString(c.value(s)) })
	}
	for key, pattern := range f.Tags {
		re, err := compile(pattern)
		if err != nil {
			return nil, fmt.Errorf("tag %s: %w", key, err)
		}
		m.others = append(m.others, func(s api.Service) bool {
			return slices.ContainsFunc(s.Tags, func(t api.Tag) bool { return t.Key == key && re.MatchString(t.Value) })
		})
	}
	return m, nil
}

// compile compiles a regular expression that matches whole values only.
func compile(pattern string) (relabel.Regexp, error) {
	// First as it is: "a)(b" must not become valid by what is put around it.
	if _, err := regexp.Compile(pattern); err != nil {
		return relabel.Regexp{}, err
	}
	return relabel.NewRegexp(pattern)
}

// Match tells whether every criterion holds for the service.
func (m *Matcher) Match(s api.Service) bool {
	return (m.ids == nil || m.ids[CanonicalID(s.ID)]) &&
		!slices.ContainsFunc(m.others, func(holds func(api.Service) bool) bool { return !holds(s) })
}

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
// user named ids: then the call for the metrics of the whole organization is not made,
// which a key restricted to a service may not make anyway. To have many services of a
// large organization exported by one call, choose them by anything else.
func (s *Selection) OnlyIDs() ([]string, bool) {
	if s == nil || len(s.include) == 0 {
		return nil, false
	}
	ids := map[string]bool{}
	for _, m := range s.include {
		if m.ids == nil {
			return nil, false
		}
		maps.Copy(ids, m.ids)
	}
	for _, m := range s.exclude {
		if len(m.others) == 0 {
			maps.DeleteFunc(ids, func(id string, _ bool) bool { return m.ids == nil || m.ids[id] })
		}
	}
	return slices.Sorted(maps.Keys(ids)), true
}
