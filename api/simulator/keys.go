package simulator

import "slices"

// Key is an API key.
type Key struct {
	ID, Secret string
	// Name is the name that the API returns: ID when empty.
	Name string
	// Deny are the endpoints, by their names in Request.Endpoint, that answer this key 403. "*"
	// is all of them.
	Deny []string
	// Services are the ids of the only services that the key may see; none means all. Such a key
	// may not read the organization, its quotas and its metrics, nor create services.
	Services []string
}

func (k *Key) denies(endpoint string) bool {
	switch endpoint {
	case endpointOrganization, endpointQuotas, endpointOrganizationMetrics, endpointRestore, endpointReplica:
		if len(k.Services) > 0 {
			return true
		}
	}
	return slices.Contains(k.Deny, endpoint) || slices.Contains(k.Deny, "*")
}

func (k *Key) sees(id string) bool {
	return len(k.Services) == 0 || slices.Contains(k.Services, id)
}

// AddKey adds an API key, or replaces the one with the same id. Each has its own rate limit.
func (s *Simulator) AddKey(k Key) {
	k.Deny, k.Services = slices.Clone(k.Deny), slices.Clone(k.Services)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[k.ID] = k
}

// RevokeKey makes a key invalid: 401 from now on.
func (s *Simulator) RevokeKey(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, id)
}

// RotateKey makes this key the only valid one, with all permissions.
func (s *Simulator) RotateKey(id, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.keys)
	s.keys[id] = Key{ID: id, Secret: secret}
}
