//go:build linux

package faulttest

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

// page is an exposition in Prometheus's text format.
type page []series

type series struct {
	labels labels.Labels
	value  float64
}

// name returns the name of the metric.
func (s series) name() string { return s.labels.Get(model.MetricNameLabel) }

// identity returns the series without the labels that the exporter adds by default and the label
// that one fault adds.
func (s series) identity() string {
	return labels.NewBuilder(s.labels).Del("postgres_region", "postgres_size", "postgres_state", "zz_huge").Labels().String()
}

// parse parses a page with Prometheus's parser, and checks what that does not: every series appears
// once, and every family has one TYPE and is not interleaved with others.
func parse(text string) (page, error) {
	var (
		p      page
		seen   = map[string]bool{}
		types  = map[string]bool{}
		closed = map[string]bool{}
		family string
	)
	parser := textparse.NewPromParser([]byte(text), labels.NewSymbolTable(), false)
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			return p, nil
		}
		if err != nil {
			return nil, err
		}
		switch entry {
		case textparse.EntryType:
			name, _ := parser.Type()
			if types[string(name)] {
				return nil, fmt.Errorf("TYPE of %s comes twice", name)
			}
			types[string(name)] = true
			closed[family] = true
			if family = string(name); closed[family] {
				return nil, fmt.Errorf("family %s is torn apart", name)
			}
		case textparse.EntrySeries:
			var l labels.Labels
			_, _, value := parser.Series()
			parser.Labels(&l)
			key := string(l.Bytes(nil))
			if seen[key] {
				return nil, fmt.Errorf("%s comes twice", l)
			}
			seen[key] = true
			p = append(p, series{l, value})
		}
	}
}

// upstream returns upstream's series.
func (p page) upstream() page {
	var found page
	for _, s := range p {
		if strings.HasPrefix(s.name(), "Postgres") {
			found = append(found, s)
		}
	}
	return found
}

// find returns the series with that name and those labels, given as pairs of name and value.
func (p page) find(name string, pairs ...string) page {
	var found page
	for _, s := range p {
		ok := s.name() == name
		for i := 0; ok && i < len(pairs); i += 2 {
			ok = s.labels.Get(pairs[i]) == pairs[i+1]
		}
		if ok {
			found = append(found, s)
		}
	}
	return found
}

// sum returns the sum of the values that find returns.
func (p page) sum(name string, pairs ...string) float64 {
	total := 0.0
	for _, s := range p.find(name, pairs...) {
		total += s.value
	}
	return total
}

// is reports whether there are such series and all of them have the value.
func (p page) is(name string, value float64, pairs ...string) bool {
	found := p.find(name, pairs...)
	return len(found) > 0 && !slices.ContainsFunc(found, func(s series) bool { return s.value != value })
}

// ids returns the sorted series, including the labels that the exporter adds.
func (p page) ids() []string {
	var ids []string
	for _, s := range p {
		ids = append(ids, s.labels.String())
	}
	slices.Sort(ids)
	return ids
}

// health returns the exporter's health metrics as text.
func (p page) health() string {
	var b strings.Builder
	for _, s := range p {
		if name := s.name(); strings.HasPrefix(name, "clickhouse_postgres_") && !strings.Contains(name, "_bucket") && !strings.Contains(name, "service_state") {
			fmt.Fprintf(&b, "%s %v\n", s.labels, s.value)
		}
	}
	return b.String()
}

// differences returns the first few differences between two pages, "" if there are none.
func differences(before, after page) string {
	was, is := values(before), values(after)
	var diffs []string
	for id, value := range was {
		if now, ok := is[id]; !ok {
			diffs = append(diffs, "- "+id)
		} else if now != value {
			diffs = append(diffs, fmt.Sprintf("~ %s was %v, is %v", id, value, now))
		}
	}
	for id := range is {
		if _, ok := was[id]; !ok {
			diffs = append(diffs, "+ "+id)
		}
	}
	slices.Sort(diffs)
	return strings.Join(diffs[:min(len(diffs), 6)], "\n")
}

// relabelled returns the first few series that are on one of two pages only.
func relabelled(before, after page) string {
	var diffs []string
	was, is := values(before), values(after)
	for id := range was {
		if _, ok := is[id]; !ok {
			diffs = append(diffs, "- "+id)
		}
	}
	for id := range is {
		if _, ok := was[id]; !ok {
			diffs = append(diffs, "+ "+id)
		}
	}
	slices.Sort(diffs)
	return strings.Join(diffs[:min(len(diffs), 6)], "\n")
}

// values returns the values by series.
func values(p page) map[string]float64 {
	all := map[string]float64{}
	for _, s := range p {
		all[s.labels.String()] = s.value
	}
	return all
}
