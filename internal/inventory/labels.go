package inventory

import (
	"fmt"
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

// String returns the token, as the user wrote it.
func (l EnrichLabel) String() string { return l.token }

// LabelName returns the name of the label on the series.
func (l EnrichLabel) LabelName() string { return l.label }

// NeedsHostname tells whether the label's value is one that the list does not have.
func (l EnrichLabel) NeedsHostname() bool { return l.token == "hostname" }

// value returns the label's value for a service; "" means no label.
func (l EnrichLabel) value(s *api.Service, hostname string) string {
	switch l.token {
	case "name":
		return s.Name
	case "region":
		return s.Region
	case "size":
		return s.Size
	case "state":
		return s.State
	case "provider":
		return s.Provider
	case "version":
		return s.PostgresVersion
	case "ha-type":
		return s.HAType
	case "is-primary":
		return strconv.FormatBool(s.IsPrimary)
	case "hostname":
		return hostname
	}
	for _, tag := range s.Tags {
		if tag.Key == l.tag {
			if tag.Value == "" {
				// An empty value is no label at all to Prometheus, and the tag
				// would be lost.
				return "true"
			}
			return tag.Value
		}
	}
	return ""
}

const inlineTokens = "name, region, size, state, provider, version, ha-type, is-primary, hostname, tag:<key>"

// ParseEnrichLabels understands name, region, size, state, provider, version,
// ha-type, is-primary, hostname and tag:<key>, given one by one or joined by
// commas; nothing, or only empty strings, means no labels. A tag without a value
// gives its label the value "true". Two tags that would become the same label, and
// anything else, are an error.
func ParseEnrichLabels(s []string) ([]EnrichLabel, error) {
	var parsed []EnrichLabel
	from := map[string]string{}
	for _, token := range strings.Split(strings.Join(s, ","), ",") {
		token = strings.TrimSpace(token)
		l := EnrichLabel{token: token}
		switch token {
		case "":
			continue
		case "name", "region", "size", "state", "provider", "version", "ha-type", "is-primary", "hostname":
			l.label = "postgres_" + mangle(token)
			if token == "name" {
				l.label = NameLabel
			}
		default:
			key, isTag := strings.CutPrefix(token, "tag:")
			if !isTag {
				return nil, fmt.Errorf("unknown label %q to enrich with: choose among %s", token, inlineTokens)
			}
			if key == "" {
				return nil, fmt.Errorf("label %q to enrich with names no tag: write tag:<key>", token)
			}
			l.tag, l.label = key, "postgres_tag_"+mangle(key)
		}
		if other, taken := from[l.label]; taken {
			if other == token {
				return nil, fmt.Errorf("label %q to enrich with is given twice: give it once", token)
			}
			return nil, fmt.Errorf("labels %q and %q to enrich with both become %s: choose one of them", other, token, l.label)
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
