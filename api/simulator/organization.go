package simulator

import (
	"cmp"
	"time"
)

type organizationJSON struct {
	ID               string `json:"id"`
	CreatedAt        string `json:"createdAt"`
	Name             string `json:"name"`
	PrivateEndpoints []any  `json:"privateEndpoints"`
	ByocConfig       []any  `json:"byocConfig"`
}

func (s *Simulator) organization() organizationJSON {
	return organizationJSON{
		ID:               s.config.OrganizationID,
		CreatedAt:        s.config.Epoch.AddDate(-2, 0, 0).UTC().Format(time.RFC3339),
		Name:             s.config.OrganizationName,
		PrivateEndpoints: []any{},
		ByocConfig:       []any{},
	}
}

func (s *Simulator) listOrganizations(*call) (any, error) {
	return []organizationJSON{s.organization()}, nil
}

func (s *Simulator) getOrganization(*call) (any, error) { return s.organization(), nil }

type quotaJSON struct {
	QuotaCode   string `json:"quotaCode"`
	Name        string `json:"name"`
	Description string `json:"description"`
	Scope       string `json:"scope"`
	Value       int    `json:"value"`
	Usage       *int   `json:"usage,omitempty"`
	Adjustable  bool   `json:"adjustable"`
}

// quotas returns those that apply. One tells no usage, as is allowed.
func (s *Simulator) quotas(now time.Time) []quotaJSON {
	services, keys, none := len(s.fleet.live(now)), len(s.keys), 0
	return []quotaJSON{
		{"services-per-organization", "Services per organization", "ClickHouse services that an organization may have.", "organization", 20, &none, true},
		{"postgres-services-per-organization", "Postgres services per organization", "Postgres services that an organization may have.", "organization", s.config.ServicesQuota, &services, true},
		{"replicas-per-warehouse", "Replicas per warehouse", "Replicas of all services of a warehouse.", "warehouse", 20, nil, true},
		{"api-keys-per-organization", "API keys per organization", "API keys that an organization may have.", "organization", 100, &keys, false},
	}
}

func (s *Simulator) listQuotas(c *call) (any, error) { return s.quotas(c.now), nil }

func (s *Simulator) getQuota(c *call) (any, error) {
	for _, q := range s.quotas(c.now) {
		if q.QuotaCode == c.quota {
			return q, nil
		}
	}
	return nil, notFound("no quota %.100s applies to this organization", c.quota)
}

type actorJSON struct {
	ActorType      string `json:"actorType"`
	KeyID          string `json:"keyId"`
	Name           string `json:"name"`
	OrganizationID string `json:"organizationId"`
}

// whoami describes the key. Its keyId is not the id by which it authenticates: whether the two
// agree is not known, so nobody may count on it.
func (s *Simulator) whoami(c *call) (any, error) {
	return actorJSON{
		ActorType: "apiKey", KeyID: uuid(hash(s.config.Seed, "key "+c.key.ID)),
		Name: cmp.Or(c.key.Name, c.key.ID), OrganizationID: s.config.OrganizationID,
	}, nil
}
