package web

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
)

// changing is a collector whose status changes.
type changing struct {
	*fake
	mu     sync.Mutex
	status func(now time.Time) collector.Status
}

func (c *changing) Status() collector.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.status(time.Now())
	s.Time = time.Now().Round(0)
	return s
}

func (c *changing) set(status func(time.Time) collector.Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = status
}

// TestHistory lets hours go by and looks at what is remembered all along.
func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		// Values that tell when they were observed.
		c := &changing{fake: withData(), status: func(now time.Time) collector.Status {
			s := healthyService(1)
			v := now.Sub(start).Seconds()
			s.CPUUsedRatio, s.DiskUsedRatio = &v, nil
			o := working("org", s)
			o.PollSeconds = 1 + math.Mod(v, 10) // every other one is 6
			return collector.Status{Organizations: []collector.OrganizationStatus{o}}
		}}
		h := NewHistory(c)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := h.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		service := trackKey{"org", healthyService(1).ID}
		for elapsed := time.Duration(0); elapsed < 3*time.Hour; elapsed += 59 * time.Second {
			synctest.Wait()
			moments, values := h.track(service)
			n := len(moments)
			span := moments[n-1].Sub(moments[0])
			if n > maxMoments || span > historySpan {
				t.Fatalf("after %s: %d moments, %s", elapsed, n, span)
			}
			if late := time.Since(moments[n-1]); late >= maxSpacing {
				t.Fatalf("after %s: the latest moment is %s old", elapsed, late)
			}
			if elapsed > 2*time.Hour && (span < historySpan*9/10 || n < maxMoments*9/10) ||
				elapsed < time.Hour && span < min(elapsed, historySpan)-2*maxSpacing ||
				elapsed > 5*time.Minute && n < maxMoments/2 {
				t.Fatalf("after %s: %d moments, %s", elapsed, n, span)
			}
			for i, m := range moments {
				if got, want := values[cpuUsed][i], m.Sub(start).Seconds(); math.Abs(float64(got)-want) > 0.01 {
					t.Fatalf("after %s: %v at %v", elapsed, got, want)
				}
				if isKnown(values[diskUsed][i]) || values[connections][i] != 7 {
					t.Fatalf("after %s: %v, %v", elapsed, values[diskUsed][i], values[connections][i])
				}
			}
			// The greatest poll is not lost, whatever is.
			_, organization := h.track(trackKey{"org", ""})
			if poll := organization[pollSeconds]; elapsed > time.Hour && slices.Min(poll[1:]) != 6 {
				t.Fatalf("after %s: polls took %v", elapsed, poll)
			}
			<-time.After(59 * time.Second)
		}

		// What is gone is forgotten after an hour, together with its last value.
		c.set(func(time.Time) collector.Status { return collector.Status{} })
		<-time.After(30 * time.Minute)
		synctest.Wait()
		_, values := h.track(service)
		if cpu := values[cpuUsed]; isKnown(cpu[len(cpu)-1]) || !isKnown(cpu[0]) {
			t.Errorf("half an hour after it was gone: %v", cpu)
		}
		<-time.After(32 * time.Minute)
		synctest.Wait()
		if len(h.tracks) != 0 {
			t.Errorf("%d tracks of what is gone for an hour", len(h.tracks))
		}
		cancel()
		wg.Wait()
	})
}

func TestHistoryOfProblems(t *testing.T) {
	h := NewHistory(withData())
	now := statusTime
	var resolved []problem
	see := func(after time.Duration, change func(*collector.OrganizationStatus)) []problem {
		now = now.Add(after)
		o := working("org", fleet(2)...)
		change(&o)
		s := collector.Status{Time: now, Organizations: []collector.OrganizationStatus{o}}
		h.observe(s)
		found := findProblems(s)
		found, resolved = h.problems(found)
		return found
	}
	well := func(*collector.OrganizationStatus) {}
	unconfirmed := func(o *collector.OrganizationStatus) { o.Unconfirmed, o.UnknownServices = true, 1 }
	if found := see(0, well); len(found) != 0 || len(resolved) != 0 {
		t.Errorf("problems %v, resolved %v", found, resolved)
	}
	began := now.Add(5 * time.Second)
	see(5*time.Second, unconfirmed)
	for _, p := range see(30*time.Second, unconfirmed) {
		if !p.Since.Equal(began) {
			t.Errorf("%s since %s", p.Title, p.Since)
		}
	}
	if found := see(5*time.Second, well); len(found) != 0 {
		t.Errorf("problems %v", found)
	}
	if len(resolved) != 1 || resolved[0].kind != "unconfirmed" || !resolved[0].Since.Equal(began) || !resolved[0].Until.Equal(now) {
		t.Errorf("resolved: %v", resolved)
	}
	// Since the collector knows it better, that stands.
	better := now.Add(-time.Minute)
	fails := func(o *collector.OrganizationStatus) {
		o.Metrics = collector.CallStatus{Tried: true, Error: "no", Since: better}
	}
	if found := see(5*time.Second, fails); len(found) != 1 || !found[0].Since.Equal(better) {
		t.Errorf("problems %v", found)
	}
	see(30*time.Minute, well)
	if len(resolved) != 2 || resolved[0].kind != "metrics" {
		t.Errorf("resolved: %v", resolved)
	}
	see(45*time.Minute, well)
	if len(resolved) != 1 {
		t.Errorf("resolved after an hour: %v", resolved)
	}
	for range 2 * maxResolved {
		see(5*time.Second, unconfirmed)
		see(5*time.Second, well)
	}
	if len(resolved) != maxResolved {
		t.Errorf("%d problems are remembered", len(resolved))
	}
}

// TestHistoryBounds has clocks that jump, services of the same id and more
// services than there is room for.
func TestHistoryBounds(t *testing.T) {
	h := NewHistory(withData())
	observe := func(at time.Duration, services ...collector.ServiceStatus) {
		h.observe(collector.Status{Time: statusTime.Add(at), Organizations: []collector.OrganizationStatus{working("org", services...), working("org")}})
	}
	for i := range 100 {
		observe(time.Duration(i)*observeInterval, healthyService(1), healthyService(1))
	}
	observe(time.Minute, healthyService(1)) // set back
	if moments, _ := h.track(trackKey{}); len(moments) != 1 {
		t.Errorf("%d moments from a future that has not come", len(moments))
	}
	observe(10*time.Hour, healthyService(1)) // asleep meanwhile
	key := trackKey{"org", healthyService(1).ID}
	if moments, values := h.track(key); len(moments) != 1 || len(values[cpuUsed]) != 1 {
		t.Errorf("%d moments after ten hours", len(moments))
	}
	many := make([]collector.ServiceStatus, maxTracks+100)
	for i := range many {
		many[i] = collector.ServiceStatus{ID: fmt.Sprint(i)}
	}
	observe(12*time.Hour, many...)
	observe(12*time.Hour+maxSpacing, many...)
	if len(h.tracks) != maxTracks {
		t.Errorf("%d tracks, %d moments", len(h.tracks), len(h.moments))
	}
	for key, track := range h.tracks {
		for _, column := range track {
			if len(column) != len(h.moments) {
				t.Fatalf("%v has %d values at %d moments", key, len(column), len(h.moments))
			}
		}
	}
}
