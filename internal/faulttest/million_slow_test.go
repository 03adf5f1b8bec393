//go:build slow && linux

package faulttest

import (
	"bufio"
	"bytes"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// TestMillionSeriesWanted raises the bound, and gets them.
func TestMillionSeriesWanted(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "exporter")
	released(t, path)
	u := newUpstream(t, simulator.Config{Services: 3})
	u.SetFault(million(u))
	e := start(t, u, fast(), flags("--metrics.interval=10s", "--api.max-response-size=256MiB"), func(c *exec.Cmd) { c.Path = path })
	count := func() (lines, size int) {
		resp, err := e.client.Get("http://" + e.address + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		// The page is larger than this process wants to be.
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
