//go:build linux

package faulttest

import (
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"html"
	"io"
	"log"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const module = "github.com/ClickHouse/clickhouse_postgres_exporter"

// binary is the path of the exporter: $FAULTTEST_EXPORTER, or a build as it is released,
// or with the race detector if the tests are built with it.
var binary = os.Getenv("FAULTTEST_EXPORTER")

// release builds the exporter as it is released, static and without the race detector,
// and returns its path.
var release func() (string, error)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "faulttest")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	// Other users must be able to run the binaries.
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // see above
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	build := func(name, cgo string, flags ...string) (string, error) {
		path := filepath.Join(dir, name)
		cmd := exec.Command("go", slices.Concat([]string{"build", "-o", path}, flags, []string{module})...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo, "GOFLAGS=") // which may say -race
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build the exporter: %w\n%s", err, out)
		}
		return path, nil
	}
	release = sync.OnceValues(func() (string, error) { return build("released", "0", "-trimpath", "-ldflags=-s -w") })
	if binary == "" {
		if raceEnabled {
			binary, err = build("exporter", "1", "-race")
		} else {
			binary, err = release()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	// Tests wait more than they compute.
	if f := flag.Lookup("test.parallel"); f != nil && f.Value.String() == f.DefValue {
		_ = flag.Set("test.parallel", "8")
	}
	return m.Run()
}

// patience is how long a test waits for anything: long, because the machine may be busy with other
// tests.
const patience = 2 * time.Minute

// await waits until done returns true, and fails the test if that takes too long. describe returns
// the state at that time.
func await(t *testing.T, what string, done func() bool, describe func() string) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("timed out waiting for %s\n%s", what, describe())
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

// secret has characters that are escaped in different ways.
const (
	keyID  = "fault-key"
	secret = `hunt%me/+=&"\<7f3a9c1e5b2d>`
)

// secretForms returns the forms in which the secret could leak.
func secretForms(id, secret string) []string {
	quoted, _ := json.Marshal(secret)
	forms := []string{
		secret,
		url.QueryEscape(secret),
		url.PathEscape(secret),
		html.EscapeString(secret),
		strings.Trim(strconv.Quote(secret), `"`),
		strings.Trim(string(quoted), `"`),
		fmt.Sprintf("%x", secret),
		"7f3a9c1e5b2d", // whatever the escaping
	}
	for _, text := range []string{secret, id + ":" + secret} {
		forms = append(forms, base64.RawStdEncoding.EncodeToString([]byte(text)), base64.RawURLEncoding.EncodeToString([]byte(text)))
	}
	return forms
}

const (
	failuresName = "clickhouse_postgres_exporter_api_request_failures_total"
	refusedName  = "clickhouse_postgres_exporter_pages_refused_total"
	pollsName    = "clickhouse_postgres_exporter_poll_duration_seconds_count"
	droppedName  = "clickhouse_postgres_exporter_series_dropped_total"
	successName  = "clickhouse_postgres_exporter_metrics_last_success_timestamp_seconds"
	listedName   = "clickhouse_postgres_exporter_inventory_last_success_timestamp_seconds"

	organizationMetrics = "organization_metrics"
	services            = "services"
)

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil { //nolint:gosec // others must read it
		t.Fatal(err)
	}
}

// discard is a log for servers that fail intentionally.
func discard() *log.Logger { return log.New(io.Discard, "", 0) }
