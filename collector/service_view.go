package collector

import (
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// serviceView is what one service looks like at one moment. Immutable.
type serviceView struct {
	serviceFacts
	labels labels.Labels // of its health
	memo   *memo
	page   func() *exposition.Document
}

// serviceFacts is all that a view of a service follows from.
type serviceFacts struct {
	org, id, name string
	entry         *inventory.Service // nil if the list does not name it
	hostname      string

	block     *exposition.Block // upstream's series, nil if there are none or they are too old
	listed    *exposition.Block // what the inventory says
	fetchedAt time.Time         // zero before the first metrics
	changedAt time.Time
	ttl       time.Duration // how long block is served after it was fetched
	stamp     time.Time     // the timestamp for block's series, zero for none
	up        bool          // the latest attempt to get its metrics brought them
	failed    string        // why its own page could not be had, "" if it could

	utilization utilization
}

func newServiceView(f serviceFacts, m *memo) *serviceView {
	s := &serviceView{serviceFacts: f, labels: labelsOf(f.org, f.id, f.name)(), memo: m}
	s.page = sync.OnceValue(func() *exposition.Document {
		health := exposition.Part{Block: m.healthBlock([]*serviceView{s})}
		doc, _ := m.merge(append(s.parts(nil), health))
		return doc
	})
	return s
}

// parts appends the service's blocks, all but its health.
func (s *serviceView) parts(parts []exposition.Part) []exposition.Part {
	if s.block != nil {
		parts = append(parts, exposition.Part{Block: s.block, Timestamp: s.stamp})
	}
	if s.listed != nil {
		parts = append(parts, exposition.Part{Block: s.listed})
	}
	return parts
}

// expires returns when the service's data becomes too old to be served.
func (s *serviceView) expires() time.Time { return s.fetchedAt.Add(s.ttl) }

func (s *serviceView) expired(now time.Time) bool {
	return s.block != nil && reached(now, s.expires())
}

// expire returns the service without its data.
func (s *serviceView) expire() *serviceView {
	f := s.serviceFacts
	f.block, f.stamp, f.up = nil, time.Time{}, false
	return newServiceView(f, s.memo)
}

// unavailable returns why there is no page of the service, nil if there is one.
func (s *serviceView) unavailable(v *organizationView, now time.Time) error {
	if s.block != nil {
		return nil
	}
	why := s.failed
	if why == "" && v.metricsErr != nil {
		why = v.metricsErr.Error()
	}
	if s.fetchedAt.IsZero() {
		// A service that is being created has no metrics yet, and that is not an
		// outage: what the inventory says is the whole answer.
		if s.entry != nil && !s.entry.Running() && !reached(now, v.inventory.ReadAt.Add(v.config.MaxAge)) {
			return nil
		}
		if why == "" {
			why = "upstream has not been asked yet, or its answer leaves the service out"
		}
		return &UnavailableError{Reason: fmt.Sprintf("no metrics of service %s: %s", s.id, why)}
	}
	reason := fmt.Sprintf("the metrics of service %s have expired: the last ones are %s old",
		s.id, age(now, s.fetchedAt).Round(time.Second))
	if why != "" {
		reason += "; " + why
	}
	return &UnavailableError{Reason: reason}
}

// healthBlock returns the health metrics of services. The user's rules do not apply to
// them: a rule that keeps a few metrics must not blind those who watch.
func (m *memo) healthBlock(services []*serviceView) *exposition.Block {
	gauges := make([]exposition.Gauge, 0, 3*len(services))
	for _, s := range services {
		gauges = append(gauges, exposition.Gauge{
			Name:   serviceUpName,
			Help:   "Whether the latest request for a Postgres service's metrics brought them.",
			Labels: s.labels,
			Value:  truth(s.up),
		})
		if s.fetchedAt.IsZero() {
			continue
		}
		gauges = append(gauges, exposition.Gauge{
			Name:   serviceLastSuccessName,
			Help:   "When a Postgres service's metrics were last read, in seconds since 1970.",
			Labels: s.labels,
			Value:  unixSeconds(s.fetchedAt),
		}, exposition.Gauge{
			Name:   serviceLastChangeName,
			Help:   "When a Postgres service's metrics were first seen to have the values they have, in seconds since 1970.",
			Labels: s.labels,
			Value:  unixSeconds(s.changedAt),
		})
	}
	metrics := exposition.NewMetrics(gauges)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.off {
		m.health, m.block = nil, nil
	}
	if m.health == nil || !metrics.Equal(m.health) {
		m.health = metrics
		m.block = exposition.Expose(metrics, nil, nil, m.block)
	}
	return m.block
}
