package metrics

import (
	"math"
	"strings"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator/internal/seeded"
)

const (
	day  = 86400.0
	week = 7 * day

	databases = "app,orders,analytics,warehouse,accounts,events,cms,sessions"
)

// Profile is what one server's workload is like.
type Profile struct {
	// Databases are the names of its databases.
	Databases [3]string

	queries, writes load
	// fill is the share of the storage in use at creation, and fillDays the time constant with
	// which it approaches 90 %.
	fill, fillDays float64
	// writeShare is 0 on a replica, which only replays.
	writeShare float64
	// scale makes some services busier than others of the same size.
	scale float64
	// deadlocks per second and core under full write load.
	deadlocks float64
	hitRatio  float64
}

// NewProfile returns the workload that follows from a key. Its users live where clocks are
// ahead of UTC by utcOffset hours. That of a replica, which is not primary, has no writes.
func NewProfile(key uint64, utcOffset float64, primary bool) *Profile {
	p := &Profile{
		queries:    newLoad(seeded.Hash(key, "queries"), utcOffset),
		writes:     newLoad(seeded.Hash(key, "writes"), utcOffset),
		fill:       0.05 + 0.45*seeded.Unit(seeded.Hash(key, "fill")),
		fillDays:   60 + 800*seeded.Unit(seeded.Hash(key, "fill days")),
		writeShare: 1,
		scale:      0.2 + 1.3*seeded.Unit(seeded.Hash(key, "scale")),
		deadlocks:  1 / (3600 * (2 + 30*seeded.Unit(seeded.Hash(key, "deadlocks")))),
		hitRatio:   96.5 + 3*seeded.Unit(seeded.Hash(key, "hit ratio")),
	}
	if !primary {
		p.writeShare = 0
	}
	// Two neighbours in the list, so that they differ.
	names := strings.Split(databases, ",")
	first := int(seeded.Hash(key, "databases") % uint64(len(names)))
	p.Databases = [3]string{"postgres", names[first], names[(first+1)%len(names)]}
	return p
}

// used returns the share of the storage in use at an age in seconds.
func (p *Profile) used(age float64) float64 {
	return p.fill + (0.90-p.fill)*(1-math.Exp(-max(age, 0)/day/p.fillDays))
}

// load is a share of a machine's capacity that varies with time: a constant times one plus
// four waves, the first daily, the second weekly. The amplitudes add up to less than one, so
// the load is always positive, and its integral, from which counters are made, always grows.
type load struct {
	base  float64
	waves [4]wave
}

type wave struct{ omega, amplitude, phase float64 }

func newLoad(key uint64, utcOffset float64) load {
	// The daily wave peaks at two in the afternoon, local time.
	peak := (14 - utcOffset) * 3600
	part := func(name string) float64 { return seeded.Unit(seeded.Hash(key, name)) }
	return load{
		base: 0.10 + 0.28*part("base"),
		waves: [4]wave{
			{2 * math.Pi / day, 0.35 + 0.15*part("daily"), math.Pi/2 - 2*math.Pi/day*peak},
			{2 * math.Pi / week, 0.12, 2 * math.Pi * part("weekly")},
			{2 * math.Pi / (30*60 + 20*60*part("slow")), 0.15, 2 * math.Pi * part("slow phase")},
			{2 * math.Pi / (7*60 + 6*60*part("fast")), 0.10, 2 * math.Pi * part("fast phase")},
		},
	}
}

// at returns the load at t, in seconds since 1970: between 0.01 and 0.72.
func (l *load) at(t float64) float64 {
	sum := 1.0
	for _, w := range l.waves {
		sum += w.amplitude * math.Sin(w.omega*t+w.phase)
	}
	return l.base * sum
}

// integral returns the sum of the load between two moments; one second at full capacity is 1.
func (l *load) integral(from, to float64) float64 {
	sum := to - from
	for _, w := range l.waves {
		sum += w.amplitude / w.omega * (math.Cos(w.omega*from+w.phase) - math.Cos(w.omega*to+w.phase))
	}
	return l.base * sum
}
