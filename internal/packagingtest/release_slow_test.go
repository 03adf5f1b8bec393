//go:build slow

package packagingtest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const goreleaser = "github.com/goreleaser/goreleaser/v2@v2.12.0"

// TestRelease makes a release of the work tree twice, without the network, and
// checks what is in it. The bills of materials need syft, so they are left out.
func TestRelease(t *testing.T) {
	bin := cache(t, "goreleaser-v2.12.0")
	run(t, bin, []string{"GOBIN=" + bin, "GOFLAGS=-mod=mod"}, "go", "install", goreleaser)

	source := sources(t)
	first, second := snapshot(t, filepath.Join(bin, "goreleaser"), source), snapshot(t, filepath.Join(bin, "goreleaser"), source)
	sums := string(read(t, filepath.Join(first, "sha256sums.txt")))
	if again := string(read(t, filepath.Join(second, "sha256sums.txt"))); sums != again {
		t.Errorf("two releases of one commit differ:\n%s\n%s", sums, again)
	}
	var names []string
	for line := range strings.Lines(sums) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		names = append(names, name)
		if got := fmt.Sprintf("%x", sha256.Sum256(read(t, filepath.Join(first, name)))); got != sum {
			t.Errorf("%s has checksum %s, not %s", name, got, sum)
		}
	}
	for _, platform := range []string{"linux-amd64.tar.gz", "linux-arm64.tar.gz", "darwin-arm64.tar.gz", "windows-amd64.zip"} {
		if !slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, "."+platform) }) {
			t.Errorf("no archive for %s among %q", platform, names)
		}
	}
	index := slices.IndexFunc(names, func(n string) bool { return strings.HasSuffix(n, ".linux-amd64.tar.gz") })
	if index < 0 {
		t.Fatal("no archive to look into")
	}
	top := strings.TrimSuffix(names[index], ".tar.gz")
	files := untar(t, read(t, filepath.Join(first, names[index])))
	for _, want := range []string{
		"clickhouse_postgres_exporter", "LICENSE", "README.md", "CHANGELOG.md", "web-config.yml", "docs/faults.md",
		"deploy/systemd/clickhouse_postgres_exporter.service", "deploy/prometheus/prometheus.yml",
		"deploy/grafana/dashboards/fleet.json", "deploy/prometheus/rules/exporter.yml",
	} {
		if _, ok := files[top+"/"+want]; !ok {
			t.Errorf("%s lacks %s", names[index], want)
		}
	}
	if mode := files[top+"/clickhouse_postgres_exporter"]; mode != 0o755 {
		t.Errorf("the program has mode %o", mode)
	}
}

// snapshot commits a copy of the sources, releases it, and returns dist.
func snapshot(t *testing.T, goreleaser, source string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(source)); err != nil {
		t.Fatal(err)
	}
	at := []string{
		"GIT_AUTHOR_DATE=2026-01-02T03:04:05Z", "GIT_COMMITTER_DATE=2026-01-02T03:04:05Z",
		"GIT_AUTHOR_NAME=nobody", "GIT_AUTHOR_EMAIL=nobody@example.com",
		"GIT_COMMITTER_NAME=nobody", "GIT_COMMITTER_EMAIL=nobody@example.com",
	}
	run(t, dir, nil, "git", "init", "--quiet", "--initial-branch=main")
	// It is not asked, but without one goreleaser takes no commit for real.
	run(t, dir, nil, "git", "remote", "add", "origin", "https://github.com/ClickHouse/clickhouse_postgres_exporter.git")
	run(t, dir, nil, "git", "add", ".")
	run(t, dir, at, "git", "commit", "--quiet", "--no-verify", "--message=release")
	run(t, dir, at, "git", "tag", "v0.1.0")
	run(t, dir, nil, goreleaser, "check")
	run(t, dir, nil, goreleaser, "release", "--snapshot", "--clean", "--skip=sbom", "--parallelism=2")
	return filepath.Join(dir, "dist")
}

// untar returns the modes of the files in an archive, by their names.
func untar(t *testing.T, archive []byte) map[string]int64 {
	t.Helper()
	unzipped, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]int64{}
	for r := tar.NewReader(unzipped); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name] = header.Mode
	}
}
