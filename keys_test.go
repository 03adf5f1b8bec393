package main

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/config"
)

// TestServeOutlivesItsKey: an exporter goes on while the API refuses its key, says
// so once in its log, and works as soon as the key does.
func TestServeOutlivesItsKey(t *testing.T) {
	s, env := upstream(t, simulator.Config{Services: 2, Seed: 1, RefreshInterval: 100 * time.Millisecond})
	c := s.Config()
	s.RotateKey(c.KeyID, "another-secret")
	e := start(t, env, append(fast, "--metrics.interval=100ms", "--inventory.interval=100ms")...)
	_, page := get(t, e.url("/metrics"), "X-Prometheus-Scrape-Timeout-Seconds", "60")
	if up := gauge(t, page, "clickhouse_postgres_up"); up != 0 {
		t.Errorf("clickhouse_postgres_up is %v", up)
	}
	// Several more polls are refused and add no line.
	awaitPage(t, func() string { return "" }, func(string) bool { return s.Count("services", http.StatusUnauthorized) > 3 })
	told := regexp.MustCompile(`(?m)^.* level=warn .* endpoint=services .*err="list services: API key wrong or expired \(status 401, .*check the key id and secret \(CLICKHOUSE_CLOUD_API_KEY and CLICKHOUSE_CLOUD_API_SECRET, or the key files\)"$`)
	if lines := told.FindAllString(e.stderr.String(), -1); len(lines) != 1 {
		t.Errorf("%d lines about the key:\n%s", len(lines), e.stderr)
	}
	if code, body := get(t, e.url("/-/ready")); code != http.StatusServiceUnavailable || !strings.Contains(body, "API key wrong or expired") {
		t.Errorf("ready: code %d, %q", code, body)
	}
	if code, body := get(t, e.url("/sd")); code != http.StatusServiceUnavailable || !strings.Contains(body, "API key wrong or expired") {
		t.Errorf("discovery: code %d, %q", code, body)
	}
	s.RotateKey(c.KeyID, c.KeySecret)
	awaitPage(t, func() string { _, page := get(t, e.url("/metrics")); return page }, func(page string) bool {
		return gauge(t, page, "clickhouse_postgres_up") == 1 && strings.Contains(page, "\nPostgresServiceInfo{")
	})
}

// TestUnreadableKeyFile runs as somebody who may not read the file.
func TestUnreadableKeyFile(t *testing.T) {
	dir, err := os.MkdirTemp("", "unreadable")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "secret")
	if err := os.WriteFile(file, []byte("hush"), 0o200); err != nil {
		t.Fatal(err)
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, config.Program)
	copyFile(t, binary, name)
	cmd := exec.Command(name, "--api.key-id-file="+file, "--api.key-secret-file="+file)
	coverage := filepath.Join(dir, "coverage")
	if err := os.Mkdir(coverage, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(coverage, 0o777); err != nil { // beyond the umask
		t.Fatal(err)
	}
	cmd.Env = calm(coverage)
	cmd.Dir = dir
	if os.Geteuid() == 0 { // who may read everything
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	output, err := cmd.CombinedOutput()
	want := "clickhouse_postgres_exporter: error: API key id (" + file + ") is not readable (open " + file +
		": permission denied); give the user that the exporter runs as the right to read it\n"
	if cmd.ProcessState.ExitCode() != 1 || string(output) != want {
		t.Errorf("%v: %s", err, output)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
