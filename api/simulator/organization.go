package simulator

import (
	"time"
)

type organizationJSON struct {
	ID               string `json:"id"`
	CreatedAt        string `json:"createdAt"`
	Name             string `json:"name"`
	PrivateEndpoints []any  `json:"privateEndpoints"`
	ByocConfig       []any  `json:"byocConfig"`
}

func (s *Simulator) listOrganizations(*call) (any, error) {
	return []organizationJSON{{
		ID:               s.config.OrganizationID,
		CreatedAt:        s.config.Epoch.AddDate(-2, 0, 0).UTC().Format(time.RFC3339),
		Name:             s.config.OrganizationName,
		PrivateEndpoints: []any{},
		ByocConfig:       []any{},
	}}, nil
}
