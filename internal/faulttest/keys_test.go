//go:build linux

package faulttest

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// nobody is the user id of the container image.
const nobody = 65532

// asNobody runs the exporter as an unprivileged user if the test runs as root.
func asNobody() setup {
	return func(c *exec.Cmd) {
		if os.Getuid() == 0 {
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		}
	}
}

// TestKeyFiles revokes the key, and puts various invalid contents into its file before the new key:
// without a restart, each is logged once, and the new key is used at once.
func TestKeyFiles(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "keys") // which others can read, unlike t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // see above
		t.Fatal(err)
	}
	idFile, secretFile := filepath.Join(dir, "id"), filepath.Join(dir, "secret")
	// Kubernetes mounts secrets as links to a directory that is replaced as a whole.
	mode := os.FileMode(0o644)
	replace := func(content string) {
		t.Helper()
		next := filepath.Join(dir, "next")
		writeFile(t, next, content)
		if err := os.Chmod(next, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, secretFile); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, idFile, keyID+"\n")
	replace(secret)

	u := newUpstream(t, simulator.Config{Services: 3})
	e := start(t, u, fast(), asNobody(),
		env("CLICKHOUSE_CLOUD_API_KEY=", "CLICKHOUSE_CLOUD_API_SECRET="),
		flags("--api.key-id-file="+idFile, "--api.key-secret-file="+secretFile))
	before := e.ready(u)

	const renewed = secret + "2"
	u.RotateKey(keyID, renewed)
	u.refresh()
	p := e.await("the old key to be refused", func(p page) bool {
		return p.sum(failuresName, "reason", "unauthorized") >= 4 && p.is("clickhouse_postgres_up", 0)
	})
	if diff := differences(before.upstream(), p.upstream()); diff != "" {
		t.Errorf("not the last good data:\n%s", diff)
	}
	for _, endpoint := range []string{services, organizationMetrics} {
		if lines := e.log.lines("level=warn", "reason=unauthorized", "endpoint="+endpoint); len(lines) != 1 {
			t.Errorf("want one line about %s, got %q", endpoint, lines)
		}
	}

	for _, step := range []struct {
		name string
		do   func()
		says string
	}{
		{"missing", func() { _ = os.Remove(secretFile) }, "does not exist"},
		{"empty", func() { replace("") }, "is empty"},
		{"only a newline", func() { replace("\n") }, "is empty"},
		{"two lines", func() { replace(secret + "\n" + secret + "\n") }, "contains a space, line break"},
		{"unreadable", func() {
			mode = 0
			defer func() { mode = 0o644 }()
			replace(renewed)
		}, "is not readable"},
		{"a directory", func() {
			_ = os.Remove(secretFile)
			if err := os.Mkdir(secretFile, 0o755); err != nil { //nolint:gosec // see above
				t.Fatal(err)
			}
		}, "is not a regular file"},
	} {
		count := func(p page) float64 { return p.sum(failuresName, "reason", "credentials") }
		failed := count(e.scrape())
		step.do()
		// Requests in flight may still have the key.
		failed = count(e.await("the file to be "+step.name, func(p page) bool { return count(p) >= failed+6 }))
		sent := u.Count("", -1)
		p := e.await("more failures", func(p page) bool { return count(p) >= failed+6 })
		if more := u.Count("", -1) - sent; more != 0 {
			t.Errorf("%s: %d requests without a key", step.name, more)
		}
		if diff := differences(before.upstream(), p.upstream()); diff != "" {
			t.Errorf("%s: not the last good data:\n%s", step.name, diff)
		}
		if !p.is("clickhouse_postgres_up", 0) {
			t.Errorf("%s: health:\n%s", step.name, p.health())
		}
		if code, _ := e.get("/-/healthy"); code != http.StatusOK {
			t.Errorf("%s: liveness %d", step.name, code)
		}
		if code, body := e.get("/"); code == http.StatusOK && !strings.Contains(body, step.says) {
			t.Errorf("%s: the status page does not say %q", step.name, step.says)
		}
	}
	// A problem with the file is one condition: it is logged once, whatever its details.
	if lines := e.log.lines("level=warn", "reason=credentials", "endpoint="+organizationMetrics); len(lines) != 1 {
		t.Errorf("want one line, got\n%s", strings.Join(lines, "\n"))
	}

	_ = os.Remove(secretFile)
	polls := e.scrape().sum(pollsName, "endpoint", organizationMetrics)
	replace(renewed + "\r\n")
	p = e.ready(u)
	if more := p.sum(pollsName, "endpoint", organizationMetrics) - polls; more > 12 {
		t.Errorf("the new key was used after %v polls only", more)
	}
	await(t, "the log to report it", func() bool { return len(e.log.lines("Refresh works again")) == 2 }, e.log.String)
}
