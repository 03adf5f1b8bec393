package collector

import (
	"math"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
)

// Upstream's families that utilization is taken from.
const (
	cpuSecondsName      = "PostgresServer_CPUSeconds_Total"
	connectionsName     = "PostgresServer_ActiveConnections"
	diskUsedPercentName = "PostgresServer_FilesystemUsedPercent"
	diskSizeName        = "PostgresServer_StorageLimitBytes"
)

// utilization is the few values of a service's metrics that people look for first.
// The zero value knows none.
type utilization struct {
	cpuBusy, cpuAll float64 // seconds of all cores together, since the server's start

	cpu         *float64 // share of all cores, between the last two changes of the values
	connections *float64 // in all states
	disk        *float64 // share of the storage
	diskSize    *float64 // in bytes
}

// known returns a number, unless it is one that JSON could not hold.
func known(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

// newUtilization takes the values from a service's newest metrics; last are those
// before.
func newUtilization(m *exposition.Metrics, last utilization) utilization {
	u := utilization{}
	for labels, v := range m.Find(cpuSecondsName) {
		u.cpuAll += v
		if labels.Get("mode") != "idle" {
			u.cpuBusy += v
		}
	}
	busy, all := u.cpuBusy-last.cpuBusy, u.cpuAll-last.cpuAll
	switch {
	case last.cpuAll == 0 || !(busy >= 0) || !(busy <= all):
		// No counters before, or they have begun anew, or are not numbers.
	case all == 0:
		u.cpu = last.cpu
	case u.cpuBusy < u.cpuAll: // or else idle time is not told
		u.cpu = known(busy / all)
	}
	connections, found := 0.0, false
	for _, v := range m.Find(connectionsName) {
		connections, found = connections+v, true
	}
	if found {
		u.connections = known(connections)
	}
	for _, v := range m.Find(diskUsedPercentName) {
		u.disk = known(v / 100)
	}
	for _, v := range m.Find(diskSizeName) {
		u.diskSize = known(v)
	}
	return u
}
