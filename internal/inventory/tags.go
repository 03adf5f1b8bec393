package inventory

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"sort"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
)

// mangle turns a tag's key into (the rest of) a label name.
func mangle(key string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '_'
	}, key)
}

// TagLabels returns the labels of the tags of one service: tag_<key> with the tag's
// value, tagpresent_<key> with "true" for a tag that has none.
//
// Keys that become the same label once mangled (a.b, a-b) are told apart by a hash
// of the key at the end of the name, except for a key that needed no mangling (a_b),
// which keeps its name. So the names depend neither on the order of the tags nor on
// how many others collide.
func TagLabels(tags []api.Tag) []labels.Label {
	tags = append([]api.Tag(nil), tags...)
	sort.Slice(tags, func(i, j int) bool {
		if tags[i].Key != tags[j].Key {
			return tags[i].Key < tags[j].Key
		}
		return tags[i].Value < tags[j].Value
	})
	names := TagNames(tags)
	var list []labels.Label
	for i, tag := range tags {
		if i > 0 && tags[i-1].Key == tag.Key {
			continue // upstream's keys are unique; one of two is all a label can hold
		}
		name := names[tag.Key]
		l := labels.Label{Name: "tag_" + name, Value: tag.Value}
		if tag.Value == "" {
			l = labels.Label{Name: "tagpresent_" + name, Value: "true"}
		}
		list = append(list, l)
	}
	return list
}

// TagNames returns what tags are called in label names, by key: the names that
// TagLabels describes, without its prefixes.
func TagNames(tags []api.Tag) map[string]string {
	mangled := make(map[string]string, len(tags)) // by key
	sharers := make(map[string]int, len(tags))    // by mangled key
	for _, tag := range tags {
		if _, seen := mangled[tag.Key]; !seen {
			name := mangle(tag.Key)
			mangled[tag.Key] = name
			sharers[name]++
		}
	}
	names := make(map[string]string, len(mangled))
	taken := make(map[string]bool, len(mangled))
	for _, key := range slices.Sorted(maps.Keys(mangled)) {
		name := mangled[key]
		if sharers[name] > 1 && name != key {
			h := fnv.New32a()
			_, _ = h.Write([]byte(key))
			name += fmt.Sprintf("_%08x", h.Sum32())
			for taken[name] || sharers[name] > 0 {
				name += "_"
			}
			taken[name] = true
		}
		names[key] = name
	}
	return names
}
