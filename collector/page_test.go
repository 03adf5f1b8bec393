package collector

import (
	"context"
	"errors"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
)

func TestGoldenPage(t *testing.T) {
	t.Run("memo", func(t *testing.T) { goldenPage(t, false) })
	t.Run("no memo", func(t *testing.T) { goldenPage(t, true) })
}

func goldenPage(t *testing.T, noMemo bool) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 2, Seed: 3}, func(o *Options, _ *Organization) { o.NoMemo = noMemo })
		id := b.sim.Services()[0].ID
		b.sim.SetTags(id, simulator.Tag{Key: "team", Value: `a "b"`}, simulator.Tag{Key: "critical"})
		b.refreshed()

		org := b.sim.Config().OrganizationID
		for file, page := range map[string]string{
			"everything.prom": b.text("", ""),
			"service.prom":    b.text(org, id),
			"health.prom":     text(b.c.Health()...),
		} {
			got := []byte(masked(page))
			path := filepath.Join("testdata", file)
			if *update {
				if err := os.MkdirAll("testdata", 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", file, diff)
			}
		}
		if b.text(org, "")+text(b.c.Health()...) != b.text("", "") {
			t.Error("the page of everything is not that of the only organization with the health")
		}
	})
}

func TestEverySeriesWithItsLabelsAndValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 40, States: map[string]float64{"stopped": .2}}, nil)
		b.refreshed()
		compare := func() {
			t.Helper()
			want, got := sorted(b.expected(byDefault)), sorted(b.upstreamSeries())
			if len(want) < 500 {
				t.Fatalf("only %d series to compare", len(want))
			}
			if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
				t.Errorf("series (-want +got):\n%s", diff)
			}
		}
		compare()
		b.pass(10 * time.Minute)
		compare()
		b.want("clickhouse_postgres_up", "1")
		b.want("clickhouse_postgres_exporter_unknown_services", "0")
		if n := b.sim.Count("", 429); n != 0 {
			t.Errorf("%d requests were refused by the rate limit", n)
		}
	})
}

func TestServicesOfOneName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 3}, nil)
		for _, s := range b.sim.Services() {
			b.sim.Rename(s.ID, "twin")
		}
		b.refreshed()
		b.pass(2 * time.Minute)
		if want := slices.Sorted(maps.Keys(sorted(b.expected(byDefault)))); !slices.Equal(want, identities(b.upstreamSeries())) {
			t.Errorf("series (-want +got):\n%s", cmp.Diff(want, identities(b.upstreamSeries())))
		}
		b.want("clickhouse_postgres_exporter_series_dropped_total", "0", `reason="duplicate"`)
	})
}

// Bytes are made once for each document, so that a document must not be made again
// for nothing.
func TestDocumentsAreMadeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		second := simulator.New(simulator.Config{Services: 2, Seed: 99})
		b := newBench(t, simulator.Config{Services: 3}, func(o *Options, _ *Organization) {
			o.Organizations = []Organization{allOwn(Organization{ID: second.Config().OrganizationID, API: upstream(t, second)})}
		})
		b.refreshed()
		org := b.sim.Config().OrganizationID
		pages := [][2]string{{"", ""}, {org, ""}, {org, b.sim.Services()[0].ID}}
		take := func() (docs []*exposition.Document) {
			for _, p := range pages {
				of, err := b.c.Page(p[0], p[1])
				if err != nil {
					t.Fatal(err)
				}
				docs = append(docs, of...)
			}
			return docs
		}
		for _, sim := range []*simulator.Simulator{b.sim, second} {
			sim.SetFault(simulator.Fault{Endpoints: []string{"organization_metrics", "service_metrics"}, Status: 500})
		}
		b.pass(2 * time.Minute) // the first failure shows in service_up
		before := take()
		view := b.poller(0).view.Load()
		b.pass(2 * time.Minute)
		if b.poller(0).view.Load() == view {
			t.Fatal("nothing was published")
		}
		if after := take(); !slices.Equal(before, after) {
			t.Error("documents were made again although nothing changed")
		}
		b.sim.ClearFaults()
		b.pass(2 * time.Minute)
		if after := take(); slices.Equal(before, after) {
			t.Error("documents are old")
		}
	})
}

// The explicit timestamp of a sample is when the program first saw its value: between
// two refreshes scrapes see the very same sample again, and when data expires, its
// series vanish like any other.
func TestTimestamps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 6, OrgMetricsLimit: 4, CapMode: simulator.CapTruncateRotating, Phase: 20 * time.Second}, func(_ *Options, o *Organization) { o.Timestamps = true })
		b.refreshed()
		type stamped struct {
			value string
			at    time.Time
		}
		last := map[string]stamped{} // by series
		repeated, moved := 0, 0
		for range 100 {
			b.pass(7 * time.Second)
			now := time.Now()
			seen := map[string]time.Time{}
			for _, s := range b.c.Status().Organizations[0].Services {
				seen[s.ID] = s.LastChange
			}
			for line := range strings.Lines(b.text("", "")) {
				end := strings.LastIndex(line, "}")
				if end < 0 || line[0] == '#' {
					continue
				}
				id, fields := line[:end+1], strings.Fields(line[end+1:])
				if !strings.HasPrefix(id, "Postgres") {
					if len(fields) != 1 {
						t.Fatalf("the program's own series with a timestamp: %s", line)
					}
					continue
				}
				if len(fields) != 2 {
					t.Fatalf("without a timestamp: %s", line)
				}
				ms, err := strconv.ParseInt(fields[1], 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				at := time.UnixMilli(ms)
				_, service, _ := strings.Cut(id, `postgres_service="`)
				service, _, _ = strings.Cut(service, `"`)
				if !at.Equal(seen[service].Truncate(time.Millisecond)) {
					t.Fatalf("the timestamp of %s is %s, its values were first seen at %s", id, at, seen[service])
				}
				was, ok := last[id]
				switch {
				case at.After(now), ok && at.Before(was.at):
					t.Fatalf("%s: timestamp %s after %s, at %s", id, at, was.at, now)
				case ok && at.Equal(was.at) && fields[0] != was.value:
					t.Fatalf("%s: two values, %s and %s, of one time", id, was.value, fields[0])
				case ok && at.Equal(was.at):
					repeated++
				case ok:
					moved++
				}
				last[id] = stamped{fields[0], at}
			}
		}
		if len(last) < 200 || repeated < moved || moved < 5*len(last) {
			t.Errorf("%d series, %d samples seen again, %d new ones", len(last), repeated, moved)
		}
		b.sim.SetFault(simulator.Fault{Endpoints: []string{"organization_metrics", "service_metrics"}, Status: 503})
		b.pass(6 * time.Minute)
		if n := len(b.upstreamSeries()); n != 0 {
			t.Errorf("%d series that are too old", n)
		}
	})
}

// Over real connections, as the program runs.
func TestRealHTTP(t *testing.T) {
	sim := simulator.New(simulator.Config{Services: 30, Seed: 1})
	server := httptest.NewServer(sim)
	defer server.Close()
	cfg := sim.Config()
	c, err := New(Options{Organizations: []Organization{{
		API: api.Config{
			BaseURL: server.URL, Credentials: api.StaticCredentials(cfg.KeyID, cfg.KeySecret),
			Budget: api.NewBudget(api.BudgetConfig{Requests: 1000, Window: 10 * time.Second}),
		},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	if c.Ready() {
		t.Error("ready before anything happened")
	}
	if err := c.WaitFirstRefresh(ctx); err != nil {
		t.Fatal(err)
	}
	if !c.Ready() {
		t.Errorf("not ready: %+v", c.Status())
	}
	docs, err := c.Page(cfg.OrganizationID, "")
	if err != nil {
		t.Fatal(err)
	}
	if want := len(sim.Series(time.Now())); docs[0].Series() < want {
		t.Errorf("%d series, want more than %d", docs[0].Series(), want)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWaitFirstRefreshIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 1}, nil)
		b.sim.SetFault(simulator.Fault{Hang: true})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := b.c.WaitFirstRefresh(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
		if docs, err := b.c.Page("", ""); err != nil || len(docs) == 0 {
			t.Errorf("the page of everything: %v", err)
		}
	})
}

// A poll that finds nothing new leaves the pages as they were: only the health of
// services, which says when they were read, is encoded again.
func TestUnchangedPollEncodesNoPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 5, RefreshInterval: 24 * time.Hour}, nil)
		b.refreshed()
		b.pass(time.Minute)
		org, id := b.sim.Config().OrganizationID, b.sim.Services()[0].ID
		var encoder exposition.Encoder
		for i := range 20 {
			for _, service := range []string{"", id} {
				docs, err := b.c.Page(org, service)
				if err != nil {
					t.Fatal(err)
				}
				encoder.Encode(exposition.Text, exposition.Gzip, docs...)
			}
			encoder.Encode(exposition.Text, exposition.Gzip, b.c.Health()...)
			if want := int64(3 + i); encoder.Encoded() != want {
				t.Fatalf("%d documents were encoded after %d polls, want %d", encoder.Encoded(), i, want)
			}
			b.pass(70 * time.Second)
		}
	})
}
