//go:build soak && linux

package faulttest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// The walk's figures. Data is served for soakMaxAge at least and soakExpiry at most.
const (
	soakRefresh  = 15 * time.Second
	soakInterval = 5 * time.Second
	soakMaxAge   = 2 * time.Minute
	soakExpiry   = 150 * time.Second
	soakSlack    = 20 * time.Second
	soakServices = 12
	soakStable   = 8 // of them are never touched
)

// TestSoak walks at random through all faults for $SOAK_DURATION, an hour by default,
// while a scraper holds every value against what upstream must have said.
func TestSoak(t *testing.T) {
	duration, err := time.ParseDuration(cmp.Or(os.Getenv("SOAK_DURATION"), "1h"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	key, keySecret := filepath.Join(dir, "id"), filepath.Join(dir, "secret")
	writeFile(t, key, keyID+"\n")
	writeFile(t, keySecret, secret+"\n")
	u := newUpstream(t, simulator.Config{
		Services: soakServices, Now: time.Now, RefreshInterval: soakRefresh,
		RateLimit: simulator.DefaultRateLimit, RateWindow: simulator.DefaultRateWindow,
		CreateDelay: 20 * time.Second, DeleteDelay: 20 * time.Second, RestartDelay: 20 * time.Second,
		LogSize: 100_000,
	})
	w := &walk{
		t: t, u: u, secretFile: keySecret, secret: secret,
		random:  rand.New(rand.NewPCG(1, uint64(time.Now().Unix()))), //nolint:gosec // no secret
		history: map[time.Time]map[string]map[string]float64{},
		counts:  map[string]int{},
		started: time.Now(),
	}
	w.remember()
	e := start(t, u,
		env("CLICKHOUSE_CLOUD_API_KEY=", "CLICKHOUSE_CLOUD_API_SECRET="),
		flags(
			"--api.key-id-file="+key, "--api.key-secret-file="+keySecret, "--api.timeout=10s", "--api.max-response-size=8MiB",
			"--metrics.interval="+soakInterval.String(), "--metrics.max-age="+soakMaxAge.String(), "--inventory.interval=10s",
		))
	w.e = e
	for _, s := range u.Services()[:soakStable] {
		w.stable = append(w.stable, s.ID)
	}
	for _, s := range u.Series(time.Now()) {
		if w.families == nil {
			w.families = map[string]bool{}
		}
		w.families[s.Name] = true
	}
	e.await("data", func(p page) bool { return p.is("clickhouse_postgres_up", 1) })

	stop := make(chan struct{})
	var verifying sync.WaitGroup
	verifying.Go(func() { w.verify(stop) })
	w.pass(time.Minute)
	w.mark()
	end := w.started.Add(duration)
	for nextOutage := w.started.Add(8 * time.Minute); time.Now().Before(end.Add(-2 * time.Minute)); {
		if time.Now().After(nextOutage) {
			nextOutage = time.Now().Add(15 * time.Minute)
			w.outage()
			continue
		}
		w.step()
	}
	w.quiet(true)
	w.pass(time.Until(end.Add(time.Minute)))
	w.mark()
	close(stop)
	verifying.Wait()
	w.judge()
}

// walk is a random walk through faults, and what has come of it.
type walk struct {
	t          *testing.T
	u          *upstream
	e          *exporter
	random     *rand.Rand
	secretFile string
	secret     string
	rotations  int
	families   map[string]bool
	stable     []string
	started    time.Time
	steps      int

	mu       sync.Mutex
	now      string                                      // what is going on
	calm     time.Time                                   // since when nothing is wrong, zero if something is
	linkBad  []stretch                                   // when the link did not work, the last one perhaps still
	emptied  time.Time                                   // when upstream last said that there are no services
	figures  []figure                                    // of the exporter's resources
	history  map[time.Time]map[string]map[string]float64 // upstream's series by refresh and service
	counts   map[string]int
	problems []string
}

type stretch struct{ from, to time.Time }

type figure struct {
	at                            time.Time
	goroutines, fds, heap, memory float64
}

func (w *walk) problem(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := fmt.Sprintf("%s during %q: ", time.Since(w.started).Round(time.Second), w.now) + fmt.Sprintf(format, args...)
	w.problems = append(w.problems, text)
	if len(w.problems) <= 50 {
		w.t.Error(text)
	}
}

// pass lets time pass: what is awaited here is nothing but time.
func (w *walk) pass(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.e.ended:
		w.t.Fatalf("the exporter has ended:\n%s", tail(w.e.log.String()))
	}
}

func (w *walk) begin(what string, link bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now, w.calm = what, time.Time{}
	w.steps++
	w.counts["episodes"]++
	if link {
		w.linkBad = append(w.linkBad, stretch{from: time.Now()})
	}
	w.t.Logf("%s %s", time.Since(w.started).Round(time.Second), what)
}

// quiet ends what is going on.
func (w *walk) quiet(calm bool) {
	w.u.ClearFaults()
	w.u.link.restore()
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.linkBad); n > 0 && w.linkBad[n-1].to.IsZero() {
		w.linkBad[n-1].to = time.Now()
	}
	if calm {
		w.now, w.calm = "nothing", time.Now()
	}
}

func (w *walk) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.random.Int64N(int64(most-least)))
}

// faults are the catalogue's, some in a size that an hour of them bears.
func soakFaults() []simulator.Fault {
	all := simulator.Catalogue()
	for i := range all {
		switch f := &all[i]; f.Name {
		case "many series":
			f.Mutate = simulator.ManySeries(20_000)
		case "huge label":
			f.Mutate = simulator.HugeLabel(1 << 20)
		case "oversized body":
			f.Mutate = func(page []byte) []byte { return append(slices.Clone(page), strings.Repeat("# Nothing.\n", 1<<20)...) }
		case "gzip bomb":
			all[i] = simulator.GzipBomb(64 << 20)
		}
	}
	return all
}

// step is one episode.
func (w *walk) step() {
	faults := soakFaults()
	switch n := w.random.IntN(20); {
	case n < 11:
		f := faults[w.random.IntN(len(faults))]
		switch w.random.IntN(4) {
		case 0:
			f.Endpoints = []string{services}
		case 1: // all, or its own
		default:
			if f.Endpoints == nil {
				f.Endpoints = []string{organizationMetrics, "service_metrics"}
			}
		}
		if w.random.IntN(3) == 0 {
			f.Probability = 0.5
		}
		w.begin(fmt.Sprintf("%s of %v, probability %v", f.Name, f.Endpoints, f.Probability), false)
		w.u.SetFault(f)
		w.pass(w.between(5*time.Second, 45*time.Second))
		w.quiet(true)
		if f.Name == "empty list" {
			w.mu.Lock()
			w.emptied = time.Now()
			w.mu.Unlock()
		}
	case n < 15:
		switch w.random.IntN(4) {
		case 0:
			w.begin("connection refused", true)
			w.u.link.refuse()
		case 1:
			w.begin("black hole", true)
			w.u.link.silent.Store(true)
		case 2:
			w.begin("reset in the middle", true)
			w.u.link.reset(int64(200 + w.random.IntN(4000)))
		case 3:
			w.begin("connections cut once", true)
			w.u.link.hangUp()
		}
		w.pass(w.between(5*time.Second, 45*time.Second))
		w.quiet(true)
	case n < 16:
		w.begin("key rotated", false)
		w.rotations++
		w.secret = fmt.Sprintf("%s%d", secret, w.rotations)
		w.u.RotateKey(keyID, w.secret)
		w.pass(w.between(time.Second, 30*time.Second))
		w.replaceSecret()
		w.pass(5 * time.Second)
		w.quiet(true)
	default:
		w.fleet()
	}
	w.pass(w.between(5*time.Second, 20*time.Second))
}

// replaceSecret does as Kubernetes does.
func (w *walk) replaceSecret() {
	next := w.secretFile + ".next"
	writeFile(w.t, next, w.secret+"\n")
	if err := os.Rename(next, w.secretFile); err != nil {
		w.t.Fatal(err)
	}
}

// fleet changes what there is, but for the stable services.
func (w *walk) fleet() {
	list := w.u.Services()
	victims := list[min(soakStable, len(list)):]
	if len(victims) == 0 || len(list) < soakServices {
		w.begin("services created", false)
		w.u.Resize(soakServices + w.random.IntN(3))
	} else {
		v := victims[w.random.IntN(len(victims))]
		switch w.random.IntN(5) {
		case 0:
			w.begin("service renamed", false)
			w.u.Rename(v.ID, fmt.Sprintf("name-%d", w.random.IntN(3))) // clashes wanted
		case 1:
			w.begin("service deleted", false)
			w.u.Delete(v.ID)
		case 2:
			w.begin("service in another state", false)
			w.u.SetState(v.ID, []string{"stopped", "running", "unavailable", "never seen"}[w.random.IntN(4)])
		case 3:
			w.begin("service with other tags", false)
			w.u.SetTags(v.ID, simulator.Tag{Key: "a.b", Value: "1"}, simulator.Tag{Key: "a-b", Value: "2"}, simulator.Tag{Key: "bare"})
		case 4:
			w.begin("counters reset", false)
			w.u.ResetCounters(v.ID)
		}
	}
	w.quiet(true)
}

// outage outlasts the data.
func (w *walk) outage() {
	how := w.random.IntN(3)
	w.begin(fmt.Sprintf("long outage %d", how), how > 0)
	switch how {
	case 0:
		w.u.SetFault(simulator.Status(503))
	case 1:
		w.u.link.refuse()
	case 2:
		w.u.link.silent.Store(true)
	}
	w.pass(soakExpiry + 3*soakSlack)
	if p := w.e.scrape(); len(p.upstream()) > 0 {
		w.problem("%d series after everything has expired", len(p.upstream()))
	} else {
		w.mu.Lock()
		w.counts["expiries seen"]++
		w.mu.Unlock()
	}
	w.quiet(true)
	w.pass(30 * time.Second)
}

// verify scrapes and checks until stop.
func (w *walk) verify(stop <-chan struct{}) {
	ticker := time.NewTicker(2 * time.Second)
	defer ticker.Stop()
	for n := 1; ; n++ {
		select {
		case <-stop:
			return
		case <-w.e.ended:
			return
		case <-ticker.C:
		}
		w.remember()
		started := time.Now()
		code, body, err := w.e.try(http.MethodGet, "/metrics")
		if err != nil || code != http.StatusOK {
			w.problem("scrape: %d, %v", code, err)
			continue
		}
		if took := time.Since(started); took > 5*time.Second {
			w.problem("a scrape took %s", took)
		}
		p, err := parse(body)
		if err != nil {
			w.problem("page: %v", err)
			continue
		}
		w.check(p, started)
		if n%30 == 0 {
			w.mark()
		}
		if n%10 == 0 {
			w.e.browse()
		}
	}
}

// remember keeps what upstream says at the present refresh.
func (w *walk) remember() {
	now := time.Now()
	tick := w.u.Refreshed(now)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.history[tick] != nil {
		return
	}
	all := map[string]map[string]float64{}
	for _, s := range w.u.Series(now) {
		id := s.Labels["postgres_service"]
		if all[id] == nil {
			all[id] = map[string]float64{}
		}
		all[id][identity(s.Name, s.Labels)] = s.Value
	}
	w.history[tick] = all
	for old := range w.history {
		if now.Sub(old) > soakExpiry+4*soakSlack {
			delete(w.history, old)
		}
	}
}

// check holds a page against what upstream has said.
func (w *walk) check(p page, now time.Time) {
	byService := map[string]map[string]float64{}
	for _, s := range p.upstream() {
		if !w.families[s.name()] {
			continue // a fault's
		}
		id := s.labels.Get("postgres_service")
		if byService[id] == nil {
			byService[id] = map[string]float64{}
		}
		byService[id][s.identity()] = s.value
	}
	w.mu.Lock()
	w.counts["scrapes"]++
	for _, series := range byService {
		w.counts["values checked"] += len(series)
	}
	ticks := make([]time.Time, 0, len(w.history))
	for tick := range w.history {
		ticks = append(ticks, tick)
	}
	slices.SortFunc(ticks, func(a, b time.Time) int { return b.Compare(a) })
	oldest := 0.0
	for id, got := range byService {
		if !slices.ContainsFunc(ticks, func(tick time.Time) bool {
			if same(w.history[tick][id], got) {
				oldest = max(oldest, now.Sub(tick).Seconds())
				return true
			}
			return false
		}) {
			w.mu.Unlock()
			w.problem("service %s has series that upstream never had: %v", id, w.differences(id, got))
			w.mu.Lock()
		}
	}
	w.counts["oldest data in seconds"] = max(w.counts["oldest data in seconds"], int(oldest))
	calm := w.calm
	// Said twice, it is believed.
	empty := strings.HasPrefix(w.now, "empty list") || now.Sub(w.emptied) < time.Minute
	w.mu.Unlock()

	if good := w.lastGood(); !empty && now.Sub(good) < soakMaxAge-soakSlack {
		for _, id := range w.stable {
			if byService[id] == nil {
				w.problem("no series of service %s although upstream gave some %s ago", id, now.Sub(good).Round(time.Second))
			}
		}
	}
	if !calm.IsZero() && now.Sub(calm) > time.Minute && !p.is("clickhouse_postgres_up", 1) {
		w.problem("not up although nothing is wrong:\n%s", p.health())
	}
}

func (w *walk) differences(id string, got map[string]float64) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	best := ""
	for tick, all := range w.history {
		var diffs []string
		for k, v := range got {
			if want, ok := all[id][k]; !ok || want != v {
				diffs = append(diffs, fmt.Sprintf("%s=%v want %v,%v", k, v, want, ok))
			}
		}
		for k := range all[id] {
			if _, ok := got[k]; !ok {
				diffs = append(diffs, "missing "+k)
			}
		}
		slices.Sort(diffs)
		text := fmt.Sprintf("%d differences from %s: %.600s", len(diffs), tick.Format(time.TimeOnly), strings.Join(diffs, "; "))
		if best == "" || len(text) < len(best) {
			best = text
		}
	}
	return best
}

func same(a, b map[string]float64) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

// lastGood is when upstream last gave the organization's metrics undisturbed.
func (w *walk) lastGood() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range slices.Backward(w.u.Requests()) {
		if r.Endpoint != organizationMetrics || r.Status != http.StatusOK || r.Fault != "" {
			continue
		}
		bad := slices.ContainsFunc(w.linkBad, func(s stretch) bool {
			return r.Time.After(s.from.Add(-2*time.Second)) && (s.to.IsZero() || r.Time.Before(s.to.Add(2*time.Second)))
		})
		if !bad && time.Since(r.Time) > 2*time.Second {
			return r.Time
		}
	}
	return time.Time{}
}

// mark notes the exporter's use of resources.
func (w *walk) mark() {
	code, body, err := w.e.try(http.MethodGet, "/metrics")
	if err != nil || code != http.StatusOK {
		return
	}
	p, err := parse(body)
	if err != nil {
		return
	}
	f := figure{
		time.Now(), p.sum("go_goroutines"), p.sum("process_open_fds"),
		p.sum("go_memstats_heap_inuse_bytes"), p.sum("process_resident_memory_bytes"),
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.figures = append(w.figures, f)
	w.t.Logf("%s goroutines %v, fds %v, heap in use %.1f MiB, resident %.1f MiB, %d problems, %v",
		time.Since(w.started).Round(time.Second), f.goroutines, f.fds, f.heap/(1<<20), f.memory/(1<<20), len(w.problems), w.counts)
}

// judge looks at the whole walk.
func (w *walk) judge() {
	first, last := w.figures[0], w.figures[len(w.figures)-1]
	if last.goroutines > first.goroutines+10 {
		w.t.Errorf("%v goroutines at the end, %v at first", last.goroutines, first.goroutines)
	}
	if last.fds > first.fds+10 {
		w.t.Errorf("%v open files at the end, %v at first", last.fds, first.fds)
	}
	third := max(len(w.figures)/3, 1)
	early, late := median(w.figures[:third]), median(w.figures[len(w.figures)-third:])
	if late > 1.5*early+16<<20 {
		w.t.Errorf("heap in use: median %.1f MiB in the last third, %.1f MiB in the first", late/(1<<20), early/(1<<20))
	}
	refused := 0
	for _, r := range w.u.Requests() {
		if r.Status == http.StatusTooManyRequests && r.Fault == "" {
			refused++
		}
	}
	if refused > 0 {
		w.t.Errorf("%d requests over upstream's rate limit", refused)
	}
	lines := len(w.e.log.lines("level="))
	if most := 20 + 6*w.counts["episodes"]; lines > most {
		w.t.Errorf("%d lines of log in %d episodes", lines, w.counts["episodes"])
	}
	w.t.Logf("%d requests, %d over the limit, %d lines of log, %d rotations, %v; goroutines %v→%v, fds %v→%v, heap %.1f→%.1f MiB (medians of thirds)",
		w.u.Count("", -1), refused, lines, w.rotations, w.counts, first.goroutines, last.goroutines, first.fds, last.fds, early/(1<<20), late/(1<<20))
}

func median(f []figure) float64 {
	var heaps []float64
	for _, x := range f {
		heaps = append(heaps, x.heap)
	}
	slices.Sort(heaps)
	return heaps[len(heaps)/2]
}
