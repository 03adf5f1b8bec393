package simulator

import (
	"math"
	"time"
)

// filling is what a disk does. Zero nears 90 % slowly, with the years, and never gets there.
type filling int

const (
	// toReadOnly fills up until upstream lets the service only read, and a while later its owner
	// deletes data.
	toReadOnly filling = iota + 1
	// toLarger fills up until upstream moves the service to a disk twice as large. A while later
	// its owner deletes data and goes back to the smaller one.
	toLarger
)

const (
	fillPeriod = 2 * time.Hour // from one time that a disk is full to the next
	fillFrom   = 0.6           // share of the disk in use at the beginning
	autoscales = 0.9           // share at which a disk is replaced by a larger one
)

// readOnlyBelow returns at how many free bytes upstream lets a service only read. The vendor
// tells it in GB, which are taken for powers of ten: the smallest disk, of 59 GiB, is one of
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

// disk returns the bytes that the service's disk has at t, in seconds since 1970, and how many
// are in use.
func (v *service) disk(t float64) (limit, used float64) {
	limit = float64(v.spec.storageGiB) * (1 << 30)
	if v.freeDisk > 0 {
		return limit, max(limit-v.freeDisk, 0)
	}
	_, position := math.Modf(t/fillPeriod.Seconds() + unit(hash(v.key, "disk")))
	if position < 0 {
		position++
	}
	// cycle rises until one position, stays there until another, and falls to the end.
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
	switch v.filling {
	case toReadOnly:
		return limit, cycle(limit-0.8*readOnlyBelow(limit), 0.7, 0.85)
	case toLarger:
		used = cycle(1.3*limit, 0.85, 0.85)
		if position >= 0.85 || used >= autoscales*limit {
			limit *= 2
		}
		return limit, used
	default:
		return limit, limit * v.profile.used(t-seconds(v.createdAt))
	}
}

// storageGiB is the size of the disk as the inventory tells it.
func (v *service) storageGiB(t time.Time) int {
	limit, _ := v.disk(seconds(t))
	return int(limit / (1 << 30))
}
