package deploytest

import (
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The scrape config that ClickHouse documents, as a user has it.
const vendorConfig = `
job_name: managed-postgres
scheme: https
metrics_path: /v1/organizations/<ORG_ID>/postgres/prometheus
static_configs:
  - targets: [api.clickhouse.cloud]
basic_auth:
  username: <KEY_ID>
  password: <KEY_SECRET>
honor_labels: true
scrape_interval: 60s
`

// In the sample for the vendor's path only the host is another, and what
// follows from that: no TLS and no key.
func TestVendorPathConfig(t *testing.T) {
	var want map[string]any
	if err := yaml.Unmarshal([]byte(vendorConfig), &want); err != nil {
		t.Fatal(err)
	}
	delete(want, "scheme")
	delete(want, "basic_auth")
	want["static_configs"] = []any{map[string]any{"targets": []any{"exporter:9924"}}}

	var got struct {
		ScrapeConfigs []map[string]any `yaml:"scrape_configs"`
		Rest          map[string]any   `yaml:",inline"`
	}
	load(t, filepath.Join(deployed, "prometheus-vendor-path.yml"), &got)
	if g, w := inYAML(t, got.ScrapeConfigs[0]), inYAML(t, want); g != w {
		t.Errorf("the job for metrics is\n%swant\n%s", g, w)
	}
}

func inYAML(t *testing.T, v any) string {
	t.Helper()
	text, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The samples load all rules, and scrape the exporter's own metrics, without
// which the rules on the exporter would say that it is down.
func TestSampleConfigs(t *testing.T) {
	for _, file := range glob(t, "prometheus*.yml") {
		var f struct {
			RuleFiles     []string         `yaml:"rule_files"`
			ScrapeConfigs []map[string]any `yaml:"scrape_configs"`
			Rest          map[string]any   `yaml:",inline"`
		}
		load(t, file, &f)
		if len(f.RuleFiles) != 1 || f.RuleFiles[0] != "rules/*.yml" {
			t.Errorf("%s: rule_files %v", file, f.RuleFiles)
		}
		whole := false
		for _, s := range f.ScrapeConfigs {
			if !strings.HasPrefix(s["job_name"].(string), "clickhouse-postgres") && s["job_name"] != "managed-postgres" {
				t.Errorf("%s: job %v", file, s["job_name"])
			}
			path, own := s["metrics_path"]
			_, discovered := s["http_sd_configs"]
			whole = whole || !own && !discovered || path == "/metrics/exporter"
		}
		if !whole {
			t.Errorf("%s: nothing scrapes the exporter's own metrics", file)
		}
	}
}
