package simulator_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// parse reads a page with Prometheus's own parser, into values by series and types by family.
func parse(t *testing.T, page []byte) (series map[string]float64, types map[string]string) {
	t.Helper()
	series, types = map[string]float64{}, map[string]string{}
	p := textparse.NewPromParser(page, labels.NewSymbolTable(), false)
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return series, types
		}
		if err != nil {
			t.Fatalf("page does not parse: %v\n%.3000s", err, page)
		}
		switch entry {
		case textparse.EntryType:
			name, typ := p.Type()
			types[string(name)] = string(typ)
		case textparse.EntrySeries:
			var l labels.Labels
			_, ts, value := p.Series()
			p.Labels(&l)
			if ts != nil {
				t.Errorf("%s has a timestamp", l)
			}
			if _, ok := series[l.String()]; ok {
				t.Errorf("%s comes twice", l)
			}
			series[l.String()] = value
		}
	}
}

func expected(samples []simulator.Sample) map[string]float64 {
	all := make(map[string]float64, len(samples))
	for _, s := range samples {
		l := maps.Clone(s.Labels)
		l["__name__"] = s.Name
		all[labels.FromMap(l).String()] = s.Value
	}
	return all
}

func TestMetricsPageGolden(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 2, Seed: 7})
	services := l.Services()
	l.SetState(services[1].ID, "stopped")
	l.Rename(services[1].ID, "back\\slash \"quoted\"\nsecond line")
	l.Refresh()
	page := l.want(200, "GET", l.org("/prometheus"), "")
	if ct := page.header.Get("Content-Type"); ct != "text/plain; charset=UTF-8" {
		t.Errorf("Content-Type is %s", ct)
	}
	golden := filepath.Join("testdata", "organization.prom")
	if *update {
		if err := os.WriteFile(golden, page.body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(page.body)); diff != "" {
		t.Error(diff)
	}
}

// The page has every documented family in the documented form, and no other.
func TestMetricsPage(t *testing.T) {
	const counter, gauge = "counter", "gauge"
	want := map[string]struct {
		typ    string
		labels string
		series int
	}{
		"PostgresServiceInfo":                         {gauge, "postgres_status,postgres_version", 1},
		"PostgresServer_CPUCores":                     {gauge, "", 1},
		"PostgresServer_MemoryLimitBytes":             {gauge, "", 1},
		"PostgresServer_StorageLimitBytes":            {gauge, "", 1},
		"PostgresServer_CPUSeconds_Total":             {counter, "mode", 8},
		"PostgresServer_MemoryUsedPercent":            {gauge, "", 1},
		"PostgresServer_MemoryCachePercent":           {gauge, "", 1},
		"PostgresServer_FilesystemUsedPercent":        {gauge, "", 1},
		"PostgresServer_DiskReads_Total":              {counter, "", 1},
		"PostgresServer_DiskWrites_Total":             {counter, "", 1},
		"PostgresServer_NetworkReceiveBytes_Total":    {counter, "", 1},
		"PostgresServer_NetworkTransmitBytes_Total":   {counter, "", 1},
		"PostgresServer_TuplesFetched_Total":          {counter, "", 1},
		"PostgresServer_TuplesInserted_Total":         {counter, "", 1},
		"PostgresServer_TuplesUpdated_Total":          {counter, "", 1},
		"PostgresServer_TuplesDeleted_Total":          {counter, "", 1},
		"PostgresServer_TransactionsCommitted_Total":  {counter, "", 1},
		"PostgresServer_TransactionsRolledBack_Total": {counter, "", 1},
		"PostgresServer_Deadlocks_Total":              {counter, "", 1},
		"PostgresServer_ActiveConnections":            {gauge, "state", 6},
		"PostgresServer_CacheHitRatio":                {gauge, "", 1},
		"PostgresServer_DatabaseSizeBytes":            {gauge, "database", 3},
	}
	l := newLab(t, simulator.Config{Services: 1})
	page := l.want(200, "GET", l.org("/prometheus"), "").body
	_, types := parse(t, page)

	total := 0
	for _, block := range strings.Split(strings.TrimSuffix(string(page), "\n"), "\n\n") {
		lines := strings.Split(block, "\n")
		name, _, _ := strings.Cut(strings.TrimPrefix(lines[0], "# HELP "), " ")
		family, ok := want[name]
		if !ok {
			t.Errorf("unexpected family:\n%s", block)
			continue
		}
		delete(want, name)
		if types[name] != family.typ || lines[1] != "# TYPE "+name+" "+family.typ || len(lines[0]) < len("# HELP  ")+len(name)+5 {
			t.Errorf("%s is announced as\n%s\n%s", name, lines[0], lines[1])
		}
		if len(lines)-2 != family.series {
			t.Errorf("%s has %d series, want %d", name, len(lines)-2, family.series)
		}
		total += len(lines) - 2
		for _, line := range lines[2:] {
			names := []string{"clickhouse_org", "postgres_service", "postgres_service_name"}
			if family.labels != "" {
				names = append(names, strings.Split(family.labels, ",")...)
			}
			for _, label := range names {
				if !strings.Contains(line, label+`="`) {
					t.Errorf("no %s in %s", label, line)
				}
			}
			if n := strings.Count(line, `="`); n != len(names) {
				t.Errorf("%d labels in %s", n, line)
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", slices.Sorted(maps.Keys(want)))
	}
	if total != 36 {
		t.Errorf("%d series", total)
	}
}

// Both endpoints serve the values that Series returns, until the next refresh.
func TestMetricsAreOfTheRefresh(t *testing.T) {
	config := simulator.Config{Services: 12, Seed: 3, Phase: 17 * time.Second}
	l, other := newLab(t, config), newLab(t, config)
	if got := l.Refreshed(start); !got.Equal(start.Add(-55 * time.Second)) {
		t.Fatalf("refreshed at %v", got)
	}
	get := func(l *lab, path string) []byte { return l.want(200, "GET", l.org(path), "").body }

	first := get(l, "/prometheus")
	series, _ := parse(t, first)
	if len(series) != 12*36 {
		t.Errorf("%d series", len(series))
	}
	l.clock.Advance(4 * time.Second)
	if !bytes.Equal(get(l, "/prometheus"), first) {
		t.Error("values changed before the refresh")
	}
	l.clock.Advance(time.Second)
	other.clock.Advance(25 * time.Second)
	second := get(l, "/prometheus")
	if bytes.Equal(second, first) {
		t.Error("values did not change with the refresh")
	}
	if !bytes.Equal(get(other, "/prometheus"), second) {
		t.Error("two simulators of one seed disagree")
	}
	got, _ := parse(t, second)
	if diff := cmp.Diff(expected(l.Series(l.clock.Now())), got); diff != "" {
		t.Error(diff)
	}
	union := map[string]float64{}
	for _, s := range l.Services() {
		own, _ := parse(t, get(l, "/"+s.ID+"/prometheus"))
		if diff := cmp.Diff(expected(l.ServiceSeries(s.ID, l.clock.Now())), own); diff != "" {
			t.Error(diff)
		}
		maps.Copy(union, own)
	}
	if diff := cmp.Diff(got, union); diff != "" {
		t.Errorf("one service's pages and the organization's differ: %s", diff)
	}

	config.Seed++
	if bytes.Equal(get(newLab(t, config), "/prometheus"), first) {
		t.Error("another seed, the same values")
	}
}

// Series remembers what was served before a change.
func TestSeriesOfThePast(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 3})
	first := expected(l.Series(start))
	l.Resize(2)
	l.ResetCounters()
	if diff := cmp.Diff(first, expected(l.Series(start))); diff != "" {
		t.Errorf("a change shows before the next refresh: %s", diff)
	}
	l.clock.Advance(time.Minute)
	if n := len(l.Series(l.clock.Now())); n != 2*36 {
		t.Errorf("%d series after the change", n)
	}
	if diff := cmp.Diff(first, expected(l.Series(start))); diff != "" {
		t.Errorf("the past changed: %s", diff)
	}
}

func TestRefreshed(t *testing.T) {
	l := newLab(t, simulator.Config{RefreshInterval: 7 * time.Second, Phase: 3 * time.Second})
	for at, want := range map[int64]int64{0: -4, 2: -4, 3: 3, 9: 3, 10: 10, -4: -4, -5: -11} {
		if got := l.Refreshed(time.Unix(at, 0)).Unix(); got != want {
			t.Errorf("refreshed at %d for %d, want %d", got, at, want)
		}
	}
}

func TestSetPhaseTakesNothingBack(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 1})
	page := l.want(200, "GET", l.org("/prometheus"), "").body
	l.SetPhase(20 * time.Second)
	if !bytes.Equal(l.want(200, "GET", l.org("/prometheus"), "").body, page) {
		t.Error("a new phase took values back")
	}
	l.clock.Advance(8 * time.Second)
	if got := l.Refreshed(l.clock.Now()); !got.Equal(l.clock.Now()) {
		t.Errorf("refreshed at %v", got)
	}
}

func TestCap(t *testing.T) {
	for _, test := range []struct {
		mode     simulator.CapMode
		services int
		rotates  bool
		status   int
	}{
		{simulator.CapTruncate, 100, false, 200},
		{simulator.CapTruncate, 130, false, 200},
		{simulator.CapTruncateRotating, 130, true, 200},
		{simulator.CapReject, 100, false, 200},
		{simulator.CapReject, 101, false, 400},
	} {
		t.Run(fmt.Sprint(test.mode, test.services), func(t *testing.T) {
			l := newLab(t, simulator.Config{Services: test.services, CapMode: test.mode})
			ask := func() []string {
				r := l.want(test.status, "GET", l.org("/prometheus"), "")
				if r.status != 200 {
					if !strings.Contains(r.error(t), "101 Postgres services") {
						t.Errorf("refused with %s", r.body)
					}
					return nil
				}
				ids := map[string]bool{}
				series, _ := parse(t, r.body)
				for s := range series {
					_, id, _ := strings.Cut(s, `postgres_service="`)
					ids[id[:36]] = true
				}
				if len(ids) != 100 || len(series) != 3600 {
					t.Errorf("%d services, %d series", len(ids), len(series))
				}
				return slices.Sorted(maps.Keys(ids))
			}
			first := ask()
			if covered := l.Covered(l.clock.Now()); !slices.Equal(slices.Sorted(slices.Values(covered)), first) {
				t.Error("Covered says otherwise")
			}
			if !slices.Equal(first, ask()) {
				t.Error("membership changes between refreshes")
			}
			l.clock.Advance(time.Minute)
			if second := ask(); slices.Equal(first, second) == test.rotates {
				t.Errorf("rotates: %v", !test.rotates)
			}
			for _, s := range l.Services()[:3] { // covered or not, each has its own page
				if page := l.want(200, "GET", l.org("/"+s.ID+"/prometheus"), "").body; bytes.Count(page, []byte(s.ID)) != 36 {
					t.Errorf("own page:\n%s", page)
				}
			}
		})
	}
}

func TestTenThousandServices(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 10_000, OrgMetricsLimit: -1})
	if n := len(l.Services()); n != 10_000 {
		t.Errorf("%d services", n)
	}
	ids := map[string]bool{}
	for _, s := range l.Services() {
		ids[s.ID] = true
	}
	if len(ids) != 10_000 {
		t.Errorf("%d different ids", len(ids))
	}
	// Not through l.do: validating 70 MB of text takes long.
	req := l.request("GET", l.org("/prometheus"), "")
	resp, err := l.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(page, []byte("\nPostgresServ")); n != 360_000 {
		t.Errorf("%d series", n)
	}
}

func TestGzip(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 12})
	plain := l.want(200, "GET", l.org("/prometheus"), "")
	for _, path := range []string{l.org("/prometheus"), l.org("/" + l.Services()[0].ID + "/prometheus"), l.org("")} {
		req := l.request("GET", path, "")
		req.Header.Set("Accept-Encoding", "deflate, gzip, br")
		resp, err := l.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Header.Get("Content-Encoding") != "gzip" {
			t.Errorf("%s: not compressed", path)
		}
		r, err := gzip.NewReader(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if path == l.org("/prometheus") && !bytes.Equal(body, plain.body) {
			t.Error("compressed page differs")
		}
	}
	if plain.header.Get("Content-Encoding") != "" {
		t.Error("compressed though nobody asked for it")
	}
}

func BenchmarkOrganizationPage(b *testing.B) {
	now := start
	s := simulator.New(simulator.Config{Services: 10_000, OrgMetricsLimit: -1, Now: func() time.Time { return now }})
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Minute)
		b.SetBytes(simulator.PageSize(s))
	}
}
