package schedule

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// Whatever happens in whatever order, the planner keeps its books.
func FuzzPlanner(f *testing.F) {
	f.Add([]byte("a fleet comes and goes"))
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 200, 201, 202, 203, 204, 205})
	f.Fuzz(func(t *testing.T, script []byte) {
		cfg := planConfig()
		cfg.Details = []Detail{{"hostname", time.Minute, false}, {"quotas", time.Minute, true}}
		now := fleetStart
		p := New(cfg, now)
		states := []string{"running", "stopped", "creating", "restarting"}
		var inFlight []Request
		last := time.Time{}
		for i, op := range script {
			n := int(op >> 3)
			switch op & 7 {
			case 0, 1, 2:
				r, ok := p.Next(now)
				if !ok {
					continue
				}
				if r.At.Before(now) {
					t.Fatalf("planned for the past: %v at %v", r, now)
				}
				now = r.At
				if r, ok = p.Next(now); !ok || r.At.After(now) {
					continue // time has brought a change of plan
				}
				if !last.IsZero() && now.Sub(last) < cfg.Spacing {
					t.Fatalf("%s after the last request", now.Sub(last))
				}
				last = now
				if slices.ContainsFunc(inFlight, func(o Request) bool { return o.Call == r.Call && o.Service == r.Service }) {
					t.Fatalf("%v is under way already", r)
				}
				p.Started(r, now)
				inFlight = append(inFlight, r)
			case 3, 4:
				if len(inFlight) == 0 {
					continue
				}
				r := inFlight[n%len(inFlight)]
				inFlight = slices.DeleteFunc(inFlight, func(o Request) bool { return o == r })
				out := Outcome{Result: Result(n % 3), Changed: i%2 == 0}
				for id := range n {
					out.Services = append(out.Services, fmt.Sprint(id))
				}
				p.Finished(r, now, out)
			case 5:
				var services []Service
				for id := range n {
					services = append(services, Service{ID: fmt.Sprint(id), Activity: activityOf(states[(id+i)%len(states)])})
				}
				p.SetServices(now, services, n*5)
			case 6:
				now = now.Add(time.Duration(n) * 10 * time.Second)
			case 7:
				if n < 16 {
					p.PauseUntil(now.Add(time.Duration(n) * time.Second))
				} else {
					p.Reconfigure(cfg)
					if n%2 == 0 {
						inFlight = nil
						p.Abort()
					}
				}
			}
			p.checkBooks(t)
		}
	})
}

// checkBooks compares what the planner counts with what there is.
func (p *Planner) checkBooks(t *testing.T) {
	t.Helper()
	var count [activities]int
	for _, s := range p.services {
		if p.counted(s) {
			count[s.activity]++
		}
		if len(s.detailsDue) != len(p.cfg.Details) {
			t.Fatalf("%d details of %s", len(s.detailsDue), s.id)
		}
	}
	if count != p.count {
		t.Fatalf("count %v, want %v", p.count, count)
	}
}

func BenchmarkPlanner(b *testing.B) {
	for _, n := range []int{100, 2000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			now := fleetStart
			p := New(planConfig(), now)
			var services []Service
			for i := range n {
				services = append(services, Service{ID: fmt.Sprintf("service-%05d", i), Activity: Running})
			}
			p.SetServices(now, services, n)
			b.ReportAllocs()
			for b.Loop() {
				r, _ := p.Next(now)
				now = r.At
				p.Started(r, now)
				p.Finished(r, now, Outcome{})
			}
		})
	}
}
