package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"github.com/prometheus/common/version"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/config"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// keyring holds what belongs to an API key and must outlive a reload: its
// budget, since upstream goes on counting, and where it is read from. It is
// not safe for concurrent use.
type keyring struct {
	sources map[keyFiles]api.CredentialsSource
	budgets map[allowance]*api.Budget
}

// keyFiles names a key; the zero value is the key of the command line.
type keyFiles struct{ id, secret string }

type allowance struct {
	key    keyFiles
	budget api.BudgetConfig
}

func newKeyring(commandLine api.CredentialsSource) *keyring {
	k := &keyring{
		sources: make(map[keyFiles]api.CredentialsSource),
		budgets: make(map[allowance]*api.Budget),
	}
	if commandLine != nil {
		k.sources[keyFiles{}] = commandLine
	}
	return k
}

// source returns nil for the key of the command line if there is none.
func (k *keyring) source(key keyFiles) api.CredentialsSource {
	if s, ok := k.sources[key]; ok || key == (keyFiles{}) {
		return s
	}
	s := api.FileCredentials(key.id, key.secret)
	k.sources[key] = s
	return s
}

func (k *keyring) budget(key keyFiles, r rate) *api.Budget {
	a := allowance{key, r.budget()}
	if b, ok := k.budgets[a]; ok {
		return b
	}
	b := api.NewBudget(a.budget)
	k.budgets[a] = b
	return b
}

// organizations returns what to poll: what the file lists, each with the
// flags for whatever it leaves open, or else the one of the command line.
func organizations(o *options, file *config.Config, keys *keyring) ([]collector.Organization, error) {
	base := collector.Organization{
		ID: o.organizationID,
		API: api.Config{
			BaseURL:          o.apiURL,
			UserAgent:        version.ComponentUserAgent(program),
			Timeout:          o.timeout,
			MaxResponseBytes: int64(o.maxResponseSize),
			CAFile:           o.caFile,
		},
		MetricsInterval:   o.metricsInterval,
		InventoryInterval: o.inventoryInterval,
		MaxAge:            o.maxAge,
		EnrichLabels:      o.enrichLabels,
		Rules:             file.MetricRelabelConfigs,
		Shard:             o.shard,
		Timestamps:        o.timestamps,
		CollectConfig:     o.collectConfig,
		ConfigInterval:    o.configInterval,
	}
	if len(file.Organizations) == 0 {
		var err error
		if base.Selection, err = selection(file.Services); err != nil {
			return nil, fmt.Errorf("%s: services: %w", o.configFile, err)
		}
		if base.API.Credentials = keys.source(keyFiles{}); base.API.Credentials == nil {
			return nil, errNoCredentials
		}
		base.API.Budget = keys.budget(keyFiles{}, o.rate)
		base.API.CACertificates = certificates(o.caFile)
		return []collector.Organization{base}, nil
	}
	if o.demo {
		return nil, errors.New("--demo simulates one organization: leave out organizations in --config.file, or leave out --demo")
	}
	if o.organizationIDFlag {
		return nil, errors.New("--api.organization-id and organizations in --config.file are both given: leave out one of them")
	}

	out := make([]collector.Organization, 0, len(file.Organizations))
	for _, c := range file.Organizations {
		org := base
		org.Name, org.ID = c.Name, c.ID
		org.API.BaseURL = cmp.Or(c.APIURL, base.API.BaseURL)
		org.API.CAFile = cmp.Or(c.CAFile, base.API.CAFile)
		org.API.CACertificates = certificates(org.API.CAFile)
		org.MetricsInterval = cmp.Or(c.MetricsInterval, base.MetricsInterval)
		org.InventoryInterval = cmp.Or(c.InventoryInterval, base.InventoryInterval)
		org.MaxAge = cmp.Or(c.MaxAge, base.MaxAge)
		org.Rules = c.MetricRelabelConfigs
		if err := checkAge(org.MaxAge, org.MetricsInterval, "max_age", "metrics_interval"); err != nil {
			return nil, c.Reject("max_age", err)
		}

		key := keyFiles{c.KeyIDFile, c.KeySecretFile}
		org.API.Credentials = keys.source(key)
		if org.API.Credentials == nil {
			return nil, c.Reject("key_id_file", fmt.Errorf("no API key for this organization: name key_id_file and key_secret_file, or set %s and %s", envKeyID, envKeySecret))
		}
		r := rate{
			limit:    cmp.Or(c.RateLimit, o.rate.limit),
			window:   cmp.Or(c.RateWindow, o.rate.window),
			use:      cmp.Or(c.RateUse, o.rate.use),
			replicas: cmp.Or(c.Replicas, o.rate.replicas),
		}
		if err := r.check("rate_limit", "rate_use", "replicas"); err != nil {
			return nil, c.Reject("rate_use", err)
		}
		org.API.Budget = keys.budget(key, r)

		var err error
		if c.EnrichLabels != nil {
			if org.EnrichLabels, err = inventory.ParseEnrichLabels(c.EnrichLabels); err != nil {
				return nil, c.Reject("enrich_labels", err)
			}
		}
		if org.Selection, err = selection(c.Services); err != nil {
			return nil, c.Reject("services", err)
		}
		out = append(out, org)
	}
	return out, nil
}

// certificates returns what the file holds, so that a reload finds out whether it was
// replaced, and nil if it can't be read: what is wrong is said by api.New.
func certificates(caFile string) []byte {
	if caFile == "" {
		return nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil
	}
	return pem
}

// selection returns nil, which selects everything, for nil.
func selection(s *config.Services) (*inventory.Selection, error) {
	if s == nil {
		return nil, nil
	}
	filters := func(in []config.Filter) []inventory.Filter {
		out := make([]inventory.Filter, 0, len(in))
		for _, f := range in {
			out = append(out, inventory.Filter(f))
		}
		return out
	}
	return inventory.NewSelection(filters(s.Include), filters(s.Exclude))
}
