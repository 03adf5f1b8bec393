package deploytest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

var alertmanagerSample = filepath.Join("..", "..", "deploy", "docker", "alertmanager.yml")

// The runbook shows the inhibition rules of the sample.
func TestRunbookInhibits(t *testing.T) {
	var sample map[string]any
	text, err := os.ReadFile(alertmanagerSample)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &sample); err != nil {
		t.Fatal(err)
	}
	runbook, err := os.ReadFile(filepath.Join(deployed, "RUNBOOK.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, block, ok := strings.Cut(string(runbook), "```yaml\n")
	block, _, _ = strings.Cut(block, "```")
	var shown map[string]any
	if err := yaml.Unmarshal([]byte(block), &shown); err != nil || !ok {
		t.Fatalf("no YAML in the runbook: %v\n%s", err, block)
	}
	if got, want := inYAML(t, shown["inhibit_rules"]), inYAML(t, sample["inhibit_rules"]); got != want {
		t.Errorf("the runbook shows\n%s\nthe sample has\n%s", got, want)
	}
}

// A real Alertmanager keeps back what follows from a critical alert of ours, and
// nothing of anybody else's.
func TestAlertmanagerSample(t *testing.T) {
	address := startAlertmanager(t)
	alerts := []struct {
		labels map[string]string
		muted  bool
	}{
		{labels: map[string]string{"alertname": "TheirsIsCritical", "severity": "critical"}},
		{labels: map[string]string{"alertname": "TheirsIsNot", "severity": "warning"}},
		{labels: map[string]string{"alertname": "TheirsOfTheService", "severity": "warning", "clickhouse_org": "org", "postgres_service": "pg-1"}},
		{labels: map[string]string{"alertname": "ClickHousePostgresConfigReloadFailed", "severity": "warning"}},
		{labels: map[string]string{"alertname": "ClickHousePostgresDiskReadOnly", "severity": "critical", "clickhouse_org": "org", "postgres_service": "pg-1"}},
		{labels: map[string]string{"alertname": "ClickHousePostgresDiskSpaceLow", "severity": "warning", "clickhouse_org": "org", "postgres_service": "pg-1"}, muted: true},
		{labels: map[string]string{"alertname": "ClickHousePostgresDiskSpaceLow", "severity": "warning", "clickhouse_org": "org", "postgres_service": "pg-2"}},
		{labels: map[string]string{"alertname": "ClickHousePostgresOrganizationDown", "severity": "critical", "clickhouse_org": "down"}},
		{labels: map[string]string{"alertname": "ClickHousePostgresBudgetTooSmall", "severity": "info", "clickhouse_org": "down"}, muted: true},
		{labels: map[string]string{"alertname": "ClickHousePostgresServiceMetricsStale", "severity": "warning", "clickhouse_org": "down", "postgres_service": "pg-3"}, muted: true},
		{labels: map[string]string{"alertname": "ClickHousePostgresServiceMetricsStale", "severity": "warning", "clickhouse_org": "other", "postgres_service": "pg-4"}},
	}
	var body []map[string]any
	want := make(map[string]bool)
	for _, a := range alerts {
		body = append(body, map[string]any{"labels": a.labels})
		want[fmt.Sprint(a.labels)] = a.muted
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(address+"/api/v2/alerts", "application/json", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("alertmanager refuses the alerts: %s", resp.Status)
	}
	// Alerts come to the inhibition rules in the order in which they were sent, but later.
	var got map[string]bool
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
		if got = mutedAlerts(t, address); maps.Equal(got, want) {
			return
		}
	}
	for labels, muted := range want {
		if got[labels] != muted {
			t.Errorf("%s: kept back %t, want %t", labels, got[labels], muted)
		}
	}
}

// mutedAlerts tells of each alert whether another one keeps it back.
func mutedAlerts(t *testing.T, address string) map[string]bool {
	t.Helper()
	resp, err := http.Get(address + "/api/v2/alerts")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var all []struct {
		Labels map[string]string
		Status struct{ InhibitedBy []string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		t.Fatal(err)
	}
	muted := make(map[string]bool)
	for _, a := range all {
		muted[fmt.Sprint(a.Labels)] = len(a.Status.InhibitedBy) > 0
	}
	return muted
}

// startAlertmanager runs an Alertmanager with the sample configuration until the test
// ends, where there is one.
func startAlertmanager(t *testing.T) (address string) {
	t.Helper()
	program, err := exec.LookPath("prometheus-alertmanager")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("alertmanager is missing: apt-get install prometheus-alertmanager")
		}
		t.Skip("prometheus-alertmanager is not installed")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := l.Addr().String()
	l.Close()
	var log bytes.Buffer
	cmd := exec.Command(program, "--config.file="+alertmanagerSample, "--storage.path="+t.TempDir(),
		"--web.listen-address="+free, "--cluster.listen-address=")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("alertmanager:\n%s", &log)
		}
	})
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
		if resp, err := http.Get("http://" + free + "/-/ready"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return "http://" + free
			}
		}
	}
	t.Fatal("alertmanager does not become ready")
	return ""
}
