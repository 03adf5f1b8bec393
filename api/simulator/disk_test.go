package simulator_test

import (
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// free returns the size of a service's disk and its free space, in bytes, according to metrics.
func (l *lab) free(id string, at time.Time) (limit, free float64) {
	l.Helper()
	percent := -1.0
	for _, s := range l.ServiceSeries(id, at) {
		switch s.Name {
		case "PostgresServer_StorageLimitBytes":
			limit = s.Value
		case "PostgresServer_FilesystemUsedPercent":
			percent = s.Value
		}
	}
	if limit == 0 || percent < 0 || percent > 100 {
		l.Fatalf("%v %% of %v bytes", percent, limit)
	}
	return limit, limit * (1 - percent/100)
}

// readOnly is the vendor's table, in bytes.
func readOnly(limit, free float64) bool {
	switch {
	case limit <= 64e9:
		return free < 1e9
	case limit <= 128e9:
		return free < 5e9
	case limit <= 512e9:
		return free < 7e9
	default:
		return free < 0.02*limit
	}
}

// One disk fills up until its service is read-only, another grows before that, and the rest are
// healthy.
func TestDisksFillUp(t *testing.T) {
	for _, fill := range []bool{false, true} {
		l := newLab(t, simulator.Config{Services: 24, FillDisks: fill})
		full, grown := map[string]int{}, map[string]int{}
		for _, s := range l.Services() {
			smallest, _ := l.free(s.ID, start)
			for minute := range 240 {
				limit, free := l.free(s.ID, start.Add(time.Duration(minute)*time.Minute))
				smallest = min(smallest, limit)
				if readOnly(limit, free) {
					full[s.ID]++
				}
				if limit > smallest {
					grown[s.ID]++
					if limit != 2*smallest || free < 0.3*limit {
						t.Errorf("%s grew to %v of %v bytes, of which %v are free", s.Name, limit, smallest, free)
					}
				} else if grown[s.ID] == 0 && free < 0.099*limit && full[s.ID] == 0 && s.Provider == "gcp" {
					t.Errorf("%s did not grow: %v of %v bytes are free", s.Name, free, limit)
				}
			}
		}
		if !fill {
			if len(full)+len(grown) > 0 {
				t.Errorf("healthy disks: %v are full, %v grow", full, grown)
			}
			continue
		}
		// One of the two that would fill is a replica.
		if len(full) != 1 || len(grown) != 2 {
			t.Errorf("%v are full, %v grow", full, grown)
		}
		for id, minutes := range full {
			if minutes < 30 || minutes > 90 {
				t.Errorf("%s is read-only for %d of 240 minutes", id, minutes)
			}
		}
	}
}

// The list has the size of the disk, too.
func TestStorageSizeFollowsTheDisk(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 7, FillDisks: true, RefreshInterval: time.Minute})
	id := l.Services()[6].ID
	sizes := map[float64]bool{}
	for range 120 {
		l.clock.Advance(l.Refreshed(l.clock.Now()).Add(time.Minute).Sub(l.clock.Now()))
		limit, _ := l.free(id, l.clock.Now())
		for _, item := range l.want(200, "GET", l.org(""), "").list(t) {
			if size, _ := item["storageSize"].(float64); item["id"] == id {
				sizes[size] = true
				if size*(1<<30) != limit {
					t.Fatalf("%v GiB in the list, %v bytes in metrics", size, limit)
				}
			}
		}
	}
	if len(sizes) != 2 {
		t.Errorf("sizes: %v", sizes)
	}
}

func TestSetFreeDisk(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 1})
	id := l.Services()[0].ID
	_, before := l.free(id, l.clock.Now())
	for _, want := range []float64{0.99e9, 5e9, 0} {
		if !l.SetFreeDisk(id, want) {
			t.Fatal("unknown service")
		}
		l.clock.Advance(time.Minute)
		limit, free := l.free(id, l.clock.Now())
		if want == 0 {
			want = before
		}
		if diff := free - want; diff > limit/10_000 || diff < -limit/10_000 {
			t.Errorf("%v bytes are free, want %v", free, want)
		}
	}
}
