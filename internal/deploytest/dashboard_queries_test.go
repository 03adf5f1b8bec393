package deploytest

import (
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
)

func TestDashboardQueriesParse(t *testing.T) {
	promql := parser.NewParser(parser.Options{})
	for file, d := range loadDashboards(t) {
		names := slices.Clone(builtinVariables)
		for _, v := range d.Templating.List {
			names = append(names, v.Name)
		}
		exprs := make(map[string]string)
		for _, p := range d.all() {
			for _, q := range p.Targets {
				exprs[p.Title+" "+q.RefID] = q.Expr
			}
		}
		for _, v := range d.Templating.List {
			if v.Type == "query" {
				exprs["variable "+v.Name] = innerQuery(t, v.query(t))
			}
		}
		for where, expr := range exprs {
			for _, use := range variableUse.FindAllStringSubmatch(expr, -1) {
				if !slices.Contains(names, use[1]) {
					t.Errorf("%s: %s: $%s is not a variable of the dashboard", file, where, use[1])
				}
			}
			e, err := promql.ParseExpr(substitute(expr))
			if err != nil {
				t.Errorf("%s: %s: %v\n%s", file, where, err, expr)
				continue
			}
			checkJoins(t, file+": "+where, e)
		}
		// No service has a tag: the variable is empty then.
		for where, expr := range exprs {
			if _, err := promql.ParseExpr(substitute(strings.ReplaceAll(expr, "$tag", ""))); err != nil {
				t.Errorf("%s: %s without any tag: %v", file, where, err)
			}
		}
	}
}

// checkJoins fails for joins on what is not an identity.
func checkJoins(t *testing.T, where string, e parser.Expr) {
	t.Helper()
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		b, ok := n.(*parser.BinaryExpr)
		if !ok || b.VectorMatching == nil || !b.VectorMatching.On {
			return nil
		}
		for _, l := range b.VectorMatching.MatchingLabels {
			if !slices.Contains([]string{"clickhouse_org", "postgres_service", "job", "instance"}, l) {
				t.Errorf("%s: joins on %s, which is no identity", where, l)
			}
		}
		return nil
	})
}

// innerQuery returns the PromQL within label_values(…, label) and the like.
func innerQuery(t *testing.T, query string) string {
	t.Helper()
	if inner, ok := strings.CutPrefix(query, "label_values("); ok {
		at := strings.LastIndex(inner, ",")
		if at < 0 || !strings.HasSuffix(inner, ")") {
			t.Fatalf("not label_values(selector, label): %s", query)
		}
		return inner[:at]
	}
	for _, function := range []string{"query_result(", "label_names("} {
		if inner, ok := strings.CutPrefix(query, function); ok {
			return strings.TrimSuffix(inner, ")")
		}
	}
	t.Fatalf("not a query for a variable: %s", query)
	return ""
}
