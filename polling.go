package main

import (
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/config"
)

// polling is the collector and the configuration that it goes by, which can be read
// again while it runs. It is safe for concurrent use.
type polling struct {
	file   string
	logger log.Logger

	mu         sync.Mutex // one reload at a time
	loader     *config.Loader
	collector  *collector.Collector
	successful prometheus.Gauge
	lastGood   prometheus.Gauge

	files    []string // that the latest configuration was read from
	content  content  // of these, at the latest attempt to load them
	reported string   // in the log, of the latest reload
	reportAt time.Time
}

// sameReport is for how long a reload that came to the same as the one before is not
// logged: whoever can reach the port could otherwise fill the log.
const sameReport = time.Minute

// newPolling reads the configuration file and makes the collector that it and
// the flags ask for. Families that registry holds so far are reserved, if
// they are served: upstream cannot use their names. The collector's own are registered too.
func newPolling(c *config.Config, registry *prometheus.Registry, logger log.Logger) (*polling, error) {
	p := &polling{
		file:   c.File,
		files:  []string{c.File},
		logger: logger,
		loader: config.NewLoader(c),
		successful: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: config.Program,
			Name:      "config_last_reload_successful",
			Help:      "Whether the last attempt to load the configuration succeeded.",
		}),
		lastGood: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: config.Program,
			Name:      "config_last_reload_success_timestamp_seconds",
			Help:      "Unix timestamp of the last successful load of the configuration.",
		}),
	}
	registry.MustRegister(p.successful, p.lastGood)
	families, err := registry.Gather()
	if err != nil {
		return nil, fmt.Errorf("gather the exporter's own metrics: %w", err)
	}
	var reserved []string
	if !c.DisableExporterMetrics {
		for _, f := range families {
			reserved = append(reserved, f.GetName())
		}
	}

	organizations, err := p.load()
	if err != nil {
		return nil, err
	}
	p.collector, err = collector.New(collector.Options{
		Organizations: organizations,
		Reserved:      reserved,
		Logger:        logger,
	})
	if err != nil {
		return nil, err
	}
	if err := registry.Register(p.collector); err != nil {
		return nil, fmt.Errorf("register the collector's metrics: %w", err)
	}
	warnOfPlaintext(organizations, logger)
	p.succeeded()
	return p, nil
}

// reload reads the file again. When that fails nothing changes.
func (p *polling) reload() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	organizations, err := p.load()
	if err == nil {
		err = p.collector.Apply(organizations)
	}
	logger := p.logger
	if report := fmt.Sprint(p.content, err); report == p.reported && time.Since(p.reportAt) < sameReport {
		logger = log.NewNopLogger()
	} else {
		p.reported, p.reportAt = report, time.Now()
	}
	if err != nil {
		p.successful.Set(0)
		level.Error(logger).Log("msg", "Reload failed, the running configuration stays", "err", err)
		return err
	}
	warnOfPlaintext(organizations, logger)
	p.succeeded()
	level.Info(logger).Log("msg", "Reloaded the configuration", "file", p.file)
	return nil
}

func (p *polling) succeeded() {
	p.successful.Set(1)
	p.lastGood.SetToCurrentTime()
}

// warnOfPlaintext logs which keys leave this machine unencrypted.
func warnOfPlaintext(organizations []collector.Organization, logger log.Logger) {
	for _, o := range organizations {
		if plaintext(o.API.BaseURL) {
			level.Warn(logger).Log("msg", "The API key is sent unencrypted, since the API's URL is not https", "url", o.API.BaseURL)
		}
	}
}

// plaintext tells whether what is sent to a URL leaves this machine unencrypted.
func plaintext(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "https" || u.Hostname() == "localhost" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return ip == nil || !ip.IsLoopback()
}
