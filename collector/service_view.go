package collector

import (
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
)

// serviceView is what one service looks like at one moment. Immutable; the document is
// made when first asked for.
type serviceView struct {
	serviceFacts
	page func() *exposition.Document
}

// serviceFacts is all that a view of a service follows from.
type serviceFacts struct {
	service
	org   string
	ttl   time.Duration // how long metrics are served after they were fetched
	stamp time.Time     // the timestamp for their series, zero for none
	up    bool          // the latest attempt to get metrics brought them
}

func newServiceView(f serviceFacts) *serviceView {
	s := &serviceView{serviceFacts: f}
	s.page = sync.OnceValue(func() *exposition.Document {
		doc, _ := s.memo.merge(&s.memo.main, s.parts(nil))
		return doc
	})
	return s
}

// parts appends the service's blocks.
func (s *serviceView) parts(parts []exposition.Part) []exposition.Part {
	return append(parts, exposition.Part{Block: s.block, Timestamp: s.stamp}, exposition.Part{Block: s.listed})
}

// expires returns when the service's data becomes too old to be served.
func (s *serviceView) expires() time.Time { return s.fetchedAt.Add(s.ttl) }

func (s *serviceView) expired(now time.Time) bool {
	return s.block != nil && reached(now, s.expires())
}

// expire returns the service without its data.
func (s *serviceView) expire() *serviceView {
	f := s.serviceFacts
	f.expire()
	f.stamp, f.up = time.Time{}, false
	return newServiceView(f)
}

// memo is what was made of blocks the last time, which is used again as far as it is the
// same. Safe for concurrent use.
type memo struct {
	off  bool // for tests: use nothing again
	mu   sync.Mutex
	main *exposition.Document // of a service, an organization or all of them

	health *exposition.Document // of services
	block  *exposition.Block    // of that
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

// healthBlock returns the health metrics of services.
func (m *memo) healthBlock(services []*serviceView) *exposition.Block {
	var gauges []exposition.Gauge
	for _, s := range services {
		if s.id == "" {
			continue
		}
		add := adder(&gauges, s.org, s.id, s.name())
		add("clickhouse_postgres_service_up", "Whether the last request for the metrics of a Postgres service succeeded.", truth(s.up))
		if !s.fetchedAt.IsZero() {
			add("clickhouse_postgres_service_metrics_last_success_timestamp_seconds", "Unix timestamp of the last successful read of the metrics of a Postgres service.", unixSeconds(s.fetchedAt))
			add("clickhouse_postgres_service_metrics_last_change_timestamp_seconds", "Unix timestamp at which the current metric values of a Postgres service were first seen.", unixSeconds(s.changedAt))
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.off {
		m.block = nil
	}
	m.block = exposition.NewBlock(gauges, m.block)
	return m.block
}
