package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// never is the refresh interval of an upstream whose values stay the same, except at midnight.
const never = 24 * time.Hour

// upstream is the simulated API in a process of its own.
type upstream struct {
	*process
	Organization, KeyID, Secret string
}

// fleet is what an upstream simulates.
type fleet struct {
	Services, Limit int
	Refresh         time.Duration
}

// startUpstream starts an upstream whose organization page holds up to limit services, -1 for any
// number.
func startUpstream(ctx context.Context, services, limit int, refresh time.Duration) (*upstream, error) {
	up := &upstream{}
	p, err := start(ctx, "upstream", fleet{services, limit, refresh}, up)
	up.process = p
	return up, err
}

// pages returns the number of metrics pages that upstream has served: of the organization, and of
// single services.
func (up *upstream) pages(ctx context.Context) (organization, service int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, up.URL+"/count", http.NoBody)
	if err != nil {
		return 0, 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	var counts [2]int64
	err = json.NewDecoder(resp.Body).Decode(&counts)
	return counts[0], counts[1], err
}

// play returns the handler of a role, and what to report to the parent.
func play(role string, arguments *json.Decoder) (handler http.Handler, answer any, err error) {
	switch role {
	case "upstream":
		var f fleet
		if err := arguments.Decode(&f); err != nil {
			return nil, nil, err
		}
		handler, answer = serveUpstream(f)
		return handler, answer, nil
	case "plain":
		registry := prometheus.NewRegistry()
		registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
		return promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), nil, nil
	case "bytes":
		var body []byte
		err := arguments.Decode(&body)
		return prebuilt(body), nil, err
	}
	return nil, nil, fmt.Errorf("there is no role %q", role)
}

func serveUpstream(f fleet) (http.Handler, upstream) {
	sim := simulator.New(simulator.Config{
		Services: f.Services, OrgMetricsLimit: f.Limit, RefreshInterval: f.Refresh, LogSize: 1,
	})
	c := sim.Config()
	var organization, service atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/count", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode([2]int64{organization.Load(), service.Load()})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		sim.ServeHTTP(w, r)
		switch {
		case strings.HasSuffix(r.URL.Path, "/postgres/prometheus"):
			organization.Add(1)
		case strings.HasSuffix(r.URL.Path, "/prometheus"):
			service.Add(1)
		}
	})
	return mux, upstream{Organization: c.OrganizationID, KeyID: c.KeyID, Secret: c.KeySecret}
}

// prebuilt serves the same bytes on every request.
func prebuilt(body []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		h.Set("Content-Encoding", "gzip")
		h.Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
	})
}
