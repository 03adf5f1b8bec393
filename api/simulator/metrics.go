package simulator

import (
	"math"
	"strings"
	"time"
)

// seriesPerService is how many series a running service has; see families. Any other service
// has one, PostgresServiceInfo, which says why there is nothing else.
const seriesPerService = 36

// A family is one metric of the API. Label, when there is one, tells its series apart and
// takes the values given; the names of databases are the service's own.
type family struct {
	name, typ, help string
	label           string
	values          []string
}

// series is how many the family has for a running service.
func (f *family) series() int {
	switch f.label {
	case "":
		return 1
	case "database":
		return len(profile{}.databases)
	default:
		return len(f.values)
	}
}

// families are in the order of the page. The values that (*service).values writes are in the
// same order.
func families() []family {
	return []family{
		{name: "PostgresServiceInfo", typ: "gauge", help: "Information about PostgreSQL service, including status and version."},
		{name: "PostgresServer_ActiveConnections", typ: "gauge", help: "Number of active connections by state.", label: "state", values: []string{"active", "idle", "idle in transaction", "idle in transaction (aborted)", "fastpath function call", "disabled"}},
		{name: "PostgresServer_CPUCores", typ: "gauge", help: "CPU cores that the server has."},
		{name: "PostgresServer_CPUSeconds_Total", typ: "counter", help: "Time that all cores together have spent in each mode, in seconds.", label: "mode", values: []string{"user", "system", "iowait", "softirq", "steal", "irq", "nice", "idle"}},
		{name: "PostgresServer_CacheHitRatio", typ: "gauge", help: "Buffer cache hit ratio: blocks served from cache vs. total blocks accessed (%)."},
		{name: "PostgresServer_DatabaseSizeBytes", typ: "gauge", help: "Size of each database in bytes.", label: "database"},
		{name: "PostgresServer_Deadlocks_Total", typ: "counter", help: "Deadlocks detected."},
		{name: "PostgresServer_DiskReads_Total", typ: "counter", help: "Read operations that the disk has completed."},
		{name: "PostgresServer_DiskWrites_Total", typ: "counter", help: "Write operations that the disk has completed."},
		{name: "PostgresServer_FilesystemUsedPercent", typ: "gauge", help: "Share of the storage in use (%)."},
		{name: "PostgresServer_MemoryCachePercent", typ: "gauge", help: "Share of the memory that caches files (%)."},
		{name: "PostgresServer_MemoryLimitBytes", typ: "gauge", help: "Memory that the server has, in bytes."},
		{name: "PostgresServer_MemoryUsedPercent", typ: "gauge", help: "Share of the memory in use (%)."},
		{name: "PostgresServer_NetworkReceiveBytes_Total", typ: "counter", help: "Bytes received over the network."},
		{name: "PostgresServer_NetworkTransmitBytes_Total", typ: "counter", help: "Bytes sent over the network."},
		{name: "PostgresServer_StorageLimitBytes", typ: "gauge", help: "Storage that the server has, in bytes."},
		{name: "PostgresServer_TransactionsCommitted_Total", typ: "counter", help: "Transactions committed."},
		{name: "PostgresServer_TransactionsRolledBack_Total", typ: "counter", help: "Transactions rolled back."},
		{name: "PostgresServer_TuplesDeleted_Total", typ: "counter", help: "Rows deleted."},
		{name: "PostgresServer_TuplesFetched_Total", typ: "counter", help: "Rows fetched."},
		{name: "PostgresServer_TuplesInserted_Total", typ: "counter", help: "Rows inserted."},
		{name: "PostgresServer_TuplesUpdated_Total", typ: "counter", help: "Rows updated."},
	}
}

// profile is what one service's workload is like. Everything a service reports is a function
// of its profile, its machine and the time, so that two simulators of one seed agree, and any
// moment can be asked for without living through the ones before.
type profile struct {
	queries, writes load
	databases       [3]string
	// fill is the share of the storage in use at creation, and fillDays the time constant by
	// which it nears 90 %.
	fill, fillDays float64
	// writeShare is 0 on a replica, which only replays.
	writeShare float64
	// scale makes busy services and idle ones of the same size.
	scale float64
	// deadlocks per second and core under full write load.
	deadlocks float64
	hitRatio  float64
}

// load is a share of a machine's capacity that varies with time: a constant times one plus
// four waves, the first daily, the second weekly. The amplitudes sum to less than one, so that
// it is always positive and its integral, which counters are made of, always grows.
type load struct {
	base  float64
	waves [4]wave
}

type wave struct{ omega, amplitude, phase float64 }

const (
	day  = 86400.0
	week = 7 * day
)

func newLoad(key uint64, utcOffset float64) load {
	// The day is at its height at two in the afternoon, local time.
	height := (14 - utcOffset) * 3600
	return load{
		base: 0.10 + 0.28*unit(hash(key, "base")),
		waves: [4]wave{
			{2 * math.Pi / day, 0.35 + 0.15*unit(hash(key, "daily")), math.Pi/2 - 2*math.Pi/day*height},
			{2 * math.Pi / week, 0.12, 2 * math.Pi * unit(hash(key, "weekly"))},
			{2 * math.Pi / (30*60 + 20*60*unit(hash(key, "slow"))), 0.15, 2 * math.Pi * unit(hash(key, "slow phase"))},
			{2 * math.Pi / (7*60 + 6*60*unit(hash(key, "fast"))), 0.10, 2 * math.Pi * unit(hash(key, "fast phase"))},
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

// integral returns the load between two moments, summed up: full capacity for a second is 1.
func (l *load) integral(from, to float64) float64 {
	sum := to - from
	for _, w := range l.waves {
		sum += w.amplitude / w.omega * (math.Cos(w.omega*from+w.phase) - math.Cos(w.omega*to+w.phase))
	}
	return l.base * sum
}

func newProfile(key uint64, region string, primary bool) *profile {
	p := &profile{
		queries:    newLoad(hash(key, "queries"), utcOffset(region)),
		writes:     newLoad(hash(key, "writes"), utcOffset(region)),
		fill:       0.05 + 0.45*unit(hash(key, "fill")),
		fillDays:   60 + 800*unit(hash(key, "fill days")),
		writeShare: 1,
		scale:      0.2 + 1.3*unit(hash(key, "scale")),
		deadlocks:  1 / (3600 * (2 + 30*unit(hash(key, "deadlocks")))),
		hitRatio:   96.5 + 3*unit(hash(key, "hit ratio")),
	}
	if !primary {
		p.writeShare = 0
	}
	// Two neighbours of the list, so that they differ.
	names := strings.Split(fleetDatabases, ",")
	first := int(hash(key, "databases") % uint64(len(names)))
	p.databases = [3]string{"postgres", names[first], names[(first+1)%len(names)]}
	return p
}

// values writes what a running service reports at t, in the order of families. Counters are
// integrals of the load since boot, rounded down, so that they never fall between two restarts.
// All that rounds is a floor: the CPU modes add up to cores times the time since boot, less at
// most a millisecond each.
func (v *service) values(at time.Time, out *[seriesPerService]float64) {
	var (
		p       = v.profile
		t       = seconds(at)
		boot    = min(seconds(v.boot), t)
		cores   = float64(v.spec.cores)
		elapsed = t - boot
		jitter  = unit(hash(v.key^uint64(at.UnixNano()), "jitter"))

		queries, writes       = p.queries.at(t), p.writes.at(t)
		queriesSum, writesSum = p.queries.integral(boot, t), p.writes.integral(boot, t)
		coreQueries           = cores * queriesSum * p.scale
		coreWrites            = cores * writesSum * p.scale * p.writeShare

		memory        = float64(v.spec.memoryGiB) * (1 << 30)
		storage, used = v.disk(t)
	)

	// Connections are of clients, of whom most are idle; the server has room for no more than
	// its setting, of which the last three are reserved.
	room := float64(max(v.maxConnections-3, 1))
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

// used is the share of the storage in use at an age in seconds.
func (p *profile) used(age float64) float64 {
	return p.fill + (0.90-p.fill)*(1-math.Exp(-max(age, 0)/day/p.fillDays))
}

func milliseconds(seconds float64) float64 { return math.Floor(seconds*1000) / 1000 }

func hundredths(percent float64) float64 { return math.Round(percent*100) / 100 }

// seconds is t as the values see it.
func seconds(t time.Time) float64 {
	return float64(t.Unix()) + float64(t.Nanosecond())/1e9
}
