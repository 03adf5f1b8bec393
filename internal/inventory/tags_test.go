package inventory

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
)

func TestExportedTags(t *testing.T) {
	long := strings.Repeat("ü", 200)
	for _, tt := range []struct {
		tags []api.Tag
		keys []string
		want string
	}{
		{nil, nil, "[]"},
		{[]api.Tag{{Key: "a", Value: "1"}, {Key: "b"}}, nil, "[{a 1} {b }]"},
		{[]api.Tag{{Key: "a", Value: "1"}, {Key: "b"}}, []string{"b", "c"}, "[{b }]"},
		{[]api.Tag{{Key: "a", Value: "1"}, {Key: "b"}}, []string{}, "[]"},
		{[]api.Tag{{Key: "a", Value: "1"}, {Key: "a", Value: "2"}}, nil, "[{a 1}]"},
		{[]api.Tag{{Key: "a" + long, Value: "b" + long}}, nil, "[{a" + long[:126] + " b" + long[:254] + "}]"},
	} {
		if got := fmt.Sprint(ExportedTags(tt.tags, tt.keys)); got != tt.want {
			t.Errorf("%v, %q:\ngot  %s\nwant %s", tt.tags, tt.keys, got, tt.want)
		}
	}
}
