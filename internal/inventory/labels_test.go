package inventory

import (
	"fmt"
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
		{[]string{"zone"}, `unknown inventory label "zone": choose from name, region, size, state, provider, version, ha-type, is-primary, hostname, tag:<key>`},
		{[]string{"tag:"}, `inventory label "tag:" names no tag: write tag:<key> for each tag, with a key of letters, digits, dots, underscores and hyphens`},
		{[]string{"tag:*"}, `inventory label "tag:*" names no tag: write tag:<key> for each tag, with a key of letters, digits, dots, underscores and hyphens`},
		{[]string{"size", "size"}, `inventory label "size" is given twice: give it once`},
		{[]string{"tag:a.b", "tag:a-b"}, `inventory labels "tag:a.b" and "tag:a-b" both become postgres_tag_a_b: choose one of them`},
	} {
		labels, err := ParseEnrichLabels(tt.in)
		got := []string{}
		for _, l := range labels {
			got = append(got, l.token+":"+l.label)
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
	if got := fmt.Sprint(InlineLabels(chosen, s, "h")); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
