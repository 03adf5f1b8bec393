//go:build slow

package packagingtest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// testContainer runs an image as people do who configure it by its environment.
func testContainer(t *testing.T, d docker, image string) {
	environment := func(t *testing.T, lines ...string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "env")
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return "--env-file=" + path
	}
	const (
		id, secret = "CLICKHOUSE_CLOUD_API_KEY", "CLICKHOUSE_CLOUD_API_SECRET"
		flag       = "CLICKHOUSE_POSTGRES_EXPORTER_"
		program    = "/bin/clickhouse_postgres_exporter"
	)

	// Docker keeps what a shell would take away.
	t.Run("refuses quotes in an environment file", func(t *testing.T) {
		for _, quote := range []string{`"`, "'"} {
			err := d.run("run", "--rm", "--network=none", environment(t, id+"=key", secret+"="+quote+"do not tell"+quote), image)
			if err == nil || !strings.Contains(err.Error(), secret+" is in quotes") {
				t.Errorf("%v, want it to name the variable", err)
			} else if strings.Contains(err.Error(), "do not tell") {
				t.Errorf("the secret is told: %v", err)
			}
		}
	})
	t.Run("ignores white space in an environment file", func(t *testing.T) {
		if err := d.run("run", "--rm", "--network=none", environment(t, id+"=key \t\r", secret+"= secret ", flag+"API_RATE_USE= 4\r"), image, "--config.check"); err != nil {
			t.Error(err)
		}
		// A variable that is exported by its name only has its line feeds.
		t.Setenv(id, "key\n")
		t.Setenv(secret, "\nsecret\r\n")
		if err := d.run("run", "--rm", "--network=none", "--env="+id, "--env="+secret, image, "--config.check"); err != nil {
			t.Error(err)
		}
	})

	// The image's own check reads the same environment.
	t.Run("is healthy under TLS and a password", func(t *testing.T) {
		dir := t.TempDir()
		writeCertificate(t, dir)
		hash, err := bcrypt.GenerateFromPassword([]byte("not for probes"), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		config := "tls_server_config: {cert_file: tls.crt, key_file: tls.key}\nbasic_auth_users: {scrape: '" + string(hash) + "'}\n"
		if err := os.WriteFile(filepath.Join(dir, "web-config.yml"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		// The container's user is another.
		if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
			t.Fatal(err)
		}
		run(t, dir, nil, "chmod", "-R", "a+rX", ".")
		err = d.run("run", "--detach", "--name=tls", "--read-only", "--network=none", "--volume="+dir+":/web:ro",
			environment(t, flag+"DEMO=true", flag+"WEB_LISTEN_ADDRESS=:9443", flag+"WEB_CONFIG_FILE=/web/web-config.yml"), image)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = d.run("rm", "--force", "tls") }()
		d.healthy(t, "tls")
		eventually(t, time.Minute, func() error { return d.run("exec", "tls", program, "healthcheck", "--ready") })
	})

	t.Run("is ready when data has come", func(t *testing.T) {
		upstream := newUpstream(t)
		address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
		err := d.run("run", "--detach", "--name=waiting", "--read-only", "--network=host",
			environment(t, append(upstream.key, "CLICKHOUSE_API_URL="+upstream.url, flag+"METRICS_INTERVAL=5s", flag+"WEB_LISTEN_ADDRESS="+address)...), image)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = d.run("rm", "--force", "waiting") }()
		d.healthy(t, "waiting")
		if err := d.run("exec", "waiting", program, "healthcheck", "--ready"); err == nil || !strings.Contains(err.Error(), "not ready") {
			t.Errorf("without data: %v", err)
		} else {
			t.Log(err)
		}
		upstream.start()
		eventually(t, time.Minute, func() error { return d.run("exec", "waiting", program, "healthcheck", "--ready") })
	})
}

// healthy waits until the image's own check has passed.
func (d docker) healthy(t *testing.T, container string) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		state, err := d.output("inspect", "--format={{.State.Health.Status}}", container)
		if err == nil && string(bytes.TrimSpace(state)) != "healthy" {
			err = fmt.Errorf("health is %s", state)
		}
		return err
	})
}
