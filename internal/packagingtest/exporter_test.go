package packagingtest

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
	core "k8s.io/api/core/v1"
)

// builds is where the exporter is built, once for all tests that run it.
var builds struct {
	once sync.Once
	dir  string
	err  error
	out  []byte
}

// TestMain silences Helm and ends what is built for all tests.
func TestMain(m *testing.M) {
	log.SetOutput(io.Discard)
	code := m.Run()
	if builds.dir != "" {
		_ = os.RemoveAll(builds.dir)
	}
	os.Exit(code)
}

// exporter returns the path of the program, built as for a release.
func exporter(t *testing.T) string {
	t.Helper()
	builds.once.Do(func() {
		if builds.dir, builds.err = os.MkdirTemp("", "exporter"); builds.err != nil {
			return
		}
		build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(builds.dir, "clickhouse_postgres_exporter"), ".")
		build.Dir = root
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
		builds.out, builds.err = build.CombinedOutput()
	})
	if builds.err != nil {
		t.Fatalf("build the exporter: %v\n%s", builds.err, builds.out)
	}
	return filepath.Join(builds.dir, "clickhouse_postgres_exporter")
}

// TestBinaryIsSmall leaves room for the certificates and time zones of an image
// that has at most 20 MB.
func TestBinaryIsSmall(t *testing.T) {
	info, err := os.Stat(exporter(t))
	if err != nil {
		t.Fatal(err)
	}
	if size := info.Size(); size > 19_000_000 {
		t.Errorf("the exporter has %d bytes, want at most 19,000,000", size)
	}
}

// TestFlagsExist holds every flag that anything deployed gives the exporter
// against what the exporter says it takes.
func TestFlagsExist(t *testing.T) {
	var help []byte
	for _, args := range [][]string{{"--help"}, {"help", "healthcheck"}} {
		out, err := exec.Command(exporter(t), args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		help = append(help, out...)
	}
	known := map[string]bool{}
	for _, m := range regexp.MustCompile(`--(\[no-\])?([a-z][a-z0-9.-]*)`).FindAllSubmatch(help, -1) {
		known[string(m[2])] = true
		if len(m[1]) != 0 {
			known["no-"+string(m[2])] = true
		}
	}
	given := map[string]string{} // flag → where
	container := func(where string, c core.Container) {
		args := slices.Clone(c.Args)
		for _, p := range []*core.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
			if p != nil && p.Exec != nil {
				args = append(args, p.Exec.Command...)
			}
		}
		for _, a := range args {
			if flag, ok := strings.CutPrefix(a, "--"); ok {
				flag, _, _ = strings.Cut(flag, "=")
				given[flag] = where
			}
		}
	}
	for name, dir := range overlays {
		for _, w := range workloads(decode(t, kustomize(t, dir))) {
			for _, c := range w.exporters() {
				container("overlay "+name, c)
			}
		}
	}
	for name, v := range values {
		for _, w := range workloads(decode(t, template(t, v))) {
			for _, c := range w.exporters() {
				container("chart with values "+name, c)
			}
		}
	}
	for _, pattern := range []string{"deploy/systemd/*", "deploy/docker-compose.yml"} {
		for _, path := range glob(t, pattern) {
			for _, m := range regexp.MustCompile(`[ "](--(?:api|config|demo|enrich|inventory|log|metrics|shard|web)\.[a-z.-]+)`).FindAllSubmatch(read(t, path), -1) {
				flag := string(m[1][2:])
				// Prometheus's own.
				if flag != "config.file" && flag != "web.enable-lifecycle" {
					given[flag] = path
				}
			}
		}
	}
	if len(given) < 10 {
		t.Fatalf("found only the flags %v", given)
	}
	for flag, where := range given {
		if !known[flag] {
			t.Errorf("%s: the exporter has no flag --%s", where, flag)
		}
	}
}

// TestProbes runs the very commands of a pod's probes against an exporter with
// every kind of web configuration. None has a password to show, as kubelet has none;
// where clients must have a certificate, readiness is asked for with the server's own.
func TestProbes(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("not for probes"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	const (
		tls    = "tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n"
		mutual = "tls_server_config: {cert_file: tls.crt, key_file: tls.key, client_ca_file: tls.crt, client_auth_type: RequireAndVerifyClientCert}\n"
	)
	password := "basic_auth_users: {scrape: '" + string(hash) + "'}\n"
	values := values["replicas-tls"]
	withCert := strings.Replace(values, "tls: true}", "tls: true, probeCert: tls.crt, probeKey: tls.key}", 1)
	for _, test := range []struct{ name, config, values string }{
		{"plain", "", values},
		{"password", password, values},
		{"TLS", tls, values},
		{"TLS and password", tls + password, values},
		{"client certificates", mutual, withCert},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			writeCertificate(t, dir)
			if err := os.WriteFile(filepath.Join(dir, "web-config.yml"), []byte(test.config), 0o600); err != nil {
				t.Fatal(err)
			}
			address, stop := startDemo(t, "--web.config.file="+filepath.Join(dir, "web-config.yml"))

			c := workloads(decode(t, template(t, test.values)))[0].exporters()[0]
			probe := func(p *core.Probe) ([]byte, error) {
				command := slices.Clone(p.Exec.Command)
				for i := range command {
					command[i] = strings.NewReplacer("/bin/clickhouse_postgres_exporter", exporter(t),
						"/etc/exporter/web", dir, "=:9443", "="+address).Replace(command[i])
				}
				return exec.Command(command[0], command[1:]...).CombinedOutput()
			}
			for name, p := range map[string]*core.Probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe} {
				if out, err := probe(p); err != nil {
					t.Errorf("%s: %v\n%s", name, err, out)
				}
			}
			// Ready as soon as there is data.
			eventually(t, time.Minute, func() error {
				out, err := probe(c.ReadinessProbe)
				if err != nil {
					err = fmt.Errorf("readiness: %w\n%s", err, out)
				}
				return err
			})
			stop()
			if out, err := probe(c.LivenessProbe); err == nil {
				t.Errorf("a stopped exporter is called healthy\n%s", out)
			}
		})
	}
}

var listening = regexp.MustCompile(`msg="Listening on" address=(\S+)`)

// startDemo runs the exporter on a port of its own choosing until the test ends
// or stop is called. The address is what it listens on.
func startDemo(t *testing.T, args ...string) (address string, stop func()) {
	t.Helper()
	return start(t, exec.Command(exporter(t), append([]string{"--demo", "--web.listen-address=127.0.0.1:0"}, args...)...))
}

// start does the same by a command of the caller's.
func start(t *testing.T, cmd *exec.Cmd) (address string, stop func()) {
	t.Helper()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	found, ended := make(chan string, 1), make(chan struct{})
	var output bytes.Buffer // safe to read once ended
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			output.WriteString(lines.Text() + "\n")
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				select {
				case found <- m[1]:
				default:
				}
			}
		}
	}()
	stop = sync.OnceFunc(func() {
		if runtime.GOOS == "windows" {
			_ = cmd.Process.Kill()
		} else {
			_ = cmd.Process.Signal(syscall.SIGTERM)
		}
		<-ended
		_ = cmd.Wait()
	})
	t.Cleanup(stop)
	select {
	case address = <-found:
	case <-ended:
		t.Fatalf("the exporter did not start\n%s", output.String())
	}
	return address, stop
}

// writeCertificate writes tls.crt and tls.key, of a certificate that nobody has
// a reason to trust.
func writeCertificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "exporter.example.com"},
		DNSNames:     []string{"exporter.example.com"},
		IPAddresses:  []net.IP{net.IPv4(192, 0, 2, 1)},
		NotAfter:     time.Now().Add(time.Hour),
		IsCA:         true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"tls.crt": {Type: "CERTIFICATE", Bytes: certificate},
		"tls.key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
