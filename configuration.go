package main

import (
	"fmt"
	"sync"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/config"
)

// configuration is flags and file together, of which the file can be read
// again while the program runs. It is safe for concurrent use.
type configuration struct {
	options *options
	logger  log.Logger

	mu         sync.Mutex // one reload at a time
	keys       *keyring
	collector  *collector.Collector
	successful prometheus.Gauge
	lastGood   prometheus.Gauge
}

// configure reads the configuration file and makes the collector that it and
// the flags ask for. Families that registry holds so far are reserved, if
// they are served: upstream cannot use their names. The collector's own are registered too.
func configure(o *options, registry *prometheus.Registry, logger log.Logger) (*configuration, error) {
	c := &configuration{
		options: o,
		logger:  logger,
		keys:    newKeyring(o.credentials),
		successful: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: program,
			Name:      "config_last_reload_successful",
			Help:      "Whether the last attempt to load the configuration succeeded.",
		}),
		lastGood: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: program,
			Name:      "config_last_reload_success_timestamp_seconds",
			Help:      "When the configuration was last loaded successfully, in seconds since 1970.",
		}),
	}
	registry.MustRegister(c.successful, c.lastGood)
	families, err := registry.Gather()
	if err != nil {
		return nil, fmt.Errorf("gather the exporter's own metrics: %w", err)
	}
	var reserved []string
	if !o.disableExporterMetrics {
		reserved = collector.SampleNames(families)
	}

	orgs, err := c.organizations()
	if err != nil {
		return nil, err
	}
	c.collector, err = collector.New(collector.Options{
		Organizations: orgs,
		ReservedNames: reserved,
		Logger:        logger,
	})
	if err != nil {
		return nil, err
	}
	if err := registry.Register(c.collector); err != nil {
		return nil, fmt.Errorf("register the collector's metrics: %w", err)
	}
	c.succeeded()
	return c, nil
}

// reload reads the file again. When that fails nothing changes.
func (c *configuration) reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	orgs, err := c.organizations()
	if err == nil {
		err = c.collector.Apply(orgs)
	}
	if err != nil {
		c.successful.Set(0)
		level.Error(c.logger).Log("msg", "Reload failed, the running configuration stays", "err", err)
		return err
	}
	c.succeeded()
	level.Info(c.logger).Log("msg", "Reloaded the configuration", "file", c.options.configFile)
	return nil
}

func (c *configuration) succeeded() {
	c.successful.Set(1)
	c.lastGood.SetToCurrentTime()
}

func (c *configuration) organizations() ([]collector.Organization, error) {
	file, err := loadFile(c.options.configFile)
	if err != nil {
		return nil, err
	}
	return organizations(c.options, file, c.keys)
}

// configuredOrganizations returns what flags and file ask to poll, for commands that
// read the configuration once.
func configuredOrganizations(o *options) ([]collector.Organization, error) {
	if err := o.checkKey(); err != nil {
		return nil, err
	}
	file, err := loadFile(o.configFile)
	if err != nil {
		return nil, err
	}
	return organizations(o, file, newKeyring(o.credentials))
}

// loadFile reads the configuration file; none is an empty one.
func loadFile(path string) (*config.Config, error) {
	if path == "" {
		return &config.Config{}, nil
	}
	return config.Load(path)
}

// checkConfiguration says what would keep the configuration from being used.
// That there is no key does not: configurations are checked where keys are
// not.
func checkConfiguration(o *options) error {
	file, err := loadFile(o.configFile)
	if err != nil {
		return err
	}
	if o.configFile != "" {
		if err := file.CheckFiles(); err != nil {
			return err
		}
	}
	key := o.credentials
	if key == nil {
		key = api.StaticCredentials("none", "none")
	}
	orgs, err := organizations(o, file, newKeyring(key))
	if err != nil {
		return err
	}
	_, err = collector.New(collector.Options{Organizations: orgs})
	return err
}
