//go:build slow

package packagingtest

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestImage builds the image from the Dockerfile as it is, runs it as strictly
// as it is meant to run, and asks it for metrics and health.
//
// Where the compiler's image cannot be pulled, a stand-in is imported under the
// same name: this machine's Go, busybox, certificates, and the modules of go.mod
// as a proxy in a directory. The build itself has no network then.
func TestImage(t *testing.T) {
	d := startDocker(t)
	context := sources(t)
	arguments := []string{
		"--build-arg=VERSION=9.8.7", "--build-arg=REVISION=0123456789abcdef", "--build-arg=SOURCE_DATE_EPOCH=1767323045",
	}
	if base := baseImage(t); d.run("pull", "--quiet", base) != nil {
		d.standIn(t, context, base)
		arguments = append(arguments, "--network=none")
	}
	build := func(tag string, more ...string) image {
		t.Helper()
		args := slices.Concat([]string{"build", "--no-cache", "--quiet", "--tag=" + tag}, arguments, more, []string{context})
		if err := d.run(args...); err != nil {
			t.Fatal(err)
		}
		return d.inspect(t, tag)
	}
	built := build("exporter:test")

	t.Run("is what it should be", func(t *testing.T) {
		c := built.Config
		if built.Size > 20_000_000 {
			t.Errorf("%d bytes, want at most 20 MB", built.Size)
		}
		if c.User != "65532:65532" || len(c.Healthcheck.Test) == 0 || len(c.ExposedPorts) != 1 {
			t.Errorf("configuration %+v", c)
		}
		for label, want := range map[string]string{
			"version": "9.8.7", "revision": "0123456789abcdef", "licenses": "Apache-2.0", "title": "clickhouse_postgres_exporter",
			"source": "https://github.com/ClickHouse/clickhouse_postgres_exporter",
		} {
			if got := c.Labels["org.opencontainers.image."+label]; got != want {
				t.Errorf("label %s is %q, want %q", label, got, want)
			}
		}
		t.Logf("image of %d bytes", built.Size)
	})

	t.Run("holds nothing more than it needs", func(t *testing.T) {
		files := d.files(t, "exporter:test")
		want := []string{
			"bin/clickhouse_postgres_exporter", "etc/group", "etc/passwd", "etc/ssl/certs/ca-certificates.crt",
			"usr/share/doc/clickhouse_postgres_exporter/LICENSE", "usr/share/zoneinfo.zip",
		}
		if got := slices.Sorted(maps.Keys(files)); !slices.Equal(got, want) {
			t.Errorf("files %q, want %q", got, want)
		}
	})

	t.Run("is the same when built again", func(t *testing.T) {
		if again := build("exporter:again"); !slices.Equal(again.RootFS.Layers, built.RootFS.Layers) {
			t.Errorf("layers %q and %q", built.RootFS.Layers, again.RootFS.Layers)
		}
	})

	for platform, machine := range map[string]elf.Machine{"linux/arm64": elf.EM_AARCH64, "linux/arm/v7": elf.EM_ARM} {
		t.Run("is crossed to "+platform, func(t *testing.T) {
			crossed := build("exporter:crossed", "--platform="+platform)
			if want := strings.Split(platform, "/")[1]; crossed.Architecture != want {
				t.Errorf("architecture %s, want %s", crossed.Architecture, want)
			}
			program, err := elf.NewFile(bytes.NewReader(d.files(t, "exporter:crossed")["bin/clickhouse_postgres_exporter"]))
			if err != nil {
				t.Fatal(err)
			}
			if program.Machine != machine {
				t.Errorf("a program for %s", program.Machine)
			}
			if libraries, _ := program.ImportedLibraries(); len(libraries) != 0 {
				t.Errorf("needs %q, which the image does not have", libraries)
			}
		})
	}

	t.Run("says its version", func(t *testing.T) {
		out, err := d.output("run", "--rm", "--network=none", "exporter:test", "--version")
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"version 9.8.7", "revision: 0123456789abcdef", "20260102-03:04:05"} {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s lacks %s", out, want)
			}
		}
	})

	t.Run("runs confined", func(t *testing.T) {
		port := freePort(t)
		address := fmt.Sprintf("--web.listen-address=127.0.0.1:%d", port)
		err := d.run("run", "--detach", "--name=exporter", "--read-only", "--user=65532:65532", "--cap-drop=ALL",
			"--security-opt=no-new-privileges", "--memory=64m", "--memory-swap=64m", "--pids-limit=100", "--network=host",
			"--health-interval=1s", "--health-cmd", "/bin/clickhouse_postgres_exporter healthcheck "+address,
			"exporter:test", "--demo", "--demo.services=100", address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = d.run("rm", "--force", "exporter") }()
		eventually(t, time.Minute, func() error {
			response, err := http.Get(loopback("http", port) + "/metrics")
			if err != nil {
				return err
			}
			defer response.Body.Close()
			page, err := io.ReadAll(response.Body)
			if err != nil {
				return err
			}
			series := regexp.MustCompile(`(?m)^PostgresServiceInfo\{`).FindAll(page, -1)
			if response.StatusCode != http.StatusOK || len(series) != 100 {
				return fmt.Errorf("%s with %d services", response.Status, len(series))
			}
			return nil
		})
		for _, args := range [][]string{{"healthcheck", address}, {"healthcheck", "--ready", address}} {
			if err := d.run(append([]string{"exec", "exporter", "/bin/clickhouse_postgres_exporter"}, args...)...); err != nil {
				t.Error(err)
			}
		}
		if err := d.run("exec", "exporter", "/bin/clickhouse_postgres_exporter", "healthcheck", "--web.listen-address=127.0.0.1:1"); err == nil {
			t.Error("a port that nobody listens on is called healthy")
		}
		stats, err := d.output("stats", "--no-stream", "--format={{.MemUsage}}", "exporter")
		if err != nil {
			t.Error(err)
		}
		t.Logf("100 services in %s", bytes.TrimSpace(stats))
		state, err := d.output("inspect", "--format={{.State.OOMKilled}} {{.RestartCount}} {{.State.Running}}", "exporter")
		if err != nil || string(bytes.TrimSpace(state)) != "false 0 true" {
			t.Errorf("killed, restarts, running: %s %v", state, err)
		}
		if err := d.run("stop", "--time=10", "exporter"); err != nil {
			t.Error(err)
		}
		code, err := d.output("inspect", "--format={{.State.ExitCode}}", "exporter")
		if err != nil || string(bytes.TrimSpace(code)) != "0" {
			t.Errorf("exit code %s on SIGTERM, %v", code, err)
		}
	})

	// The check that is in the image, on the port that is in the image.
	t.Run("checks its own health", func(t *testing.T) {
		if err := d.run("run", "--detach", "--name=own", "--read-only", "--network=none", "exporter:test", "--demo"); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = d.run("rm", "--force", "own") }()
		d.healthy(t, "own")
	})

	testContainer(t, d, "exporter:test")
}

func baseImage(t *testing.T) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^FROM --platform=\$BUILDPLATFORM (\S+) AS build$`).FindSubmatch(read(t, inRoot("Dockerfile")))
	if m == nil {
		t.Fatal("the Dockerfile has no base image to build in")
	}
	return string(m[1])
}

// docker is a client of a daemon.
type docker struct{ client, host string }

// image is what "docker image inspect" says.
type image struct {
	Size         int64
	Architecture string
	RootFS       struct{ Layers []string }
	Config       struct {
		User         string
		Labels       map[string]string
		ExposedPorts map[string]any
		Healthcheck  struct{ Test []string }
	}
}

// startDocker returns a client of the daemon that runs here, or else of one
// started for the test.
func startDocker(t *testing.T) docker {
	t.Helper()
	d := docker{client: tool(t, "docker", "docker.io")}
	// Where several are installed, the one of the distribution, which builds
	// without plugins.
	if _, err := os.Stat("/usr/bin/docker"); err == nil {
		d.client = "/usr/bin/docker"
	}
	if d.run("version") == nil {
		return d
	}
	if os.Getuid() != 0 {
		t.Skip("no docker daemon runs, and only root can start one")
	}
	daemon := tool(t, "dockerd", "docker.io")
	// The path of a socket has to be short.
	dir, err := os.MkdirTemp("", "docker")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	d.host = "unix://" + filepath.Join(dir, "s")
	background(t, daemon, "--host="+d.host, "--data-root="+filepath.Join(dir, "data"), "--exec-root="+filepath.Join(dir, "exec"),
		"--pidfile="+filepath.Join(dir, "pid"), "--bridge=none", "--iptables=false", "--ip6tables=false")
	eventually(t, time.Minute, func() error { return d.run("version") })
	return d
}

func (d docker) output(args ...string) ([]byte, error) {
	cmd := exec.Command(d.client, args...)
	cmd.Env = append(os.Environ(), "DOCKER_BUILDKIT=1")
	if d.host != "" {
		cmd.Env = append(cmd.Env, "DOCKER_HOST="+d.host)
	}
	out, err := cmd.Output()
	if exit := (&exec.ExitError{}); errors.As(err, &exit) {
		return out, fmt.Errorf("docker %q: %w\n%s%s", args, err, out, exit.Stderr)
	}
	return out, err
}

func (d docker) run(args ...string) error {
	_, err := d.output(args...)
	return err
}

func (d docker) inspect(t *testing.T, tag string) image {
	t.Helper()
	out, err := d.output("image", "inspect", tag)
	if err != nil {
		t.Fatal(err)
	}
	var all []image
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatal(err)
	}
	return all[0]
}

// files returns the regular files of an image, without those that are put into
// every container.
func (d docker) files(t *testing.T, tag string) map[string][]byte {
	t.Helper()
	id, err := d.output("create", tag)
	if err != nil {
		t.Fatal(err)
	}
	container := string(bytes.TrimSpace(id))
	defer func() { _ = d.run("rm", container) }()
	archive, err := d.output("export", container)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(header.Name, "./")
		if header.Typeflag != tar.TypeReg || slices.Contains([]string{".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf"}, name) {
			continue
		}
		if all[name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

// standIn imports an image that can build the module in dir without a network,
// under the name of the real one.
func (d docker) standIn(t *testing.T, dir, name string) {
	t.Helper()
	busybox := tool(t, "busybox", "busybox-static")
	modules := t.TempDir()
	goroot := strings.TrimSpace(string(run(t, dir, nil, "go", "env", "GOROOT")))
	proxy := "file://" + filepath.Join(strings.TrimSpace(string(run(t, dir, nil, "go", "env", "GOMODCACHE"))), "cache", "download")
	// What is cached here suffices mostly.
	run(t, dir, []string{"GOMODCACHE=" + modules, "GOFLAGS=-modcacherw", "GOPROXY=" + proxy + ",https://proxy.golang.org", "GONOSUMDB=*"},
		"go", "mod", "download")

	rootfs := t.TempDir()
	for _, dir := range []string{"bin", "tmp", "root", "usr/local", "etc/ssl/certs"} {
		if err := os.MkdirAll(filepath.Join(rootfs, filepath.FromSlash(dir)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run(t, rootfs, nil, "cp", busybox, "bin/busybox")
	run(t, rootfs, nil, "bin/busybox", "--install", "-s", "bin")
	links(t, filepath.Join(rootfs, "bin"))
	run(t, rootfs, nil, "cp", "/etc/ssl/certs/ca-certificates.crt", "etc/ssl/certs/")
	run(t, rootfs, nil, "cp", "-r", goroot, "usr/local/go")
	run(t, rootfs, nil, "cp", "-r", filepath.Join(modules, "cache", "download"), "modules")

	archive := filepath.Join(t.TempDir(), "base.tar")
	run(t, rootfs, nil, "tar", "--create", "--file="+archive, "--owner=0", "--group=0", ".")
	err := d.run("import",
		"--change=ENV PATH=/usr/local/go/bin:/bin", "--change=ENV GOTOOLCHAIN=local",
		"--change=ENV GOPROXY=file:///modules", "--change=ENV GONOSUMDB=*", archive, name)
	if err != nil {
		t.Fatal(err)
	}
}

// links makes busybox's links, which lead to where it was installed from, lead
// to the busybox beside them.
func links(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type() != fs.ModeSymlink {
			return err
		}
		if err := os.Remove(path); err != nil {
			return err
		}
		return os.Symlink("/bin/busybox", path)
	})
	if err != nil {
		t.Fatal(err)
	}
}
