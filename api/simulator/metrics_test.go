package simulator_test

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// Three days of a fleet, minute by minute: values are plausible, and counters never decrease.
func TestValuesMoveLikeAFleet(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 12})
	var (
		last      = map[string]float64{}
		grew      = map[string]bool{}
		varied    = map[string]bool{}
		deadlocks int
	)
	cores := map[string]float64{}
	for minute := range 3 * 24 * 60 {
		at := start.Add(time.Duration(minute) * time.Minute)
		cpu := map[string]float64{}
		memory := map[string]float64{}
		connections := map[string]float64{}
		for _, s := range l.Series(at) {
			key := s.Name + s.Labels["postgres_service"] + s.Labels["mode"] + s.Labels["state"] + s.Labels["database"]
			id := s.Labels["postgres_service"]
			before, seen := last[key]
			last[key] = s.Value
			if s.Type == "counter" {
				if s.Value < before || s.Value < 0 {
					t.Fatalf("%v %s fell from %v to %v", at, s.Name, before, s.Value)
				}
				grew[key] = grew[key] || seen && s.Value > before
			} else if seen && s.Value != before {
				varied[s.Name] = true
			}
			switch s.Name {
			case "PostgresServer_CPUCores":
				cores[id] = s.Value
			case "PostgresServer_CPUSeconds_Total":
				if seen {
					cpu[id] += s.Value - before
				}
			case "PostgresServer_Deadlocks_Total":
				if seen {
					deadlocks += int(s.Value - before)
				}
			case "PostgresServer_MemoryUsedPercent", "PostgresServer_MemoryCachePercent":
				memory[id] += s.Value
			case "PostgresServer_FilesystemUsedPercent", "PostgresServer_CacheHitRatio":
				if s.Value <= 0 || s.Value > 100 {
					t.Errorf("%s is %v", s.Name, s.Value)
				}
				if seen && s.Name == "PostgresServer_FilesystemUsedPercent" && s.Value < before {
					t.Errorf("the disk got emptier, from %v to %v", before, s.Value)
				}
			case "PostgresServer_ActiveConnections":
				connections[id] += s.Value
				if s.Value < 0 {
					t.Errorf("%v connections", s.Value)
				}
			}
		}
		for id := range cores {
			// Each of the eight modes is rounded down to a millisecond.
			if minute > 0 && math.Abs(cpu[id]-60*cores[id]) > 0.0081 {
				t.Errorf("%v: %v seconds of CPU in a minute of %v cores", at, cpu[id], cores[id])
			}
			if memory[id] <= 0 || memory[id] > 100 {
				t.Errorf("memory is used to %v %%", memory[id])
			}
			if connections[id] < 1 || connections[id] > 1000 {
				t.Errorf("%v connections", connections[id])
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	// A replica writes nothing, so not all of its counters grow; those of primaries do.
	var primaries int
	for _, s := range l.Services() {
		if s.IsPrimary {
			primaries++
		}
	}
	for _, name := range []string{
		"PostgresServer_DiskReads_Total", "PostgresServer_DiskWrites_Total", "PostgresServer_NetworkReceiveBytes_Total",
		"PostgresServer_NetworkTransmitBytes_Total", "PostgresServer_TransactionsCommitted_Total", "PostgresServer_TransactionsRolledBack_Total",
		"PostgresServer_TuplesFetched_Total", "PostgresServer_TuplesInserted_Total", "PostgresServer_TuplesUpdated_Total",
		"PostgresServer_TuplesDeleted_Total", "PostgresServer_CPUSeconds_Total",
	} {
		var n int
		for key, yes := range grew {
			if yes && strings.HasPrefix(key, name) {
				n++
			}
		}
		if n < primaries {
			t.Errorf("%s grows at %d of %d services", name, n, primaries)
		}
	}
	for _, name := range []string{
		"PostgresServer_ActiveConnections", "PostgresServer_CacheHitRatio", "PostgresServer_DatabaseSizeBytes",
		"PostgresServer_FilesystemUsedPercent", "PostgresServer_MemoryCachePercent", "PostgresServer_MemoryUsedPercent",
	} {
		if !varied[name] {
			t.Errorf("%s never changes", name)
		}
	}
	if deadlocks < 3 || deadlocks > 3*24*12 {
		t.Errorf("%d deadlocks in three days of %d services", deadlocks, len(cores))
	}
}

// A service is busier by day than by night, local time.
func TestDailyRhythm(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 30})
	midnight := start.Truncate(24 * time.Hour)
	offset := map[string]float64{"us-east-1": -5, "us-east-2": -5, "us-west-2": -8, "ap-southeast-2": 10, "ap-northeast-1": 9, "eu-central-1": 1}
	for _, s := range l.Services() {
		work := func(hour float64) float64 {
			from := midnight.Add(time.Duration((hour - offset[s.Region]) * float64(time.Hour)))
			value := func(at time.Time) float64 {
				i := slices.IndexFunc(l.ServiceSeries(s.ID, at), func(s simulator.Sample) bool {
					return s.Name == "PostgresServer_TransactionsCommitted_Total"
				})
				return l.ServiceSeries(s.ID, at)[i].Value
			}
			return value(from.Add(3*time.Hour)) - value(from)
		}
		if day, night := work(12.5), work(0.5); day < 1.3*night {
			t.Errorf("%s in %s: %v by day, %v by night", s.Name, s.Region, day, night)
		}
	}
}

// Values can be asked for at any time, in any order and at any interval, even before the fleet
// existed.
func TestValuesAtOddTimes(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 1, RefreshInterval: time.Millisecond})
	id := l.Services()[0].ID
	for _, at := range []time.Time{start.AddDate(-30, 0, 0), start.AddDate(30, 0, 0), time.Unix(0, 0), start} {
		for _, s := range l.ServiceSeries(id, at) {
			if math.IsNaN(s.Value) || math.IsInf(s.Value, 0) || s.Value < 0 {
				t.Errorf("%v: %s is %v", at, s.Name, s.Value)
			}
		}
	}
	last := map[string]float64{}
	for i := range 2000 {
		for _, s := range l.ServiceSeries(id, start.Add(time.Duration(i)*time.Millisecond)) {
			if key := s.Name + s.Labels["mode"]; s.Type == "counter" {
				if s.Value < last[key] {
					t.Fatalf("%s fell from %v to %v", key, last[key], s.Value)
				}
				last[key] = s.Value
			}
		}
	}
}

func TestResetCounters(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 2})
	services := l.Services()
	counters := func(id string) map[string]float64 {
		all := map[string]float64{}
		for _, s := range l.ServiceSeries(id, l.clock.Now()) {
			if s.Type == "counter" {
				all[s.Name+s.Labels["mode"]] = s.Value
			}
		}
		return all
	}
	before := []map[string]float64{counters(services[0].ID), counters(services[1].ID)}
	l.ResetCounters(services[0].ID)
	l.clock.Advance(time.Minute)
	for name, v := range counters(services[0].ID) {
		if was := before[0][name]; v > was || was > 1000 && v == was {
			t.Errorf("%s went from %v to %v", name, was, v)
		}
	}
	for name, v := range counters(services[1].ID) {
		if v < before[1][name] {
			t.Errorf("%s of another service fell", name)
		}
	}
	if len(before[0]) != 19 {
		t.Errorf("%d counters", len(before[0]))
	}
}

// max_connections limits connections once it is in force.
func TestConnectionsFollowTheSetting(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 1})
	id := l.Services()[0].ID
	connections := func() (n float64) {
		for _, s := range l.ServiceSeries(id, l.clock.Now()) {
			if s.Name == "PostgresServer_ActiveConnections" {
				n += s.Value
			}
		}
		return n
	}
	l.want(200, "PATCH", l.org("/"+id+"/config"), `{"pgConfig":{"max_connections":10},"pgBouncerConfig":{}}`)
	l.clock.Advance(time.Minute)
	if n := connections(); n <= 10 {
		t.Errorf("%v connections before the restart", n)
	}
	l.want(200, "PATCH", l.org("/"+id+"/state"), `{"command":"restart"}`)
	l.clock.Advance(simulator.DefaultRestartDelay + time.Minute)
	if n := connections(); n < 1 || n > 7 {
		t.Errorf("%v connections after the restart", n)
	}
}
