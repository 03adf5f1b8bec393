// Package metrics computes what the simulated Postgres servers report. Every value is a
// function of the server and the time, and of no other state. So two simulators with the same
// seed agree, and the values of any moment can be had without living through those before it.
package metrics

import (
	"math"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator/internal/seeded"
)

// Server is what the values of one Postgres server depend on, besides the time.
type Server struct {
	// Key seeds everything that is particular to this server.
	Key     uint64
	Profile *Profile
	Machine Machine

	CreatedAt time.Time
	// Boot is when the counters started at zero, in the future while the server restarts.
	Boot time.Time
	// MaxConnections is the value in force.
	MaxConnections int

	Filling Filling
	// FreeDisk is how many bytes of the disk are free, whatever the profile says. 0 leaves it to
	// the profile.
	FreeDisk float64
}

// Machine is what a server runs on.
type Machine struct {
	Cores                 int
	MemoryGiB, StorageGiB int
}

// Values writes what a running server reports at a time, in the order of Families. Counters are
// integrals of the load since Boot, rounded down, so they never decrease between two restarts.
// The CPU modes are rounded down too: they add up to cores times the time since Boot, less at
// most a millisecond each.
func (s *Server) Values(at time.Time, out *[SeriesPerService]float64) {
	var (
		p       = s.Profile
		t       = seconds(at)
		boot    = min(seconds(s.Boot), t)
		cores   = float64(s.Machine.Cores)
		elapsed = t - boot
		jitter  = seeded.Unit(seeded.Hash(s.Key^uint64(at.UnixNano()), "jitter"))

		queries, writes       = p.queries.at(t), p.writes.at(t)
		queriesSum, writesSum = p.queries.integral(boot, t), p.writes.integral(boot, t)
		coreQueries           = cores * queriesSum * p.scale
		coreWrites            = cores * writesSum * p.scale * p.writeShare

		memory        = float64(s.Machine.MemoryGiB) * (1 << 30)
		storage, used = s.Disk(at)
	)

	// Most client connections are idle. There are at most MaxConnections of them, less the three
	// that Postgres reserves.
	room := float64(max(s.MaxConnections-3, 1))
	active := min(max(math.Round(queries*cores*4*(0.7+0.6*jitter)), 1), room)
	inTransaction := min(math.Round(writes*cores*2*jitter), room-active)
	idle := min(math.Round(room*0.1+room*0.5*queries), room-active-inTransaction)

	i := 0
	put := func(values ...float64) { i += copy(out[i:], values) }
	put(1)
	put(active, idle, inTransaction, 0, 0, 0)
	put(cores)
	user, system := 0.70*queriesSum, 0.16*queriesSum
	iowait, steal := 0.09*writesSum, 0.005*writesSum
	softirq, irq, nice := 0.015*queriesSum, 0.004*queriesSum, 0.001*queriesSum
	put(
		milliseconds(cores*user), milliseconds(cores*system), milliseconds(cores*iowait), milliseconds(cores*softirq),
		milliseconds(cores*steal), milliseconds(cores*irq), milliseconds(cores*nice),
		milliseconds(cores*(elapsed-user-system-iowait-softirq-steal-irq-nice)),
	)
	put(hundredths(min(p.hitRatio-2*writes+0.4*jitter, 100)))
	put(math.Floor(7_700_000+64*math.Sqrt(max(elapsed, 0))), math.Floor(0.58*used), math.Floor(0.27*used))
	put(math.Floor(writesSum * cores * p.deadlocks * p.writeShare))
	put(math.Floor(140*coreQueries), math.Floor(cores*writesSum*p.scale*420))
	put(hundredths(100 * used / storage))
	put(hundredths(30 + 20*p.scale/1.5 - 20*queries))
	put(memory)
	put(hundredths(20 + 38*queries + 3*jitter))
	put(math.Floor(310_000*coreQueries+190_000*coreWrites), math.Floor(2_400_000*coreQueries))
	put(storage)
	put(math.Floor(900*coreQueries), math.Floor(3.1*coreQueries))
	put(math.Floor(22*coreWrites), math.Floor(41_000*coreQueries), math.Floor(160*coreWrites), math.Floor(260*coreWrites))
}

func milliseconds(seconds float64) float64 { return math.Floor(seconds*1000) / 1000 }

func hundredths(percent float64) float64 { return math.Round(percent*100) / 100 }

// seconds returns t in seconds since 1970.
func seconds(t time.Time) float64 {
	return float64(t.Unix()) + float64(t.Nanosecond())/1e9
}
