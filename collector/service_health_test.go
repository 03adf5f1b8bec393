package collector

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
)

// The health that only gets new values is that which is made anew.
func TestServiceHealthReused(t *testing.T) {
	t.Parallel()
	org := "org"
	w := &worker{}
	w.id.Store(&org)
	at := time.UnixMilli(1_750_000_000_123)
	services := []*serviceView{
		{id: "a", name: "one", sample: &sample{fetchedAt: at, changedAt: at.Add(-time.Minute)}, up: true},
		{id: "b", name: `a "quoted" name`},
		{id: "c", sample: &sample{fetchedAt: at, changedAt: at}},
	}
	text := func(h *serviceHealth) string {
		var b strings.Builder
		doc := exposition.Merge(exposition.Part{Block: h.block()})
		for _, chunk := range exposition.Encode(exposition.Text, exposition.Identity, doc).Chunks {
			b.Write(chunk)
		}
		return b.String()
	}
	last := newServiceHealth(w, services, nil)
	if again := newServiceHealth(w, services, last); again != last {
		t.Error("made again although nothing changed")
	}
	reused := 0
	for i, change := range []func(){
		func() { services[0].up = false },
		func() { services[2].sample = &sample{fetchedAt: at.Add(time.Hour), changedAt: at.Add(time.Hour)} },
		func() { services[1].sample = &sample{fetchedAt: at, changedAt: at} },
		func() { services[1].name = "renamed" },
		func() { services = append(services, &serviceView{id: "d"}) },
		func() { services = services[1:] },
	} {
		// Views are immutable: change copies.
		services = slices.Clone(services)
		for i, s := range services {
			c := *s
			services[i] = &c
		}
		change()
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			next := newServiceHealth(w, services, last)
			if diff := cmp.Diff(text(newServiceHealth(w, services, nil)), text(next)); diff != "" {
				t.Error(diff)
			}
			if next.series == last.series {
				reused++
			}
			last = next
		})
	}
	if reused != 2 {
		t.Errorf("reused %d times", reused)
	}
}
