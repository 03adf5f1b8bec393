package simulator

import (
	"slices"
	"sync"
	"time"
)

// rememberedViews is how many refreshes Series can look back.
const rememberedViews = 32

// A view is the fleet as one refresh found it. It never changes.
type view struct {
	tick     time.Time // the time of the values
	asOf     time.Time // the time of the states: the tick, or later after Simulator.Refresh
	services []*service
}

// capture returns the fleet as of the refresh in force at now. Every change of the fleet calls
// it first, so that a change shows at the next refresh and not before. The caller locks.
func (s *Simulator) capture(now time.Time) *view {
	tick := s.tick(now)
	if n := len(s.views); n > 0 && s.views[n-1].tick.Equal(tick) {
		return s.views[n-1]
	}
	s.fleet.keep(func(v *service) bool { return v.stateAt(tick) != stateGone })
	return s.remember(&view{tick: tick, asOf: tick})
}

// remember completes a view and makes it the latest.
func (s *Simulator) remember(v *view) *view {
	v.services = s.present(v.asOf)
	if len(s.views) == rememberedViews {
		s.views = slices.Delete(s.views, 0, 1)
	}
	s.views = append(s.views, v)
	page := sync.OnceValue(func() []byte {
		return appendPage(nil, s.config.OrganizationID, s.within(v), v.tick, v.asOf)
	})
	s.latestPage.text = page
	s.latestPage.gzip = sync.OnceValue(func() []byte { return compress(page()) })
	return v
}

// present returns the services that a refresh at asOf finds.
func (s *Simulator) present(asOf time.Time) []*service {
	return slices.DeleteFunc(s.fleet.live(asOf), func(v *service) bool { return v.CreatedAt.After(asOf) })
}

// tick returns the last refresh at or before t. The caller locks.
func (s *Simulator) tick(t time.Time) time.Time {
	interval := int64(s.config.RefreshInterval)
	since := t.UnixNano() - int64(s.config.Phase)
	rest := since % interval
	if rest < 0 {
		rest += interval
	}
	tick := time.Unix(0, t.UnixNano()-rest).UTC()
	if tick.Before(s.noTickBefore) {
		return s.noTickBefore
	}
	return tick
}

// viewAt returns the view of the refresh in force at a time, made up of today's fleet if it is
// not remembered.
func (s *Simulator) viewAt(at time.Time) *view {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.capture(s.config.Now())
	tick := s.tick(at)
	for _, v := range slices.Backward(s.views) {
		if v.tick.Equal(tick) {
			return v
		}
	}
	return &view{tick: tick, asOf: tick, services: s.present(tick)}
}

// Refreshed returns when the values served at a time were refreshed.
func (s *Simulator) Refreshed(at time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tick(at)
}

// Refresh makes metrics show the fleet as it is now, ahead of time. Values stay those of the
// last refresh that was due.
func (s *Simulator) Refresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.config.Now()
	s.remember(&view{tick: s.tick(now), asOf: now})
}

// SetPhase moves the time of the refreshes. Metrics never go back: the last refresh of the old
// phase holds until the first of the new one.
func (s *Simulator) SetPhase(phase time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noTickBefore = s.capture(s.config.Now()).tick
	s.config.Phase = phase
}
