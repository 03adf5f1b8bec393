package modeltest

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// series is one of upstream's series, as on a page.
type series struct {
	labels labels.Labels // with its name
	value  float64
	stamp  int64 // milliseconds, 0 for none
	family string
	kind   dto.MetricType
	help   string
}

func (s series) name() string { return s.labels.Get(model.MetricNameLabel) }

func (s series) equal(o series) bool {
	return labels.Equal(s.labels, o.labels) && s.stamp == o.stamp && s.kind == o.kind && s.help == o.help &&
		(s.value == o.value || math.IsNaN(s.value) && math.IsNaN(o.value))
}

// tryParsePage returns the series of a page in order. The whole page is parsed for the families,
// and then each line separately, because the parser does not keep their order and combines the
// samples of a histogram.
func tryParsePage(body string) ([]series, error) {
	if !strings.Contains(body, "\n") {
		return nil, nil
	}
	body = typeLine.ReplaceAllStringFunc(body, func(line string) string {
		parts := typeLine.FindStringSubmatch(line)
		return parts[1] + knownType(parts[2])
	})
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	var list []series
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		parser := expfmt.NewTextParser(model.UTF8Validation)
		single, err := parser.TextToMetricFamilies(strings.NewReader(line))
		if err != nil {
			return nil, err
		}
		for name, f := range single {
			s := series{value: f.Metric[0].Untyped.GetValue(), stamp: f.Metric[0].GetTimestampMs()}
			b := labels.NewBuilder(labels.EmptyLabels()).Set(model.MetricNameLabel, name)
			for _, l := range f.Metric[0].Label {
				value := l.GetValue() // an empty one is no label
				if l.GetName() == "clickhouse_org" || l.GetName() == "postgres_service" {
					value = strings.ToLower(value)
				}
				b.Set(l.GetName(), value)
			}
			s.labels = b.Labels()
			s.family = familyOf(name, families)
			s.kind, s.help = families[s.family].GetType(), families[s.family].GetHelp()
			list = append(list, s)
		}
	}
	return list, nil
}

var typeLine = regexp.MustCompile(`(?m)^(# TYPE \S+ )(.*)$`)

// knownType returns the type with that name in the text format.
func knownType(word string) string {
	switch word = strings.ToLower(strings.TrimSpace(word)); word {
	case "counter", "gauge", "histogram", "summary", "untyped":
		return word
	case "info", "stateset":
		return "gauge"
	}
	return "untyped"
}

// familyOf returns the name of the family that a sample belongs to.
func familyOf(sample string, families map[string]*dto.MetricFamily) string {
	if families[sample] != nil {
		return sample
	}
	base := sample
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		base = strings.TrimSuffix(base, suffix)
	}
	return base
}

func parsePage(body string) []series {
	list, err := tryParsePage(body)
	if err != nil {
		panic(fmt.Sprintf("a page that was good is not: %v", err))
	}
	return list
}

// wireService is a service in upstream's answers.
type wireService struct {
	ID, Name, Region, Size, State, Hostname string

	PostgresVersion string
	IsPrimary       bool
	StorageSize     float64
	CreatedAt       time.Time
	Tags            []struct{ Key, Value string }
}

func (w wireService) service() service {
	s := service{
		id: strings.ToLower(w.ID), name: w.Name, region: w.Region, size: w.Size, state: w.State, version: w.PostgresVersion,
		hostname: w.Hostname, primary: w.IsPrimary, storage: w.StorageSize, created: w.CreatedAt,
		tags: map[string]string{},
	}
	for _, t := range w.Tags {
		s.tags[t.Key] = t.Value
	}
	return s
}

func parseResult(body string, result any) {
	if err := json.Unmarshal([]byte(body), &struct{ Result any }{result}); err != nil {
		panic(err)
	}
}

// parseList returns the services of a list. Of two with the same id, the first is kept.
func parseList(body string) []service {
	var wire []wireService
	parseResult(body, &wire)
	var list []service
	seen := map[string]bool{}
	for _, w := range wire {
		s := w.service()
		if !seen[s.id] {
			list = append(list, s)
		}
		seen[s.id] = true
	}
	return list
}

func parseService(body string) service {
	var wire wireService
	parseResult(body, &wire)
	return wire.service()
}

// parseRestore returns the earliest moment to which a service can be restored.
func parseRestore(body string) time.Time {
	var wire struct{ EarliestRestoreTime time.Time }
	parseResult(body, &wire)
	return wire.EarliestRestoreTime
}

// backups is what upstream tells of a service's.
type backups struct {
	latest time.Time // zero if there is none
	total  *float64
}

func parseBackups(body string) backups {
	var list []struct{ LastModified time.Time }
	parseResult(body, &list)
	var page struct{ TotalCount *float64 }
	if err := json.Unmarshal([]byte(body), &page); err != nil {
		panic(err)
	}
	b := backups{total: page.TotalCount}
	if len(list) > 0 {
		b.latest = list[0].LastModified
	}
	return b
}

type quota struct {
	Value float64
	Usage *float64
}

// parseQuotas returns quotas by their codes.
func parseQuotas(body string) map[string]quota {
	var list []struct {
		QuotaCode string
		quota
	}
	parseResult(body, &list)
	quotas := map[string]quota{}
	for _, q := range list {
		quotas[q.QuotaCode] = q.quota
	}
	return quotas
}

// parseSettings returns the settings that are plain numbers.
func parseSettings(body string) map[string]float64 {
	var wire struct{ PgConfig, PgBouncerConfig map[string]any }
	parseResult(body, &wire)
	numbers := map[string]float64{}
	for prefix, settings := range map[string]map[string]any{"": wire.PgConfig, "pgbouncer.": wire.PgBouncerConfig} {
		for name, value := range settings {
			if v, err := strconv.ParseFloat(fmt.Sprint(value), 64); err == nil {
				numbers[prefix+name] = v
			}
		}
	}
	return numbers
}
