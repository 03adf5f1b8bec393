package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
		url, _ := lookup(config.EnvURL)
		keyID, _ := lookup(config.EnvKeyID)
		secret, _ := lookup(config.EnvKeySecret)
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
