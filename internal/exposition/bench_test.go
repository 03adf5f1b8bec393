//go:build unix

package exposition

import (
	"bytes"
	stdgzip "compress/gzip"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/flate"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
)

// fleet writes pages like upstream's: 36 series for each service, families one
// after the other, values that move.
type fleet struct {
	services []string // label texts
	r        *rand.Rand
	counters []float64
}

func newFleet(n int) *fleet {
	f := &fleet{r: random(uint64(n))}
	for i := range n {
		f.services = append(f.services, fmt.Sprintf(`clickhouse_org="%s",postgres_service="%s",postgres_service_name="service-%d"`, f.uuid(0), f.uuid(i+1), i))
	}
	f.counters = make([]float64, 40*n)
	for i := range f.counters {
		f.counters[i] = float64(f.r.IntN(1e9))
	}
	return f
}

func (f *fleet) uuid(seed int) string {
	r := random(uint64(seed))
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", r.Uint32(), r.Uint32()>>16, r.Uint32()>>16, r.Uint32()>>16, r.Uint64()>>16)
}

// page writes the next version of the page.
func (f *fleet) page() []byte {
	var b bytes.Buffer
	counter := 0
	family := func(name, kind string, more ...string) {
		fmt.Fprintf(&b, "# HELP %s Some words that say what %s is about.\n# TYPE %s %s\n", name, name, name, kind)
		if more == nil {
			more = []string{""}
		}
		for _, s := range f.services {
			for _, m := range more {
				switch kind {
				case "counter":
					f.counters[counter] += float64(f.r.IntN(10000))
					fmt.Fprintf(&b, "%s{%s%s} %.0f\n", name, s, m, f.counters[counter])
					counter++
				default:
					fmt.Fprintf(&b, "%s{%s%s} %.2f\n", name, s, m, f.r.Float64()*100)
				}
			}
		}
		b.WriteByte('\n')
	}
	with := func(label string, values ...string) []string {
		for i, v := range values {
			values[i] = fmt.Sprintf(",%s=%q", label, v)
		}
		return values
	}
	family("PostgresServiceInfo", "gauge", `,postgres_status="running",postgres_version="18"`)
	family("PostgresServer_ActiveConnections", "gauge", with("state", "active", "idle", "idle in transaction")...)
	family("PostgresServer_CacheHitRatio", "gauge")
	family("PostgresServer_CPUSeconds_Total", "counter", with("mode", "user", "system", "idle", "iowait", "irq", "softirq", "steal", "nice")...)
	for _, n := range []string{"TuplesFetched", "TuplesInserted", "BlocksRead", "Deadlocks", "Transactions"} {
		family("PostgresServer_"+n+"_Total", "counter", with("database", "app", "postgres", "reports")...)
	}
	for _, n := range []string{"MemoryLimitBytes", "MemoryUsedBytes", "DiskLimitBytes", "DiskUsedBytes", "ConnectionLimit", "ReplicationLagSeconds"} {
		family("PostgresServer_"+n, "gauge")
	}
	for _, n := range []string{"NetworkReceiveBytes", "NetworkSendBytes"} {
		family("PostgresServer_"+n+"_Total", "counter")
	}
	return b.Bytes()
}

const seriesPerService = 36

// benchRules are what a user would do.
func benchRules() []*relabel.Config {
	return []*relabel.Config{
		rule(relabel.Config{SourceLabels: model.LabelNames{"__name__"}, Regex: relabel.MustNewRegexp("go_.*|process_.*"), Action: relabel.Drop}),
		rule(relabel.Config{SourceLabels: model.LabelNames{"postgres_service_name"}, Regex: relabel.MustNewRegexp("(.*)-.*"), TargetLabel: "team", Replacement: "$1", Action: relabel.Replace}),
		rule(relabel.Config{Regex: relabel.MustNewRegexp("tmp_.*"), Action: relabel.LabelDrop}),
	}
}

// benchRewriter adds three labels and applies three rules.
type benchRewriter struct {
	RuleScope
	rules []*relabel.Config
}

func newBenchRewriter() benchRewriter {
	rules := benchRules()
	return benchRewriter{NewRuleScope(rules), rules}
}

func (benchRewriter) Group(lset labels.Labels) string { return lset.Get("postgres_service") }
func (r benchRewriter) Passes(label string) bool {
	switch label {
	case "postgres_service", "postgres_region", "postgres_size", "postgres_state":
		return false
	}
	return r.RuleScope.Passes(label)
}

func (benchRewriter) Epoch(string) uint64 { return 1 }

func (r benchRewriter) Rewrite(_ string, lset labels.Labels) (labels.Labels, Verdict) {
	b := labels.NewBuilder(lset)
	b.Set("postgres_region", "us-east-1")
	b.Set("postgres_size", "r6gd.medium")
	b.Set("postgres_state", "running")
	if !relabel.ProcessBuilder(b, r.rules...) {
		return labels.EmptyLabels(), DropRule
	}
	return b.Labels(), Keep
}

func refresh(tb testing.TB, s *Source, m *Merger, body []byte, rw Rewriter) (*Document, Body) {
	tb.Helper()
	p, err := s.Decode(body, textType, rw)
	if err != nil {
		tb.Fatal(err)
	}
	d := m.Merge(parts(p)...)
	return d, Encode(Text, Gzip, d)
}

var fleetSizes = []int{100, 1000, 10000}

// cpu returns the processor time that the process has used, which other
// processes on the machine don't distort as much as they do the time of day.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func refreshed(tb testing.TB, page []byte, rw Rewriter) *Document {
	tb.Helper()
	var m Merger
	d, _ := refresh(tb, NewSource(), &m, page, rw)
	return d
}

func gzipSize(tb testing.TB, page []byte) int {
	tb.Helper()
	var out bytes.Buffer
	z, err := stdgzip.NewWriterLevel(&out, 6)
	if err != nil {
		tb.Fatal(err)
	}
	_, _ = z.Write(page)
	_ = z.Close()
	return out.Len()
}

// BenchmarkSteps splits a refresh up.
func BenchmarkSteps(b *testing.B) {
	for _, n := range fleetSizes {
		f, rw := newFleet(n), newBenchRewriter()
		pages := [][]byte{f.page(), f.page(), f.page(), f.page()}
		measure := func(b *testing.B, step func(i int)) {
			b.Helper()
			b.ReportAllocs()
			start := cpu()
			for i := range b.N {
				step(i)
			}
			b.ReportMetric(float64(cpu()-start)/float64(b.N)/1e6*100_000/float64(n*seriesPerService), "cpu-ms/100k_series")
		}
		b.Run(fmt.Sprintf("first/services=%d", n), func(b *testing.B) {
			measure(b, func(i int) {
				var m Merger
				refresh(b, NewSource(), &m, pages[i%4], rw)
			})
		})
		b.Run(fmt.Sprintf("decode/services=%d", n), func(b *testing.B) {
			s := NewSource()
			if _, err := s.Decode(pages[3], textType, rw); err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			measure(b, func(i int) {
				if _, err := s.Decode(pages[i%4], textType, rw); err != nil {
					b.Fatal(err)
				}
			})
		})
		page, _ := NewSource().Decode(pages[0], textType, rw)
		b.Run(fmt.Sprintf("plan/services=%d", n), func(b *testing.B) {
			ps := parts(page)
			measure(b, func(int) { Merge(ps...) })
		})
		b.Run(fmt.Sprintf("unchanged/services=%d", n), func(b *testing.B) {
			s := NewSource()
			if _, err := s.Decode(pages[0], textType, rw); err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			measure(b, func(int) {
				if _, err := s.Decode(pages[0], textType, rw); err != nil {
					b.Fatal(err)
				}
			})
		})
		for _, format := range []Format{Text, Protobuf, OpenMetrics} {
			for _, e := range []Encoding{Identity, Gzip, Zstd} {
				b.Run(fmt.Sprintf("%s_%s/services=%d", format, e, n), func(b *testing.B) {
					var m Merger
					m.Merge(parts(page)...)
					b.ResetTimer()
					measure(b, func(int) { Encode(format, e, m.Merge(parts(page)...)) })
				})
			}
		}
	}
}

// BenchmarkGzipLevels is what gzipLevel was chosen by.
func BenchmarkGzipLevels(b *testing.B) {
	page := joined(Encode(Text, Identity, refreshed(b, newFleet(1000).page(), newBenchRewriter())))
	six := gzipSize(b, page)
	for level := 1; level <= 6; level++ {
		b.Run(fmt.Sprint(level), func(b *testing.B) {
			var out bytes.Buffer
			for range b.N {
				out.Reset()
				w, err := flate.NewWriter(&out, level)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = w.Write(page)
				_ = w.Close()
			}
			b.SetBytes(int64(len(page)))
			b.ReportMetric(float64(out.Len())/float64(six), "size/gzip6")
		})
	}
}

// BenchmarkRetained measures what stays in memory after a few refreshes, with
// the compressed page only and with the plain one too, in sizes of the latter.
func BenchmarkRetained(b *testing.B) {
	const n = 10_000
	for range b.N {
		rw := newBenchRewriter()
		f := newFleet(n)
		heap := func() float64 {
			runtime.GC()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return float64(m.HeapAlloc)
		}
		before := heap()
		var (
			s = NewSource()
			m Merger
			d *Document
		)
		for range 3 {
			d, _ = refresh(b, s, &m, f.page(), rw)
		}
		compressed := heap() - before
		page := Encode(Text, Identity, d)
		b.ReportMetric(compressed/float64(page.Len), "pages_retained")
		b.ReportMetric((heap()-before)/float64(page.Len), "pages_retained_with_plain")
		b.ReportMetric(float64(page.Len)/1e6, "page_MB")
		runtime.KeepAlive(s)
		runtime.KeepAlive(d)
	}
}

// A page whose values only change costs next to no memory.
func TestSteadyStateAllocations(t *testing.T) {
	const n = 1000
	f, rw := newFleet(n), newBenchRewriter()
	s := NewSource()
	var m Merger
	pages := [][]byte{f.page(), f.page()}
	refresh(t, s, &m, pages[0], rw)
	i := 0
	allocs := testing.AllocsPerRun(4, func() {
		i++
		refresh(t, s, &m, pages[i%2], rw)
	})
	if limit := 1000 * float64(n*seriesPerService) / 100_000; allocs > limit {
		t.Errorf("%.0f allocations, want at most %.0f", allocs, limit)
	}
}

func TestFleetHas36Series(t *testing.T) {
	page := newFleet(2).page()
	n := 0
	for l := range strings.Lines(string(page)) {
		if l[0] != '#' && l != "\n" {
			n++
		}
	}
	if n != 2*seriesPerService {
		t.Errorf("%d lines", n)
	}
}
