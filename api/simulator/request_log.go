package simulator

import (
	"slices"
	"time"
)

// Request is one request that the simulator has received.
type Request struct {
	Time         time.Time
	Method, Path string
	// Endpoint is one of
	//   - organizations, organization, quotas, whoami, organization_metrics,
	//   - services, service, service_config, service_backups, service_metrics,
	//   - service_state, service_password, service_replica, service_restore,
	//     service_certificates, service_timeseries, service_slow_queries,
	//   - unknown, for any other path.
	Endpoint  string
	ServiceID string // "" if the path has none
	KeyID     string // as sent, valid or not
	Status    int    // 0 when no answer was given
	Fault     string // name of the fault that applied to it, or ""
	UserAgent string
}

// requestLog is a ring of the last requests, and the number of all requests by endpoint and
// status. The caller locks.
type requestLog struct {
	size   int
	ring   []Request
	next   int
	counts map[Request]int // by requests with only Endpoint and Status
}

func (l *requestLog) add(r Request) {
	if l.counts == nil {
		l.counts = make(map[Request]int)
	}
	l.counts[Request{Endpoint: r.Endpoint, Status: r.Status}]++
	if len(l.ring) < l.size {
		l.ring = append(l.ring, r)
		return
	}
	l.ring[l.next] = r
	l.next = (l.next + 1) % l.size
}

// Requests returns the last requests (Config.LogSize), oldest first. A request is in it before
// the first byte of its answer is sent.
func (s *Simulator) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Concat(s.log.ring[s.log.next:], s.log.ring[:s.log.next])
}

// Count returns the number of requests to an endpoint and with a status, since the start or the
// last ResetRequests. "" is any endpoint and -1 any status.
func (s *Simulator) Count(endpoint string, status int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var n int
	for r, count := range s.log.counts {
		if (endpoint == "" || endpoint == r.Endpoint) && (status == -1 || status == r.Status) {
			n += count
		}
	}
	return n
}

// ResetRequests forgets all requests, but not for the rate limit.
func (s *Simulator) ResetRequests() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = requestLog{size: s.log.size}
}
