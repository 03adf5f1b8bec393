package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/config"
)

// TestWalkthrough goes the way of the Managed Postgres API guide, with requests like
// the guide's, and watches each step arrive on the exporter's page: within the next
// time that the exporter reads the list of services or the metrics.
func TestWalkthrough(t *testing.T) {
	now := simulator.NewClock(time.Now().Truncate(time.Second))
	const createDelay, deleteDelay = 2 * time.Minute, time.Minute
	s, env := upstream(t, simulator.Config{
		Services: 1, Seed: 1, Now: now.Now,
		RefreshInterval: time.Second, CreateDelay: createDelay, DeleteDelay: deleteDelay,
	})
	e := start(t, env, append(fast, "--metrics.interval=50ms", "--inventory.interval=50ms", "--enrich.labels=state,tag:team")...)
	get(t, e.url("/metrics"), "X-Prometheus-Scrape-Timeout-Seconds", "60")

	c := s.Config()
	request := func(method, path, body string) (result struct {
		ID, State string
	},
	) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, strings.TrimPrefix(env[0], config.EnvURL+"=")+"/v1/organizations/"+c.OrganizationID+"/postgres"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth(c.KeyID, c.KeySecret)
		r.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s %s: %s: %s", method, path, resp.Status, answer)
		}
		envelope := struct{ Result any }{&result}
		if err := json.Unmarshal(answer, &envelope); err != nil {
			t.Fatalf("%v in %s", err, answer)
		}
		return result
	}
	var id string
	// of returns the service's series of a family.
	of := func(page map[string]*dto.MetricFamily, name string) (series []*dto.Metric) {
		for _, m := range page[name].GetMetric() {
			if label(m, "postgres_service") == id {
				series = append(series, m)
			}
		}
		return series
	}
	state := func(page map[string]*dto.MetricFamily) string {
		for _, m := range of(page, "clickhouse_postgres_service_state") {
			if m.GetGauge().GetValue() == 1 {
				return label(m, "state")
			}
		}
		return ""
	}
	// arrives waits for a step to be on the page. It may take the exporter one list
	// and one page of metrics that were asked for after the step, and as many that
	// were under way.
	arrives := func(step string, endpoints []string, on func(map[string]*dto.MetricFamily) bool) {
		t.Helper()
		before := make([]int, len(endpoints))
		for i, endpoint := range endpoints {
			before[i] = s.Count(endpoint, http.StatusOK)
		}
		for {
			answered := true
			for i, endpoint := range endpoints {
				answered = answered && s.Count(endpoint, http.StatusOK) >= before[i]+3
			}
			_, text := get(t, e.url("/metrics"))
			page := families(t, text)
			if on(page) {
				return
			}
			if answered {
				t.Fatalf("%s is not on the page after a refresh:\n%s", step, text)
			}
			select {
			case <-time.After(10 * time.Millisecond):
			case <-t.Context().Done():
				t.Fatalf("%s: the test ends", step)
			}
		}
	}
	list, metrics := []string{"services"}, []string{"services", "organization_metrics"}

	id = request(http.MethodPost, "", `{"name":"my postgres","provider":"aws","region":"us-east-1","postgresVersion":"18","size":"r8gd.large","haType":"async","tags":[{"key":"Environment","value":"production"}]}`).ID
	arrives("a service that is being created", list, func(page map[string]*dto.MetricFamily) bool {
		info := of(page, "clickhouse_postgres_service_info")
		return state(page) == "creating" && len(info) == 1 && label(info[0], "postgres_region") == "us-east-1" &&
			label(info[0], "postgres_size") == "r8gd.large" && label(info[0], "postgres_ha_type") == "async"
	})

	now.Advance(createDelay)
	arrives("a service that runs", metrics, func(page map[string]*dto.MetricFamily) bool {
		up, cpu := of(page, "clickhouse_postgres_service_up"), of(page, "PostgresServer_CPUCores")
		return state(page) == "running" && len(up) == 1 && up[0].GetGauge().GetValue() == 1 &&
			len(cpu) == 1 && label(cpu[0], "postgres_state") == "running" && label(cpu[0], "postgres_service_name") == "my postgres"
	})

	request(http.MethodPatch, "/"+id, `{"tags":[{"key":"Environment","value":"production"},{"key":"team","value":"growth"}]}`)
	arrives("a tag", list, func(page map[string]*dto.MetricFamily) bool {
		tags, cpu := of(page, "clickhouse_postgres_service_tag"), of(page, "PostgresServer_CPUCores")
		return len(tags) == 2 && label(tags[1], "key") == "team" && label(tags[1], "value") == "growth" &&
			len(cpu) == 1 && label(cpu[0], "postgres_tag_team") == "growth"
	})

	request(http.MethodDelete, "/"+id, "")
	arrives("a service that is being deleted", list, func(page map[string]*dto.MetricFamily) bool {
		return state(page) == "deleting"
	})
	if _, targets := get(t, e.url("/sd")); strings.Contains(targets, id) || !strings.Contains(targets, s.Services()[0].ID) {
		t.Errorf("targets while it is being deleted: %s", targets)
	}

	now.Advance(deleteDelay)
	arrives("the end of a service", list, func(page map[string]*dto.MetricFamily) bool {
		for name := range page {
			if len(of(page, name)) > 0 {
				return false
			}
		}
		return true
	})
	if code, _ := get(t, e.url("/v1/organizations/"+c.OrganizationID+"/postgres/"+id+"/prometheus")); code != http.StatusNotFound {
		t.Errorf("its page: code %d", code)
	}
}
