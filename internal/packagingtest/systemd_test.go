package packagingtest

import (
	"bytes"
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
	content := bytes.ReplaceAll(read(t, inRoot("deploy/systemd/"+name)), []byte("/usr/local/bin/clickhouse_postgres_exporter"), []byte("/bin/true"))
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
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
	content := bytes.ReplaceAll(read(t, inRoot("deploy/systemd/key-files.conf")), []byte("/usr/local/bin/clickhouse_postgres_exporter"), []byte("/bin/true"))
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
