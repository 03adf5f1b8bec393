package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
)

// panelQuery is one query of a dashboard.
type panelQuery struct {
	dashboard, panel, expr string
	variable               bool // fills a variable
}

func (q panelQuery) String() string { return q.dashboard + ": " + q.panel }

// panelQueries returns every query of every dashboard, with those that fill
// variables.
func panelQueries(t *testing.T) []panelQuery {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "deploy", "grafana", "dashboards", "*.json"))
	if err != nil || len(files) < 3 {
		t.Fatalf("dashboards: %v, err %v", files, err)
	}
	var all []panelQuery
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			Templating struct {
				List []struct {
					Name, Type string
					Query      json.RawMessage
				}
			}
			Panels []struct {
				Title   string
				Targets []struct{ RefID, Expr string }
			}
		}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		for _, v := range d.Templating.List {
			if v.Type != "query" {
				continue
			}
			var q struct{ Query string }
			if err := json.Unmarshal(v.Query, &q); err != nil {
				t.Fatal(err)
			}
			all = append(all, panelQuery{name, "variable " + v.Name, variableExpr(t, q.Query), true})
		}
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				all = append(all, panelQuery{name, p.Title + " " + q.RefID, q.Expr, false})
			}
		}
	}
	if len(all) < 100 {
		t.Fatalf("only %d queries found", len(all))
	}
	return all
}

// variableExpr translates what Grafana asks for a variable into PromQL whose
// result has series if and only if the variable has values.
func variableExpr(t *testing.T, query string) string {
	t.Helper()
	if inner, ok := strings.CutPrefix(query, "label_values("); ok {
		at := strings.LastIndex(inner, ",")
		label := strings.TrimSpace(strings.TrimSuffix(inner[at+1:], ")"))
		return fmt.Sprintf("group by (%s) (%s)", label, inner[:at])
	}
	if inner, ok := strings.CutPrefix(query, "label_names("); ok {
		return "group(" + inner
	}
	if inner, ok := strings.CutPrefix(query, "query_result("); ok {
		return strings.TrimSuffix(inner, ")")
	}
	t.Fatalf("variable query %q is of an unknown kind", query)
	return ""
}

var variableUse = regexp.MustCompile(`\$([a-zA-Z_]\w*)`) // $1 is a regular expression's

// fill puts values in the place of the variables, as Grafana does. Those that
// are not given are All.
func fill(expr string, values map[string]string) string {
	return variableUse.ReplaceAllStringFunc(expr, func(use string) string {
		name := strings.TrimPrefix(use, "$")
		if v, ok := values[name]; ok {
			return v
		}
		switch name {
		case "__rate_interval":
			return "1m"
		case "top":
			return "50"
		case "tag":
			return "team"
		}
		return ".*"
	})
}

// queryAt evaluates an expression at a moment of the past.
func (s *server) queryAt(t *testing.T, expr string, at time.Time) promql.Vector {
	t.Helper()
	q, err := s.engine.NewInstantQuery(t.Context(), s.db, nil, expr, at)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	defer q.Close()
	v, err := q.Exec(t.Context()).Vector()
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	return slices.Clone(v)
}

// awaitCollectors returns once the collectors that read services one by one have come
// to some service, at each exporter.
func (s *server) awaitCollectors(t *testing.T, exporters int) {
	t.Helper()
	for _, name := range []string{
		"clickhouse_postgres_service_setting", "clickhouse_postgres_service_last_backup_timestamp_seconds",
		"clickhouse_postgres_service_earliest_restore_timestamp_seconds", "clickhouse_postgres_organization_quota_usage",
		"clickhouse_postgres_exporter_collector_success",
	} {
		expr := "count(count by (job) (" + name + ")) == " + fmt.Sprint(exporters)
		for deadline := time.Now().Add(time.Minute); len(s.query(t, expr)) == 0; <-time.After(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no %s; log:\n%s", name, s.log.tail(2000))
			}
		}
	}
}

// settled returns a moment at which that many targets were up. What a query
// yields for it does not change any more, however slow the machine is and
// whatever scrape fails afterwards.
func (s *server) settled(t *testing.T, targets int) time.Time {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
		// By then every scrape that had begun has ended, since it may take a second.
		at := time.Now().Add(-2 * time.Second)
		if len(s.queryAt(t, "up == 1 and sum_over_time(up[1m]) >= 3", at)) == targets {
			return at
		}
	}
	t.Fatalf("want %d targets that are up, there are: %v\n%s", targets, s.query(t, "up"), s.log.tail(4000))
	return time.Time{}
}
