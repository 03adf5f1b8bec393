package collector

import (
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
)

// serviceView is what one service looks like at one moment. Immutable and comparable.
type serviceView struct {
	service
	ttl   time.Duration // how long metrics are served after they were fetched
	stamp time.Time     // the timestamp for their series, zero for none
	// asked and up tell whether there has been an attempt to get metrics, and whether
	// the latest one brought them.
	asked, up bool
	health    *exposition.Block // what follows from that; nil if nobody wants it
}

// parts appends the service's blocks, all but its health.
func (s *serviceView) parts(parts []exposition.Part) []exposition.Part {
	return append(parts, exposition.Part{Block: s.block, Timestamp: s.stamp}, exposition.Part{Block: s.listed})
}

// page returns the document of all of them.
func (s *serviceView) page() *exposition.Document {
	doc, _ := s.memo.merge(&s.memo.main, s.parts(nil))
	return doc
}

// expires returns when the service's data becomes too old to be served.
func (s *serviceView) expires() time.Time { return s.fetchedAt.Add(s.ttl) }

func (s *serviceView) expired(now time.Time) bool {
	return s.block != nil && reached(now, s.expires())
}

// expire returns the service without its data.
func (s *serviceView) expire(org string) *serviceView {
	next := *s
	next.service.expire()
	next.stamp, next.up = time.Time{}, false
	if s.health != nil {
		next.health = next.healthBlock(org, s.health)
	}
	return &next
}

// healthBlock returns the health metrics of the service; last is the one before, or nil.
func (s *serviceView) healthBlock(org string, last *exposition.Block) *exposition.Block {
	var gauges []exposition.Gauge
	add := adder(&gauges, org, s.id, s.name())
	if s.asked {
		add("clickhouse_postgres_service_up", "Whether the last request for the metrics of a Postgres service succeeded; absent before the first.", truth(s.up))
	}
	if !s.fetchedAt.IsZero() {
		add("clickhouse_postgres_service_metrics_last_success_timestamp_seconds", "Unix timestamp of the last successful read of the metrics of a Postgres service.", unixSeconds(s.fetchedAt))
		add("clickhouse_postgres_service_metrics_last_change_timestamp_seconds", "Unix timestamp at which the current metric values of a Postgres service were first seen.", unixSeconds(s.changedAt))
	}
	return exposition.NewBlock(gauges, last)
}

// memo is what was made of blocks the last time, which is used again as far as it is the
// same. Safe for concurrent use.
type memo struct {
	off  bool // for tests: use nothing again
	mu   sync.Mutex
	main *exposition.Document // of a service, an organization or all of them

	health *exposition.Document // of organizations and their services
}

// merge makes a document, last of which is main or health, and tells whether it is
// another one.
func (m *memo) merge(last **exposition.Document, parts []exposition.Part) (doc *exposition.Document, changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	was := *last
	if m.off {
		was = nil
	}
	*last = exposition.Merge(was, parts...)
	return *last, *last != was
}

// mergeHealth merges the health of organizations and their services.
func (m *memo) mergeHealth(views ...*organizationView) *exposition.Document {
	var parts []exposition.Part
	for _, v := range views {
		parts = append(parts, exposition.Part{Block: v.organization})
		for _, s := range v.services {
			parts = append(parts, exposition.Part{Block: s.health})
		}
	}
	doc, _ := m.merge(&m.health, parts)
	return doc
}
