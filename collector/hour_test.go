package collector

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-kit/log"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// refreshStamps makes every PostgresServiceInfo of upstream's pages have the moment of
// the refresh, in seconds since 1970, as its value: so a page served says itself how
// old its data is. Answers take a while, too.
func refreshStamps(sim *simulator.Simulator) simulator.Fault {
	return simulator.Fault{
		Endpoints: []string{"organization_metrics", "service_metrics"},
		Latency:   200 * time.Millisecond,
		Mutate: func(page []byte) []byte {
			at := " " + strconv.FormatFloat(unixSeconds(sim.Refreshed(sim.Config().Now())), 'f', -1, 64) + "\n"
			var b bytes.Buffer
			for line := range bytes.Lines(page) {
				if bytes.HasPrefix(line, []byte("PostgresServiceInfo{")) {
					line = append(bytes.Clone(line[:bytes.LastIndexByte(line, ' ')]), at...)
				}
				b.Write(line)
			}
			return b.Bytes()
		},
	}
}

// dataAges scrapes the page of everything and returns the age of the data of every
// service on it.
func (b *bench) dataAges() map[string]time.Duration {
	b.t.Helper()
	now := b.sim.Config().Now()
	page := []byte(b.text("", ""))
	ages := map[string]time.Duration{}
	for {
		at := bytes.Index(page, []byte("\nPostgresServiceInfo{"))
		if at < 0 {
			return ages
		}
		page = page[at+1:]
		line, _, _ := bytes.Cut(page, []byte("\n"))
		_, id, _ := strings.Cut(string(line), `postgres_service="`)
		id, _, _ = strings.Cut(id, `"`)
		stamp, err := strconv.ParseFloat(string(line[bytes.LastIndexByte(line, ' ')+1:]), 64)
		if err != nil {
			b.t.Fatalf("%s: %v", line, err)
		}
		if _, twice := ages[id]; twice {
			b.t.Errorf("service %s is on the page twice", id)
		}
		ages[id] = time.Duration((unixSeconds(now) - stamp) * float64(time.Second)).Round(time.Millisecond)
	}
}

// upstreamRefresh is how often the simulated upstream renews its values.
const upstreamRefresh = time.Minute

func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(int(float64(len(sorted))*q), len(sorted)-1)]
}

// Organizations below and above the cap of the organization's page, each for an hour,
// through the whole chain: upstream that counts requests, client, budget, planner,
// pages. Every service is on every page, none is refused anything, and data is as
// young as the budget allows. Without the build tag slow, it is 20 minutes.
func TestHour(t *testing.T) {
	t.Parallel()
	sizes := []int{99, 101, 300, 2000}
	if raceEnabled || !long {
		sizes = []int{101}
	}
	forms := []struct {
		name string
		mode simulator.CapMode
	}{{"truncates", simulator.CapTruncate}, {"rotates", simulator.CapTruncateRotating}, {"refuses", simulator.CapReject}}

	var table strings.Builder
	table.WriteString("| services | organization's page above 100 | read one by one | planned period | median age | worst age | limit of that | requests |\n" +
		"| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	for _, services := range sizes {
		for i, form := range forms {
			if services <= 100 && i > 0 {
				continue // there is no difference
			}
			t.Run(fmt.Sprintf("%d/%s", services, form.name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					table.WriteString(hour(t, services, form.name, form.mode))
				})
			})
		}
	}
	t.Logf("data age in an hour with 8 of 10 requests in 10 s\n%s", table.String())
}

// hour lets an hour pass and returns a line of the table.
func hour(t *testing.T, services int, form string, mode simulator.CapMode) string {
	b := newBench(t, simulator.Config{
		Services: services, CapMode: mode, LogSize: 1,
		RateLimit: simulator.DefaultRateLimit, RateWindow: simulator.DefaultRateWindow,
	}, collectAll)
	b.sim.SetFault(refreshStamps(b.sim))
	b.pass(time.Minute)
	planned := time.Duration(b.planned() * float64(time.Second))
	b.pass(planned*11/10 + 2*time.Minute) // until everything has had its turn
	planned = time.Duration(b.planned() * float64(time.Second))
	b.sim.ResetRequests()

	step := 17300 * time.Millisecond // no multiple of anything
	if services > 1000 {
		step = 73 * time.Second
	}
	var ages []time.Duration
	begin := time.Now()
	duration := time.Hour
	if !long {
		duration = 20 * time.Minute
	}
	for time.Since(begin) < duration {
		b.pass(step)
		found := b.dataAges()
		if len(found) != services {
			t.Fatalf("%d services are exported after %s, want %d", len(found), time.Since(begin), services)
		}
		for _, age := range found {
			ages = append(ages, age)
		}
	}
	slices.Sort(ages)
	median, worst := quantile(ages, .5), ages[len(ages)-1]

	if n := b.sim.Count("", 429); n != 0 {
		t.Errorf("%d requests were refused by the rate limit", n)
	}
	uncovered, err := strconv.Atoi(b.own("clickhouse_postgres_exporter_uncovered_services"))
	if err != nil {
		t.Fatal(err)
	}
	wantUncovered := max(0, services-100)
	if mode == simulator.CapReject && services > 100 {
		wantUncovered = services
	}
	if uncovered != wantUncovered {
		t.Errorf("%d services are read one by one, want %d", uncovered, wantUncovered)
	}
	b.want("clickhouse_postgres_up", "1")
	switch lines := b.logs.lines("level=warn"); {
	case planned > DefaultMaxAge*105/100 && len(lines) != 1, planned < DefaultMaxAge*95/100 && len(lines) != 0, len(lines) > 1:
		t.Errorf("planned are %s, warnings: %q", planned, lines)
	}
	// Data is up to one refresh old when it comes, and then waits for its next turn.
	most := max(planned, upstreamRefresh)*6/5 + upstreamRefresh
	if mode == simulator.CapTruncateRotating {
		most += upstreamRefresh // that it has dropped out shows a refresh later
	}
	if worst > most {
		t.Errorf("the oldest data was %s old, want at most %s", worst, most)
	}
	if most := max(planned, upstreamRefresh)*11/20 + upstreamRefresh*2/3; median > most {
		t.Errorf("the median age is %s, want at most %s", median, most)
	}

	// Data cannot be younger than upstream's, which is up to a minute old, and not be
	// read more often than the budget allows once lists and organization's pages are
	// paid for.
	rest := .8 - 1./60
	if mode != simulator.CapReject || services <= 100 {
		rest -= 1. / 30
	}
	limit := upstreamRefresh + time.Duration(float64(uncovered)/rest*float64(time.Second))
	seconds := func(d time.Duration) string { return d.Round(time.Second).String() }
	if services <= 100 {
		form = "(holds all)"
	}
	return fmt.Sprintf("| %d | %s | %d | %s | %s | %s | %s | %d |\n", services, form, uncovered,
		seconds(planned), seconds(median), seconds(worst), seconds(limit), b.sim.Count("", -1))
}

// Learning when upstream refreshes makes what is scraped younger, through the whole
// chain, at no more requests.
func TestHourOfADriftingPhase(t *testing.T) {
	t.Parallel()
	fewer := raceEnabled || !long
	var phases []time.Duration // spread over the interval of plain polling, and over the minute
	for i := range 6 {
		phases = append(phases, time.Duration(5*i+30*(i%2))*time.Second+2500*time.Millisecond)
	}
	if fewer {
		phases = phases[2:4]
	}
	var table strings.Builder
	table.WriteString("| upstream refreshes | services | requests before | after | median age before | after | p95 before | after |\n" +
		"| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	for _, tt := range []struct {
		name     string
		services int
		every    time.Duration
		swing    time.Duration // of the phase to either side, in an hour
		gain     time.Duration // of the median, at least
	}{
		{"each minute", 12, time.Minute, 0, 11 * time.Second},
		{"each minute", 1, time.Minute, 0, 11 * time.Second},
		{"each 60.5 s", 12, 60500 * time.Millisecond, 0, 10 * time.Second},
		{"each minute, drifting by ±5 s", 12, time.Minute, 5 * time.Second, 9 * time.Second},
		{"each minute, drifting by ±20 s", 12, time.Minute, 20 * time.Second, 6 * time.Second},
		{"each minute, drifting by ±20 s", 1, time.Minute, 20 * time.Second, 6 * time.Second},
	} {
		t.Run(fmt.Sprintf("%s/%d", tt.name, tt.services), func(t *testing.T) {
			type result struct {
				ages     []time.Duration
				requests int
			}
			var results [2]result
			for i := range results {
				r := &results[i]
				for _, phase := range phases {
					synctest.Test(t, func(t *testing.T) {
						ages, requests := phaseHour(t, tt.services, tt.every, phase, tt.swing, i == 1)
						r.ages, r.requests = append(r.ages, ages...), r.requests+requests
					})
				}
				slices.Sort(r.ages)
				r.requests /= len(phases)
			}
			plain, learned := results[0], results[1]
			if fewer {
				tt.gain /= 2 // polls have jitter, and two hours do not even it out
			}
			if learned.requests > plain.requests+2 {
				t.Errorf("%d requests, plain polling has %d", learned.requests, plain.requests)
			}
			if got := quantile(plain.ages, .5) - quantile(learned.ages, .5); got < tt.gain {
				t.Errorf("the median age is lower by %s, want %s", got, tt.gain)
			}
			one := func(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
			fmt.Fprintf(&table, "| %s | %d | %d | %d | %s | %s | %s | %s |\n", tt.name, tt.services, plain.requests, learned.requests,
				one(quantile(plain.ages, .5)), one(quantile(learned.ages, .5)), one(quantile(plain.ages, .95)), one(quantile(learned.ages, .95)))
		})
	}
	t.Logf("age of upstream's data when scraped over an hour, at an interval of 30 s\n%s", table.String())
}

// phaseHour polls upstream for an hour, with or without learning its phase, and
// returns the ages of the data in scrapes, and how many requests for it were made.
func phaseHour(t *testing.T, services int, every, phase, swing time.Duration, learn bool) ([]time.Duration, int) {
	begin := time.Now()
	// A clock that goes now faster, now slower.
	clock := func() time.Time {
		now := time.Now()
		return now.Add(time.Duration(float64(swing) * math.Sin(2*math.Pi*now.Sub(begin).Hours())))
	}
	sim := simulator.New(simulator.Config{Services: services, Seed: 7, RefreshInterval: every, Phase: phase, LogSize: 1, Now: clock})
	sim.SetFault(refreshStamps(sim))
	b := &bench{t: t, sim: sim, logs: &logs{}}
	org := Organization{ID: sim.Config().OrganizationID, API: upstream(t, sim), fixedIntervals: !learn}
	var err error
	if b.c, err = New(Options{Organizations: []Organization{org}, Logger: log.NewLogfmtLogger(b.logs), noJitter: true}); err != nil {
		t.Fatal(err)
	}
	b.start()
	var ages []time.Duration
	const step = 13700 * time.Millisecond
	for at := time.Duration(0); at < 70*time.Minute; at += step {
		if at < 10*time.Minute {
			sim.ResetRequests() // it learns
		}
		b.pass(step)
		if at < 10*time.Minute {
			continue
		}
		found := b.dataAges()
		if len(found) != services {
			t.Fatalf("%d services are exported", len(found))
		}
		for _, age := range found {
			ages = append(ages, age)
		}
	}
	requests := sim.Count(string(api.EndpointOrganizationMetrics), -1) + sim.Count(string(api.EndpointServiceMetrics), -1)
	b.stop()
	return ages, requests
}
