//go:build linux

package faulttest

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// TestOddPages serves pages that are odd but acceptable: the result is defined, the rest of the
// page is not affected, and there is no failure.
func TestOddPages(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		mutate func([]byte) []byte
		setup  setup
		// seen reports whether a page is the result.
		seen  func(page) bool
		check func(t *testing.T, e *exporter, p page)
	}{
		"duplicate series": {
			mutate: simulator.DuplicateSeries,
			seen:   func(p page) bool { return p.sum(droppedName, "reason", "duplicate") > 0 },
		},
		"second HELP and TYPE": {
			mutate: simulator.SecondType,
			seen:   hasMarker,
			check: func(t *testing.T, e *exporter, _ page) {
				_, text := e.get("/metrics")
				if !strings.Contains(text, "# TYPE PostgresServiceInfo gauge\n") || strings.Contains(text, "Something else.") {
					t.Error("the first HELP and TYPE do not count")
				}
			},
		},
		"interleaved families": {mutate: simulator.InterleavedFamilies, seen: hasMarker},
		"families of others": {
			mutate: simulator.ReservedFamilies,
			seen:   func(p page) bool { return p.sum(droppedName, "reason", "reserved") > 0 },
			check: func(t *testing.T, _ *exporter, p page) {
				// Those that only Prometheus itself adds are passed through.
				for _, name := range []string{"up", "scrape_duration_seconds"} {
					if !p.is(name, 42) {
						t.Errorf("%s: %v", name, p.find(name))
					}
				}
				for _, name := range []string{"go_goroutines", "clickhouse_postgres_up"} {
					if found := p.find(name); len(found) != 1 || found[0].value == 42 {
						t.Errorf("%s: %v", name, found)
					}
				}
				if found := p.find("clickhouse_postgres_service_info"); len(found) != 3 || !p.is("clickhouse_postgres_service_info", 1) {
					t.Errorf("service info: %v", found)
				}
			},
		},
		"labels named like those of the inventory": {
			mutate: simulator.LabelClash,
			seen: func(p page) bool {
				found := p.upstream().find("PostgresServiceInfo", "postgres_region", "upstream")
				return len(found) == 3
			},
			check: func(t *testing.T, _ *exporter, p page) {
				for _, s := range p.upstream() {
					if s.labels.Get("postgres_region") != "upstream" || s.labels.Get("postgres_state") != "upstream" || s.labels.Get("postgres_size") == "" {
						t.Fatalf("upstream's own labels do not stand, or others are missing: %s", s.labels)
					}
				}
			},
		},
		"types and names of the future": {
			mutate: simulator.FutureFamilies,
			seen:   func(p page) bool { return len(p.find("PostgresServer_QuerySeconds_bucket")) == 3 },
			check: func(t *testing.T, e *exporter, p page) {
				// Only the text shows it: Prometheus's parser makes it 1.0.
				if _, text := e.get("/metrics"); !strings.Contains(text, `,le="1"}`) || strings.Contains(text, `le="1.0"`) {
					t.Error("the bucket le=\"1\" has another name")
				}
				if n := len(p.find("PostgresServer_Mystery")); n != 7 {
					t.Errorf("%d series of PostgresServer_Mystery", n)
				}
				if code, text := e.get("/metrics", "Accept", "application/openmetrics-text;version=1.0.0"); code != http.StatusOK || !strings.HasSuffix(text, "# EOF\n") {
					t.Errorf("OpenMetrics: %d", code)
				}
			},
		},
		"types that the text format has not": {
			// As OpenMetrics, which upstream may switch to.
			mutate: func(page []byte) []byte { return []byte(openMetrics(string(page))) },
			seen:   func(p page) bool { return len(p.find("PostgresServer_Build_info")) == 1 },
			check: func(t *testing.T, e *exporter, _ page) {
				for _, accept := range []string{"text/plain", "application/openmetrics-text;version=1.0.0"} {
					_, text := e.get("/metrics", "Accept", accept)
					for _, line := range []string{"# TYPE PostgresServer_Build_info gauge\n", "# TYPE PostgresServer_Mood gauge\n"} {
						if !strings.Contains(text, line) {
							t.Errorf("%s: no %q", accept, line)
						}
					}
				}
			},
		},
		"a label of 10 MB": {
			mutate: simulator.HugeLabel(10 << 20),
			seen: func(p page) bool {
				return slices.ContainsFunc(p.upstream(), func(s series) bool { return len(s.labels.Get("zz_huge")) == 10<<20 })
			},
		},
		"twenty thousand series of one service": {
			mutate: simulator.ManySeries(20_000),
			seen:   func(p page) bool { return len(p.find("PostgresServer_Many")) == 20_000 },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUpstream(t, simulator.Config{Services: 3})
			e := start(t, u, fast())
			before := e.ready(u)
			f := simulator.Fault{Endpoints: []string{organizationMetrics, "service_metrics"}, Mutate: tt.mutate}
			switch name {
			case "types that the text format has not":
				f.Header = http.Header{"Content-Type": {"application/openmetrics-text; version=1.0.0; charset=utf-8"}}
			case "second HELP and TYPE", "interleaved families":
				mutate := f.Mutate
				f.Mutate = func(page []byte) []byte { return append(mutate(page), "\nMarker 1\n"...) }
			}
			u.SetFault(f)
			u.refresh()
			p := e.await("the odd page", func(p page) bool { return tt.seen(p) && len(u.wrong(p)) == 0 })
			if name != "labels named like those of the inventory" && name != "a label of 10 MB" {
				after := values(p.upstream())
				for id := range values(before.upstream()) {
					if _, ok := after[id]; !ok {
						t.Errorf("%s is missing from the rest of the page", id)
					}
				}
			}
			if !p.is("clickhouse_postgres_up", 1) || !p.is("clickhouse_postgres_service_up", 1) || p.sum(refusedName) != 0 {
				t.Errorf("health:\n%s", p.health())
			}
			if tt.check != nil {
				tt.check(t, e, p)
			}
			u.ClearFaults()
			e.await("the usual page", func(p page) bool {
				return len(u.wrong(p)) == 0 && relabelled(before.upstream(), p.upstream()) == ""
			})
			if lines := slices.Concat(e.log.lines("level=warn"), e.log.lines("level=error")); len(lines) > 0 {
				t.Errorf("log:\n%s", strings.Join(lines, "\n"))
			}
		})
	}
}

// hasMarker reports whether a page was fetched after the fault began.
func hasMarker(p page) bool { return len(p.find("Marker")) == 1 }

// openMetrics converts a page from the text format to OpenMetrics, with all families of type
// unknown, and adds families of types that only OpenMetrics has.
func openMetrics(page string) string {
	var b strings.Builder
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "":
			continue
		case strings.HasPrefix(line, "# TYPE "):
			line = line[:strings.LastIndexByte(line, ' ')] + " unknown"
		}
		b.WriteString(line + "\n")
	}
	b.WriteString("# TYPE PostgresServer_Build info\nPostgresServer_Build_info{revision=\"7\"} 1\n" +
		"# TYPE PostgresServer_Mood stateset\nPostgresServer_Mood{PostgresServer_Mood=\"good\"} 1\nPostgresServer_Mood{PostgresServer_Mood=\"bad\"} 0\n# EOF\n")
	return b.String()
}
