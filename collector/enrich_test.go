package collector

import (
	"fmt"
	"slices"
	"testing"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
)

func TestParseEnrichLabels(t *testing.T) {
	for _, tt := range []struct {
		in   []string
		want string // tokens and labels, or the error
	}{
		{nil, "[]"},
		{[]string{"", " , "}, "[]"},
		{[]string{"region, size", "state"}, "[region:postgres_region size:postgres_size state:postgres_state]"},
		{[]string{"name,provider,version"}, "[name:postgres_service_name provider:postgres_provider version:postgres_version]"},
		{[]string{"ha-type,is-primary,hostname"}, "[ha-type:postgres_ha_type is-primary:postgres_is_primary hostname:postgres_hostname]"},
		{[]string{"tag:team.name-1"}, "[tag:team.name-1:postgres_tag_team_name_1]"},
		{[]string{"zone"}, `unknown label "zone" to enrich with: choose among name, region, size, state, provider, version, ha-type, is-primary, hostname, tag:<key>`},
		{[]string{"tag:"}, `label "tag:" to enrich with names no tag: write tag:<key>`},
		{[]string{"size", "size"}, `label "size" to enrich with is given twice: give it once`},
		{[]string{"tag:a.b", "tag:a-b"}, `labels "tag:a.b" and "tag:a-b" to enrich with both become postgres_tag_a_b: choose one of them`},
	} {
		labels, err := ParseEnrichLabels(tt.in)
		got := []string{}
		for _, l := range labels {
			got = append(got, l.String()+":"+l.LabelName())
		}
		if text := fmt.Sprint(got); err == nil && text != tt.want || err != nil && err.Error() != tt.want {
			t.Errorf("%q: %v, %v, want %s", tt.in, text, err, tt.want)
		}
	}
}

func TestInlineLabels(t *testing.T) {
	chosen, err := ParseEnrichLabels([]string{"name,region,size,state,provider,version,ha-type,is-primary,hostname,tag:team,tag:on,tag:none"})
	if err != nil {
		t.Fatal(err)
	}
	s := &api.Service{
		Name: "n", Region: "r", State: "s", Provider: "aws", PostgresVersion: "18", HAType: "async", IsPrimary: true,
		Tags: []api.Tag{{Key: "on"}, {Key: "team", Value: "a"}},
	}
	want := "[{postgres_service_name n} {postgres_region r} {postgres_state s} {postgres_provider aws} {postgres_version 18} " +
		"{postgres_ha_type async} {postgres_is_primary true} {postgres_hostname h} {postgres_tag_team a} {postgres_tag_on true}]"
	if got := fmt.Sprint(inlineLabels(chosen, s, "h")); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestTagLabels(t *testing.T) {
	for _, tt := range []struct {
		tags []api.Tag
		want string
	}{
		{nil, "[]"},
		{[]api.Tag{{Key: "Environment", Value: "production"}, {Key: "critical"}}, "[{tag_Environment production} {tagpresent_critical true}]"},
		{
			// The one that needs no mangling keeps its name, the others are told apart.
			[]api.Tag{{Key: "a.b", Value: "1"}, {Key: "a_b", Value: "3"}, {Key: "a-b", Value: "2"}},
			"[{tag_a_b_2a89df63 2} {tag_a_b_108bf50c 1} {tag_a_b 3}]",
		},
		{[]api.Tag{{Key: "a.b", Value: "1"}, {Key: "a-b"}}, "[{tagpresent_a_b_2a89df63 true} {tag_a_b_108bf50c 1}]"},
		{[]api.Tag{{Key: "k", Value: "2"}, {Key: "k", Value: "1"}}, "[{tag_k 1}]"},
	} {
		got := fmt.Sprint(tagLabels(tt.tags))
		if got != tt.want {
			t.Errorf("%v:\ngot  %s\nwant %s", tt.tags, got, tt.want)
		}
		slices.Reverse(tt.tags)
		if reversed := fmt.Sprint(tagLabels(tt.tags)); reversed != got {
			t.Errorf("%v: %s, in another order %s", tt.tags, reversed, got)
		}
	}
}

func TestFiftyTags(t *testing.T) {
	var tags []api.Tag
	for i := range 50 {
		tags = append(tags, api.Tag{Key: fmt.Sprintf("key%c%d", "._-"[i%3], i/3), Value: fmt.Sprint(i)})
	}
	names, values := map[string]bool{}, map[string]bool{}
	for _, l := range tagLabels(tags) {
		names[l.Name], values[l.Value] = true, true
	}
	if len(names) != 50 || len(values) != 50 {
		t.Errorf("%d labels with %d values for 50 tags", len(names), len(values))
	}
}
