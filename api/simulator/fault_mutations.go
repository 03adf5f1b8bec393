package simulator

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// MalformedLine adds an incomplete line to a metrics page, after its first sample.
func MalformedLine(page []byte) []byte {
	return afterFirstSample(page, func(string) string { return `PostgresServer_CPUCores{clickhouse_org="br` })
}

// DuplicateSeries repeats the first sample of a metrics page, with another value.
func DuplicateSeries(page []byte) []byte {
	return afterFirstSample(page, func(line string) string { return line[:strings.LastIndexByte(line, ' ')] + " 7" })
}

// SecondType adds a second, different HELP and TYPE for the first family of a metrics page, among
// its samples.
func SecondType(page []byte) []byte {
	return afterFirstSample(page, func(line string) string {
		name, _, _ := strings.Cut(line, "{")
		return "# HELP " + name + " Something else.\n# TYPE " + name + " counter"
	})
}

// afterFirstSample inserts a line made from the first sample.
func afterFirstSample(page []byte, insert func(line string) string) []byte {
	lines := splitLines(page)
	i := slices.IndexFunc(lines, isSample)
	if i < 0 {
		return page
	}
	return joinLines(slices.Insert(lines, i+1, insert(lines[i])))
}

// InterleavedFamilies sorts the samples of a metrics page by service instead of by family.
func InterleavedFamilies(page []byte) []byte {
	var comments, samples []string
	for _, line := range splitLines(page) {
		if isSample(line) {
			samples = append(samples, line)
		} else if line != "" {
			comments = append(comments, line)
		}
	}
	slices.SortStableFunc(samples, func(a, b string) int {
		return strings.Compare(labelOf(a, "postgres_service"), labelOf(b, "postgres_service"))
	})
	return joinLines(append(comments, samples...))
}

// InvalidUTF8 adds bytes that are not UTF-8 to the first service name of a metrics page.
func InvalidUTF8(page []byte) []byte {
	return bytes.Replace(page, []byte(`postgres_service_name="`), []byte("postgres_service_name=\"\xff\xfe"), 1)
}

// HugeLabel returns a mutation that adds a label of n bytes to the first sample of a metrics page.
func HugeLabel(n int) func([]byte) []byte {
	return func(page []byte) []byte {
		return bytes.Replace(page, []byte("} "), []byte(`,zz_huge="`+strings.Repeat("x", n)+`"} `), 1)
	}
}

// ManySeries returns a mutation that adds a family of n series to a metrics page, all of them of
// its first service.
func ManySeries(n int) func([]byte) []byte {
	return func(page []byte) []byte {
		id := labelOf(string(page[:min(len(page), 1<<10)]), "postgres_service")
		line := "PostgresServer_Many{postgres_service=\"" + id + "\",n=\""
		b := append(slices.Grow(slices.Clone(page), n*(len(line)+12)), "\n# TYPE PostgresServer_Many gauge\n"...)
		for i := range n {
			b = append(strconv.AppendInt(append(b, line...), int64(i), 10), "\"} 1\n"...)
		}
		return b
	}
}

// ReservedFamilies adds families to a metrics page whose names belong to others: to Prometheus,
// the Go runtime and the exporter.
func ReservedFamilies(page []byte) []byte {
	ids := identity(page)
	var b strings.Builder
	for _, name := range []string{"up", "scrape_duration_seconds", "go_goroutines", "clickhouse_postgres_service_info", "clickhouse_postgres_up"} {
		fmt.Fprintf(&b, "\n# HELP %s Not what you think.\n# TYPE %s gauge\n%s{%s} 42\n", name, name, name, ids)
	}
	return append(slices.Clone(page), b.String()...)
}

// LabelClash adds labels to every sample of a metrics page that its reader may want to add itself.
func LabelClash(page []byte) []byte {
	return bytes.ReplaceAll(page, []byte(`",postgres_service_name="`), []byte(`",postgres_region="upstream",postgres_state="upstream",postgres_service_name="`))
}

// FutureFamilies adds what metrics pages do not have yet but may: a histogram, a summary, an
// untyped family, one without HELP and TYPE, special values, escapes, names beyond ASCII, and
// timestamps.
func FutureFamilies(page []byte) []byte {
	return append(slices.Clone(page), strings.ReplaceAll(`
# HELP PostgresServer_QuerySeconds Time that queries take, with a \\ and a\nsecond line.
# TYPE PostgresServer_QuerySeconds histogram
PostgresServer_QuerySeconds_bucket{IDS,le="0.1"} 12
PostgresServer_QuerySeconds_bucket{IDS,le="1"} 40
PostgresServer_QuerySeconds_bucket{IDS,le="+Inf"} 42
PostgresServer_QuerySeconds_sum{IDS} 13.5
PostgresServer_QuerySeconds_count{IDS} 42

# HELP PostgresServer_LockSeconds Time that locks are waited for.
# TYPE PostgresServer_LockSeconds summary
PostgresServer_LockSeconds{IDS,quantile="0.5"} 0.01
PostgresServer_LockSeconds{IDS,quantile="0.99"} NaN
PostgresServer_LockSeconds_sum{IDS} 1.25e-05
PostgresServer_LockSeconds_count{IDS} 7

# HELP PostgresServer_Mystery Of no known type.
# TYPE PostgresServer_Mystery untyped
PostgresServer_Mystery{IDS,edge="nan"} NaN
PostgresServer_Mystery{IDS,edge="inf"} +Inf
PostgresServer_Mystery{IDS,edge="minus inf"} -Inf
PostgresServer_Mystery{IDS,edge="minus zero"} -0
PostgresServer_Mystery{IDS,edge="tiny"} 4.9e-324
PostgresServer_Mystery{IDS,edge="quote \" backslash \\ newline \n end"} 0.25
PostgresServer_Mystery{IDS,edge="größer 🐘"} 1e+300

PostgresServer_Bare{IDS} 3

# HELP PostgresServer_Stamped Samples that say when.
# TYPE PostgresServer_Stamped gauge
PostgresServer_Stamped{IDS} 5 1767225600000

# HELP "postgres.größe" A name beyond ASCII.
# TYPE "postgres.größe" gauge
{"postgres.größe",IDS,"label.with.dots"="yes"} 6
`, "IDS", identity(page))...)
}

// identity returns the labels, as text, of the first service of a page.
func identity(page []byte) string {
	head := string(page[:min(len(page), 64<<10)])
	label := func(name string) string { return name + `="` + labelOf(head, name) + `"` }
	return label("clickhouse_org") + "," + label("postgres_service") + "," + label("postgres_service_name")
}

// labelOf returns the value of the first label of that name in text, still escaped. It is good
// enough for this package's pages.
func labelOf(text, name string) string {
	_, after, _ := strings.Cut(text, name+`="`)
	value, _, _ := strings.Cut(after, `"`)
	return value
}

func isSample(line string) bool { return line != "" && line[0] != '#' }

func splitLines(page []byte) []string {
	return strings.Split(strings.TrimSuffix(string(page), "\n"), "\n")
}

func joinLines(lines []string) []byte { return []byte(strings.Join(lines, "\n") + "\n") }
