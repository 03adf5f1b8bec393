package schedule

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPlannerHour(t *testing.T) {
	var table strings.Builder
	fmt.Fprintf(&table, "%8s %-10s %10s %8s %8s %8s %8s %9s %9s\n", "services", "cap", "limit", "planned", "median", "p99", "worst", "requests", "uncovered")
	sizes := []int{1, 2, 99, 100, 101, 130}
	if long {
		sizes = append(sizes, 108, 300, 2000)
	}
	for _, form := range []capForm{capTruncates, capRotates, capRejects} {
		for _, n := range sizes {
			t.Run(fmt.Sprintf("%s/%d", form, n), func(t *testing.T) {
				f := newFleet(t, form, n, planConfig())
				f.run(time.Minute) // for the list and the first answer
				sum := f.planner.Summary()
				warm := 2*time.Minute + sum.Period*6/5
				f.run(warm - time.Minute + time.Hour)
				if got := f.refusals(); got != 0 {
					t.Errorf("upstream refused %d requests", got)
				}
				sum = f.planner.Summary()
				longest, ages := f.gaps(f.ids, warm)
				most := max(sum.Period, upstreamRefresh) * 6 / 5
				if form == capRotates && sum.Uncovered > 0 {
					// That a service has dropped out shows a refresh after its last data.
					most = max(most, sum.Period+upstreamRefresh)
				}
				if longest > most {
					t.Errorf("a service was without new data for %s, want at most %s", longest, most)
				}
				if got := f.longest(List, 0); got > 64*time.Second {
					t.Errorf("%s between two lists", got)
				}
				call := sum.OrganizationCall
				wantCall, wantLongest := CallRegularly, 70*time.Second
				switch {
				case n == 1:
					wantCall, wantLongest = CallNever, 1<<62
					if got := f.sent(OrganizationPage); got != 0 {
						t.Errorf("the organization's metrics were called for %d times", got)
					}
				case n > organizationMetricsCap && form == capRejects:
					wantCall, wantLongest = CallRefused, probeInterval+5*time.Second
				}
				if call != wantCall {
					t.Errorf("organization is called %s, want %s", call, wantCall)
				}
				if got := f.longest(OrganizationPage, 5*time.Second); got > wantLongest {
					t.Errorf("%s between two calls for the organization", got)
				}
				if form != capRotates && n > 1 && n <= organizationMetricsCap {
					if got := f.sent(ServicePage); got > 0 {
						t.Errorf("%d services were asked for what the organization's answer holds", got)
					}
				}
				// What arithmetic allows, with all of the budget.
				limit := time.Duration(float64(sum.Uncovered) / (0.8 - 1./60 - 1./30) * float64(time.Second))
				fmt.Fprintf(&table, "%8d %-10s %10s %8s %8s %8s %8s %9d %9d\n", n, form, limit.Round(time.Second), sum.Period.Round(time.Second),
					ages[len(ages)/2].Round(time.Second), ages[len(ages)*99/100].Round(time.Second), longest.Round(time.Second), len(f.requests), sum.Uncovered)
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
		got = append(got, fmt.Sprintf("%s %s %s", r.At.Sub(f.start), r.Call, r.Service))
	}
	want := []string{
		"0s list ",
		"1.25s organization page ",
		"2.5s service page service-00102", // running first, as soon as it is known that it is not covered
		"3.75s service page service-00101",
		"5s service page service-00100",
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
			if got := f.sent(ServicePage); got != 0 {
				t.Errorf("%d single requests below the cap", got)
			}
			old := slices.Clone(f.ids)
			f.resize(130)
			f.run(20 * time.Minute)
			sum := f.planner.Summary()
			if want := map[capForm]int{capTruncates: 30, capRotates: 30, capRejects: 130}[form]; sum.Uncovered != want {
				t.Errorf("%d uncovered services, want %d", sum.Uncovered, want)
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
			before := f.sent(ServicePage)
			f.run(20 * time.Minute)
			sum = f.planner.Summary()
			if sum.Uncovered != 0 || sum.OrganizationCall != CallRegularly || len(f.planner.services) != 80 {
				t.Errorf("plan after shrinking: %+v", sum)
			}
			if got := f.sent(ServicePage) - before; got != 0 {
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
