package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// TestGrowthBeyondTheLimitLeavesNoGap lets an organization grow past what its
// page may hold and shrink back while Prometheus scrapes, once for each way in
// which upstream may behave there.
func TestGrowthBeyondTheLimitLeavesNoGap(t *testing.T) {
	for name, mode := range map[string]simulator.CapMode{
		"truncated": simulator.CapTruncate,
		"rotating":  simulator.CapTruncateRotating,
		"refused":   simulator.CapReject,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim, environment := upstream(t, simulator.Config{
				Services: 95, Seed: 11, OrgMetricsLimit: 100, CapMode: mode, RefreshInterval: time.Second,
				DeleteDelay: time.Millisecond,
			})
			e := startExporter(t, environment, quick...)
			target := job{name: "exporter", target: e.address, settings: "honor_labels: true"}
			p := startServer(t, target)

			begin := time.Now()
			p.awaitScrapes(t, 3, target)
			for _, n := range []int{130, 80} {
				sim.Resize(n)
				sim.Refresh()
				p.await(t, fmt.Sprintf("count(PostgresServer_CPUCores) == %d", n))
				p.awaitScrapes(t, 8, target)
			}

			// A scrape that a busy machine could not make in time says nothing: the
			// series must be there whenever the target was.
			scrapes := p.matrix(t, since(`up[%s]`, begin))[0].Floats
			matrix := p.matrix(t, since(`PostgresServer_CPUCores[%s]`, begin))
			if len(matrix) < 130 {
				t.Errorf("only %d services were ever seen", len(matrix))
			}
			for _, series := range matrix {
				samples := make(map[int64]bool, len(series.Floats))
				for _, s := range series.Floats {
					samples[s.T] = true
				}
				first, last := series.Floats[0].T, series.Floats[len(series.Floats)-1].T
				for _, up := range scrapes {
					if up.F == 1 && up.T > first && up.T < last && !samples[up.T] {
						t.Errorf("%s: not in the scrape of %s", series.Metric, time.UnixMilli(up.T).UTC())
					}
				}
			}
			if out := p.log.String(); strings.Contains(out, "level=WARN") || strings.Contains(out, "uplicate") {
				t.Errorf("prometheus complains:\n%s", complaints(out))
			}
			if n := sim.Count("", 429); n > 0 {
				t.Errorf("%d requests were refused", n)
			}
		})
	}
}

// since completes an expression by the time since begin, as a range.
func since(format string, begin time.Time) string {
	return fmt.Sprintf(format, fmt.Sprintf("%ds", int(time.Since(begin).Seconds())+1))
}

// await returns once an expression yields a sample.
func (s *server) await(t *testing.T, expr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for len(s.query(t, expr)) == 0 {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within a minute; log:\n%s", expr, s.log.tail(2000))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// matrix evaluates a range selector now.
func (s *server) matrix(t *testing.T, expr string) promql.Matrix {
	t.Helper()
	q, err := s.engine.NewInstantQuery(context.Background(), s.db, nil, expr, time.Now())
	if err != nil {
		t.Fatalf("query %s: %v", expr, err)
	}
	t.Cleanup(q.Close)
	m, err := q.Exec(context.Background()).Matrix()
	if err != nil {
		t.Fatalf("query %s: %v", expr, err)
	}
	return m
}
