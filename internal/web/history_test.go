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
			past := h.pick([]trackKey{service, {"org", ""}})
			n := len(past.moments)
			span := past.moments[n-1].Sub(past.moments[0])
			if n > mostMoments || span > historySpan {
				t.Fatalf("after %s: %d moments, %s", elapsed, n, span)
			}
			if late := time.Since(past.moments[n-1]); late >= widestSpacing {
				t.Fatalf("after %s: the latest moment is %s old", elapsed, late)
			}
			if elapsed > 2*time.Hour && (span < historySpan*9/10 || n < mostMoments*9/10) ||
				elapsed < time.Hour && span < min(elapsed, historySpan)-2*widestSpacing ||
				elapsed > 5*time.Minute && n < mostMoments/2 {
				t.Fatalf("after %s: %d moments, %s", elapsed, n, span)
			}
			values := past.tracks[service]
			for i, m := range past.moments {
				if got, want := values[cpuUsed][i], m.Sub(start).Seconds(); math.Abs(float64(got)-want) > 0.01 {
					t.Fatalf("after %s: %v at %v", elapsed, got, want)
				}
				if isSomething(values[diskUsed][i]) || values[connections][i] != 7 {
					t.Fatalf("after %s: %v, %v", elapsed, values[diskUsed][i], values[connections][i])
				}
			}
			// The greatest poll is not lost, whatever is.
			if poll := past.tracks[trackKey{"org", ""}][pollSeconds]; elapsed > time.Hour && slices.Min(poll[1:]) != 6 {
				t.Fatalf("after %s: polls took %v", elapsed, poll)
			}
			<-time.After(59 * time.Second)
		}

		// What is gone is forgotten after an hour, together with its last value.
		c.set(func(time.Time) collector.Status { return collector.Status{} })
		<-time.After(30 * time.Minute)
		synctest.Wait()
		values := h.pick([]trackKey{service}).tracks[service][cpuUsed]
		if isSomething(values[len(values)-1]) || !isSomething(values[0]) {
			t.Errorf("half an hour after it was gone: %v", values)
		}
		<-time.After(32 * time.Minute)
		synctest.Wait()
		if past := h.pick([]trackKey{service, {"org", ""}}); len(past.tracks) != 0 || len(h.tracks) != 0 {
			t.Errorf("%d tracks of what is gone for an hour", len(h.tracks))
		}
		cancel()
		wg.Wait()
	})
}

func TestHistoryOfProblems(t *testing.T) {
	h := NewHistory(withData())
	now := statusTime
	see := func(after time.Duration, change func(*collector.OrganizationStatus)) []problem {
		now = now.Add(after)
		o := working("org", fleet(2)...)
		change(&o)
		s := collector.Status{Time: now, Organizations: []collector.OrganizationStatus{o}}
		h.observe(s)
		found := findProblems(s)
		h.since(found)
		return found
	}
	well := func(*collector.OrganizationStatus) {}
	unconfirmed := func(o *collector.OrganizationStatus) { o.Unconfirmed, o.UnknownServices = true, 1 }
	if found := see(0, well); len(found) != 0 || len(h.over()) != 0 {
		t.Errorf("problems %v, over %v", found, h.over())
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
	over := h.over()
	if len(over) != 1 || over[0].key.kind != "unconfirmed" || !over[0].Since.Equal(began) || !over[0].Until.Equal(now) {
		t.Errorf("over: %v", over)
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
	if over := h.over(); len(over) != 2 || over[0].key.kind != "metrics" {
		t.Errorf("over: %v", over)
	}
	see(45*time.Minute, well)
	if over := h.over(); len(over) != 1 {
		t.Errorf("over after an hour: %v", over)
	}
	for range 2 * mostEnded {
		see(5*time.Second, unconfirmed)
		see(5*time.Second, well)
	}
	if over := h.over(); len(over) != mostEnded {
		t.Errorf("%d problems are remembered", len(over))
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
		observe(time.Duration(i)*observeEvery, healthyService(1), healthyService(1))
	}
	observe(time.Minute, healthyService(1)) // set back
	if past := h.pick(nil); len(past.moments) != 1 {
		t.Errorf("%d moments from a future that has not come", len(past.moments))
	}
	observe(10*time.Hour, healthyService(1)) // asleep meanwhile
	key := trackKey{"org", healthyService(1).ID}
	if past := h.pick([]trackKey{key}); len(past.moments) != 1 || len(past.tracks[key][cpuUsed]) != 1 {
		t.Errorf("%d moments after ten hours", len(past.moments))
	}
	many := make([]collector.ServiceStatus, mostTracks+100)
	for i := range many {
		many[i] = collector.ServiceStatus{ID: fmt.Sprint(i)}
	}
	observe(12*time.Hour, many...)
	observe(12*time.Hour+widestSpacing, many...)
	if len(h.tracks) != mostTracks {
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

func TestPlot(t *testing.T) {
	nan, inf := nothing(), float32(math.Inf(1))
	for _, test := range []struct {
		name       string
		values     []float32
		top        float64
		line, area string
		dots       int
	}{
		{"none", nil, 1, "", "", 0},
		{"nothing", []float32{nan, nan, nan}, 1, "", "", 0},
		{"one", []float32{0.5}, 1, "", "", 1},
		{"line", []float32{0, 1, 0.5}, 1, "M0 11L50 1L100 6", "M0 12L0 11L50 1L100 6L100 12Z", 0},
		{"beyond the top", []float32{0, 2, 1}, 1, "M0 11L50 1L100 6", "M0 12L0 11L50 1L100 6L100 12Z", 0},
		{"all zero", []float32{0, 0, 0}, 0, "M0 11L50 11L100 11", "M0 12L0 11L50 11L100 11L100 12Z", 0},
		{"below zero", []float32{-1, 1, 1}, 0, "M0 11L50 1L100 1", "M0 12L0 11L50 1L100 1L100 12Z", 0},
		{"gap", []float32{0, 0, nan, 1, 1}, 1, "M0 11L25 11M75 1L100 1", "M0 12L0 11L25 11L25 12ZM75 12L75 1L100 1L100 12Z", 0},
		{"alone", []float32{0, 0, nan, 1, nan}, 1, "M0 11L25 11", "M0 12L0 11L25 11L25 12Z", 1},
		{"infinite", []float32{inf, inf, inf}, 1, "M0 1L50 1L100 1", "M0 12L0 1L50 1L100 1L100 12Z", 0},
		{"peaks stay", []float32{0, 0, 1, 0, 0, 0, 0, 0, 0, 0}, 1, "M11 11L33 1L56 11L78 11L100 11", "M11 12L11 11L33 1L56 11L78 11L100 11L100 12Z", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			moments := make([]time.Time, len(test.values))
			for i := range moments {
				moments[i] = statusTime.Add(time.Duration(i) * time.Minute)
			}
			p := drawing{width: 100, height: 12, top: test.top, points: 5}.draw(moments, test.values)
			if p.Line != test.line || p.Area != test.area || len(p.Dots) != test.dots {
				t.Errorf("line %s, area %s, dots %v", p.Line, p.Area, p.Dots)
			}
		})
	}
}
