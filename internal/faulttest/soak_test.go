//go:build soak && linux

package faulttest

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
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
	soakBelief   = time.Minute // for how long an empty list may have effects
	soakServices = 12
	soakStable   = 8 // of them are never touched
)

// TestSoak walks at random through all faults for $SOAK_DURATION, an hour by default,
// while a scraper holds every value against what upstream must have said, and so does
// another with all that a real Prometheus has stored.
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
		readers: map[string]*tally{},
		latest:  map[string]time.Time{},
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

	w.monitor = startMonitor(t, e)
	stop := make(chan struct{})
	var verifying sync.WaitGroup
	verifying.Go(func() { w.verify(stop) })
	if w.monitor != nil {
		verifying.Go(func() { w.follow(stop) })
	}
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
	w.quiet()
	w.pass(time.Until(end.Add(time.Minute)))
	w.mark()
	close(stop)
	verifying.Wait()
	if w.monitor != nil {
		w.examine()
	}
	w.judge()
}

// walk is a random walk through faults, and what has come of it.
type walk struct {
	t          *testing.T
	u          *upstream
	e          *exporter
	monitor    *monitor // nil if there is none to be had
	random     *rand.Rand
	secretFile string
	secret     string
	rotations  int
	families   map[string]bool
	stable     []string
	started    time.Time

	mu       sync.Mutex
	episodes []episode
	expiries int                                         // outages at whose end all data had expired
	figures  []figure                                    // of the exporter's resources
	history  map[time.Time]map[string]map[string]float64 // upstream's series by refresh and service
	latest   map[string]time.Time                        // the refresh that a reader has last seen of a service
	readers  map[string]*tally
	problems int
}

// episode is a time in which something is wrong.
type episode struct {
	what     string
	link     bool      // nothing, or not all, comes through
	from, to time.Time // to is zero while it lasts
}

// tally is what one way of reading the exporter has brought.
type tally struct {
	scrapes, failed          int
	values                   int
	wrong, missing, backward int           // services of a scrape, not values
	oldest                   time.Duration // the age of the oldest data
	slowest                  time.Duration // scrape
}

type figure struct {
	at                            time.Time
	goroutines, fds, heap, memory float64
}

func (w *walk) problem(at time.Time, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.problems++
	if w.problems <= 50 {
		w.t.Errorf("%s during %q: %s", at.Sub(w.started).Round(time.Second), w.during(at), fmt.Sprintf(format, args...))
	}
}

// tally lets one take down what a reader has got.
func (w *walk) tally(reader string, note func(*tally)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.readers[reader] == nil {
		w.readers[reader] = &tally{}
	}
	note(w.readers[reader])
}

// during says what was wrong at a moment. The caller locks.
func (w *walk) during(at time.Time) string {
	for _, e := range slices.Backward(w.episodes) {
		if !at.Before(e.from) {
			if e.to.IsZero() || at.Before(e.to) {
				return e.what
			}
			break
		}
	}
	return "nothing"
}

// touched tells whether an episode of the kind was, or had effects, in a stretch of
// time. The caller locks.
func (w *walk) touched(from, to time.Time, kind string) bool {
	return slices.ContainsFunc(w.episodes, func(e episode) bool {
		return strings.HasPrefix(e.what, kind) && e.from.Before(to) && (e.to.IsZero() || e.to.After(from))
	})
}

// calm is for how long nothing had been wrong at a moment. The caller locks.
func (w *walk) calm(at time.Time) time.Duration {
	for _, e := range slices.Backward(w.episodes) {
		if !at.Before(e.from) {
			if e.to.IsZero() || at.Before(e.to) {
				return 0
			}
			return at.Sub(e.to)
		}
	}
	return 0
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
	w.episodes = append(w.episodes, episode{what: what, link: link, from: time.Now()})
	w.t.Logf("%s %s", time.Since(w.started).Round(time.Second), what)
}

// quiet ends what is going on.
func (w *walk) quiet() {
	w.u.ClearFaults()
	w.u.link.restore()
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.episodes); n > 0 && w.episodes[n-1].to.IsZero() {
		w.episodes[n-1].to = time.Now()
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
		case "future families":
			// Samples of months ago are out of Prometheus's bounds.
			f.Mutate = func(page []byte) []byte {
				now := strconv.FormatInt(time.Now().UnixMilli(), 10)
				return bytes.Replace(simulator.FutureFamilies(page), []byte(" 1767225600000\n"), []byte(" "+now+"\n"), 1)
			}
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
		w.quiet()
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
		w.quiet()
	case n < 16:
		w.begin("key rotated", false)
		w.rotations++
		w.secret = fmt.Sprintf("%s%d", secret, w.rotations)
		w.u.RotateKey(keyID, w.secret)
		w.pass(w.between(time.Second, 30*time.Second))
		w.replaceSecret()
		w.pass(5 * time.Second)
		w.quiet()
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
	w.quiet()
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
	w.expired()
	w.quiet()
	w.pass(30 * time.Second)
}

// expired checks that no data is left.
func (w *walk) expired() {
	left := len(w.e.scrape().upstream())
	if left > 0 {
		w.problem(time.Now(), "%d series after everything has expired", left)
	}
	if w.monitor != nil {
		// What is merely gone, and not marked stale, would be seen for five minutes more.
		found, err := w.monitor.query(`{__name__=~"Postgres.*",__name__!="PostgresServer_Stamped"}`, time.Now())
		if err != nil || len(found) > 0 {
			w.problem(time.Now(), "Prometheus still sees %d series after everything has expired: %v", len(found), err)
			left++
		}
	}
	if left == 0 {
		w.mu.Lock()
		w.expiries++
		w.mu.Unlock()
	}
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
		took := time.Since(started)
		w.tally(ourselves, func(t *tally) { t.scrapes++; t.slowest = max(t.slowest, took) })
		p, malformed := parse(body)
		if err = cmp.Or(err, malformed); err != nil || code != http.StatusOK {
			w.tally(ourselves, func(t *tally) { t.failed++ })
			w.problem(started, "scrape: %d, %v", code, err)
			continue
		}
		if took > 5*time.Second {
			w.problem(started, "a scrape took %s", took)
		}
		g := glimpse{reader: ourselves, at: started, expected: w.stable, up: p.is("clickhouse_postgres_up", 1), health: p.health()}
		for _, s := range p.upstream() {
			g.add(w, s)
		}
		w.check(g)
		w.discover()
		if n%30 == 0 {
			w.mark()
		}
		if n%10 == 0 {
			w.e.browse()
		}
	}
}

// discover checks that discovery never leaves out a service that is there, and is
// sure of itself unless the list was empty.
func (w *walk) discover() {
	at := time.Now()
	code, body, err := w.e.try(http.MethodGet, "/sd")
	if w.emptied(time.Now()) && (code == http.StatusOK || code == http.StatusServiceUnavailable) {
		return
	}
	if err != nil || code != http.StatusOK {
		w.problem(at, "discovery: %d, %v: %.200s", code, err, body)
		return
	}
	for _, id := range w.stable {
		if !strings.Contains(body, id) {
			w.problem(at, "discovery leaves out service %s", id)
		}
	}
}

// emptied tells whether an empty list may have an effect at a moment.
func (w *walk) emptied(at time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.touched(at.Add(-soakBelief), at, "empty list")
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

// ourselves is the reader that the test is itself.
const ourselves = "the test's own scraper"

// glimpse is what a reader got of upstream's series at a moment.
type glimpse struct {
	reader   string
	target   string // if the reader has several
	at       time.Time
	expected []string                      // services that must be there as long as their data is good
	services map[string]map[string]float64 // values by service and identity
	up       bool                          // the exporter says that all is well
	health   string                        // what it says, if known
}

// add takes a series, unless it is a fault's.
func (g *glimpse) add(w *walk, s series) {
	if !w.families[s.name()] {
		return
	}
	id := s.labels.Get("postgres_service")
	if g.services == nil {
		g.services = map[string]map[string]float64{}
	}
	if g.services[id] == nil {
		g.services[id] = map[string]float64{}
	}
	g.services[id][s.identity()] = s.value
}

// check holds a glimpse against what upstream has said: of each service, it must show
// everything as of one refresh, a recent one, and none that is older than what was
// seen before.
func (w *walk) check(g glimpse) {
	w.mu.Lock()
	var ticks []time.Time
	for tick := range w.history {
		if age := g.at.Sub(tick); age < soakExpiry+soakSlack && age > -soakInterval {
			ticks = append(ticks, tick)
		}
	}
	slices.SortFunc(ticks, func(a, b time.Time) int { return b.Compare(a) })
	found, latest := map[string]time.Time{}, map[string]time.Time{}
	for id, got := range g.services {
		latest[id] = w.latest[g.reader+g.target+id]
		if i := slices.IndexFunc(ticks, func(tick time.Time) bool { return same(w.history[tick][id], got) }); i >= 0 {
			found[id] = ticks[i]
		}
	}
	good := w.lastGood(g.at)
	// Said twice, an empty list is believed.
	due := g.at.Sub(good) < soakMaxAge-soakSlack && !w.touched(g.at.Add(-soakBelief), g.at, "empty list")
	calm := w.calm(g.at)
	w.mu.Unlock()

	for id, got := range g.services {
		tick, ok := found[id]
		if !ok {
			w.problem(g.at, "%s, service %s: series that upstream did not have: %s", g.reader, id, w.differences(id, got))
		}
		last := latest[id]
		if ok && tick.Before(last) {
			w.problem(g.at, "%s, service %s: data of %s after that of %s", g.reader, id, tick.Format(time.TimeOnly), last.Format(time.TimeOnly))
		}
		w.tally(g.reader, func(t *tally) {
			t.values += len(got)
			switch {
			case !ok:
				t.wrong++
			case tick.Before(last):
				t.backward++
			default:
				t.oldest = max(t.oldest, g.at.Sub(tick))
				w.latest[g.reader+g.target+id] = tick
			}
		})
	}
	for _, id := range g.expected {
		if due && g.services[id] == nil {
			w.problem(g.at, "%s: no series of service %s although upstream gave some %s before", g.reader, id, g.at.Sub(good).Round(time.Second))
			w.tally(g.reader, func(t *tally) { t.missing++ })
		}
	}
	if calm > time.Minute && !g.up {
		w.problem(g.at, "%s: not up although nothing is wrong:\n%s", g.reader, g.health)
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

// lastGood is when, before a moment, upstream last gave the organization's metrics
// undisturbed. The caller locks.
func (w *walk) lastGood(at time.Time) time.Time {
	const margin = 2 * time.Second
	for _, r := range slices.Backward(w.u.Requests()) {
		if r.Endpoint != organizationMetrics || r.Status != http.StatusOK || r.Fault != "" || at.Sub(r.Time) < margin {
			continue
		}
		if !slices.ContainsFunc(w.episodes, func(e episode) bool {
			return e.link && r.Time.After(e.from.Add(-margin)) && (e.to.IsZero() || r.Time.Before(e.to.Add(margin)))
		}) {
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
	w.t.Logf("%s goroutines %v, fds %v, heap in use %.1f MiB, resident %.1f MiB, %d episodes, %d problems",
		time.Since(w.started).Round(time.Second), f.goroutines, f.fds, f.heap/(1<<20), f.memory/(1<<20), len(w.episodes), w.problems)
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
	if most := 20 + 6*len(w.episodes); lines > most {
		w.t.Errorf("%d lines of log in %d episodes", lines, len(w.episodes))
	}

	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "read by\tscrapes\tfailed\tvalues checked\twrong\tmissing\tbackward\toldest data\tslowest scrape")
	for _, name := range slices.Sorted(maps.Keys(w.readers)) {
		r := w.readers[name]
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\n", name, r.scrapes, r.failed, r.values, r.wrong, r.missing, r.backward,
			r.oldest.Round(time.Second), r.slowest.Round(time.Millisecond))
	}
	fmt.Fprintln(table, "(the page of a service fails once its data has expired)")
	fmt.Fprintln(table, "\nof the exporter\tbeginning\tend")
	fmt.Fprintf(table, "goroutines\t%v\t%v\n", first.goroutines, last.goroutines)
	fmt.Fprintf(table, "file descriptors\t%v\t%v\n", first.fds, last.fds)
	fmt.Fprintf(table, "heap, median of a third\t%.1f MiB\t%.1f MiB\n", early/(1<<20), late/(1<<20))
	_ = table.Flush()
	w.t.Logf("%s: %d episodes, %d outages longer than the maximum age, %d rotations of the key; %d problems; %d requests to upstream, %d over its limit; %d lines of log\n%s",
		time.Since(w.started).Round(time.Second), len(w.episodes), w.expiries, w.rotations, w.problems,
		w.u.Count("", -1), refused, lines, b.String())
}

func median(f []figure) float64 {
	var heaps []float64
	for _, x := range f {
		heaps = append(heaps, x.heap)
	}
	slices.Sort(heaps)
	return heaps[len(heaps)/2]
}
