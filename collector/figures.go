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
// The zero value knows none.
type figures struct {
	cpuBusy, cpuAll float64 // seconds of all cores together, since the server's start

	cpuUsed     figure // share of all cores, between the last two changes of the values
	connections figure // in all states
	diskUsed    figure // share of the storage

	places *figurePlaces
}

// figure is a number that may not be known.
type figure struct {
	value float64
	known bool
}

// known returns a figure, unless it is not a number that JSON could hold.
func known(v float64) figure {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return figure{}
	}
	return figure{v, true}
}

// pointer returns nil for what is not known.
func (f figure) pointer() *float64 {
	if !f.known {
		return nil
	}
	return &f.value
}

// figurePlaces is where the figures' series are in blocks of one shape. Immutable.
type figurePlaces struct {
	shape             exposition.Shape
	cpu               []cpuPlace
	connections, disk []uint32
}

type cpuPlace struct {
	place uint32
	idle  bool
}

func findFigures(block *exposition.Block) *figurePlaces {
	p := &figurePlaces{shape: block.Shape()}
	for place, labels := range block.Find(cpuSecondsName) {
		p.cpu = append(p.cpu, cpuPlace{place, labels.Get("mode") == "idle"})
	}
	for place := range block.Find(connectionsName) {
		p.connections = append(p.connections, place)
	}
	for place := range block.Find(diskUsedPercentName) {
		p.disk = append(p.disk, place)
	}
	return p
}

// newFigures takes the figures from a service's newest series; was are those
// before.
func newFigures(block *exposition.Block, was figures) figures {
	f := figures{places: was.places}
	if f.places == nil || f.places.shape != block.Shape() {
		f.places = findFigures(block)
	}
	for _, p := range f.places.cpu {
		v := block.Value(p.place)
		f.cpuAll += v
		if !p.idle {
			f.cpuBusy += v
		}
	}
	busy, all := f.cpuBusy-was.cpuBusy, f.cpuAll-was.cpuAll
	switch {
	case was.cpuAll == 0 || !(busy >= 0) || !(busy <= all):
		// No counters before, or they have begun anew, or are not numbers.
	case all == 0:
		f.cpuUsed = was.cpuUsed
	case f.cpuBusy < f.cpuAll: // or else idle time is not told
		f.cpuUsed = known(busy / all)
	}
	if len(f.places.connections) > 0 {
		connections := 0.0
		for _, place := range f.places.connections {
			connections += block.Value(place)
		}
		f.connections = known(connections)
	}
	for _, place := range f.places.disk {
		f.diskUsed = known(block.Value(place) / 100)
	}
	return f
}
