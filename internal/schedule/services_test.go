package schedule

import (
	"slices"
	"testing"
	"time"
)

func TestPlannerStates(t *testing.T) {
	f := newFleet(t, capRejects, 200, planConfig())
	of := func(state string, from, to int) (ids []string) {
		for _, id := range f.ids[from:to] {
			f.states[id] = state
			ids = append(ids, id)
		}
		return ids
	}
	running := f.ids[:140]
	stopped := of("stopped", 140, 160)
	creating := of("creating", 160, 180)
	deleting := of("deleting", 180, 190)
	changing := of("hibernating", 190, 200) // not known here
	f.run(time.Hour)
	rate := func(ids []string) float64 {
		n := 0
		for _, id := range ids {
			n += f.asks[id]
		}
		return float64(n) / float64(len(ids))
	}
	if got := rate(creating) + rate(deleting); got != 0 {
		t.Errorf("services that cannot answer were asked %.1f times", got)
	}
	sum := f.planner.Summary()
	if sum.Uncovered != 170 {
		t.Errorf("%d uncovered, want 170", sum.Uncovered)
	}
	often := time.Hour.Seconds() / sum.Period.Seconds()
	for _, c := range []struct {
		what string
		ids  []string
		want float64
	}{{"running", running, often}, {"changing", changing, often / 2}, {"stopped", stopped, often / 4}} {
		if got := rate(c.ids); got < c.want-1.5 || got > c.want+1.5 {
			t.Errorf("%s services were asked %.1f times, want about %.1f", c.what, got, c.want)
		}
	}

	// Started at last: its turn comes soon.
	for _, id := range creating {
		f.states[id] = "running"
	}
	f.run(3 * time.Minute)
	for _, id := range creating {
		if len(f.data[id]) == 0 {
			t.Errorf("%s runs and was not asked", id)
		}
	}
}

func TestPlannerFailingServices(t *testing.T) {
	f := newFleet(t, capRejects, 200, planConfig())
	bad := map[string]bool{}
	for i := 0; i < 200; i += 4 { // a quarter
		bad[f.ids[i]] = true
	}
	f.fail = func(r Request) (Result, bool) { return ResultFailed, bad[r.Service] }
	f.run(2 * time.Hour)
	sum := f.planner.Summary()
	good := slices.DeleteFunc(slices.Clone(f.ids), func(id string) bool { return bad[id] })
	if longest, _ := f.gaps(good, sum.Period*3/2); longest > sum.Period*6/5 {
		t.Errorf("failing services kept another waiting for %s, the period is %s", longest, sum.Period)
	}
	for id := range bad {
		// Backing off to one attempt in four periods.
		if got, most := f.asks[id], int(2*time.Hour/(2*sum.Period))+3; got < 5 || got > most {
			t.Errorf("%s fails and was asked %d times, want 5 to %d", id, got, most)
		}
	}
	// They come back without a restart.
	f.fail = nil
	f.run(max(probeInterval, 4*sum.Period) + time.Minute)
	for id := range bad {
		if len(f.data[id]) == 0 {
			t.Errorf("%s answers again and was not asked", id)
		}
	}
}

// Slow answers hold up neither other services nor the list.
func TestPlannerSlowUpstream(t *testing.T) {
	f := newFleet(t, capRejects, 300, planConfig())
	f.latency = 10 * time.Second
	f.run(90 * time.Minute)
	sum := f.planner.Summary()
	if longest, _ := f.gaps(f.ids, 20*time.Minute); longest > sum.Period*6/5 {
		t.Errorf("a service was without new data for %s, the period is %s", longest, sum.Period)
	}
	if got := f.longest(List, 0); got > 90*time.Second {
		t.Errorf("%s between two lists", got)
	}
}

func TestPlannerDetails(t *testing.T) {
	cfg := planConfig()
	cfg.Details = []Detail{{"hostname", 6 * time.Hour, false}, {"settings", time.Hour, false}, {"quotas", time.Hour, true}}
	f := newFleet(t, capRejects, 130, cfg)
	f.states[f.ids[7]] = "creating"
	refused, failing := f.ids[9], f.ids[10]
	f.fail = func(r Request) (Result, bool) {
		if r.Service == failing {
			return ResultFailed, r.Call == "hostname"
		}
		return ResultRefused, r.Call == "settings" && r.Service == refused
	}
	f.run(4 * time.Hour)
	counts := map[string]map[Call]int{}
	for _, r := range f.requests {
		if counts[r.Service] == nil {
			counts[r.Service] = map[Call]int{}
		}
		counts[r.Service][r.Call]++
	}
	for i, id := range f.ids {
		got := counts[id]
		switch {
		case i == 7:
			if len(got) != 0 {
				t.Errorf("%s is being created and was asked: %v", id, got)
			}
		case id == failing:
			if n := got["hostname"]; n < 10 || n > 24 {
				t.Errorf("a detail that fails was asked for %d times", n)
			}
		case id == refused:
			if n := got["settings"]; n != 1 {
				t.Errorf("a refused detail was asked for %d times", n)
			}
		case got["hostname"] != 1 || got["settings"] < 3 || got["settings"] > 4:
			t.Errorf("%s: %v", id, got)
		}
	}
	if got := counts[""]["quotas"]; got < 3 || got > 4 {
		t.Errorf("a detail of the organization was asked for %d times", got)
	}
	if longest, _ := f.gaps(f.ids[11:], time.Hour); longest > f.planner.Summary().Period*6/5 {
		t.Errorf("details kept metrics waiting for %s", longest)
	}
	if got := f.refusals(); got != 0 {
		t.Errorf("upstream refused %d requests", got)
	}
}

// A reload that does not change what is wanted asks for nothing again.
func TestReconfigureKeepsDetails(t *testing.T) {
	cfg := planConfig()
	cfg.Details = []Detail{{"settings", time.Hour, false}, {"quotas", time.Hour, true}}
	f := newFleet(t, capRejects, 3, cfg)
	f.run(10 * time.Minute)
	before := f.sent("settings") + f.sent("quotas")
	cfg.InventoryInterval *= 2
	f.planner.Reconfigure(cfg)
	f.run(10 * time.Minute)
	if after := f.sent("settings") + f.sent("quotas"); before != 4 || after != before {
		t.Errorf("%d requests for details before, %d after", before, after)
	}
	cfg.Details = cfg.Details[:1]
	f.planner.Reconfigure(cfg)
	f.run(10 * time.Minute)
	if got := f.sent("settings"); got != 6 {
		t.Errorf("%d requests for settings after others are wanted no more", got)
	}
}

// What data was promised when it came holds until there is newer data.
func TestPlannerPeriodDoesNotShrinkUnderOldData(t *testing.T) {
	f := newFleet(t, capRejects, 1000, planConfig())
	f.run(time.Hour)
	before := f.planner.Period(f.ids[0])
	if want := f.planner.Summary().Period; before < want {
		t.Fatalf("Period() = %s, want at least %s", before, want)
	}
	f.resize(120)
	f.run(61 * time.Second)
	if got := f.planner.Summary().Period; got > 3*time.Minute {
		t.Errorf("planned period is %s", got)
	}
	kept := 0
	for _, id := range f.ids {
		if f.planner.Period(id) >= before-time.Second {
			kept++
		}
	}
	if kept < 50 {
		t.Errorf("only %d services keep the period that their data came under", kept)
	}
	f.run(10 * time.Minute)
	for _, id := range f.ids {
		if got := f.planner.Period(id); got > 3*time.Minute {
			t.Errorf("%s: period is still %s", id, got)
		}
	}
	if got := f.planner.Period("unknown"); got != time.Minute {
		t.Errorf("Period(unknown) = %s", got)
	}
}

func TestPlannerLearnsThePhaseOfASingleService(t *testing.T) {
	f := newFleet(t, capTruncates, 1, planConfig())
	f.run(20 * time.Minute)
	sum := f.planner.Summary()
	if off := sum.PhasePeriod - time.Minute; !sum.PhaseLearned || off < -2*time.Second || off > 2*time.Second {
		t.Errorf("plan: %+v", sum)
	}
	if off := (sum.PhaseNext.Sub(f.start) + 30*time.Second) % time.Minute; off < 25*time.Second || off > 35*time.Second {
		t.Errorf("next refresh is expected at %s, want a full minute", sum.PhaseNext.Sub(f.start))
	}
}
