package metrics

import (
	"math"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator/internal/seeded"
)

// Filling is how a disk fills up. The zero value approaches 90 % over the years, and never
// gets there.
type Filling int

const (
	// ToReadOnly fills up until upstream makes the service read-only. A while later its owner
	// deletes data.
	ToReadOnly Filling = iota + 1
	// ToLarger fills up until upstream moves the service to a disk twice as large. A while later
	// its owner deletes data and goes back to the smaller one.
	ToLarger
)

const (
	fillPeriod = 2 * time.Hour // from one time that a disk is full to the next
	fillFrom   = 0.6           // share of the disk in use at the start
	autoscales = 0.9           // share at which a disk is replaced by a larger one
)

// readOnlyBelow returns below how many free bytes upstream makes a service read-only. The vendor
// states it in GB, which are taken to be powers of ten: the smallest disk, 59 GiB, is one of
// 64 GB.
func readOnlyBelow(limit float64) float64 {
	const gb = 1e9
	switch {
	case limit <= 64*gb:
		return 1 * gb
	case limit <= 128*gb:
		return 5 * gb
	case limit <= 512*gb:
		return 7 * gb
	default:
		return 0.02 * limit
	}
}

// Disk returns the size of the disk and how much of it is in use, in bytes.
func (s *Server) Disk(at time.Time) (limit, used float64) {
	t := seconds(at)
	limit = float64(s.Machine.StorageGiB) * (1 << 30)
	if s.FreeDisk > 0 {
		return limit, max(limit-s.FreeDisk, 0)
	}
	_, position := math.Modf(t/fillPeriod.Seconds() + seeded.Unit(seeded.Hash(s.Key, "disk")))
	if position < 0 {
		position++
	}
	// cycle rises until the position full, stays there until emptied, and falls until the end.
	cycle := func(top, full, emptied float64) float64 {
		switch from := fillFrom * limit; {
		case position < full:
			return from + (top-from)*position/full
		case position < emptied:
			return top
		default:
			return top - (top-from)*(position-emptied)/(1-emptied)
		}
	}
	switch s.Filling {
	case ToReadOnly:
		return limit, cycle(limit-0.8*readOnlyBelow(limit), 0.7, 0.85)
	case ToLarger:
		used = cycle(1.3*limit, 0.85, 0.85)
		if position >= 0.85 || used >= autoscales*limit {
			limit *= 2
		}
		return limit, used
	default:
		return limit, limit * s.Profile.used(t-seconds(s.CreatedAt))
	}
}
