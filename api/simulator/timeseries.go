package simulator

import (
	"strconv"
	"time"
)

const maxTimePoints = 250

type timeSeriesJSON struct {
	Key         string           `json:"key"`
	Name        string           `json:"name"`
	Unit        string           `json:"unit"`
	Description string           `json:"description"`
	Series      []labelledPoints `json:"series"`
}

type labelledPoints struct {
	Label      string      `json:"label"`
	DataPoints []dataPoint `json:"dataPoints"`
}

type dataPoint struct {
	Timestamp int64   `json:"timestamp"`
	Value     float64 `json:"value"`
}

// timeSeries answers for charts, of a few metrics, from the same functions as the pages.
func (s *Simulator) timeSeries(c *call) (any, error) {
	v, err := s.service(c)
	if err != nil {
		return nil, err
	}
	var from, to time.Time
	for name, t := range map[string]*time.Time{"from_date": &from, "to_date": &to} {
		if *t, err = time.Parse(time.RFC3339, c.URL.Query().Get(name)); err != nil {
			return nil, badRequest("%s must be a time such as 2026-03-31T18:17:37Z", name)
		}
	}
	window := int64(to.Sub(from).Seconds())
	if window <= 0 {
		return nil, badRequest("to_date must be after from_date")
	}
	bucket := max((window/maxTimePoints+60)/60*60, 60)
	if given := c.URL.Query().Get("bucket_size_seconds"); given != "" {
		if bucket, err = strconv.ParseInt(given, 10, 64); err != nil || bucket < 1 {
			return nil, badRequest("bucket_size_seconds must be a whole number of at least 1")
		}
	}
	if (window+bucket-1)/bucket > maxTimePoints {
		return nil, badRequest("bucket_size_seconds must be at least %d for this window, for at most %d points", (window+maxTimePoints-1)/maxTimePoints, maxTimePoints)
	}
	points := func(value func(*[seriesPerService]float64) float64) []dataPoint {
		all := []dataPoint{}
		for at := from; at.Before(to) && !at.After(c.now); at = at.Add(time.Duration(bucket) * time.Second) {
			if at.Before(v.boot) || !v.running(at) {
				continue
			}
			var values [seriesPerService]float64
			v.values(at, &values)
			all = append(all, dataPoint{at.Unix(), value(&values)})
		}
		return all
	}
	gauge := func(family string, i int) []dataPoint {
		return points(func(values *[seriesPerService]float64) float64 { return values[firstValue(family)+i] })
	}
	connections := []labelledPoints{}
	for i, state := range []string{"active", "idle", "idle in transaction"} {
		connections = append(connections, labelledPoints{state, gauge("PostgresServer_ActiveConnections", i)})
	}
	single := func(family string) []labelledPoints { return []labelledPoints{{"", gauge(family, 0)}} }
	return struct {
		Metrics []timeSeriesJSON `json:"metrics"`
	}{[]timeSeriesJSON{
		{"memory_usage", "Memory usage", "%", "Share of the memory in use.", single("PostgresServer_MemoryUsedPercent")},
		{"disk_usage", "Disk usage", "%", "Share of the storage in use.", single("PostgresServer_FilesystemUsedPercent")},
		{"connection_count", "Connections", "count", "Connections by state.", connections},
		{"cache_hit_ratio", "Cache hit ratio", "%", "Share of blocks that were found in the cache.", single("PostgresServer_CacheHitRatio")},
	}}, nil
}

// firstValue is where the values of a family begin in what (*service).values writes.
func firstValue(name string) int {
	next := 0
	for _, f := range families() {
		if f.name == name {
			break
		}
		next += f.series()
	}
	return next
}
