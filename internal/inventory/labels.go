package inventory

import (
	"cmp"
	"fmt"
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
		l := EnrichLabel{token: token, label: "postgres_" + LabelName(token)}
		key, isTag := strings.CutPrefix(token, "tag:")
		switch {
		case token == "":
			continue
		case token == "name":
			l.label = NameLabel
		case isTag && (key == "" || strings.ContainsFunc(key, notInTagKey)):
			return nil, fmt.Errorf("inventory label %q names no tag: write tag:<key> for each tag, with a key of letters, digits, dots, underscores and hyphens", token)
		case isTag:
			l.tag, l.label = key, "postgres_tag_"+LabelName(key)
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
	return r != '.' && r != '-' && LabelName(string(r)) != string(r)
}

// LabelName turns a tag's key into (the rest of) a label name.
func LabelName(key string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '_'
	}, key)
}

// Limits of upstream for tags.
const maxTagKey, maxTagValue = 128, 256

// ExportedTags returns the tags of a service that are exported: those of the keys, all
// if keys is nil, each once, and as long as upstream allows.
func ExportedTags(tags []api.Tag, keys []string) []api.Tag {
	var exported []api.Tag
	for _, t := range tags {
		t.Key, t.Value = cut(t.Key, maxTagKey), cut(t.Value, maxTagValue)
		same := func(other api.Tag) bool { return other.Key == t.Key }
		if (keys == nil || slices.Contains(keys, t.Key)) && !slices.ContainsFunc(exported, same) {
			exported = append(exported, t)
		}
	}
	return exported
}

// cut returns the beginning of a text, of at most so many bytes.
func cut(text string, most int) string {
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "")
	}
	return text
}
