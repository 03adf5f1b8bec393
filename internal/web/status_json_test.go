package web

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
)

func TestStatusJSON(t *testing.T) {
	broken := healthyService(2)
	broken.Name, broken.State, broken.Hostname, broken.StorageGiB = "broken", "unavailable", "broken.example.com", 118
	broken.Error, broken.Series, broken.CPUUsedRatio, broken.Connections, broken.DiskUsedRatio = "get service metrics: API failed", 0, nil, nil, nil
	second := working("second")
	second.Up, second.Unconfirmed, second.Error = false, true, "get organization metrics: API failed (status 500)"
	second.Metrics = collector.CallStatus{Tried: true, Error: second.Error, Since: statusTime.Add(-time.Minute)}
	second.Names.RateUse = "--api.rate-use"
	second.Budget.PausedUntil, second.UnknownServices, second.UncoveredServices = statusTime.Add(time.Minute), 1, 2
	second.Next.Service = "x"
	k := statusOf(working("first", healthyService(1), broken), second)
	h := NewHistory(k)
	over := k.status
	over.Time = statusTime.Add(-time.Minute)
	over.Organizations = []collector.OrganizationStatus{working("first"), working("second")}
	over.Organizations[0].Unconfirmed = true
	h.observe(over)
	h.observe(k.status)
	base := serve(t, Options{Collector: k, History: h, Build: map[string]string{"version": "1.2.3", "revision": "abc"}})

	a := do(t, "GET", base+"/api/v1/status", nil)
	if a.code != http.StatusOK || a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("code %d, header %v", a.code, a.header)
	}
	var v any
	if err := json.Unmarshal(regexp.MustCompile(`"started":"[^"]+"`).ReplaceAll(a.body, []byte(`"started":"2026-01-01T00:00:00Z"`)), &v); err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	golden := filepath.Join("testdata", "status.json")
	if *updateGolden {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Error(diff)
	}

	var document statusDocument
	a = do(t, "GET", base+"/api/v1/status?state=unavailable&page=7&per_page=25", nil)
	if err := json.Unmarshal(a.body, &document); err != nil {
		t.Fatal(err)
	}
	if o := document.Organizations; len(o) != 2 || len(o[0].Services) != 1 || o[0].Services[0].Name != "broken" || o[1].Services == nil {
		t.Errorf("selected: %s", a.body)
	}
	a = do(t, "GET", serve(t, Options{Collector: statusOf(working("org"))})+"/api/v1/status", nil)
	if !strings.Contains(string(a.body), `"problems":[]`) {
		t.Errorf("no problems: %s", a.body)
	}
}
