package main

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// mounted is a directory of files that are replaced all at once, as Kubernetes does
// with a ConfigMap: the files are symbolic links through a link that is swapped.
type mounted struct {
	dir     string
	version int
}

func (m *mounted) put(t *testing.T, files map[string]string) {
	t.Helper()
	m.version++
	version := "..version" + strconv.Itoa(m.version)
	if err := os.Mkdir(filepath.Join(m.dir, version), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(m.dir, version, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if m.version == 1 {
			if err := os.Symlink(filepath.Join("..data", name), filepath.Join(m.dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	next := filepath.Join(m.dir, "..next")
	if err := os.Symlink(version, next); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(m.dir, "..data")); err != nil {
		t.Fatal(err)
	}
}

// TestAutoReload: a change of the configuration file or of a CA file is found without
// a signal, and one that cannot be loaded is told once.
func TestAutoReload(t *testing.T) {
	m := &mounted{dir: t.TempDir()}
	ca, other := string(newAuthority(t).pem), string(newAuthority(t).pem)
	const drop = "metric_relabel_configs: [{source_labels: [__name__], regex: PostgresServer_CacheHitRatio, action: drop}]\n"
	m.put(t, map[string]string{"config.yml": "{}\n", "ca.pem": ca})
	_, env := upstream(t, simulator.Config{Services: 1, Seed: 1})
	file := filepath.Join(m.dir, "config.yml")
	e := start(t, env, append(fast, "--config.file="+file, "--api.ca-file="+filepath.Join(m.dir, "ca.pem"), "--config.auto-reload-interval=10ms")...)
	// The n-th report of a reload.
	report := func(n int, want string) {
		t.Helper()
		expr := regexp.MustCompile(`(?s)(?:(?:Reloaded the configuration|Reload failed).*?){` + strconv.Itoa(n-1) + `}(Reloaded the configuration|Reload failed[^\n]*)`)
		if got := e.stderr.await(expr); got == nil || !strings.HasPrefix(got[1], want) {
			t.Fatalf("reload %d: %q, not %q; log:\n%s", n, got, want, e.stderr)
		}
	}
	scrape := func() string {
		_, page := get(t, e.url("/metrics"), "X-Prometheus-Scrape-Timeout-Seconds", "60")
		return page
	}
	m.put(t, map[string]string{"config.yml": drop, "ca.pem": ca})
	report(1, "Reloaded")
	awaitPage(t, scrape, func(page string) bool { return !strings.Contains(page, "\nPostgresServer_CacheHitRatio{") })
	m.put(t, map[string]string{"config.yml": drop, "ca.pem": other})
	report(2, "Reloaded")
	m.put(t, map[string]string{"config.yml": drop, "ca.pem": other}) // the same again
	m.put(t, map[string]string{"config.yml": "nonsense: 1\n", "ca.pem": other})
	report(3, "Reload failed")
	awaitPage(t, scrape, func(page string) bool {
		return gauge(t, page, "clickhouse_postgres_exporter_config_last_reload_successful") == 0
	})
	m.put(t, map[string]string{"ca.pem": other})
	report(4, "Reload failed")
	m.put(t, map[string]string{"config.yml": "{}\n", "ca.pem": other})
	report(5, "Reloaded")
}

// TestRepeatedReloadsAddNoLogLine: whoever may reload cannot fill the log.
func TestRepeatedReloadsAddNoLogLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("{}\n")
	_, env := upstream(t, simulator.Config{Services: 1, Seed: 1})
	e := start(t, env, append(fast, "--config.file="+file)...)
	for i, text := range []string{"{}\n", "nonsense: 1\n", "metric_relabel_configs: []\n"} {
		write(text)
		for range 50 {
			do(t, client, http.MethodPost, e.url("/-/reload"))
		}
		reports := strings.Count(e.stderr.String(), `msg="Reload`)
		if reports != i+1 {
			t.Errorf("%d lines after %d different reloads:\n%s", reports, i+1, e.stderr)
		}
	}
}

func TestLifecycleSwitchedOff(t *testing.T) {
	_, env := upstream(t, simulator.Config{Services: 1, Seed: 1})
	e := start(t, env, append(fast, "--no-web.enable-lifecycle")...)
	if code, body := do(t, client, http.MethodPost, e.url("/-/reload")); code != http.StatusForbidden || !strings.Contains(body, "--web.enable-lifecycle") {
		t.Errorf("code %d, body %q", code, body)
	}
}

// TestNamedPipe: neither a start nor a reload waits for somebody to write to a pipe.
func TestNamedPipe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yml")
	if err := syscall.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	_, env := upstream(t, simulator.Config{Services: 1, Seed: 1})
	code, _, stderr := runCommand(t, env, "--config.file="+file)
	if want := "configuration file " + file + " is not a regular file: check the path"; code != 1 || !strings.Contains(stderr, want) {
		t.Errorf("start: exit %d, %s, want 1 and %q", code, stderr, want)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := start(t, env, append(fast, "--config.file="+file, "--config.auto-reload-interval=10ms")...)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	e.stderr.await(regexp.MustCompile(`Reload failed.*is not a regular file`))
}
