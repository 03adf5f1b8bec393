package inventory

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
		include, exclude []Filter
		want             bool
	}{
		{name: "nothing is said", want: true},
		{name: "id", include: []Filter{{IDs: []string{"b", "a-1"}}}, want: true},
		{name: "another id", include: []Filter{{IDs: []string{"a", "a-10"}}}, want: false},
		{name: "whole name", include: []Filter{{Name: "prod .*"}}, want: true},
		{name: "part of the name", include: []Filter{{Name: "prod"}}, want: false},
		{name: "end of the name", include: []Filter{{Name: "orders"}}, want: false},
		{name: "alternatives are anchored as one", include: []Filter{{Name: "prod|x"}}, want: false},
		{name: "region", include: []Filter{{Region: "us-.+"}}, want: true},
		{name: "another region", include: []Filter{{Region: "eu-.+"}}, want: false},
		{name: "state", include: []Filter{{State: "running|stopped"}}, want: true},
		{name: "tag", include: []Filter{{Tags: map[string]string{"Environment": "prod.*"}}}, want: true},
		{name: "tag with another value", include: []Filter{{Tags: map[string]string{"Environment": "prod"}}}, want: false},
		{name: "tag without value", include: []Filter{{Tags: map[string]string{"pinned": ""}}}, want: true},
		{name: "tag with any value", include: []Filter{{Tags: map[string]string{"pinned": ".*"}}}, want: true},
		{name: "tag with any value across lines", include: []Filter{{Tags: map[string]string{"lines": ".*"}}}, want: true},
		{name: "tag that is not there", include: []Filter{{Tags: map[string]string{"team": ".*"}}}, want: false},
		{name: "tags are case sensitive", include: []Filter{{Tags: map[string]string{"environment": ".*"}}}, want: false},
		{name: "all criteria of a filter", include: []Filter{{Region: "us-.+", State: "stopped"}}, want: false},
		{name: "any filter", include: []Filter{{State: "stopped"}, {Region: "us-.+"}}, want: true},
		{name: "excluded", exclude: []Filter{{Name: ".*orders"}}, want: false},
		{name: "another is excluded", exclude: []Filter{{Name: "tmp.*"}}, want: true},
		{name: "excluded by all criteria only", exclude: []Filter{{Name: ".*orders", State: "stopped"}}, want: true},
		{name: "exclude wins", include: []Filter{{IDs: []string{"a-1"}}}, exclude: []Filter{{IDs: []string{"a-1"}}}, want: false},
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
		include, exclude []Filter
		want             []string
		ok               bool
	}{
		{name: "nothing is said"},
		{name: "ids", include: []Filter{{IDs: []string{"b", "a"}}, {IDs: []string{"c", "a"}}}, want: []string{"a", "b", "c"}, ok: true},
		{name: "ids narrowed", include: []Filter{{IDs: []string{"b", "a"}, State: "running"}}, want: []string{"a", "b"}, ok: true},
		{name: "ids or a name", include: []Filter{{IDs: []string{"a"}}, {Name: "b"}}},
		{name: "excluded id", include: []Filter{{IDs: []string{"a", "b"}}}, exclude: []Filter{{IDs: []string{"b"}}}, want: []string{"a"}, ok: true},
		{name: "id excluded at times", include: []Filter{{IDs: []string{"a", "b"}}}, exclude: []Filter{{IDs: []string{"b"}, State: "stopped"}}, want: []string{"a", "b"}, ok: true},
		{name: "exclude alone", exclude: []Filter{{IDs: []string{"b"}}}},
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
		include, exclude []Filter
		want             string
	}{
		{include: []Filter{{Name: "a"}, {Name: "("}}, want: "include[1]: name: error parsing regexp: missing closing ): `(`"},
		{exclude: []Filter{{Region: "a)(b"}}, want: "exclude[0]: region: error parsing regexp: unexpected ): `a)(b`"},
		{exclude: []Filter{{State: "*"}}, want: "exclude[0]: state: error parsing regexp: missing argument to repetition operator: `*`"},
		{include: []Filter{{Tags: map[string]string{"team": "["}}}, want: "include[0]: tag team: error parsing regexp: missing closing ]: `[`"},
	} {
		if s, err := NewSelection(tt.include, tt.exclude); s != nil || err == nil || err.Error() != tt.want {
			t.Errorf("NewSelection() = %v, %v, want %s", s, err, tt.want)
		}
	}
}
