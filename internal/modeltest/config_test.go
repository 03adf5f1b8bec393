package modeltest

import (
	"regexp"
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"
	"go.yaml.in/yaml/v2"
)

// config is a user's configuration, in the user's words.
type config struct {
	findOut    bool     // the organization's id is not given
	upper      bool     // ids are given in upper case
	ruleTexts  []string // YAML
	enrich     []string
	selection  *selection
	shardIndex int
	shardCount int
	timestamps bool
	settings   bool
	assume     bool // max_connections=100
	backups    bool
	quotas     bool
	off        map[string]bool // collectors that are on by default
	tags       []string        // keys of tags to export, nil for all
}

// selection selects the services that match a filter of include, if there are any, and none of
// exclude.
type selection struct{ include, exclude []filter }

type filter struct {
	ids                 []string
	name, region, state string
	tags                map[string]string
}

func (c config) rules() []*relabel.Config {
	var all []*relabel.Config
	for _, text := range c.ruleTexts {
		r := new(relabel.Config)
		if err := yaml.UnmarshalStrict([]byte(text), r); err != nil {
			panic(err)
		}
		r.NameValidationScheme = model.UTF8Validation
		if err := r.Validate(model.UTF8Validation); err != nil {
			panic(err)
		}
		all = append(all, r)
	}
	return all
}

// selects reports whether a service of the list is exported.
func (c config) selects(s service) bool {
	if !c.owns(s.id) {
		return false
	}
	if c.selection == nil {
		return true
	}
	matches := func(f filter) bool { return f.matches(s) }
	return (len(c.selection.include) == 0 || slices.ContainsFunc(c.selection.include, matches)) &&
		!slices.ContainsFunc(c.selection.exclude, matches)
}

func (f filter) matches(s service) bool {
	whole := func(pattern, value string) bool {
		return pattern == "" || regexp.MustCompile("^(?s:"+pattern+")$").MatchString(value)
	}
	for key, pattern := range f.tags {
		value, has := s.tags[key]
		if !has || !whole(pattern, value) {
			return false
		}
	}
	return (f.ids == nil || slices.Contains(f.ids, s.id)) &&
		whole(f.name, s.name) && whole(f.region, s.region) && whole(f.state, s.state)
}

// namesIDs reports whether the user gave the ids of all services that may be exported.
func (c config) namesIDs() bool {
	return c.selection != nil && len(c.selection.include) > 0 &&
		!slices.ContainsFunc(c.selection.include, func(f filter) bool { return f.ids == nil })
}
