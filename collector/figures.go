package collector

import (
	"math"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
)

// Upstream's families that the figures are taken from, as far as the user's rules
// leave them their names.
const (
	cpuSecondsName      = "PostgresServer_CPUSeconds_Total"
	connectionsName     = "PostgresServer_ActiveConnections"
	diskUsedPercentName = "PostgresServer_FilesystemUsedPercent"
)

// figures are the few values of a service's metrics that people look for first.
// Immutable.
type figures struct {
	cpuBusy, cpuAll float64 // seconds of all cores together, since the server's start

	cpuUsed     *float64 // share of all cores, between the last two changes of the values
	connections *float64 // in all states
	diskUsed    *float64 // share of the storage
}

// newFigures takes the figures from a service's newest series; last is the sample
// before, or nil.
func newFigures(block *exposition.Block, last *sample) *figures {
	f := &figures{}
	for labels, v := range block.Samples(cpuSecondsName) {
		f.cpuAll += v
		if labels.Get("mode") != "idle" {
			f.cpuBusy += v
		}
	}
	if last != nil && last.figures != nil {
		was := last.figures
		busy, all := f.cpuBusy-was.cpuBusy, f.cpuAll-was.cpuAll
		switch {
		case was.cpuAll == 0 || !(busy >= 0) || !(busy <= all):
			// No counters before, or they have begun anew, or are not numbers.
		case all == 0:
			f.cpuUsed = was.cpuUsed
		case f.cpuBusy < f.cpuAll: // or else idle time is not told
			f.cpuUsed = finite(busy / all)
		}
	}
	connections, states := 0.0, 0
	for _, v := range block.Samples(connectionsName) {
		connections += v
		states++
	}
	if states > 0 {
		f.connections = finite(connections)
	}
	for _, v := range block.Samples(diskUsedPercentName) {
		f.diskUsed = finite(v / 100)
	}
	return f
}

// finite returns nil for what is not a number that JSON could hold.
func finite(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}
