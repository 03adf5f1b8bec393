package packagingtest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
)

// TestReadiness asks an exporter, while its upstream is down and when it has come
// up, in each way in which the chart, the manifests and others do.
func TestReadiness(t *testing.T) {
	upstream := newUpstream(t)
	cmd := exec.Command(exporter(t), "--api.url="+upstream.url, "--metrics.interval=5s", "--web.listen-address=127.0.0.1:0")
	cmd.Env = append(os.Environ(), upstream.key...)
	address, _ := start(t, cmd)

	command := func(p *core.Probe) func() error {
		args := []string{"--web.listen-address=" + address}
		for _, arg := range p.Exec.Command[1:] {
			if !strings.HasPrefix(arg, "--web.listen-address=") {
				args = append(args, arg)
			}
		}
		return func() error {
			out, err := exec.Command(exporter(t), args...).CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
			return err
		}
	}
	get := func(path string) func() error {
		return func() error {
			response, err := http.Get("http://" + address + path)
			if err != nil {
				return err
			}
			defer response.Body.Close()
			if response.StatusCode != http.StatusOK {
				body, _ := io.ReadAll(response.Body)
				return fmt.Errorf("%s: %s", response.Status, body)
			}
			return nil
		}
	}
	chart, manifest := exporterOf(t, template(t, "")), exporterOf(t, kustomize(t, overlays["standalone"]))
	for name, alive := range map[string]func() error{
		"chart": command(chart.LivenessProbe), "manifest": command(manifest.LivenessProbe), "HTTP": get("/-/healthy"),
	} {
		if err := alive(); err != nil {
			t.Errorf("%s: not alive without upstream: %v", name, err)
		}
	}
	readiness := map[string]func() error{
		"chart": command(chart.ReadinessProbe), "manifest": command(manifest.ReadinessProbe), "HTTP": get("/-/ready"),
	}
	for name, ready := range readiness {
		if err := ready(); err == nil {
			t.Errorf("%s: ready without data", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
	upstream.start()
	for _, ready := range readiness {
		eventually(t, time.Minute, ready)
	}
}

// upstream is a simulated API, which can be started later than its clients.
type upstream struct {
	url   string
	key   []string // as variables of the environment
	start func()
}

func newUpstream(t *testing.T) upstream {
	t.Helper()
	port := freePort(t)
	run := func(stdout io.Writer) (stop func()) {
		t.Helper()
		cmd := exec.Command(exporter(t), "--demo", fmt.Sprintf("--demo.listen-address=127.0.0.1:%d", port), "--web.listen-address=127.0.0.1:0")
		cmd.Stdout = stdout
		_, stop = start(t, cmd)
		return stop
	}
	// The key is the same each time.
	var stdout bytes.Buffer
	run(&stdout)()
	u := upstream{url: loopback("http", port), start: func() { run(nil) }}
	for variable, name := range map[string]string{"CLICKHOUSE_CLOUD_API_KEY": "KEY_ID", "CLICKHOUSE_CLOUD_API_SECRET": "KEY_SECRET"} {
		m := regexp.MustCompile(`export ` + name + `=(\S+)`).FindSubmatch(stdout.Bytes())
		if m == nil {
			t.Fatalf("no %s in\n%s", name, &stdout)
		}
		u.key = append(u.key, variable+"="+string(m[1]))
	}
	return u
}
