//go:build slow && linux

package faulttest

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// shifted builds the exporter with a standard library whose wall clock jumps on signals, while the
// monotonic clock runs on: forward by an hour (SIGUSR1), back by an hour (SIGUSR2), and forward by
// ten minutes (SIGWINCH), as after a suspend. The clocks of the system are not touched.
func shifted(t *testing.T) string {
	t.Helper()
	output := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("go", args...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	root := output("list", "-f", "{{.Dir}}", module)
	original := filepath.Join(output("env", "GOROOT"), "src", "time", "time.go")
	source, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	const now = "	sec, nsec, mono := runtimeNow()\n	if mono == 0 {\n		return Time{uint64(nsec)"
	if strings.Count(string(source), now) != 1 {
		t.Skip("time.Now is another one in this version of Go")
	}
	dir := t.TempDir()
	changed := strings.Replace(string(source), now, strings.Replace(now, "\n", "\n	sec += WallShift\n", 1), 1) +
		"\n// WallShift is added to the wall clock, in seconds.\nvar WallShift int64\n"
	writeFile(t, filepath.Join(dir, "time.go"), changed)
	writeFile(t, filepath.Join(dir, "clock.go"), `package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func init() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH)
	go func() {
		for s := range c {
			time.WallShift += map[os.Signal]int64{syscall.SIGUSR1: 3600, syscall.SIGUSR2: -3600, syscall.SIGWINCH: 600}[s]
			fmt.Fprintln(os.Stdout, "clock shifted by", time.WallShift)
		}
	}()
}
`)
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		original:                              filepath.Join(dir, "time.go"),
		filepath.Join(root, "shift_clock.go"): filepath.Join(dir, "clock.go"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "overlay.json"), string(overlay))
	path := filepath.Join(dir, "exporter")
	if out, err := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", path, module).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// TestClockJumps makes the wall clock of the real binary jump. After a jump forward, data may
// expire early and be missing until the next poll, as after a suspend; nothing else happens.
func TestClockJumps(t *testing.T) {
	path := shifted(t)
	u := newUpstream(t, simulator.Config{Services: 3})
	// The default budget, so that a burst would show.
	e := start(t, u, flags("--metrics.interval=2s", "--inventory.interval=4s"), func(c *exec.Cmd) { c.Path = path })
	before := e.ready(u)
	for _, jump := range []struct {
		name   string
		signal syscall.Signal
		shift  float64 // of the clock after it, in seconds
	}{
		{"forward by an hour", syscall.SIGUSR1, 3600},
		{"back by an hour", syscall.SIGUSR2, 0},
		{"back by another hour", syscall.SIGUSR2, -3600},
		{"suspended for ten minutes", syscall.SIGWINCH, -3000},
	} {
		lines := len(e.log.lines("clock shifted"))
		listed := e.scrape().sum(pollsName, "endpoint", services)
		if err := e.command.Process.Signal(jump.signal); err != nil {
			t.Fatal(err)
		}
		await(t, "the clock to jump", func() bool { return len(e.log.lines("clock shifted")) > lines }, e.log.String)
		jumped := time.Now()
		now := func() float64 { return float64(time.Now().UnixMilli())/1000 + jump.shift }
		p := e.scrape()
		if jump.shift <= 0 && jump.signal == syscall.SIGUSR2 {
			if diff := relabelled(before.upstream(), p.upstream()); diff != "" {
				t.Errorf("%s: series\n%s", jump.name, diff)
			}
		}
		// The exporter's own metrics may be a second old.
		e.await("no time in the future", func(p page) bool { return p.sum(successName) <= now()+0.1 && p.sum(listedName) <= now()+0.1 })
		u.refresh()
		p = e.await("polls after the clock was put "+jump.name, func(p page) bool {
			return len(u.wrong(p)) == 0 && p.is("clickhouse_postgres_up", 1) && p.sum(pollsName, "endpoint", services) >= listed+2
		})
		if took := time.Since(jumped); took > 30*time.Second {
			t.Errorf("%s: all is well after %s only", jump.name, took)
		}
		for _, s := range p {
			if name := s.name(); strings.HasSuffix(name, "_last_success_timestamp_seconds") || strings.HasSuffix(name, "_last_change_timestamp_seconds") {
				if age := now() - s.value; age < -0.1 || age > 60 {
					t.Errorf("%s: %s has an age of %v s", jump.name, s.labels, age)
				}
			}
		}
		if diff := relabelled(before.upstream(), p.upstream()); diff != "" {
			t.Errorf("%s: series\n%s", jump.name, diff)
		}
		if code, _ := e.get("/-/healthy"); code != http.StatusOK {
			t.Errorf("%s: liveness %d", jump.name, code)
		}
	}
	// No burst: never more requests than the budget in its window.
	var times []time.Time
	for _, r := range u.seen() {
		times = append(times, r.at)
	}
	for i := range times {
		n, _ := slices.BinarySearchFunc(times, times[i].Add(10*time.Second), time.Time.Compare)
		if n-i > 8 {
			t.Fatalf("%d requests within ten seconds", n-i)
		}
	}
	e.wantNoLine("level=warn")
}
