package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/config"
)

// TestSeveralOrganizations exports two by a configuration file, one of which
// has a key that upstream refuses.
func TestSeveralOrganizations(t *testing.T) {
	dir := t.TempDir()
	var file strings.Builder
	file.WriteString("organizations:\n")
	var ids []string
	for i, secretOK := range []bool{true, false} {
		s, env := upstream(t, simulator.Config{Services: 2, Seed: uint64(i + 1)})
		lookup := environment(env...)
		url, _ := lookup(envURL)
		keyID, _ := lookup(envKeyID)
		secret, _ := lookup(envKeySecret)
		if !secretOK {
			secret = "outdated"
		}
		for name, text := range map[string]string{"id": keyID, "secret": secret} {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(name, i)), []byte(text+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		id := s.Config().OrganizationID
		ids = append(ids, id)
		fmt.Fprintf(&file, "- {id: %s, api_url: %q, key_id_file: id%d, key_secret_file: secret%d, enrich_labels: [version]}\n", id, url, i, i)
	}
	path := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	e := start(t, nil, append(fast, "--config.file="+path)...)

	_, page := get(t, e.url("/metrics"), "X-Prometheus-Scrape-Timeout-Seconds", "60")
	up := make(map[string]float64)
	for _, m := range families(t, page)["clickhouse_postgres_up"].GetMetric() {
		up[label(m, "clickhouse_org")] = m.GetGauge().GetValue()
	}
	if len(up) != 2 || up[ids[0]] != 1 || up[ids[1]] != 0 {
		t.Errorf("clickhouse_postgres_up is %v", up)
	}
	for _, m := range families(t, page)["PostgresServer_CPUCores"].GetMetric() {
		if label(m, "clickhouse_org") != ids[0] || label(m, "postgres_version") == "" || label(m, "postgres_region") != "" {
			t.Errorf("labels %v", m.GetLabel())
		}
	}
	for i, want := range []int{http.StatusOK, http.StatusServiceUnavailable} {
		if code, body := get(t, e.url("/v1/organizations/"+ids[i]+"/postgres/prometheus")); code != want {
			t.Errorf("organization %d: code %d, not %d: %.300s", i, code, want, body)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.url("/sd"), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	targets, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || strings.Count(string(targets), `"instance"`) != 2 || resp.Header.Get("X-Missing-Organizations") != ids[1] {
		t.Errorf("discovery: code %d, %v, %v: %s", resp.StatusCode, resp.Header, err, targets)
	}
	if strings.Contains(page+e.stderr.String(), "outdated") {
		t.Errorf("a secret is told:\n%s", e.stderr)
	}
}

// TestOrganizations joins the flags with what the file says.
func TestOrganizations(t *testing.T) {
	flags := &options{
		apiURL: "https://flag.example.com", organizationID: "of the environment", caFile: "flag.pem",
		timeout: time.Second, metricsInterval: 30 * time.Second, inventoryInterval: time.Minute, maxAge: 5 * time.Minute,
		rate: rate{limit: 10, window: 10 * time.Second, use: 8, replicas: 2},
	}
	commandLine := api.StaticCredentials("id", "hush")
	keys := newKeyring(commandLine)

	one, err := organizations(flags, &config.Config{}, keys)
	if err != nil || len(one) != 1 {
		t.Fatalf("%v, %v", one, err)
	}
	if o := one[0]; o.ID != flags.organizationID || o.API.BaseURL != flags.apiURL || o.API.Credentials != commandLine {
		t.Errorf("by flags alone: %+v", o)
	}
	if got, want := one[0].API.Budget.Usage().Limit, 4; got != want {
		t.Errorf("one of two replicas may use %d requests, not %d", got, want)
	}

	file, err := config.Parse([]byte(`
organizations:
- name: mine
- id: other
  api_url: https://file.example.com
  ca_file: /file.pem
  key_id_file: /id
  key_secret_file: /secret
  metrics_interval: 1m
  max_age: 10m
  rate_use: 4
  services: {include: [{region: eu-.*}]}
`), "")
	if err != nil {
		t.Fatal(err)
	}
	orgs, err := organizations(flags, file, keys)
	if err != nil || len(orgs) != 2 {
		t.Fatalf("%v, %v", orgs, err)
	}
	mine, other := orgs[0], orgs[1]
	if mine.Name != "mine" || mine.ID != "" || mine.API.Credentials != commandLine || mine.API.BaseURL != flags.apiURL || mine.API.CAFile != "flag.pem" {
		t.Errorf("the first: %+v", mine)
	}
	if mine.API.Budget != one[0].API.Budget {
		t.Error("the command line's key has a new budget after a reload")
	}
	if other.API.BaseURL != "https://file.example.com" || other.API.CAFile != "/file.pem" || other.MetricsInterval != time.Minute ||
		other.MaxAge != 10*time.Minute || other.InventoryInterval != time.Minute || other.Selection == nil {
		t.Errorf("the second: %+v", other)
	}
	if other.API.Budget == mine.API.Budget || other.API.Credentials == mine.API.Credentials || other.API.Budget.Usage().Limit != 2 {
		t.Error("the second organization's key has no budget of its own")
	}
	again, err := organizations(flags, file, keys)
	if err != nil {
		t.Fatal(err)
	}
	for i := range orgs {
		if again[i].API.Budget != orgs[i].API.Budget || again[i].API.Credentials != orgs[i].API.Credentials {
			t.Errorf("organization %d has another budget or key after a reload of the same file", i)
		}
	}
}

func TestOrganizationsRefused(t *testing.T) {
	for name, test := range map[string]struct{ file, want string }{
		"no key":        {"organizations: [{id: a}]", "no API key for this organization: name key_id_file and key_secret_file, or set CLICKHOUSE_CLOUD_API_KEY and CLICKHOUSE_CLOUD_API_SECRET"},
		"rate by flags": {"organizations: [{id: a, key_id_file: /i, key_secret_file: /s, rate_limit: 5}]", "rate_use=8 is more than rate_limit=5: lower the first, or raise the second if your key is allowed more"},
		"age by flags":  {"organizations: [{id: a, key_id_file: /i, key_secret_file: /s, metrics_interval: 6m}]", "max_age=5m0s is shorter than metrics_interval=6m0s, so that metrics would vanish between two fetches: raise the first or lower the second"},
		"label":         {"organizations: [{id: a, key_id_file: /i, key_secret_file: /s, enrich_labels: [colour]}]", "colour"},
	} {
		t.Run(name, func(t *testing.T) {
			file, err := config.Parse([]byte(test.file), "")
			if err != nil {
				t.Fatal(err)
			}
			flags := &options{
				metricsInterval: 30 * time.Second, maxAge: 5 * time.Minute,
				rate: rate{limit: 10, window: 10 * time.Second, use: 8, replicas: 1},
			}
			_, err = organizations(flags, file, newKeyring(nil))
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "line 1: organizations[0]") {
				t.Errorf("%v", err)
			}
		})
	}
	if _, err := organizations(&options{}, &config.Config{}, newKeyring(nil)); err == nil || err.Error() != errNoCredentials.Error() {
		t.Errorf("without any key: %v", err)
	}
}
