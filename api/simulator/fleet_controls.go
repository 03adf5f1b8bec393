package simulator

import (
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator/internal/metrics"
)

// Services returns the services as they are now, in order of creation.
func (s *Simulator) Services() []Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.config.Now()
	live := s.fleet.live(now)
	all := make([]Service, len(live))
	for i, v := range live {
		all[i] = v.snapshot(now)
	}
	return all
}

// Service returns one service as it is now.
func (s *Simulator) Service(id string) (Service, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.config.Now()
	v, ok := s.fleet.get(id, now)
	if !ok || v.stateAt(now) == stateGone {
		return Service{}, false
	}
	return v.snapshot(now), true
}

// Resize grows or shrinks the fleet to n services, besides those created through the API. The
// youngest are removed at once; services that are added are new ones. Metrics follow at the next
// refresh.
func (s *Simulator) Resize(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.capture(s.config.Now())
	s.fleet.resize(n, s.config.member)
}

// change replaces a service with a copy that alter has changed. It returns false for an unknown
// id.
func (s *Simulator) change(id string, alter func(v *service, now time.Time)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.config.Now()
	s.capture(now)
	old, ok := s.fleet.get(id, now)
	if !ok || old.stateAt(now) == stateGone {
		return false
	}
	v := *old
	alter(&v, now)
	s.fleet.put(&v)
	return true
}

// Rename gives a service any name, even one that the API would refuse or that another service
// has. As with every method that changes one service, the change shows in the list at once and
// in metrics at the next refresh, and the result is false if there is no such service.
func (s *Simulator) Rename(id, name string) bool {
	return s.change(id, func(v *service, _ time.Time) { v.name = name })
}

// SetState puts a service into any state, even one that the API does not document, and keeps it
// there. Counters are reset when a service becomes running that was not. A service that becomes
// creating was created now, and has no backup.
func (s *Simulator) SetState(id, state string) bool {
	return s.change(id, func(v *service, now time.Time) {
		if state == stateRunning && !v.running(now) {
			v.Boot = now
		}
		switch {
		case state == stateCreating:
			v.CreatedAt, v.firstBackup = now.UTC().Truncate(time.Second), time.Time{}
		case state == stateRunning && v.primary && v.firstBackup.IsZero():
			v.firstBackup = now.Add(s.config.BackupDelay)
		}
		v.phases, v.queued = []phase{{now, state}}, nil
	})
}

// SetTags replaces the tags of a service. Any are accepted.
func (s *Simulator) SetTags(id string, tags ...Tag) bool {
	return s.change(id, func(v *service, _ time.Time) { v.tags = slices.Clone(tags) })
}

// SetSize changes the size of a service without a restart. An unknown size has one core.
func (s *Simulator) SetSize(id, size string) bool {
	return s.change(id, func(v *service, _ time.Time) {
		v.size, v.queued = size, nil
		if m, ok := machineOf(size); ok {
			v.Machine = m
		} else {
			v.Machine = metrics.Machine{Cores: 1, MemoryGiB: 8, StorageGiB: 59}
		}
	})
}

// SetFreeDisk sets how many bytes of a service's disk are free. Metrics show it as a percentage
// with two decimals. 0 ends it.
func (s *Simulator) SetFreeDisk(id string, bytes float64) bool {
	return s.change(id, func(v *service, _ time.Time) { v.FreeDisk = bytes })
}

// StopBackups makes all further backups of a service fail.
func (s *Simulator) StopBackups(id string) bool {
	return s.change(id, func(v *service, now time.Time) { v.backupsEnd = now })
}

// Delete removes a service at once, as if its deletion were complete.
func (s *Simulator) Delete(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.config.Now()
	s.capture(now)
	v, ok := s.fleet.get(id, now)
	if !ok || v.stateAt(now) == stateGone {
		return false
	}
	s.fleet.keep(func(v *service) bool { return v.id != id })
	return true
}

// ResetCounters resets the counters of some services, or of all if none is named, at the next
// refresh, as an unannounced failover does.
func (s *Simulator) ResetCounters(ids ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.config.Now()
	s.capture(now)
	for _, old := range s.fleet.live(now) {
		if len(ids) == 0 || slices.Contains(ids, old.id) {
			v := *old
			v.Boot = now
			s.fleet.put(&v)
		}
	}
}
