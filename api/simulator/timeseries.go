package simulator

import (
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator/internal/metrics"
)

const maxTimePoints = 250

// timeSeries answers with a few metrics over time, whose values are those of the metrics pages.
func (s *Simulator) timeSeries(c *call) (any, error) {
	type point struct {
		Timestamp int64   `json:"timestamp"`
		Value     float64 `json:"value"`
	}
	type series struct {
		Label      string  `json:"label"`
		DataPoints []point `json:"dataPoints"`
	}
	type metric struct {
		Key         string   `json:"key"`
		Name        string   `json:"name"`
		Unit        string   `json:"unit"`
		Description string   `json:"description"`
		Series      []series `json:"series"`
	}
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
	gauge := func(family string, i int) []point {
		first, all := metrics.FirstValue(family), []point{}
		for at := from; at.Before(to) && !at.After(c.now); at = at.Add(time.Duration(bucket) * time.Second) {
			if at.Before(v.Boot) || !v.running(at) {
				continue
			}
			var values [metrics.SeriesPerService]float64
			v.Values(at, &values)
			all = append(all, point{at.Unix(), values[first+i]})
		}
		return all
	}
	connections := []series{}
	for i, state := range []string{"active", "idle", "idle in transaction"} {
		connections = append(connections, series{state, gauge("PostgresServer_ActiveConnections", i)})
	}
	single := func(family string) []series { return []series{{"", gauge(family, 0)}} }
	return struct {
		Metrics []metric `json:"metrics"`
	}{[]metric{
		{"memory_usage", "Memory usage", "%", "Share of the memory in use.", single("PostgresServer_MemoryUsedPercent")},
		{"disk_usage", "Disk usage", "%", "Share of the storage in use.", single("PostgresServer_FilesystemUsedPercent")},
		{"connection_count", "Connections", "count", "Connections by state.", connections},
		{"cache_hit_ratio", "Cache hit ratio", "%", "Share of blocks that were found in the cache.", single("PostgresServer_CacheHitRatio")},
	}}, nil
}
