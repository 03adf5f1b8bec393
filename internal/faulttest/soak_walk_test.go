//go:build soak && linux

package faulttest

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// faults are those of the catalogue, some of them in a size fit for an hour.
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
			// Prometheus refuses samples that are months old.
			f.Mutate = func(page []byte) []byte {
				now := strconv.FormatInt(time.Now().UnixMilli(), 10)
				return bytes.Replace(simulator.FutureFamilies(page), []byte(" 1767225600000\n"), []byte(" "+now+"\n"), 1)
			}
		}
	}
	return all
}

// step makes one episode.
func (w *walk) step() {
	faults := soakFaults()
	switch n := w.random.IntN(20); {
	case n < 3:
		w.live(soakCalm + w.between(0, time.Minute))
	case n < 13:
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
		w.upset()
		w.quiet()
	case n < 18:
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
		w.upset()
		w.quiet()
	default:
		w.begin("key rotated", false)
		w.rotations++
		w.secret = fmt.Sprintf("%s%d", secret, w.rotations)
		w.u.RotateKey(keyID, w.secret)
		w.u.AddKey(simulator.Key{ID: customerID, Secret: secret})
		w.pass(w.between(time.Second, 30*time.Second))
		w.replaceSecret()
		w.pass(5 * time.Second)
		w.quiet()
	}
	w.pass(w.between(5*time.Second, 20*time.Second))
}

// upset applies a fault for a while, during which services change.
func (w *walk) upset() {
	w.pass(w.between(5*time.Second, 25*time.Second))
	if w.random.IntN(2) == 0 {
		w.disturb()
	}
	w.pass(w.between(time.Second, 20*time.Second))
}

// replaceSecret replaces the file as Kubernetes does.
func (w *walk) replaceSecret() {
	next := w.secretFile + ".next"
	writeFile(w.t, next, w.secret+"\n")
	if err := os.Rename(next, w.secretFile); err != nil {
		w.t.Fatal(err)
	}
}

// outage lasts until the data has expired.
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

// expired checks that no data is left, but of services that do not run: they may be read
// more rarely, and are served for longer.
func (w *walk) expired() {
	var idle []string
	for _, s := range w.u.Services() {
		if s.State != "running" {
			idle = append(idle, s.ID)
		}
	}
	left := len(slices.DeleteFunc(w.e.scrape().upstream(), func(s series) bool {
		return slices.Contains(idle, s.labels.Get("postgres_service"))
	}))
	if left > 0 {
		w.problem(time.Now(), "%d series after everything has expired", left)
	}
	if w.monitor != nil {
		// What is merely gone, and not marked stale, would be seen for five minutes more.
		found, err := w.monitor.query(fmt.Sprintf(`{__name__=~"Postgres.*",__name__!="PostgresServer_Stamped",postgres_service!~%q}`,
			strings.Join(idle, "|")), time.Now())
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
