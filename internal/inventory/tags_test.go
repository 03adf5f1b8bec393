package inventory

import (
	"fmt"
	"slices"
	"testing"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
)

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
		got := fmt.Sprint(TagLabels(tt.tags))
		if got != tt.want {
			t.Errorf("%v:\ngot  %s\nwant %s", tt.tags, got, tt.want)
		}
		slices.Reverse(tt.tags)
		if reversed := fmt.Sprint(TagLabels(tt.tags)); reversed != got {
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
	for _, l := range TagLabels(tags) {
		names[l.Name], values[l.Value] = true, true
	}
	if len(names) != 50 || len(values) != 50 {
		t.Errorf("%d labels with %d values for 50 tags", len(names), len(values))
	}
}
