package main

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
)

// collectGarbage sets how much garbage there may be, in percent of what is in use, by
// how many series are held, until ctx ends. Up to some hundred services that is Go's
// default: the heap is so small that collecting more often would take longer than a
// scrape. Beyond that nearly all memory is held for good, and the percentage decides
// about the peak: with 25 it is lower by a third.
func collectGarbage(ctx context.Context, c *collector.Collector) error {
	const many = 20_000
	ticker := time.NewTicker(time.Minute)
	defer ticker.Stop()
	for percent := 0; ; {
		wanted, series := 100, 0
		for _, o := range c.Status().Organizations {
			series += o.Series
		}
		if series > many {
			wanted = 25
		}
		if wanted != percent {
			percent = wanted
			debug.SetGCPercent(percent)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}
