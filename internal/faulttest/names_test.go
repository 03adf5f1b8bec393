//go:build linux

package faulttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// hostsFile is /etc/hosts in a root directory in which the exporter can run. Nothing else there
// resolves names.
type hostsFile struct {
	t    *testing.T
	root string
}

// newHostsFile returns an empty one.
func newHostsFile(t *testing.T) *hostsFile {
	t.Helper()
	h := &hostsFile{t, bareRoot(t)}
	if err := os.Mkdir(filepath.Join(h.root, "etc"), 0o755); err != nil { //nolint:gosec // others must read it
		t.Fatal(err)
	}
	// Whether a server answers there or not, the query fails at once.
	writeFile(t, filepath.Join(h.root, "etc", "resolv.conf"), "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
	writeFile(t, filepath.Join(h.root, "etc", "hosts"), "")
	probe := exec.Command("/exporter", "--version")
	h.inside()(probe)
	if out, err := probe.CombinedOutput(); err != nil {
		const lacking = "a root directory of one's own takes root, or user namespaces: %v\n%s"
		if os.Getenv("CI") == "true" {
			t.Fatalf(lacking, err, out)
		}
		t.Skipf(lacking, err, out)
	}
	return h
}

// inside runs the exporter in the root directory, as an unprivileged user.
func (h *hostsFile) inside() setup {
	return func(c *exec.Cmd) {
		asNobody()(c)
		if c.SysProcAttr == nil {
			c.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWUSER,
				UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
				GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
			}
		}
		c.Path, c.Dir = "/exporter", "/"
		c.SysProcAttr.Chroot = h.root
	}
}

// set replaces the content of the file, and returns when it is in use: Go's resolver reads the file
// again after five seconds.
func (h *hostsFile) set(content string) {
	h.t.Helper()
	path := filepath.Join(h.root, "etc", "hosts")
	writeFile(h.t, path+".next", content)
	if err := os.Rename(path+".next", path); err != nil {
		h.t.Fatal(err)
	}
	changed := time.Now()
	const remembered = 5 * time.Second
	await(h.t, "the resolver to read the file again", func() bool { return time.Since(changed) > remembered }, func() string { return "" })
}

// TestNameResolvedAgain starts before upstream's name has an address, removes the address after the
// first data, and restores it: the exporter notices each time.
func TestNameResolvedAgain(t *testing.T) {
	t.Parallel()
	const name = "upstream.invalid"
	h := newHostsFile(t)
	u := newUpstream(t, simulator.Config{Services: 3})
	_, port, _ := strings.Cut(u.link.address, ":")
	e := start(t, u, fast(), hasty(), h.inside(), env("CLICKHOUSE_API_URL=http://"+name+":"+port))
	p := e.await("failures", func(p page) bool {
		return p.sum(failuresName, "reason", "dns") >= 3 && p.is("clickhouse_postgres_up", 0)
	})
	if n := len(p.upstream()); n != 0 {
		t.Errorf("%d series without upstream", n)
	}
	if lines := e.log.lines("level=warn", "endpoint=services", "reason=dns"); len(lines) != 1 {
		t.Errorf("want one line, got %q of\n%s", lines, e.log)
	}
	h.set(u.link.host() + " " + name + "\n")
	c := trouble{
		begin:  func(u *upstream) { h.set(""); u.link.hangUp() },
		end:    func(*upstream) { h.set(u.link.host() + " " + name + "\n") },
		reason: "dns", also: []string{"cut"}, lists: true,
	}
	c.run(t, u, e)
}
