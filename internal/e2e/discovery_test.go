package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// discovering is a configuration that takes every target as service discovery gives
// it, and leaves honor_labels off: nothing may depend on either.
func discovering(e *exporter) string {
	return fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: services
    http_sd_configs:
      - url: http://%[1]s/sd
        refresh_interval: 1s
  - job_name: stopped
    http_sd_configs:
      - url: http://%[1]s/sd?state=stopped
        refresh_interval: 1s
`, e.address)
}

// ids are the services' ids, sorted.
func ids(sim *simulator.Simulator) []string {
	var out []string
	for _, s := range sim.Services() {
		out = append(out, s.ID)
	}
	slices.Sort(out)
	return out
}

// TestServiceDiscovery has a Prometheus find and scrape each service as a target of
// its own, without relabelling, and forget those that are gone and no others.
func TestServiceDiscovery(t *testing.T) {
	sim, environment := upstream(t, simulator.Config{Services: 5, Seed: 1, RefreshInterval: time.Second, DeleteDelay: time.Millisecond})
	sim.SetState(ids(sim)[1], "stopped")
	sim.Refresh()
	e := startExporter(t, environment, quick...)
	p := startConfigured(t, discovering(e))

	// await polls until a query's series have these instances.
	await := func(query string, want ...string) {
		t.Helper()
		deadline := time.Now().Add(time.Minute)
		for {
			var got []string
			for _, sample := range p.query(t, query) {
				got = append(got, sample.Metric.Get("instance"))
			}
			if slices.Sort(got); slices.Equal(got, want) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: instances %q, not %q; log:\n%s", query, got, want, p.log.tail(2000))
			}
			<-time.After(50 * time.Millisecond)
		}
	}
	all := ids(sim)
	await(`up{job="services"} == 1`, all...)
	await(`up{job="stopped"} == 1`, all[1])
	// Each target has its own service's metrics and no other's.
	await(`PostgresServiceInfo{job="services"}`, all...)
	if v := p.query(t, `count by (instance) (count by (instance, postgres_service) ({job="services", postgres_service!=""})) != 1`); len(v) > 0 {
		t.Errorf("targets with several services: %v", v)
	}

	// An outage of the list, and even of everything, takes no target away.
	end := sim.SetFault(simulator.Fault{Status: http.StatusBadGateway})
	before := len(sim.Requests())
	for len(sim.Requests()) < before+6 {
		<-time.After(50 * time.Millisecond)
	}
	await(`up{job="services"} == 1`, all...)
	end()

	sim.Delete(all[0])
	await(`up{job="services"}`, all[1:]...)
	await(`up{job="services"} == 1`, all[1:]...)
}

// TestServiceDiscoveryByDebian does the same with a Prometheus of years ago, as the
// distribution has it.
func TestServiceDiscoveryByDebian(t *testing.T) {
	sim, environment := upstream(t, simulator.Config{Services: 3, Seed: 1, RefreshInterval: time.Second})
	e := startExporter(t, environment, quick...)
	address, log := startDebian(t, discovering(e))

	deadline := time.Now().Add(time.Minute)
	for {
		got := instances(address, `up{job="services"} == 1 and on (instance) PostgresServiceInfo`)
		if slices.Equal(got, ids(sim)) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("instances %q, not %q; log:\n%s", got, ids(sim), log.tail(3000))
		}
		<-time.After(100 * time.Millisecond)
	}
}

// instances returns the instances of a query's series, sorted, and nothing while the
// server does not answer.
func instances(address, query string) []string {
	resp, err := http.Get("http://" + address + "/api/v1/query?query=" + url.QueryEscape(query))
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	_, _ = body.ReadFrom(resp.Body)
	var answer struct {
		Data struct {
			Result []struct{ Metric map[string]string }
		}
	}
	if json.NewDecoder(strings.NewReader(body.String())).Decode(&answer) != nil {
		return nil
	}
	var out []string
	for _, r := range answer.Data.Result {
		out = append(out, r.Metric["instance"])
	}
	slices.Sort(out)
	return out
}
