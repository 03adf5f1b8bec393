//go:build soak && linux

package faulttest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// The durations of the walk. Data is served for at least soakMaxAge and at most soakExpiry.
const (
	soakRefresh  = 15 * time.Second
	soakInterval = 5 * time.Second
	soakMaxAge   = 2 * time.Minute
	soakExpiry   = 150 * time.Second
	soakSlack    = 20 * time.Second
	soakBelief   = time.Minute // for how long an empty list may have effects
	soakServices = 12
	soakStable   = 8 // of them are never touched

	// After soakCalm without a fault, nothing may be older than soakFresh.
	soakCalm  = time.Minute
	soakFresh = 45 * time.Second
	// soakSettled is the longest delay before what Prometheus stored is checked.
	soakSettled = time.Minute
)

// TestSoak walks at random through all faults for $SOAK_DURATION, an hour by default, while
// services come and go. Every value that it scrapes must be one that upstream served, and so must
// everything that a real Prometheus stores.
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
		CreateDelay: 20 * time.Second, DeleteDelay: 20 * time.Second, RestartDelay: 20 * time.Second, BackupDelay: 10 * time.Second,
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
	u.AddKey(simulator.Key{ID: customerID, Secret: secret})
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
	w.pass(20 * time.Second)
	w.live(soakCalm)
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
	w.live(max(time.Until(end), soakCalm))
	w.pass(soakCalm)
	w.mark()
	close(stop)
	verifying.Wait()
	if w.monitor != nil {
		w.examine()
	}
	w.judge()
}

// walk is a random walk through faults, and its results.
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
	changes  []change                                    // of services, which are no faults
	expiries int                                         // outages at whose end all data had expired
	figures  []figure                                    // of the exporter's resources
	history  map[time.Time]map[string]map[string]float64 // upstream's series by refresh and service
	lists    []listing                                   // upstream's, oldest first
	latest   map[string]time.Time                        // the refresh that a reader has last seen of a service
	readers  map[string]*tally
	problems int
}

// episode is a period with a fault.
type episode struct {
	what     string
	link     bool      // nothing, or not all, comes through
	from, to time.Time // to is zero while it lasts
}

// change is a change of a service.
type change struct {
	what string
	at   time.Time
}

// tally is the results of one way of reading the exporter.
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
		w.t.Errorf("%s during %q, last change %q: %s", at.Sub(w.started).Round(time.Second), w.during(at), w.lastChange(at), fmt.Sprintf(format, args...))
	}
}

// tally updates the results of a reader.
func (w *walk) tally(reader string, note func(*tally)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.readers[reader] == nil {
		w.readers[reader] = &tally{}
	}
	note(w.readers[reader])
}

// during returns the faults at a moment. The caller locks.
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

// lastChange returns the last change of a service before a moment. The caller locks.
func (w *walk) lastChange(at time.Time) string {
	for _, c := range slices.Backward(w.changes) {
		if !at.Before(c.at) {
			return fmt.Sprintf("%s %s before", c.what, at.Sub(c.at).Round(time.Second))
		}
	}
	return "none"
}

// touched reports whether an episode of the kind, or its effects, fell into a period. The caller
// locks.
func (w *walk) touched(from, to time.Time, kind string) bool {
	return slices.ContainsFunc(w.episodes, func(e episode) bool {
		return strings.HasPrefix(e.what, kind) && e.from.Before(to) && (e.to.IsZero() || e.to.After(from))
	})
}

// calm returns how long before a moment there was no fault; services may come and go. The caller
// locks.
func (w *walk) calm(at time.Time) time.Duration {
	for _, e := range slices.Backward(w.episodes) {
		if !at.Before(e.from) {
			if e.to.IsZero() || at.Before(e.to) {
				return 0
			}
			return at.Sub(e.to)
		}
	}
	return at.Sub(w.started)
}

// pass lets time pass; nothing else is awaited here.
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

// quiet ends all faults.
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
