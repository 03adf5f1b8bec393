package deploytest

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestDashboardVariables(t *testing.T) {
	dashboards := loadDashboards(t)
	for file, want := range map[string][]string{
		"fleet.json":    {"datasource", "organization", "region", "size", "state", "service", "top", "tag"},
		"service.json":  {"datasource", "organization", "region", "size", "state", "service"},
		"exporter.json": {"datasource", "organization", "instance"},
	} {
		var got []string
		for _, v := range dashboards[file].Templating.List {
			got = append(got, v.Name)
			if v.Label == "" {
				t.Errorf("%s: variable %s has no label", file, v.Name)
			}
			if v.Multi && (!v.IncludeAll || v.AllValue != ".*") {
				t.Errorf("%s: variable %s: All must match what was not in the list too", file, v.Name)
			}
			if v.Type == "query" && v.Name != "instance" && strings.Contains(v.query(t), "PostgresServe") {
				t.Errorf("%s: variable %s is filled from metrics, not from the inventory", file, v.Name)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: variables %v, want %v", file, got, want)
		}
	}
}

// The variable Service shows names and stands for ids. Grafana applies its
// regex to lines like these.
func TestServiceVariable(t *testing.T) {
	for _, file := range []string{"fleet.json", "service.json"} {
		for _, v := range loadDashboards(t)[file].Templating.List {
			if v.Name != "service" {
				continue
			}
			re, err := regexp.Compile(strings.Trim(v.Regex, "/"))
			if err != nil {
				t.Fatal(err)
			}
			for line, want := range map[string][2]string{
				`{postgres_service="67b4bc12",postgres_service_name="my postgres"} 1 1782000000000`: {"67b4bc12", "my postgres"},
				`{postgres_service="67b4bc12",postgres_service_name="a \"b\", c"} 1 1782000000000`:  {"67b4bc12", `a \"b\", c`},
				`{postgres_service="67b4bc12",postgres_service_name=""} 1 1782000000000`:            {"67b4bc12", ""},
			} {
				m := re.FindStringSubmatch(line)
				if m == nil {
					t.Errorf("%s: %s does not match %s", file, v.Regex, line)
					continue
				}
				if got := [2]string{m[re.SubexpIndex("value")], m[re.SubexpIndex("text")]}; got != want {
					t.Errorf("%s: %s yields %q, want %q", file, line, got, want)
				}
			}
		}
	}
}
