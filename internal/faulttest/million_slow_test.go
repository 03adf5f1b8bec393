//go:build slow && linux

package faulttest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// million returns a fault that makes the first service report a million series. The page is made in
// advance, because that takes a while.
func million(u *upstream) simulator.Fault {
	var page bytes.Buffer
	z, _ := gzip.NewWriterLevel(&page, gzip.BestSpeed)
	line := []byte("PostgresServer_Many{postgres_service=\"" + u.Services()[0].ID + "\",n=\"")
	_, _ = z.Write([]byte("# TYPE PostgresServer_Many gauge\n"))
	for i := range 1_000_000 {
		_, _ = z.Write(append(strconv.AppendInt(line[:len(line):len(line)], int64(i), 10), "\"} 1\n"...))
	}
	_ = z.Close()
	return simulator.Fault{
		Endpoints: []string{organizationMetrics, "service_metrics"},
		Encode:    func([]byte) ([]byte, string) { return page.Bytes(), "gzip" },
	}
}

// TestMillionSeries has one service report a million series. That is above the default limit, so
// the page is refused.
func TestMillionSeries(t *testing.T) {
	t.Parallel()
	u := newUpstream(t, simulator.Config{Services: 3})
	f := million(u)
	c := trouble{begin: func(u *upstream) { u.SetFault(f) }, reason: "too_large", refused: true}
	e := start(t, u, fast(), flags("--metrics.interval=1s", "--api.timeout=10m"))
	c.run(t, u, e)
	if p := e.scrape(); p.sum("process_resident_memory_bytes") > 1<<30 {
		t.Errorf("%v bytes resident", p.sum("process_resident_memory_bytes"))
	}
}

// TestMillionSeriesWanted raises the limit, and gets them.
func TestMillionSeriesWanted(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "exporter")
	released(t, path)
	u := newUpstream(t, simulator.Config{Services: 3})
	u.SetFault(million(u))
	e := start(t, u, fast(), flags("--metrics.interval=10s", "--api.timeout=10m", "--api.max-response-size=256MiB"), func(c *exec.Cmd) { c.Path = path })
	count := func() (lines, size int) {
		resp, err := e.client.Get("http://" + e.address + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		// The page is too large to parse it in this process.
		scanner := bufio.NewScanner(resp.Body)
		for scanner.Scan() {
			size += len(scanner.Bytes()) + 1
			if bytes.HasPrefix(scanner.Bytes(), []byte("PostgresServer_Many{")) {
				lines++
			}
		}
		return lines, size
	}
	var size int
	await(t, "a million series", func() bool {
		var lines int
		lines, size = count()
		return lines == 1_000_000
	}, e.log.String)
	e.address = "" // pages of that size are not browsed
	peak := peakMemory(t, e)
	t.Logf("a page of %d bytes, peak of resident memory %d MiB", size, peak>>10)
	if peak > 2<<20 {
		t.Errorf("peak of resident memory is %d KiB", peak)
	}
}
