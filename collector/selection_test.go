package collector

import (
	"slices"
	"testing"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
)

func TestSelectionMatch(t *testing.T) {
	prod := api.Service{
		ID: "a-1", Name: "prod orders", Region: "us-east-1", State: "running",
		Tags: []api.Tag{{Key: "Environment", Value: "production"}, {Key: "pinned"}, {Key: "lines", Value: "one\ntwo"}},
	}
	for _, tt := range []struct {
		name             string
		include, exclude []ServiceFilter
		want             bool
	}{
		{name: "nothing is said", want: true},
		{name: "id", include: []ServiceFilter{{IDs: []string{"b", "a-1"}}}, want: true},
		{name: "another id", include: []ServiceFilter{{IDs: []string{"a", "a-10"}}}, want: false},
		{name: "whole name", include: []ServiceFilter{{Name: "prod .*"}}, want: true},
		{name: "part of the name", include: []ServiceFilter{{Name: "prod"}}, want: false},
		{name: "end of the name", include: []ServiceFilter{{Name: "orders"}}, want: false},
		{name: "alternatives are anchored as one", include: []ServiceFilter{{Name: "prod|x"}}, want: false},
		{name: "region", include: []ServiceFilter{{Region: "us-.+"}}, want: true},
		{name: "another region", include: []ServiceFilter{{Region: "eu-.+"}}, want: false},
		{name: "state", include: []ServiceFilter{{State: "running|stopped"}}, want: true},
		{name: "tag", include: []ServiceFilter{{Tags: map[string]string{"Environment": "prod.*"}}}, want: true},
		{name: "tag with another value", include: []ServiceFilter{{Tags: map[string]string{"Environment": "prod"}}}, want: false},
		{name: "tag without value", include: []ServiceFilter{{Tags: map[string]string{"pinned": ""}}}, want: true},
		{name: "tag with any value", include: []ServiceFilter{{Tags: map[string]string{"pinned": ".*"}}}, want: true},
		{name: "tag with any value across lines", include: []ServiceFilter{{Tags: map[string]string{"lines": ".*"}}}, want: true},
		{name: "tag that is not there", include: []ServiceFilter{{Tags: map[string]string{"team": ".*"}}}, want: false},
		{name: "tags are case sensitive", include: []ServiceFilter{{Tags: map[string]string{"environment": ".*"}}}, want: false},
		{name: "all criteria of a filter", include: []ServiceFilter{{Region: "us-.+", State: "stopped"}}, want: false},
		{name: "any filter", include: []ServiceFilter{{State: "stopped"}, {Region: "us-.+"}}, want: true},
		{name: "excluded", exclude: []ServiceFilter{{Name: ".*orders"}}, want: false},
		{name: "another is excluded", exclude: []ServiceFilter{{Name: "tmp.*"}}, want: true},
		{name: "excluded by all criteria only", exclude: []ServiceFilter{{Name: ".*orders", State: "stopped"}}, want: true},
		{name: "exclude wins", include: []ServiceFilter{{IDs: []string{"a-1"}}}, exclude: []ServiceFilter{{IDs: []string{"a-1"}}}, want: false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := NewSelection(tt.include, tt.exclude)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Match(prod); got != tt.want {
				t.Errorf("Match() = %t, want %t", got, tt.want)
			}
		})
	}
	var all *Selection
	if !all.Match(prod) {
		t.Error("a nil selection does not match")
	}
}

func TestSelectionOnlyIDs(t *testing.T) {
	for _, tt := range []struct {
		name             string
		include, exclude []ServiceFilter
		want             []string
		ok               bool
	}{
		{name: "nothing is said"},
		{name: "ids", include: []ServiceFilter{{IDs: []string{"b", "a"}}, {IDs: []string{"c", "a"}}}, want: []string{"a", "b", "c"}, ok: true},
		{name: "ids narrowed", include: []ServiceFilter{{IDs: []string{"b", "a"}, State: "running"}}, want: []string{"a", "b"}, ok: true},
		{name: "ids or a name", include: []ServiceFilter{{IDs: []string{"a"}}, {Name: "b"}}},
		{name: "excluded id", include: []ServiceFilter{{IDs: []string{"a", "b"}}}, exclude: []ServiceFilter{{IDs: []string{"b"}}}, want: []string{"a"}, ok: true},
		{name: "id excluded at times", include: []ServiceFilter{{IDs: []string{"a", "b"}}}, exclude: []ServiceFilter{{IDs: []string{"b"}, State: "stopped"}}, want: []string{"a", "b"}, ok: true},
		{name: "exclude alone", exclude: []ServiceFilter{{IDs: []string{"b"}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := NewSelection(tt.include, tt.exclude)
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := s.OnlyIDs(); !slices.Equal(got, tt.want) || ok != tt.ok {
				t.Errorf("OnlyIDs() = %v, %t, want %v, %t", got, ok, tt.want, tt.ok)
			}
		})
	}
	var all *Selection
	if got, ok := all.OnlyIDs(); got != nil || ok {
		t.Errorf("OnlyIDs() of nil = %v, %t", got, ok)
	}
}

func TestSelectionErrors(t *testing.T) {
	for _, tt := range []struct {
		include, exclude []ServiceFilter
		want             string
	}{
		{include: []ServiceFilter{{Name: "a"}, {Name: "("}}, want: "include[1]: name: error parsing regexp: missing closing ): `(`"},
		{exclude: []ServiceFilter{{Region: "a)(b"}}, want: "exclude[0]: region: error parsing regexp: unexpected ): `a)(b`"},
		{exclude: []ServiceFilter{{State: "*"}}, want: "exclude[0]: state: error parsing regexp: missing argument to repetition operator: `*`"},
		{include: []ServiceFilter{{Tags: map[string]string{"team": "["}}}, want: "include[0]: tag team: error parsing regexp: missing closing ]: `[`"},
	} {
		if s, err := NewSelection(tt.include, tt.exclude); s != nil || err == nil || err.Error() != tt.want {
			t.Errorf("NewSelection() = %v, %v, want %s", s, err, tt.want)
		}
	}
}
