package simulator

import (
	"cmp"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator/internal/seeded"
)

func (s *Simulator) listOrganizations(c *call) (any, error) {
	organization, err := s.getOrganization(c)
	return []any{organization}, err
}

func (s *Simulator) getOrganization(*call) (any, error) {
	return struct {
		ID               string     `json:"id"`
		CreatedAt        string     `json:"createdAt"`
		Name             string     `json:"name"`
		PrivateEndpoints []struct{} `json:"privateEndpoints"`
		ByocConfig       []struct{} `json:"byocConfig"`
	}{
		ID:               s.config.OrganizationID,
		CreatedAt:        s.config.Epoch.AddDate(-2, 0, 0).UTC().Format(time.RFC3339),
		Name:             s.config.OrganizationName,
		PrivateEndpoints: []struct{}{},
		ByocConfig:       []struct{}{},
	}, nil
}

// quotas answers with one quota if the path has its code, and with all otherwise. The API may
// leave usage out, which one quota here does.
func (s *Simulator) quotas(c *call) (any, error) {
	type quota struct {
		QuotaCode   string `json:"quotaCode"`
		Name        string `json:"name"`
		Description string `json:"description"`
		Scope       string `json:"scope"`
		Value       int    `json:"value"`
		Usage       *int   `json:"usage,omitempty"`
		Adjustable  bool   `json:"adjustable"`
	}
	services, keys, none := len(s.fleet.live(c.now)), len(s.keys), 0
	all := []quota{
		{"services-per-organization", "Services per organization", "ClickHouse services that an organization may have.", "organization", 20, &none, true},
		{"postgres-services-per-organization", "Postgres services per organization", "Postgres services that an organization may have.", "organization", s.config.ServicesQuota, &services, true},
		{"replicas-per-warehouse", "Replicas per warehouse", "Replicas of all services of a warehouse.", "warehouse", 20, nil, true},
		{"api-keys-per-organization", "API keys per organization", "API keys that an organization may have.", "organization", 100, &keys, false},
	}
	if c.quota == "" {
		return all, nil
	}
	for _, q := range all {
		if q.QuotaCode == c.quota {
			return q, nil
		}
	}
	return nil, notFound("no quota %.100s applies to this organization", c.quota)
}

// whoami describes the key. Its keyId is not the id with which it authenticates: the API does
// not say that the two are the same, so no client may rely on it.
func (s *Simulator) whoami(c *call) (any, error) {
	return struct {
		ActorType      string `json:"actorType"`
		KeyID          string `json:"keyId"`
		Name           string `json:"name"`
		OrganizationID string `json:"organizationId"`
	}{
		ActorType: "apiKey", KeyID: seeded.UUID(seeded.Hash(s.config.Seed, "key "+c.key.ID)),
		Name: cmp.Or(c.key.Name, c.key.ID), OrganizationID: s.config.OrganizationID,
	}, nil
}
