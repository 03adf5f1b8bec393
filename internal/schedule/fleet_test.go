package schedule

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// capForm is what upstream's call for the whole organization does above its cap.
type capForm string

const (
	capTruncates capForm = "truncates"
	capRotates   capForm = "rotates" // truncates, with other members at every refresh
	capRejects   capForm = "rejects"
)

// fleet is an upstream for planners, with a clock of its own.
type fleet struct {
	t       *testing.T
	rng     *rand.Rand
	form    capForm
	latency time.Duration // at most, there and back each
	states  map[string]string
	ids     []string // in upstream's order
	other   int      // services of the organization that are not selected

	start, now time.Time
	planner    *Planner
	fail       func(r Request) (Result, bool) // overrides the outcome
	down       bool                           // upstream answers nothing

	inFlight []flight
	asked    map[Request]bool // without At
	arrivals []time.Time
	requests []Request
	data     map[string][]time.Time // when data of a service came
	asks     map[string]int         // single requests by service
	minutes  map[string]int         // refresh that an answer was of, by service, "" = the organization
}

type flight struct {
	request  Request
	arrives  time.Time
	ends     time.Time
	answered bool
	outcome  Outcome
	list     []Service
	total    int
}

var fleetStart = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func planConfig() Config {
	return Config{Spacing: 1250 * time.Millisecond, MetricsInterval: 30 * time.Second, InventoryInterval: time.Minute}
}

func newFleet(t *testing.T, form capForm, services int, cfg Config) *fleet {
	f := &fleet{
		t: t, form: form, rng: rand.New(rand.NewPCG(uint64(services), 7)), latency: 300 * time.Millisecond,
		states: map[string]string{}, asked: map[Request]bool{}, data: map[string][]time.Time{}, asks: map[string]int{}, minutes: map[string]int{},
		start: fleetStart, now: fleetStart, planner: New(cfg, fleetStart),
	}
	f.resize(services)
	return f
}

// resize adds services at the end or removes them from there.
func (f *fleet) resize(n int) {
	for i := len(f.ids); i < n; i++ {
		id := fmt.Sprintf("service-%05d", i)
		f.ids = append(f.ids, id)
		f.states[id] = "running"
	}
	for _, id := range f.ids[n:] {
		delete(f.states, id)
	}
	f.ids = f.ids[:n]
}

// answer sets what upstream says at the moment at which the request arrives.
func (f *fleet) answer(fl *flight) {
	fl.answered = true
	r := fl.request
	if f.down {
		fl.outcome.Result = ResultFailed
		return
	}
	if f.fail != nil {
		if result, ok := f.fail(r); ok {
			fl.outcome.Result = result
			return
		}
	}
	minute := int(fl.arrives.Sub(f.start) / time.Minute)
	switch r.Call {
	case List:
		for _, id := range f.ids {
			fl.list = append(fl.list, Service{ID: id, Activity: activityOf(f.states[id])})
		}
		fl.total = len(f.ids) + f.other
	case OrganizationPage:
		members := f.ids
		if f.other+len(f.ids) > organizationMetricsCap {
			switch f.form {
			case capRejects:
				fl.outcome.Result = ResultRefused
				return
			case capRotates:
				rng := rand.New(rand.NewPCG(uint64(minute), 3))
				members = slices.Clone(members)
				rng.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
			}
			members = members[:max(0, min(len(members), organizationMetricsCap-f.other))]
		}
		fl.outcome.Services = slices.Clone(members)
		fl.outcome.Changed = f.changed(r, minute)
	case ServicePage:
		switch f.states[r.Service] {
		case "":
			fl.outcome.Result = ResultRefused // 404
		case "creating":
			fl.outcome.Result = ResultRefused
		default:
			fl.outcome.Changed = f.changed(r, minute)
		}
	}
}

// changed reports whether upstream has renewed its values since the answer before.
func (f *fleet) changed(r Request, minute int) bool {
	last, ok := f.minutes[r.Service]
	f.minutes[r.Service] = minute
	return !ok || last != minute
}

// run lets time pass.
func (f *fleet) run(d time.Duration) {
	f.t.Helper()
	end := f.now.Add(d)
	for f.now.Before(end) {
		// Arrivals and answers, in the order of time.
		next := end
		at := -1
		for i, fl := range f.inFlight {
			t := fl.ends
			if !fl.answered {
				t = fl.arrives
			}
			if t.Before(next) {
				next, at = t, i
			}
		}
		r, ok := f.planner.Next(f.now)
		if ok && !r.At.After(f.now) {
			f.send(r)
			continue
		}
		if ok && r.At.Before(next) {
			f.now = r.At
			continue
		}
		f.now = next
		if at < 0 {
			continue
		}
		if fl := &f.inFlight[at]; !fl.answered {
			f.answer(fl)
		} else {
			done := *fl
			f.inFlight = slices.Delete(f.inFlight, at, at+1)
			f.end(done)
		}
	}
}

func (f *fleet) send(r Request) {
	f.t.Helper()
	key := Request{Call: r.Call, Service: r.Service}
	if f.asked[key] {
		f.t.Fatalf("%s: %v asked twice at a time", f.now.Sub(f.start), key)
	}
	f.asked[key] = true
	f.planner.Started(r, f.now)
	r.At = f.now
	f.requests = append(f.requests, r)
	if r.Call == ServicePage {
		f.asks[r.Service]++
	}
	arrives := f.now.Add(f.some())
	f.arrivals = append(f.arrivals, arrives)
	f.inFlight = append(f.inFlight, flight{request: r, arrives: arrives, ends: arrives.Add(f.some())})
}

func (f *fleet) some() time.Duration {
	return time.Duration(f.rng.Int64N(int64(f.latency)))
}

func (f *fleet) end(fl flight) {
	delete(f.asked, Request{Call: fl.request.Call, Service: fl.request.Service})
	f.planner.Finished(fl.request, f.now, fl.outcome)
	if fl.outcome.Result != ResultOK {
		return
	}
	switch fl.request.Call {
	case List:
		f.planner.SetServices(f.now, fl.list, fl.total)
	case OrganizationPage:
		for _, id := range fl.outcome.Services {
			f.data[id] = append(f.data[id], f.now)
		}
	case ServicePage:
		f.data[fl.request.Service] = append(f.data[fl.request.Service], f.now)
	}
}

// refusals returns how many requests upstream's limit refuses: ten in any ten seconds.
func (f *fleet) refusals() int {
	arrivals := slices.Clone(f.arrivals)
	slices.SortFunc(arrivals, time.Time.Compare)
	var granted []time.Time
	refused := 0
	for _, at := range arrivals {
		for len(granted) > 0 && at.Sub(granted[0]) >= 10*time.Second {
			granted = granted[1:]
		}
		if len(granted) >= 10 {
			refused++
			continue
		}
		granted = append(granted, at)
	}
	return refused
}

// activityOf returns what can be expected of a service in a state.
func activityOf(state string) Activity {
	switch state {
	case "running":
		return Running
	case "stopped":
		return Stopped
	case "creating", "deleting":
		return NoMetrics
	}
	return Changing
}

// longest returns the longest time between two requests of an call since the
// given time into the run.
func (f *fleet) longest(call Call, since time.Duration) time.Duration {
	last := f.start.Add(since)
	var longest time.Duration
	for _, r := range f.requests {
		if r.Call == call && r.At.After(last) {
			longest = max(longest, r.At.Sub(last))
			last = r.At
		}
	}
	return max(longest, f.now.Sub(last))
}

func (f *fleet) sent(call Call) int {
	n := 0
	for _, r := range f.requests {
		if r.Call == call {
			n++
		}
	}
	return n
}

// gaps returns the longest time without new data, over the services given, and the
// ages of their data each ten seconds, both since the given time into the run.
func (f *fleet) gaps(ids []string, since time.Duration) (longest time.Duration, ages []time.Duration) {
	from := f.start.Add(since)
	for _, id := range ids {
		times := f.data[id]
		i, _ := slices.BinarySearchFunc(times, from, time.Time.Compare)
		if i == 0 {
			f.t.Fatalf("%s has no data after %s", id, since)
		}
		for t := from; t.Before(f.now); t = t.Add(10 * time.Second) {
			for i < len(times) && !times[i].After(t) {
				longest = max(longest, times[i].Sub(times[i-1]))
				i++
			}
			ages = append(ages, t.Sub(times[i-1]))
		}
		longest = max(longest, f.now.Sub(times[len(times)-1]))
	}
	slices.Sort(ages)
	return longest, ages
}
