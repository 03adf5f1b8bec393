package schedule

import (
	"testing"
	"time"
)

// An outage costs few requests and is over with the first success.
func TestPlannerOutage(t *testing.T) {
	f := newFleet(t, capRejects, 150, planConfig())
	f.run(20 * time.Minute)
	f.down = true
	f.run(5 * time.Minute)
	before := len(f.requests)
	f.run(time.Hour)
	if got := len(f.requests) - before; got > 2*60+2*60+6+10 {
		t.Errorf("%d requests in an hour of outage", got)
	}
	f.down = false
	back := f.now
	f.run(30*time.Second + 4*time.Minute)
	for _, id := range f.ids {
		if last := f.data[id][len(f.data[id])-1]; last.Before(back) {
			t.Errorf("%s was not asked after the outage", id)
		}
	}
	if got := f.refusals(); got != 0 {
		t.Errorf("upstream refused %d requests", got)
	}
}

// Requests do not become more when a few services fail all at once.
func TestPlannerOutageOfFew(t *testing.T) {
	cfg := planConfig()
	cfg.NoOrganizationMetrics = true
	f := newFleet(t, capTruncates, 5, cfg)
	f.run(20 * time.Minute)
	before := f.sent(ServicePage)
	f.run(10 * time.Minute)
	calm := f.sent(ServicePage) - before
	f.down = true
	before = f.sent(ServicePage)
	f.run(10 * time.Minute)
	if got := f.sent(ServicePage) - before; got > calm {
		t.Errorf("%d requests in an outage, %d before", got, calm)
	}
	f.down = false
	back := f.now
	f.run(61 * time.Second)
	for _, id := range f.ids {
		if last := f.data[id][len(f.data[id])-1]; last.Before(back) {
			t.Errorf("%s was not asked after the outage", id)
		}
	}
	if got := f.sent(OrganizationPage); got != 0 {
		t.Errorf("the organization's metrics were called for %d times", got)
	}
}

// The call for the organization fails, the services' own do not.
func TestPlannerOrganizationCallFails(t *testing.T) {
	f := newFleet(t, capTruncates, 60, planConfig())
	f.run(10 * time.Minute)
	f.fail = func(r Request) (Result, bool) {
		return ResultFailed, r.Call == OrganizationPage
	}
	f.run(20 * time.Minute)
	if longest, _ := f.gaps(f.ids, 2*time.Minute); longest > 5*time.Minute {
		t.Errorf("a service was without new data for %s", longest)
	}
	if sum := f.planner.Summary(); sum.Uncovered != 60 || sum.OrganizationCall != CallRegularly {
		t.Errorf("plan: %+v", sum)
	}
	f.fail = nil
	f.run(2 * time.Minute)
	if sum := f.planner.Summary(); sum.Uncovered != 0 {
		t.Errorf("plan after recovery: %+v", sum)
	}
}

// Few services are chosen of many, and the truncated answer holds none of them.
func TestPlannerUselessOrganizationCall(t *testing.T) {
	f := newFleet(t, capTruncates, 3, planConfig())
	f.other = 400
	f.run(time.Hour)
	if sum := f.planner.Summary(); sum.OrganizationCall != CallUseless || sum.Uncovered != 3 {
		t.Errorf("plan: %+v", sum)
	}
	if got := f.sent(OrganizationPage); got > maxUselessPages+7 {
		t.Errorf("a useless call was made %d times in an hour", got)
	}
	f.gaps(f.ids, time.Minute)
	f.other = 50
	f.run(probeInterval + time.Minute)
	if sum := f.planner.Summary(); sum.OrganizationCall != CallRegularly || sum.Uncovered != 0 {
		t.Errorf("plan with all services in the answer: %+v", sum)
	}
}

func TestPlannerListFails(t *testing.T) {
	f := newFleet(t, capTruncates, 10, planConfig())
	f.fail = func(r Request) (Result, bool) { return ResultFailed, r.Call == List }
	f.run(10 * time.Minute)
	// Metrics come anyway, and the list is asked for again.
	f.gaps(f.ids, time.Minute)
	if got := f.sent(List); got < 18 || got > 22 {
		t.Errorf("%d requests for the list in ten minutes", got)
	}
}

func TestPlannerPause(t *testing.T) {
	f := newFleet(t, capRejects, 300, planConfig())
	f.run(10 * time.Minute)
	until := f.now.Add(2 * time.Minute)
	f.planner.PauseUntil(until)
	f.planner.PauseUntil(until.Add(-time.Minute)) // does not shorten it
	before := len(f.requests)
	f.run(2*time.Minute - time.Millisecond)
	if got := len(f.requests) - before; got != 0 {
		t.Errorf("%d requests in a pause", got)
	}
	f.run(time.Minute)
	if got := len(f.requests) - before; got < 40 || got > 48 {
		t.Errorf("%d requests in the minute after a pause, want the usual", got)
	}
}

// A suspended machine or a loop that hangs does not lead to a burst.
func TestPlannerAfterSuspension(t *testing.T) {
	f := newFleet(t, capTruncates, 300, planConfig())
	f.run(10 * time.Minute)
	f.now = f.now.Add(10 * time.Minute)
	for i := range f.inFlight { // answered late
		f.inFlight[i].ends = f.now
	}
	f.run(10 * time.Minute)
	if got := f.refusals(); got != 0 {
		t.Errorf("upstream refused %d requests", got)
	}
}

// However small the budget is, everything gets its share.
func TestPlannerTinyBudget(t *testing.T) {
	for _, spacing := range []time.Duration{10 * time.Second, time.Minute} {
		cfg := planConfig()
		cfg.Spacing = spacing
		f := newFleet(t, capTruncates, 110, cfg)
		f.run(4 * time.Hour)
		total := len(f.requests)
		for call, most := range map[Call]float64{List: .37, OrganizationPage: .37, ServicePage: .8} {
			share := float64(f.sent(call)) / float64(total)
			if share < .1 || share > most {
				t.Errorf("spacing %s: %s has %.0f%% of %d requests", spacing, call, 100*share, total)
			}
		}
		longest, _ := f.gaps(f.ids, time.Hour)
		if period := f.planner.Summary().Period; longest > max(period, 2*time.Minute, 6*spacing)*6/5 {
			t.Errorf("spacing %s: a service was without new data for %s, the period is %s", spacing, longest, period)
		}
	}
}

func TestPlannerReconfigure(t *testing.T) {
	f := newFleet(t, capRejects, 300, planConfig())
	f.run(30*time.Minute + 300*time.Millisecond)
	f.inFlight, f.asked = nil, map[Request]bool{}
	cfg := planConfig()
	cfg.Spacing /= 10 // a raised limit
	cfg.Details = []Detail{{"hostname", time.Hour, false}}
	f.planner.Abort()
	f.planner.Reconfigure(cfg)
	from := f.now.Sub(f.start)
	f.run(time.Minute)
	if got := f.planner.Summary(); got.Period > 45*time.Second || got.OrganizationCall != CallRefused {
		t.Errorf("plan: %+v", got)
	}
	// The order is kept: oldest first, nobody twice before everybody was asked.
	longest, _ := f.gaps(f.ids, from-time.Minute)
	if most := 8*time.Minute + 30*time.Second; longest > most {
		t.Errorf("a service was without new data for %s, want at most %s", longest, most)
	}
	f.run(30 * time.Minute)
	if longest, _ := f.gaps(f.ids, from+3*time.Minute); longest > 54*time.Second {
		t.Errorf("a service was without new data for %s", longest)
	}
	if got := f.sent("hostname"); got == 0 {
		t.Error("new details were not asked for")
	}
}
