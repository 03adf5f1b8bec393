//go:build soak && linux

package faulttest

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// mark records the exporter's use of resources.
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

// judge checks the whole walk.
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
		if r.Status == http.StatusTooManyRequests && r.Fault == "" && r.KeyID != customerID {
			refused++
		}
	}
	if refused > 0 {
		w.t.Errorf("%d requests over upstream's rate limit", refused)
	}
	lines := len(w.e.log.lines("level="))
	if most := 20 + 6*(len(w.episodes)+len(w.changes)); lines > most {
		w.t.Errorf("%d lines of log in %d episodes and %d changes", lines, len(w.episodes), len(w.changes))
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
	w.t.Logf("%s: %d episodes, %d changes of services, %d outages longer than the maximum age, %d rotations of the key; %d problems; %d requests to upstream, %d over its limit; %d lines of log\n%s",
		time.Since(w.started).Round(time.Second), len(w.episodes), len(w.changes), w.expiries, w.rotations, w.problems,
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
