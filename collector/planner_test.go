package collector

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
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
	list     []PlannedService
	total    int
}

var fleetStart = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func planConfig() PlannerConfig {
	return PlannerConfig{Spacing: 1250 * time.Millisecond, MetricsInterval: 30 * time.Second, InventoryInterval: time.Minute}
}

func newFleet(t *testing.T, form capForm, services int, cfg PlannerConfig) *fleet {
	f := &fleet{
		t: t, form: form, rng: rand.New(rand.NewPCG(uint64(services), 7)), latency: 300 * time.Millisecond,
		states: map[string]string{}, asked: map[Request]bool{}, data: map[string][]time.Time{}, asks: map[string]int{}, minutes: map[string]int{},
		start: fleetStart, now: fleetStart, planner: NewPlanner(cfg, fleetStart),
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
	switch r.Endpoint {
	case api.EndpointServices:
		for _, id := range f.ids {
			fl.list = append(fl.list, PlannedService{ID: id, State: f.states[id]})
		}
		fl.total = len(f.ids) + f.other
	case api.EndpointOrganizationMetrics:
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
	case api.EndpointServiceMetrics:
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
	key := Request{Endpoint: r.Endpoint, Service: r.Service}
	if f.asked[key] {
		f.t.Fatalf("%s: %v asked twice at a time", f.now.Sub(f.start), key)
	}
	f.asked[key] = true
	f.planner.Started(r, f.now)
	r.At = f.now
	f.requests = append(f.requests, r)
	if r.Endpoint == api.EndpointServiceMetrics {
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
	delete(f.asked, Request{Endpoint: fl.request.Endpoint, Service: fl.request.Service})
	f.planner.Finished(fl.request, f.now, fl.outcome)
	if fl.outcome.Result != ResultOK {
		return
	}
	switch fl.request.Endpoint {
	case api.EndpointServices:
		f.planner.SetInventory(f.now, fl.list, fl.total)
	case api.EndpointOrganizationMetrics:
		for _, id := range fl.outcome.Services {
			f.data[id] = append(f.data[id], f.now)
		}
	case api.EndpointServiceMetrics:
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

// longest returns the longest time between two requests of an endpoint since the
// given time into the run.
func (f *fleet) longest(endpoint api.Endpoint, since time.Duration) time.Duration {
	last := f.start.Add(since)
	var longest time.Duration
	for _, r := range f.requests {
		if r.Endpoint == endpoint && r.At.After(last) {
			longest = max(longest, r.At.Sub(last))
			last = r.At
		}
	}
	return max(longest, f.now.Sub(last))
}

func (f *fleet) sent(endpoint api.Endpoint) int {
	n := 0
	for _, r := range f.requests {
		if r.Endpoint == endpoint {
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

func TestPlannerHour(t *testing.T) {
	var table strings.Builder
	fmt.Fprintf(&table, "%8s %-10s %10s %8s %8s %8s %8s %9s %9s\n", "services", "cap", "limit", "planned", "median", "p99", "worst", "requests", "uncovered")
	for _, form := range []capForm{capTruncates, capRotates, capRejects} {
		for _, n := range []int{1, 2, 99, 100, 101, 108, 130, 300, 2000} {
			t.Run(fmt.Sprintf("%s/%d", form, n), func(t *testing.T) {
				f := newFleet(t, form, n, planConfig())
				f.run(time.Minute) // for the list and the first answer
				plan := f.planner.Plan()
				warm := 2*time.Minute + plan.Period*6/5
				f.run(warm - time.Minute + time.Hour)
				if got := f.refusals(); got != 0 {
					t.Errorf("upstream refused %d requests", got)
				}
				plan = f.planner.Plan()
				longest, ages := f.gaps(f.ids, warm)
				most := max(plan.Period, upstreamRefresh) * 6 / 5
				if form == capRotates && plan.Uncovered > 0 {
					// That a service has dropped out shows a refresh after its last data.
					most = max(most, plan.Period+upstreamRefresh)
				}
				if longest > most {
					t.Errorf("a service was without new data for %s, want at most %s", longest, most)
				}
				if got := f.longest(api.EndpointServices, 0); got > 64*time.Second {
					t.Errorf("%s between two lists", got)
				}
				call := plan.OrganizationCall
				wantCall, wantLongest := CallRegularly, 70*time.Second
				switch {
				case n == 1:
					wantCall, wantLongest = CallNever, 1<<62
					if got := f.sent(api.EndpointOrganizationMetrics); got != 0 {
						t.Errorf("the organization's metrics were called for %d times", got)
					}
				case n > organizationMetricsCap && form == capRejects:
					wantCall, wantLongest = CallRefused, probeInterval+5*time.Second
				}
				if call != wantCall {
					t.Errorf("organization is called %s, want %s", call, wantCall)
				}
				if got := f.longest(api.EndpointOrganizationMetrics, 5*time.Second); got > wantLongest {
					t.Errorf("%s between two calls for the organization", got)
				}
				if form != capRotates && n > 1 && n <= organizationMetricsCap {
					if got := f.sent(api.EndpointServiceMetrics); got > 0 {
						t.Errorf("%d services were asked for what the organization's answer holds", got)
					}
				}
				// What arithmetic allows, with all of the budget.
				limit := time.Duration(float64(plan.Uncovered) / (0.8 - 1./60 - 1./30) * float64(time.Second))
				fmt.Fprintf(&table, "%8d %-10s %10s %8s %8s %8s %8s %9d %9d\n", n, form, limit.Round(time.Second), plan.Period.Round(time.Second),
					ages[len(ages)/2].Round(time.Second), ages[len(ages)*99/100].Round(time.Second), longest.Round(time.Second), len(f.requests), plan.Uncovered)
			})
		}
	}
	t.Log("\n" + table.String())
}

func TestPlannerSpacing(t *testing.T) {
	f := newFleet(t, capTruncates, 400, planConfig())
	f.run(time.Hour)
	for i := 1; i < len(f.requests); i++ {
		if got := f.requests[i].At.Sub(f.requests[i-1].At); got < 1250*time.Millisecond {
			t.Fatalf("%s between %v and %v", got, f.requests[i-1], f.requests[i])
		}
	}
	// Evenly: after the first round, no ten minutes see many more requests than others.
	counts := map[int]int{}
	for _, r := range f.requests {
		counts[int(r.At.Sub(f.start)/(10*time.Minute))]++
	}
	for i := 2; i < 6; i++ {
		if counts[i] < counts[1]*95/100 || counts[i] > counts[1]*105/100 {
			t.Errorf("requests per ten minutes vary: %v", counts)
		}
	}
}

func TestPlannerFirstRequests(t *testing.T) {
	f := newFleet(t, capTruncates, 103, planConfig())
	f.states["service-00100"] = "stopped"
	f.states["service-00101"] = "restarting"
	f.run(8 * time.Second)
	var got []string
	for _, r := range f.requests {
		got = append(got, fmt.Sprintf("%s %s %s", r.At.Sub(f.start), r.Endpoint, r.Service))
	}
	want := []string{
		"0s services ",
		"1.25s organization_metrics ",
		"2.5s service_metrics service-00102", // running first, as soon as it is known that it is not covered
		"3.75s service_metrics service-00101",
		"5s service_metrics service-00100",
	}
	if !slices.Equal(got, want) {
		t.Errorf("requests:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A fleet passes the cap while it is being exported, and comes back.
func TestPlannerGrowsAndShrinks(t *testing.T) {
	for _, form := range []capForm{capTruncates, capRotates, capRejects} {
		t.Run(string(form), func(t *testing.T) {
			f := newFleet(t, form, 95, planConfig())
			f.run(10 * time.Minute)
			if got := f.sent(api.EndpointServiceMetrics); got != 0 {
				t.Errorf("%d single requests below the cap", got)
			}
			old := slices.Clone(f.ids)
			f.resize(130)
			f.run(20 * time.Minute)
			plan := f.planner.Plan()
			if want := map[capForm]int{capTruncates: 30, capRotates: 30, capRejects: 130}[form]; plan.Uncovered != want {
				t.Errorf("%d uncovered services, want %d", plan.Uncovered, want)
			}
			// Nothing expires in between: no gap comes near the max-age.
			if longest, _ := f.gaps(old, 2*time.Minute); longest > 5*time.Minute {
				t.Errorf("a service was without new data for %s", longest)
			}
			for _, id := range f.ids {
				if got := f.planner.Period(id); got > 200*time.Second {
					t.Errorf("%s has a period of %s", id, got)
				}
			}
			f.gaps(f.ids, 30*time.Minute-5*time.Minute)

			f.resize(80)
			f.run(3 * time.Minute)
			before := f.sent(api.EndpointServiceMetrics)
			f.run(20 * time.Minute)
			plan = f.planner.Plan()
			if plan.Uncovered != 0 || plan.OrganizationCall != CallRegularly || plan.Services != 80 {
				t.Errorf("plan after shrinking: %+v", plan)
			}
			if got := f.sent(api.EndpointServiceMetrics) - before; got != 0 {
				t.Errorf("%d single requests after shrinking", got)
			}
			if longest, _ := f.gaps(f.ids, 30*time.Minute); longest > 4*time.Minute {
				t.Errorf("a service was without new data for %s", longest)
			}
			if got := f.refusals(); got != 0 {
				t.Errorf("upstream refused %d requests", got)
			}
		})
	}
}

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
	plan := f.planner.Plan()
	if plan.Uncovered != 170 {
		t.Errorf("%d uncovered, want 170", plan.Uncovered)
	}
	often := time.Hour.Seconds() / plan.Period.Seconds()
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
	plan := f.planner.Plan()
	good := slices.DeleteFunc(slices.Clone(f.ids), func(id string) bool { return bad[id] })
	if longest, _ := f.gaps(good, plan.Period*3/2); longest > plan.Period*6/5 {
		t.Errorf("failing services kept another waiting for %s, the period is %s", longest, plan.Period)
	}
	for id := range bad {
		// Backing off to one attempt in four periods.
		if got, most := f.asks[id], int(2*time.Hour/(2*plan.Period))+3; got < 5 || got > most {
			t.Errorf("%s fails and was asked %d times, want 5 to %d", id, got, most)
		}
	}
	// They come back without a restart.
	f.fail = nil
	f.run(max(probeInterval, 4*plan.Period) + time.Minute)
	for id := range bad {
		if len(f.data[id]) == 0 {
			t.Errorf("%s answers again and was not asked", id)
		}
	}
}

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
	before := f.sent(api.EndpointServiceMetrics)
	f.run(10 * time.Minute)
	calm := f.sent(api.EndpointServiceMetrics) - before
	f.down = true
	before = f.sent(api.EndpointServiceMetrics)
	f.run(10 * time.Minute)
	if got := f.sent(api.EndpointServiceMetrics) - before; got > calm {
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
	if got := f.sent(api.EndpointOrganizationMetrics); got != 0 {
		t.Errorf("the organization's metrics were called for %d times", got)
	}
}

// The call for the organization fails, the services' own do not.
func TestPlannerOrganizationCallFails(t *testing.T) {
	f := newFleet(t, capTruncates, 60, planConfig())
	f.run(10 * time.Minute)
	f.fail = func(r Request) (Result, bool) {
		return ResultFailed, r.Endpoint == api.EndpointOrganizationMetrics
	}
	f.run(20 * time.Minute)
	if longest, _ := f.gaps(f.ids, 2*time.Minute); longest > 5*time.Minute {
		t.Errorf("a service was without new data for %s", longest)
	}
	if plan := f.planner.Plan(); plan.Uncovered != 60 || plan.OrganizationCall != CallRegularly {
		t.Errorf("plan: %+v", plan)
	}
	f.fail = nil
	f.run(2 * time.Minute)
	if plan := f.planner.Plan(); plan.Uncovered != 0 {
		t.Errorf("plan after recovery: %+v", plan)
	}
}

// Few services are chosen of many, and the truncated answer holds none of them.
func TestPlannerUselessOrganizationCall(t *testing.T) {
	f := newFleet(t, capTruncates, 3, planConfig())
	f.other = 400
	f.run(time.Hour)
	if plan := f.planner.Plan(); plan.OrganizationCall != CallUseless || plan.Uncovered != 3 {
		t.Errorf("plan: %+v", plan)
	}
	if got := f.sent(api.EndpointOrganizationMetrics); got > uselessAnswers+7 {
		t.Errorf("a useless call was made %d times in an hour", got)
	}
	f.gaps(f.ids, time.Minute)
	f.other = 50
	f.run(probeInterval + time.Minute)
	if plan := f.planner.Plan(); plan.OrganizationCall != CallRegularly || plan.Uncovered != 0 {
		t.Errorf("plan with all services in the answer: %+v", plan)
	}
}

func TestPlannerListFails(t *testing.T) {
	f := newFleet(t, capTruncates, 10, planConfig())
	f.fail = func(r Request) (Result, bool) { return ResultFailed, r.Endpoint == api.EndpointServices }
	f.run(10 * time.Minute)
	// Metrics come anyway, and the list is asked for again.
	f.gaps(f.ids, time.Minute)
	if got := f.sent(api.EndpointServices); got < 18 || got > 22 {
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
		for endpoint, most := range map[api.Endpoint]float64{api.EndpointServices: .37, api.EndpointOrganizationMetrics: .37, api.EndpointServiceMetrics: .8} {
			share := float64(f.sent(endpoint)) / float64(total)
			if share < .1 || share > most {
				t.Errorf("spacing %s: %s has %.0f%% of %d requests", spacing, endpoint, 100*share, total)
			}
		}
		longest, _ := f.gaps(f.ids, time.Hour)
		if period := f.planner.Plan().Period; longest > max(period, 2*time.Minute, 6*spacing)*6/5 {
			t.Errorf("spacing %s: a service was without new data for %s, the period is %s", spacing, longest, period)
		}
	}
}

// Slow answers hold up neither other services nor the list.
func TestPlannerSlowUpstream(t *testing.T) {
	f := newFleet(t, capRejects, 300, planConfig())
	f.latency = 10 * time.Second
	f.run(90 * time.Minute)
	plan := f.planner.Plan()
	if longest, _ := f.gaps(f.ids, 20*time.Minute); longest > plan.Period*6/5 {
		t.Errorf("a service was without new data for %s, the period is %s", longest, plan.Period)
	}
	if got := f.longest(api.EndpointServices, 0); got > 90*time.Second {
		t.Errorf("%s between two lists", got)
	}
}

func TestPlannerDetails(t *testing.T) {
	cfg := planConfig()
	cfg.Details = []Detail{{api.EndpointService, 6 * time.Hour}, {api.EndpointServiceConfig, time.Hour}}
	f := newFleet(t, capRejects, 130, cfg)
	f.states[f.ids[7]] = "creating"
	refused := f.ids[9]
	f.fail = func(r Request) (Result, bool) {
		return ResultRefused, r.Endpoint == api.EndpointService && r.Service == refused
	}
	f.run(4 * time.Hour)
	counts := map[string]map[api.Endpoint]int{}
	for _, r := range f.requests {
		if counts[r.Service] == nil {
			counts[r.Service] = map[api.Endpoint]int{}
		}
		counts[r.Service][r.Endpoint]++
	}
	for i, id := range f.ids {
		got := counts[id]
		switch {
		case i == 7:
			if len(got) != 0 {
				t.Errorf("%s is being created and was asked: %v", id, got)
			}
		case id == refused:
			if n := got[api.EndpointService]; n < 10 || n > 24 {
				t.Errorf("a refused detail was asked for %d times", n)
			}
		case got[api.EndpointService] != 1 || got[api.EndpointServiceConfig] < 3 || got[api.EndpointServiceConfig] > 4:
			t.Errorf("%s: %v", id, got)
		}
	}
	if longest, _ := f.gaps(f.ids[10:], time.Hour); longest > f.planner.Plan().Period*6/5 {
		t.Errorf("details kept metrics waiting for %s", longest)
	}
	if got := f.refusals(); got != 0 {
		t.Errorf("upstream refused %d requests", got)
	}
}

func TestPlannerReconfigure(t *testing.T) {
	f := newFleet(t, capRejects, 300, planConfig())
	f.run(30*time.Minute + 300*time.Millisecond)
	f.inFlight, f.asked = nil, map[Request]bool{}
	cfg := planConfig()
	cfg.Spacing /= 10 // a raised limit
	cfg.Details = []Detail{{api.EndpointService, time.Hour}}
	f.planner.Reconfigure(cfg)
	from := f.now.Sub(f.start)
	f.run(time.Minute)
	if got := f.planner.Plan(); got.Period > 45*time.Second || got.OrganizationCall != CallRefused {
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
	if got := f.sent(api.EndpointService); got == 0 {
		t.Error("new details were not asked for")
	}
}

// What data was promised when it came holds until there is newer data.
func TestPlannerPeriodDoesNotShrinkUnderOldData(t *testing.T) {
	f := newFleet(t, capRejects, 1000, planConfig())
	f.run(time.Hour)
	before := f.planner.Period(f.ids[0])
	if want := f.planner.Plan().Period; before < want {
		t.Fatalf("Period() = %s, want at least %s", before, want)
	}
	f.resize(120)
	f.run(61 * time.Second)
	if got := f.planner.Plan().Period; got > 3*time.Minute {
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
	plan := f.planner.Plan()
	if off := plan.PhasePeriod - time.Minute; !plan.PhaseLearned || off < -2*time.Second || off > 2*time.Second {
		t.Errorf("plan: %+v", plan)
	}
	if off := (plan.PhaseNext.Sub(f.start) + 30*time.Second) % time.Minute; off < 25*time.Second || off > 35*time.Second {
		t.Errorf("next refresh is expected at %s, want a full minute", plan.PhaseNext.Sub(f.start))
	}
}

// Whatever happens in whatever order, the planner keeps its books.
func FuzzPlanner(f *testing.F) {
	f.Add([]byte("a fleet comes and goes"))
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 200, 201, 202, 203, 204, 205})
	f.Fuzz(func(t *testing.T, script []byte) {
		cfg := planConfig()
		cfg.Details = []Detail{{api.EndpointService, time.Minute}}
		now := fleetStart
		p := NewPlanner(cfg, now)
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
				if slices.ContainsFunc(inFlight, func(o Request) bool { return o.Endpoint == r.Endpoint && o.Service == r.Service }) {
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
				var services []PlannedService
				for id := range n {
					services = append(services, PlannedService{ID: fmt.Sprint(id), State: states[(id+i)%len(states)]})
				}
				p.SetInventory(now, services, n*5)
			case 6:
				now = now.Add(time.Duration(n) * 10 * time.Second)
			case 7:
				if n < 16 {
					p.PauseUntil(now.Add(time.Duration(n) * time.Second))
				} else {
					inFlight = nil
					p.Reconfigure(cfg)
				}
			}
			p.checkBooks(t)
		}
	})
}

// checkBooks compares what the planner counts with what there is.
func (p *Planner) checkBooks(t *testing.T) {
	t.Helper()
	var count [classes]int
	queued, asking, details := 0, 0, 0
	for _, s := range p.services {
		if s.counted() {
			count[s.class]++
		}
		if s.queue != nil {
			queued++
			if s.queue.items[s.index] != s {
				t.Fatalf("%s is not where it should be in its queue", s.id)
			}
		}
		if s.asking {
			asking++
		}
		if want := s.counted() && !s.asking; want != (s.queue != nil) {
			t.Fatalf("%s: queued %t, want %t", s.id, s.queue != nil, want)
		}
		for _, d := range s.details {
			if d.index >= 0 {
				details++
			}
		}
	}
	total := p.waiting.len()
	for _, q := range p.ready {
		total += q.len()
	}
	if count != p.count || queued != total || asking != p.inFlight || details != p.details.len() {
		t.Fatalf("count %v, want %v; queued %d, want %d; in flight %d, want %d; details %d, want %d",
			p.count, count, total, queued, p.inFlight, asking, p.details.len(), details)
	}
}

func BenchmarkPlanner(b *testing.B) {
	for _, n := range []int{100, 2000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			now := fleetStart
			p := NewPlanner(planConfig(), now)
			var services []PlannedService
			for i := range n {
				services = append(services, PlannedService{ID: fmt.Sprintf("service-%05d", i), State: "running"})
			}
			p.SetInventory(now, services, n)
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
