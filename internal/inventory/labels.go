package inventory

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
)

// Labels that upstream puts on every series, and that the program's own series
// carry as well.
const (
	OrgLabel     = "clickhouse_org"
	ServiceLabel = "postgres_service"
	NameLabel    = "postgres_service_name"
)

// EnrichLabel is one fact of the inventory that every series of a service carries
// as a label. [ParseEnrichLabels] makes them.
type EnrichLabel struct {
	token string // as the user wrote it: "region", "tag:team"
	label string // the label's name on the series
	tag   string // the tag's key, for tag:<key>
}

// NeedsHostname tells whether the label's value is one that the list does not have.
func (l EnrichLabel) NeedsHostname() bool { return l.token == "hostname" }

// inlineTokens are the facts that can be labels, besides tags.
const inlineTokens = "name, region, size, state, provider, version, ha-type, is-primary, hostname"

// value returns the label's value for a service; "" means no label.
func (l EnrichLabel) value(s *api.Service, hostname string) string {
	if l.tag == "" {
		return map[string]string{
			"name": s.Name, "region": s.Region, "size": s.Size, "state": s.State, "provider": s.Provider,
			"version": s.PostgresVersion, "ha-type": s.HAType, "is-primary": strconv.FormatBool(s.IsPrimary), "hostname": hostname,
		}[l.token]
	}
	for _, tag := range s.Tags {
		if tag.Key == l.tag {
			// An empty value is no label at all to Prometheus, and the tag would be lost.
			return cmp.Or(tag.Value, "true")
		}
	}
	return ""
}

// ParseEnrichLabels understands inlineTokens and tag:<key>, given one by one or joined
// by commas; nothing, or only empty strings, means no labels. A tag without a value
// gives its label the value "true". Two tags that would become the same label are an
// error.
func ParseEnrichLabels(s []string) ([]EnrichLabel, error) {
	var parsed []EnrichLabel
	from := map[string]string{}
	for token := range strings.SplitSeq(strings.Join(s, ","), ",") {
		token = strings.TrimSpace(token)
		l := EnrichLabel{token: token, label: "postgres_" + mangle(token)}
		key, isTag := strings.CutPrefix(token, "tag:")
		switch {
		case token == "":
			continue
		case token == "name":
			l.label = NameLabel
		case isTag && (key == "" || strings.ContainsFunc(key, notInTagKey)):
			return nil, fmt.Errorf("inventory label %q names no tag: write tag:<key> for each tag, with a key of letters, digits, dots, underscores and hyphens", token)
		case isTag:
			l.tag, l.label = key, "postgres_tag_"+mangle(key)
		case !slices.Contains(strings.Split(inlineTokens, ", "), token):
			return nil, fmt.Errorf("unknown inventory label %q: choose from %s, tag:<key>", token, inlineTokens)
		}
		if other, taken := from[l.label]; taken {
			if other == token {
				return nil, fmt.Errorf("inventory label %q is given twice: give it once", token)
			}
			return nil, fmt.Errorf("inventory labels %q and %q both become %s: choose one of them", other, token, l.label)
		}
		from[l.label] = token
		parsed = append(parsed, l)
	}
	return parsed, nil
}

// InlineLabels returns the labels that every series of the service gets unless it
// has them already.
func InlineLabels(chosen []EnrichLabel, s *api.Service, hostname string) []labels.Label {
	var inline []labels.Label
	for _, l := range chosen {
		if v := l.value(s, hostname); v != "" {
			inline = append(inline, labels.Label{Name: l.label, Value: v})
		}
	}
	return inline
}

// notInTagKey tells whether upstream allows a character in no tag's key.
func notInTagKey(r rune) bool {
	return r != '.' && r != '-' && mangle(string(r)) != string(r)
}

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
	tags = slices.SortedFunc(slices.Values(tags), func(a, b api.Tag) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Value, b.Value))
	})
	// Upstream's keys are unique; one of two is all a label can hold.
	tags = slices.CompactFunc(tags, func(a, b api.Tag) bool { return a.Key == b.Key })
	names := TagNames(tags)
	list := make([]labels.Label, len(tags))
	for i, tag := range tags {
		list[i] = labels.Label{Name: "tag_" + names[tag.Key], Value: tag.Value}
		if tag.Value == "" {
			list[i] = labels.Label{Name: "tagpresent_" + names[tag.Key], Value: "true"}
		}
	}
	return list
}

// TagNames returns what tags are called in label names, by key: the names that
// TagLabels describes, without its prefixes.
func TagNames(tags []api.Tag) map[string]string {
	names := make(map[string]string, len(tags))
	for _, tag := range tags {
		names[tag.Key] = mangle(tag.Key)
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
