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
	"regexp"
	"slices"
	"strings"
	"testing"
)

const goreleaser = "github.com/goreleaser/goreleaser/v2@v2.12.0"

// TestRelease makes a release of the work tree twice and checks what is in it.
func TestRelease(t *testing.T) {
	bin := cache(t, "goreleaser-v2.12.0")
	run(t, bin, []string{"GOBIN=" + bin, "GOFLAGS=-mod=mod"}, "go", "install", goreleaser)

	source := sources(t)
	first, second := snapshot(t, filepath.Join(bin, "goreleaser"), source), snapshot(t, filepath.Join(bin, "goreleaser"), source)
	sums := string(read(t, filepath.Join(first, "sha256sums.txt")))
	// But for the bills of materials, which say when they were made.
	code := func(sums string) string { return regexp.MustCompile(`(?m)^.*\.cdx\.json\n`).ReplaceAllString(sums, "") }
	if again := string(read(t, filepath.Join(second, "sha256sums.txt"))); code(sums) != code(again) {
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
	for _, suffix := range []string{
		".linux-386.tar.gz", ".linux-amd64.tar.gz", ".linux-arm64.tar.gz", ".linux-armv7.tar.gz", ".linux-ppc64le.tar.gz",
		".linux-riscv64.tar.gz", ".linux-s390x.tar.gz", ".darwin-arm64.tar.gz", ".windows-amd64.zip",
		".linux-amd64.cdx.json", ".linux-armv7.cdx.json",
		"_amd64.deb", "_arm64.deb", "_armhf.deb", "_i386.deb", "_ppc64el.deb", "_s390x.deb",
		".x86_64.rpm", ".aarch64.rpm", ".armv7hl.rpm", ".i386.rpm", ".ppc64le.rpm", ".s390x.rpm",
	} {
		if !slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, suffix) }) {
			t.Errorf("nothing ends in %s among %q", suffix, names)
		}
	}
	for _, test := range []struct {
		suffix, tool, debian string
		list, scripts        []string
	}{
		{"_amd64.deb", "dpkg-deb", "dpkg", []string{"--contents"}, []string{"--ctrl-tarfile"}},
		{".x86_64.rpm", "rpm", "rpm", []string{"-qlvp"}, []string{"-qp", "--scripts"}},
	} {
		t.Run(test.tool, func(t *testing.T) {
			path := filepath.Join(first, names[slices.IndexFunc(names, func(n string) bool { return strings.HasSuffix(n, test.suffix) })])
			tool := tool(t, test.tool, test.debian)
			list := string(run(t, ".", nil, tool, append(test.list, path)...))
			for _, want := range []string{
				`-rwxr-xr-x .* \.?/usr/bin/clickhouse_postgres_exporter`, `-rw------- .* \.?/etc/default/clickhouse_postgres_exporter`,
				`-rw-r--r-- .* \.?/usr/lib/systemd/system/clickhouse_postgres_exporter.service`,
				`-rw-r--r-- .* \.?/usr/lib/sysusers.d/clickhouse_postgres_exporter.conf`, `drwxr-xr-x .* \.?/etc/clickhouse_postgres_exporter`,
				`-rw-r--r-- .* \.?/usr/share/doc/clickhouse-postgres-exporter/copyright`,
			} {
				if !regexp.MustCompile("(?m)^" + want + "/?$").MatchString(list) {
					t.Errorf("the package lacks %s:\n%s", want, list)
				}
			}
			if scripts := string(run(t, ".", nil, tool, append(test.scripts, path)...)); !strings.Contains(scripts, "systemd-sysusers") {
				t.Errorf("the package makes no user:\n%s", scripts)
			}
		})
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
	run(t, dir, nil, goreleaser, "release", "--snapshot", "--clean", "--parallelism=2")
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
