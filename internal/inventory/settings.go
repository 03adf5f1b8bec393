package inventory

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
)

// pgBouncerPrefix tells PgBouncer's settings from those of Postgres, some of which
// have the same names. Settings of Postgres' own extensions are named alike.
const pgBouncerPrefix = "pgbouncer."

// Setting is a numeric setting of a service.
type Setting struct {
	Name  string
	Value float64
}

// NumericSettings returns those settings that are plain numbers, sorted by name.
// Texts, switches and numbers with a unit (on, 64MB, 30s) are left out: a number
// without its unit would be another one.
func NumericSettings(config api.ServiceConfig) []Setting {
	var list []Setting
	for _, of := range []struct {
		prefix string
		values map[string]string
	}{{"", config.Postgres}, {pgBouncerPrefix, config.PgBouncer}} {
		for name, text := range of.values {
			if v, ok := PlainNumber(text); ok && name != "" {
				list = append(list, Setting{of.prefix + name, v})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b Setting) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// WithAssumed returns settings, and those of assumed that are not among them.
func WithAssumed(settings, assumed []Setting) []Setting {
	all := slices.Clip(settings)
	for _, a := range assumed {
		if !slices.ContainsFunc(settings, func(s Setting) bool { return s.Name == a.Name }) {
			all = append(all, a)
		}
	}
	return all
}

// PlainNumber understands decimal numbers, and nothing else that the language takes
// for one: no inf, no 0x10, no 1_000.
func PlainNumber(text string) (float64, bool) {
	if strings.Trim(text, "0123456789.+-eE") != "" {
		return 0, false
	}
	v, err := strconv.ParseFloat(text, 64)
	return v, err == nil && !math.IsInf(v, 0)
}
