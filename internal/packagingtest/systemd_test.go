package packagingtest

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// systemdAnalyze returns the tool's path, or skips the test.
func systemdAnalyze(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed: apt-get install systemd")
	}
	return path
}

// unit returns a copy of the unit whose program is there, since verification
// wants that.
func unit(t *testing.T) string {
	t.Helper()
	const name = "clickhouse_postgres_exporter.service"
	content := withProgram(read(t, inRoot("deploy/systemd/"+name)))
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// withProgram replaces the program by one that is on every machine.
func withProgram(unit []byte) []byte {
	return bytes.ReplaceAll(unit, []byte("ExecStart=clickhouse_postgres_exporter"), []byte("ExecStart=/bin/true"))
}

func TestSystemdUnit(t *testing.T) {
	out, err := exec.Command(systemdAnalyze(t), "verify", "--man=no", unit(t)).CombinedOutput()
	if err != nil || len(bytes.TrimSpace(out)) != 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestSystemdDropIn(t *testing.T) {
	path := unit(t)
	dir := path + ".d"
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	content := withProgram(read(t, inRoot("deploy/systemd/key-files.conf")))
	if err := os.WriteFile(filepath.Join(dir, "key-files.conf"), content, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(systemdAnalyze(t), "verify", "--man=no", path)
	cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+filepath.Dir(path)+":")
	if out, err := cmd.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) != 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestSystemdExposure asks systemd how much the unit could do: 0 is nothing,
// 10 everything. What remains is the network, which is its work.
func TestSystemdExposure(t *testing.T) {
	out, err := exec.Command(systemdAnalyze(t), "security", "--offline=true", "--no-pager", unit(t)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("no verdict in\n%s", out)
	}
	if level, err := strconv.ParseFloat(string(m[1]), 64); err != nil || level > 1.3 {
		t.Errorf("exposure level %s, want at most 1.3\n%s", m[1], out)
	}
}

// TestSystemdEnvironmentFile checks that the sample brings what the unit reads,
// and no key.
func TestSystemdEnvironmentFile(t *testing.T) {
	environment := string(read(t, inRoot("deploy/systemd/clickhouse_postgres_exporter.env")))
	for _, want := range []string{"\nCLICKHOUSE_CLOUD_API_KEY=\n", "\nCLICKHOUSE_CLOUD_API_SECRET=\n", "\nARGS=", "\nGOMEMLIMIT="} {
		if !strings.Contains(environment, want) {
			t.Errorf("the environment file lacks %q", strings.TrimSpace(want))
		}
	}
}

// TestSystemdProcessMetrics runs the exporter with as much of /proc as the unit
// leaves it, in which systemd mounts it just like this.
func TestSystemdProcessMetrics(t *testing.T) {
	if _, err := exec.LookPath("unshare"); err != nil || os.Getuid() != 0 {
		t.Skip("only root can mount another /proc, with unshare")
	}
	unit := string(read(t, inRoot("deploy/systemd/clickhouse_postgres_exporter.service")))
	if !strings.Contains(unit, "\nProtectProc=invisible\n") {
		t.Error("the unit shows the exporter the processes of others")
	}
	options := "hidepid=invisible"
	if strings.Contains(unit, "\nProcSubset=pid\n") {
		options += ",subset=pid"
	}
	address, _ := start(t, exec.Command("unshare", "--mount", "sh", "-c", `mount -t proc -o "$0" proc /proc && exec "$@"`, options,
		exporter(t), "--demo", "--web.listen-address=127.0.0.1:0"))
	response, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"process_start_time_seconds", "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"} {
		if !bytes.Contains(page, []byte("\n"+name+" ")) {
			t.Errorf("under the unit, the exporter does not have %s", name)
		}
	}
}
