//go:build slow

package packagingtest

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// tool returns the path of a program, or skips the test and says how to get it.
// In CI nothing is skipped.
func tool(t *testing.T, name, debian string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%v: apt-get install %s", err, debian)
		}
		t.Skipf("%v: apt-get install %s", err, debian)
	}
	return path
}

// run runs a command in dir and returns what it wrote to stdout.
func run(t *testing.T, dir string, environment []string, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), environment...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %q: %v\n%s%s", name, args, err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.Bytes()
}

// cache is a directory for what takes minutes to build, kept between runs.
func cache(t *testing.T, name string) string {
	t.Helper()
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	dir = filepath.Join(dir, "clickhouse_postgres_exporter", "packagingtest", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// module is what "go mod download" says of a module.
type module struct{ Dir, GoMod string }

func download(t *testing.T, version string) module {
	t.Helper()
	var m module
	if err := json.Unmarshal(run(t, t.TempDir(), nil, "go", "mod", "download", "-json", version), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// sources copies what a commit of the work tree would hold.
func sources(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range bytes.Split(run(t, root, nil, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"), []byte{0}) {
		if len(name) == 0 {
			continue
		}
		from, to := filepath.Join(root, string(name)), filepath.Join(dir, string(name))
		info, err := os.Lstat(from)
		if os.IsNotExist(err) {
			continue // deleted and not yet committed
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if info.Mode()&os.ModeSymlink != 0 {
			target, err := os.Readlink(from)
			if err == nil {
				err = os.Symlink(target, to)
			}
			if err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(to, read(t, from), info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// background starts a command that is stopped when the test ends. What it wrote
// is shown if the test failed by then.
func background(t *testing.T, name string, args ...string) {
	t.Helper()
	var output bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			tail := output.Bytes()
			t.Logf("%s:\n%s", filepath.Base(name), tail[max(0, len(tail)-4000):])
		}
	})
}
