//go:build linux

package faulttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// released links the released exporter to path. A copy might not be executable: while this process
// writes it, a child process of another test may inherit the open file.
func released(t *testing.T, path string) {
	t.Helper()
	built, err := release()
	if err == nil {
		err = os.Link(built, path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// bareRoot returns a directory that contains only the released binary, as exporter, and is readable
// for other users.
func bareRoot(t *testing.T) string {
	t.Helper()
	root, err := os.MkdirTemp("", "root")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = os.Chmod(root, 0o755) //nolint:gosec // to remove it
		os.RemoveAll(root)
	})
	if err := os.Chmod(root, 0o755); err != nil { //nolint:gosec // see above
		t.Fatal(err)
	}
	released(t, filepath.Join(root, "exporter"))
	return root
}

// TestBareSurroundings runs the released binary as user 65532 in a read-only file system that
// contains nothing else: no home, /tmp or /etc, no CA bundle, no time zones. A hundred services fit
// into 64 MiB of memory.
func TestBareSurroundings(t *testing.T) {
	t.Parallel()
	root := bareRoot(t)
	if err := os.Chmod(root, 0o555); err != nil { //nolint:gosec // nobody writes
		t.Fatal(err)
	}
	u := newUpstream(t, simulator.Config{Services: 100})
	e := start(t, u, fast(), asNobody(), env("GOMEMLIMIT=48MiB"), flags("--metrics.interval=500ms"), func(c *exec.Cmd) {
		c.Path = filepath.Join(root, "exporter")
		c.Dir = root
		if os.Getuid() == 0 {
			c.Path, c.Dir = "/exporter", "/"
			c.SysProcAttr.Chroot = root
		}
	})
	for range 5 { // values move on, and so do pages in every format
		u.refresh()
		e.ready(u)
		for _, accept := range []string{
			"application/openmetrics-text;version=1.0.0",
			"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
		} {
			for _, encoding := range []string{"identity", "gzip", "zstd"} {
				if code, _ := e.get("/metrics", "Accept", accept, "Accept-Encoding", encoding); code != 200 {
					t.Fatalf("%s, %s: %d", accept, encoding, code)
				}
			}
		}
	}
	peak := peakMemory(t, e)
	t.Logf("peak of resident memory: %d KiB", peak)
	if peak > 64<<10 {
		t.Errorf("peak of resident memory is %d KiB", peak)
	}
}

// TestFewFiles has the exporter run out of file descriptors while many clients hold connections,
// and recover when they leave.
func TestFewFiles(t *testing.T) {
	t.Parallel()
	u := newUpstream(t, simulator.Config{Services: 2})
	limited := filepath.Join(t.TempDir(), "limited")
	writeFile(t, limited, "#!/bin/sh\nulimit -n 40\nexec \"$@\"\n")
	e := start(t, u, fast(), func(c *exec.Cmd) {
		c.Args = append([]string{"/bin/sh", limited, binary}, c.Args[1:]...)
		c.Path = "/bin/sh"
	})
	e.ready(u)
	for range 60 {
		e.dial(patience)
	}
	u.refresh()
	lines := len(e.log.lines())
	t.Cleanup(func() {
		if more := len(e.log.lines()) - lines; more > 20 {
			t.Errorf("%d lines of log", more)
		}
	})
	e.ready(u)
}

// peakMemory returns the peak of the exporter's resident memory, in KiB.
func peakMemory(t *testing.T, e *exporter) int {
	t.Helper()
	status, err := os.ReadFile("/proc/" + strconv.Itoa(e.command.Process.Pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		t.Fatalf("no VmHWM in\n%s", status)
	}
	peak, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return peak
}
