package schedule

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// rhythm is an upstream that renews its values at moments that nobody tells.
type rhythm struct {
	name   string
	period time.Duration
	drift  time.Duration // the phase swings by this much to either side within an hour
	jitter time.Duration // each refresh is off by up to this much
	off    bool          // values are constant
	moving bool          // values move all the time
}

// refreshes returns the moments of an hour and a bit, after start.
func (r rhythm) refreshes(start time.Time, phase time.Duration, rng *rand.Rand) []time.Time {
	var times []time.Time
	for k := -2; ; k++ {
		t := phase + time.Duration(k)*r.period
		swing := time.Duration(float64(r.drift) * math.Sin(2*math.Pi*float64(t)/float64(time.Hour)))
		if r.jitter > 0 {
			swing += time.Duration(rng.Int64N(int64(2*r.jitter))) - r.jitter
		}
		times = append(times, start.Add(t+swing))
		if t > 65*time.Minute {
			return times
		}
	}
}

// poller is a way to choose the next poll.
type poller interface {
	Next() time.Time
	Observe(asked, answered time.Time, changed bool)
}

// everyInterval is plain polling.
type everyInterval struct {
	interval time.Duration
	next     time.Time
}

func (e *everyInterval) Next() time.Time { return e.next }

func (e *everyInterval) Observe(asked, _ time.Time, _ bool) { e.next = asked.Add(e.interval) }

// phaseRun is what an hour brought.
type phaseRun struct {
	polls   int
	ages    []time.Duration // of upstream's data in the program's memory, now and then
	longest time.Duration   // between two polls
	learned time.Duration   // of the hour
}

func (r phaseRun) median() time.Duration { return r.quantile(0.5) }

func (r phaseRun) quantile(q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(r.ages))
	return sorted[int(q*float64(len(sorted)-1))].Round(100 * time.Millisecond)
}

// simulate polls an upstream for an hour. Ages are counted from the moment at
// which upstream had made the values that the program holds.
func (r rhythm) simulate(p poller, phase time.Duration, seed uint64) phaseRun {
	rng := rand.New(rand.NewPCG(seed, 1))
	start := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	refreshes := r.refreshes(start, phase, rng)
	latest := func(at time.Time) int { // which values upstream has
		switch {
		case r.off:
			return 0
		case r.moving:
			return int(at.Sub(start) / time.Millisecond)
		}
		n, _ := slices.BinarySearchFunc(refreshes, at, func(a, b time.Time) int { return a.Compare(b) })
		return n - 1
	}
	var run phaseRun
	end, second := start.Add(time.Hour), start
	held, heldSince := -1, start
	last := start
	for asked := start; asked.Before(end); {
		run.polls++
		run.longest = max(run.longest, asked.Sub(last))
		last = asked
		latency := 50*time.Millisecond + time.Duration(rng.Int64N(int64(400*time.Millisecond)))
		served, answered := asked.Add(latency/2), asked.Add(latency)
		// Scrapes until the answer is there see what was there before.
		for ; second.Before(answered); second = second.Add(1700 * time.Millisecond) {
			if held >= 0 {
				run.ages = append(run.ages, second.Sub(heldSince))
				if phase, ok := p.(*Phase); ok {
					if _, _, ok := phase.Learned(); ok {
						run.learned += 1700 * time.Millisecond
					}
				}
			}
		}
		now := latest(served)
		changed := now != held
		if held = now; !r.off && !r.moving {
			heldSince = refreshes[now]
		}
		p.Observe(asked, answered, changed)
		// Even the most punctual program is a little late.
		asked = p.Next().Add(time.Duration(rng.Int64N(int64(100 * time.Millisecond))))
		if least := answered; asked.Before(least) {
			asked = least
		}
	}
	return run
}

// phases returns runs over phases spread over the period.
func (r rhythm) phases(newPoller func() poller) []phaseRun {
	const n = 12
	runs := make([]phaseRun, n)
	for i := range runs {
		runs[i] = r.simulate(newPoller(), time.Duration(i)*r.period/n, uint64(i))
	}
	return runs
}

// joined puts the runs together.
func joined(runs []phaseRun) phaseRun {
	var all phaseRun
	for _, r := range runs {
		all.polls += r.polls
		all.ages = append(all.ages, r.ages...)
		all.longest = max(all.longest, r.longest)
		all.learned += r.learned
	}
	all.polls /= len(runs)
	all.learned /= time.Duration(len(runs))
	return all
}

// The median age of upstream's data at the time of a scrape, over an hour, by plain
// polling and by polling at the learned phase, with equal numbers of requests. Both
// start at 12 phases; a perfect poller would come to half of the period.
func TestPhaseMakesDataYounger(t *testing.T) {
	var table strings.Builder
	fmt.Fprintf(&table, "%-32s %8s | %6s %7s %7s | %6s %7s %7s %8s %7s\n", "upstream refreshes every", "interval",
		"polls", "median", "p95", "polls", "median", "p95", "longest", "learned")
	for _, tt := range []struct {
		rhythm
		gain30 time.Duration // at least, of the median, at an interval of 30 s
	}{
		{rhythm{name: "60 s", period: time.Minute}, 12 * time.Second},
		{rhythm{name: "60 s, jitter ±1 s", period: time.Minute, jitter: time.Second}, 9 * time.Second},
		{rhythm{name: "60 s, drift ±5 s", period: time.Minute, drift: 5 * time.Second}, 9 * time.Second},
		{rhythm{name: "60 s, drift ±20 s", period: time.Minute, drift: 20 * time.Second}, 7 * time.Second},
		{rhythm{name: "60 s, drift ±20 s, jitter ±2 s", period: time.Minute, drift: 20 * time.Second, jitter: 2 * time.Second}, 5 * time.Second},
		{rhythm{name: "61 s", period: 61 * time.Second}, 10 * time.Second},
		{rhythm{name: "58.5 s", period: 58500 * time.Millisecond}, 10 * time.Second},
		{rhythm{name: "66 s", period: 66 * time.Second}, 7 * time.Second},
		{rhythm{name: "55 s", period: 55 * time.Second}, 2 * time.Second},
		// Too wild, too fast or too slow to be followed: as good as plain polling.
		{rhythm{name: "60 s, drift ±60 s", period: time.Minute, drift: time.Minute}, -2 * time.Second},
		{rhythm{name: "60 s, jitter ±15 s", period: time.Minute, jitter: 15 * time.Second}, -2 * time.Second},
		{rhythm{name: "20 s", period: 20 * time.Second}, -time.Second},
		{rhythm{name: "45 s", period: 45 * time.Second}, -2 * time.Second},
		{rhythm{name: "75 s", period: 75 * time.Second}, -2 * time.Second},
		{rhythm{name: "90 s", period: 90 * time.Second}, -2 * time.Second},
		{rhythm{name: "5 min", period: 5 * time.Minute}, -2 * time.Second},
	} {
		for _, interval := range []time.Duration{15 * time.Second, 30 * time.Second, time.Minute} {
			plain := joined(tt.phases(func() poller { return &everyInterval{interval: interval} }))
			learned := joined(tt.phases(func() poller { return newPhase(Config{MetricsInterval: interval}) }))
			fmt.Fprintf(&table, "%-32s %8s | %6d %7s %7s | %6d %7s %7s %8s %6.0f%%\n", tt.name, interval,
				plain.polls, plain.median(), plain.quantile(.95),
				learned.polls, learned.median(), learned.quantile(.95), learned.longest.Round(time.Second), 100*learned.learned.Hours())
			if learned.polls > plain.polls+maxTokens {
				t.Errorf("%s at %s: %d polls, plain polling has %d", tt.name, interval, learned.polls, plain.polls)
			}
			gain := plain.median() - learned.median()
			want := -2 * time.Second
			if interval == 30*time.Second {
				want = tt.gain30
			}
			if gain < want {
				t.Errorf("%s at %s: median age is %s, by plain polling %s, want a gain of at least %s", tt.name, interval, learned.median(), plain.median(), want)
			}
			if most := max(interval, upstreamRefresh+15*time.Second); learned.longest > most {
				t.Errorf("%s at %s: %s between two polls", tt.name, interval, learned.longest)
			}
		}
	}
	t.Log("\n" + table.String())
}

// Without a rhythm, polls are an interval apart, for ever.
func TestPhaseFallsBackToPlainPolling(t *testing.T) {
	for _, r := range []rhythm{
		{name: "constant values", period: time.Minute, off: true},
		{name: "values move all the time", period: time.Minute, moving: true},
	} {
		run := r.simulate(newPhase(Config{MetricsInterval: 30 * time.Second}), 0, 1)
		if run.learned > 0 || run.longest > 31*time.Second || run.polls < 118 || run.polls > 122 {
			t.Errorf("%s: %d polls, up to %s apart, phase believed to be known for %s", r.name, run.polls, run.longest, run.learned)
		}
	}
}

// fullMinutes is an upstream that refreshes each full minute, as polls see it.
type fullMinutes struct {
	constant bool
	seen     time.Time
}

// feed polls until the given time and returns when the next poll is due.
func (u *fullMinutes) feed(p *Phase, from, until time.Time) time.Time {
	now := from
	for now.Before(until) {
		changed := !u.constant && !now.Truncate(time.Minute).Equal(u.seen)
		if changed {
			u.seen = now.Truncate(time.Minute)
		}
		p.Observe(now, now.Add(100*time.Millisecond), changed)
		now = p.Next()
	}
	return now
}

func TestPhaseIsLostWhenValuesBecomeConstant(t *testing.T) {
	start := time.Date(2026, 11, 1, 12, 0, 17, 0, time.UTC)
	p := newPhase(Config{MetricsInterval: 30 * time.Second})
	var u fullMinutes
	now := u.feed(p, start, start.Add(15*time.Minute))
	period, next, ok := p.Learned()
	if off := next.Sub(next.Round(time.Minute)).Abs(); !ok || off > 2*time.Second || (period-time.Minute).Abs() > time.Second {
		t.Fatalf("Learned() = %s, %s, %t", period, next, ok)
	}
	u.constant = true
	now = u.feed(p, now, now.Add(5*time.Minute))
	if _, _, ok := p.Learned(); ok {
		t.Error("the phase is still believed to be known")
	}
	before := now
	if now = u.feed(p, now, now.Add(time.Second)); now.Sub(before) != 30*time.Second {
		t.Errorf("polls are %s apart, want the interval", now.Sub(before))
	}
	// And it is learned again.
	u.constant = false
	u.feed(p, now, now.Add(15*time.Minute))
	if _, _, ok := p.Learned(); !ok {
		t.Error("the phase is not learned again")
	}
}

func TestPhaseSurvivesFailedPolls(t *testing.T) {
	start := time.Date(2026, 11, 1, 12, 0, 17, 0, time.UTC)
	p := newPhase(Config{MetricsInterval: 30 * time.Second})
	var u fullMinutes
	now := u.feed(p, start, start.Add(15*time.Minute))
	for range 5 {
		p.Failed(now)
		if wait := p.Next().Sub(now); wait != 30*time.Second {
			t.Errorf("%s after a failed poll, want the interval", wait)
		}
		now = p.Next()
	}
	now = u.feed(p, now, now.Add(3*time.Minute))
	if _, next, ok := p.Learned(); !ok || next.Sub(next.Round(time.Minute)).Abs() > 3*time.Second {
		t.Errorf("after five failed polls the next refresh is expected at %s, %t", next, ok)
	}
	// After hours of suspension nothing is known, and nothing goes wrong.
	now = now.Add(5 * time.Hour)
	p.Observe(now, now, true)
	if _, _, ok := p.Learned(); ok {
		t.Error("the phase is believed to be known after hours")
	}
	if wait := p.Next().Sub(now); wait != 30*time.Second {
		t.Errorf("next poll after %s, want the interval", wait)
	}
}

func TestPhaseFirstPollIsAtOnce(t *testing.T) {
	if p := newPhase(Config{MetricsInterval: time.Minute}); !p.Next().IsZero() {
		t.Errorf("Next() = %s, want the zero time", p.Next())
	}
}

// Whatever is observed, polls neither stop nor become more than the interval allows.
func FuzzPhase(f *testing.F) {
	f.Add(byte(30), []byte{1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 3, 4, 1, 0})
	f.Add(byte(15), []byte{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 255, 254, 253})
	f.Fuzz(func(t *testing.T, seconds byte, script []byte) {
		interval := time.Duration(seconds%120+1) * time.Second
		p := newPhase(Config{MetricsInterval: interval})
		start := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
		now := start
		for i, op := range script {
			latency := time.Duration(op>>4) * time.Second
			switch op & 3 {
			case 0, 1:
				p.Observe(now, now.Add(latency), op&1 == 1)
			case 2:
				p.Failed(now)
			case 3:
				p.Observe(now, now, op&4 == 4)
				latency = time.Duration(op>>3) * time.Minute // late
			}
			wait := p.Next().Sub(now)
			if wait <= 0 || wait > max(2*interval, upstreamRefresh+periodTolerance+15*time.Second) {
				t.Fatalf("poll %d: next after %s", i, wait)
			}
			if now = p.Next(); latency > 0 && now.Before(now.Add(latency)) {
				now = now.Add(latency)
			}
			if most := int(now.Sub(start)/interval) + maxTokens + 1; i+1 > most {
				t.Fatalf("%d polls in %s at an interval of %s", i+1, now.Sub(start), interval)
			}
		}
	})
}
