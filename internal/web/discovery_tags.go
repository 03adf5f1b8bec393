package web

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// tagNames returns what tags are called in label names, by key.
//
// Keys that become the same name (a.b, a-b) are told apart by a hash of the key at the
// end of the name, except for a key that is a name as it is (a_b). So the names depend
// neither on the order of the tags nor on how many others collide.
func tagNames(tags []api.Tag) map[string]string {
	names := make(map[string]string, len(tags))
	for _, tag := range tags {
		names[tag.Key] = inventory.LabelName(tag.Key)
	}
	uses := make(map[string]int, len(names)) // by name
	for _, name := range names {
		uses[name]++
	}
	for _, key := range slices.Sorted(maps.Keys(names)) {
		name := names[key]
		if uses[name] < 2 || name == key {
			continue
		}
		h := fnv.New32a()
		_, _ = h.Write([]byte(key))
		name += fmt.Sprintf("_%08x", h.Sum32())
		for uses[name] > 0 {
			name += "_"
		}
		names[key] = name
		uses[name]++
	}
	return names
}
