package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	_ "github.com/prometheus/client_golang/prometheus/promhttp/zstd" // or promhttp does not speak it
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/web"
)

// upstream is the simulated API, of an organization whose page holds all of its
// services. What it has served is counted at /counts; /churn replaces a share
// of the services, in percent.
func upstream(_ context.Context, o *order, answer *offer) (http.Handler, map[string]http.HandlerFunc, error) {
	sim := simulator.New(simulator.Config{
		Services:        o.Services,
		OrgMetricsLimit: -1,
		RefreshInterval: o.Interval,
		DeleteDelay:     -1,
		CreateDelay:     -1,
		LogSize:         1,
	})
	c := sim.Config()
	answer.Org, answer.KeyID, answer.Secret = c.OrganizationID, c.KeyID, c.KeySecret
	var lists, pages atomic.Int64
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sim.ServeHTTP(w, r)
		switch r.URL.Path {
		case "/v1/organizations/" + c.OrganizationID + "/postgres":
			lists.Add(1)
		case "/v1/organizations/" + c.OrganizationID + "/postgres/prometheus":
			pages.Add(1)
		}
	})
	return handler, map[string]http.HandlerFunc{
		"/counts": func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(counts{lists.Load(), pages.Load()})
		},
		"/churn": func(w http.ResponseWriter, r *http.Request) {
			percent, err := strconv.Atoi(r.URL.Query().Get("percent"))
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			services := sim.Services()
			for _, s := range services[:len(services)*percent/100] {
				sim.Delete(s.ID)
			}
			sim.Resize(len(services))
			sim.Refresh()
		},
		"/page": func(w http.ResponseWriter, r *http.Request) {
			req := httptest.NewRequestWithContext(r.Context(), http.MethodGet,
				"/v1/organizations/"+c.OrganizationID+"/postgres/prometheus", http.NoBody)
			req.SetBasicAuth(c.KeyID, c.KeySecret)
			sim.ServeHTTP(w, req)
		},
	}, nil
}

// counts is what upstream has served so far.
type counts struct{ Lists, Pages int64 }

// exporter is the exporter as its main function puts it together.
func exporter(ctx context.Context, o *order, _ *offer) (http.Handler, map[string]http.HandlerFunc, error) {
	enrich, err := inventory.ParseEnrichLabels([]string{"region", "size", "state"})
	if err != nil {
		return nil, nil, err
	}
	c, err := collector.New(collector.Options{Organizations: []collector.Organization{{ //nolint:contextcheck // its polling begins with Run
		ID: o.Org,
		API: api.Config{
			BaseURL:          o.Upstream,
			Credentials:      api.StaticCredentials(o.KeyID, o.Secret),
			Budget:           api.NewBudget(api.BudgetConfig{Requests: 10_000, Window: 10 * time.Second}),
			MaxResponseBytes: 1 << 30,
		},
		MetricsInterval:   o.Interval,
		InventoryInterval: o.Interval,
		MaxAge:            24 * time.Hour,
		EnrichLabels:      enrich,
		Rules:             rules(),
	}}})
	if err != nil {
		return nil, nil, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		c,
	)
	handler, err := web.NewHandler(web.Options{Collector: c, ExporterMetrics: registry, Name: "Bench"})
	if err != nil {
		return nil, nil, err
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collector.GCPercent)
	}
	if o.MemoryLimit > 0 {
		debug.SetMemoryLimit(o.MemoryLimit)
	}
	go func() { _ = c.Run(ctx) }()
	if err := c.WaitFirstRefresh(ctx); err != nil {
		return nil, nil, err
	}
	if _, err := c.Page(o.Org, ""); err != nil {
		return nil, nil, fmt.Errorf("the first refresh brought nothing: %w", err)
	}
	return handler, nil, nil
}

// file serves the bytes that it was sent as a file is served.
func file(_ context.Context, _ *order, _ *offer) (http.Handler, map[string]http.HandlerFunc, error) {
	var (
		mu    sync.RWMutex
		pages = map[string][]byte{} // by encoding
		began = time.Now()
	)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		encoding := r.Header.Get("Accept-Encoding")
		mu.RLock()
		page := pages[encoding]
		mu.RUnlock()
		h := w.Header()
		h.Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		if encoding != "identity" {
			h.Set("Content-Encoding", encoding)
			// ServeContent leaves it out if there is an encoding.
			h.Set("Content-Length", strconv.Itoa(len(page)))
		}
		http.ServeContent(w, r, "", began, bytes.NewReader(page))
	})
	return handler, map[string]http.HandlerFunc{
		"/load": func(w http.ResponseWriter, r *http.Request) {
			page, err := io.ReadAll(r.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			pages[r.URL.Query().Get("encoding")] = bytes.Clone(page)
		},
	}, nil
}

// families are what promhttp serves, once they have been sent.
type families struct {
	current atomic.Pointer[[]*dto.MetricFamily]
}

func (f *families) load(w http.ResponseWriter, r *http.Request) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	byName, err := parser.TextToMetricFamilies(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	list := make([]*dto.MetricFamily, 0, len(byName))
	for _, f := range byName {
		list = append(list, f)
	}
	f.current.Store(&list)
}

// cachedFamilies is promhttp, which is given the same families each time.
func cachedFamilies(_ context.Context, _ *order, _ *offer) (http.Handler, map[string]http.HandlerFunc, error) {
	var f families
	gatherer := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return *f.current.Load(), nil })
	return promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{}), map[string]http.HandlerFunc{"/load": f.load}, nil
}

// constMetrics is promhttp over a registry with a collector that makes a metric
// of each sample it holds, as most exporters do.
func constMetrics(_ context.Context, _ *order, _ *offer) (http.Handler, map[string]http.HandlerFunc, error) {
	var samples sampleCollector
	registry := prometheus.NewRegistry()
	registry.MustRegister(&samples)
	handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	return handler, map[string]http.HandlerFunc{"/load": func(w http.ResponseWriter, r *http.Request) {
		var f families
		f.load(w, r)
		if list := f.current.Load(); list != nil {
			samples.load(*list)
		}
	}}, nil
}

// sampleCollector holds samples in a handy form. A family whose series have
// other label names than the first has several descriptors.
type sampleCollector struct{ metrics atomic.Pointer[[]sample] }

type sample struct {
	desc   *prometheus.Desc
	kind   prometheus.ValueType
	value  float64
	labels []string
}

func (c *sampleCollector) load(list []*dto.MetricFamily) {
	var samples []sample
	for _, f := range list {
		descs := map[string]*prometheus.Desc{}
		for _, m := range f.GetMetric() {
			s := sample{kind: prometheus.GaugeValue}
			var names []string
			for _, l := range m.GetLabel() {
				names, s.labels = append(names, l.GetName()), append(s.labels, l.GetValue())
			}
			switch {
			case m.Counter != nil:
				s.kind, s.value = prometheus.CounterValue, m.Counter.GetValue()
			case m.Gauge != nil:
				s.value = m.Gauge.GetValue()
			case m.Untyped != nil:
				s.kind, s.value = prometheus.UntypedValue, m.Untyped.GetValue()
			default:
				continue // the few composite ones are the exporter's own
			}
			key := fmt.Sprint(names)
			if descs[key] == nil {
				descs[key] = prometheus.NewDesc(f.GetName(), f.GetHelp(), names, nil)
			}
			s.desc = descs[key]
			samples = append(samples, s)
		}
	}
	c.metrics.Store(&samples)
}

// Describe implements [prometheus.Collector]; the collector is an unchecked one.
func (c *sampleCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (c *sampleCollector) Collect(ch chan<- prometheus.Metric) {
	list := c.metrics.Load()
	if list == nil {
		return
	}
	for _, s := range *list {
		ch <- prometheus.MustNewConstMetric(s.desc, s.kind, s.value, s.labels...)
	}
}
