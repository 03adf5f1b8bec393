package deploytest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var grafana = filepath.Join("..", "..", "deploy", "grafana")

// The parts of a Grafana dashboard that the tests look at.
type (
	dashboard struct {
		UID           string
		Title         string
		Description   string
		SchemaVersion int
		Templating    struct{ List []variable }
		Panels        []panel
	}
	variable struct {
		Name, Label, Type, Regex, AllValue string
		Query                              json.RawMessage // an object, or a string
		IncludeAll, Multi                  bool
	}
	panel struct {
		ID                       int
		Type, Title, Description string
		GridPos                  struct{ X, Y, W, H int }
		Datasource               datasource
		Targets                  []target
		FieldConfig              struct {
			Defaults struct {
				Unit  string
				Links []link
			}
			Overrides []struct {
				Matcher    struct{ ID, Options string }
				Properties []struct {
					ID    string
					Value json.RawMessage
				}
			}
		}
		Options         map[string]any
		Transformations []struct{ ID string }
		Panels          []panel
	}
	datasource struct{ Type, UID string }
	target     struct {
		RefID          string
		Datasource     datasource
		Expr           string
		Format         string
		Instant, Range bool
		Interval       string
	}
	link struct{ Title, URL string }
)

func loadDashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(grafana, "dashboards", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards found, err %v", err)
	}
	all := make(map[string]dashboard)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		all[filepath.Base(f)] = d
	}
	return all
}

// all returns the panels with those inside collapsed rows.
func (d dashboard) all() []panel {
	var ps []panel
	for _, p := range d.Panels {
		ps = append(ps, p)
		ps = append(ps, p.Panels...)
	}
	return ps
}

// links returns a panel's data links, those of table columns included.
func (p panel) links(t *testing.T) []link {
	t.Helper()
	links := slices.Clone(p.FieldConfig.Defaults.Links)
	for _, o := range p.FieldConfig.Overrides {
		for _, property := range o.Properties {
			if property.ID != "links" {
				continue
			}
			var more []link
			if err := json.Unmarshal(property.Value, &more); err != nil {
				t.Fatal(err)
			}
			links = append(links, more...)
		}
	}
	return links
}

// query returns a query variable's expression.
func (v variable) query(t *testing.T) string {
	t.Helper()
	var q struct{ Query string }
	if err := json.Unmarshal(v.Query, &q); err != nil {
		t.Fatalf("variable %s: %v", v.Name, err)
	}
	return q.Query
}

// substitute puts values in the place of variables, as Grafana does.
func substitute(expr string) string {
	return variableUse.ReplaceAllStringFunc(expr, func(use string) string {
		switch strings.TrimPrefix(use, "$") {
		case "__rate_interval", "__interval", "__range":
			return "5m"
		case "top":
			return "10"
		case "tag":
			return "tag_team"
		}
		return ".*"
	})
}

var (
	variableUse = regexp.MustCompile(`\$([a-zA-Z_]\w*)`) // $1 is a regular expression's
	// What Grafana knows without being told.
	builtinVariables = []string{"__rate_interval", "__interval", "__range"}
)
