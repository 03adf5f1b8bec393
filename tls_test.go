package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/config"
)

// authority is a certificate authority of the test's own.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue returns certificate and key for a name, in PEM.
func (a *authority) issue(t *testing.T, name string) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotAfter: time.Now().Add(time.Hour), DNSNames: []string{name},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, private.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// TestReplacedCAFile: upstream gets a certificate of another authority, the file
// follows, and a reload makes it count.
func TestReplacedCAFile(t *testing.T) {
	for name, reload := range map[string]func(*running) error{
		"SIGHUP": func(e *running) error { return e.process.Process.Signal(syscall.SIGHUP) },
		"POST": func(e *running) error {
			code, body := do(t, client, http.MethodPost, e.url("/-/reload"))
			if code != http.StatusOK {
				return fmt.Errorf("code %d: %s", code, body)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := simulator.New(simulator.Config{Services: 1, Seed: 1})
			server := httptest.NewUnstartedServer(s)
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			var current atomic.Pointer[tls.Certificate]
			server.TLS = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return current.Load(), nil }}
			certify := func(a *authority) {
				pair, err := tls.X509KeyPair(a.issue(t, "localhost"))
				if err != nil {
					t.Fatal(err)
				}
				current.Store(&pair)
			}
			first, second := newAuthority(t), newAuthority(t)
			certify(first)
			server.StartTLS()
			t.Cleanup(server.Close)
			file := filepath.Join(t.TempDir(), "ca.pem")
			if err := os.WriteFile(file, first.pem, 0o600); err != nil {
				t.Fatal(err)
			}
			c := s.Config()
			env := []string{
				config.EnvURL + "=" + strings.Replace(server.URL, "127.0.0.1", "localhost", 1),
				config.EnvKeyID + "=" + c.KeyID, config.EnvKeySecret + "=" + c.KeySecret, config.EnvOrgID + "=" + c.OrganizationID,
			}
			e := startProcess(t, env, append(fast, "--api.ca-file="+file, "--metrics.interval=100ms", "--inventory.interval=100ms")...)
			scrape := func() string { _, page := get(t, e.url("/metrics")); return page }
			up := func(want float64) func(string) bool {
				return func(page string) bool { return gauge(t, page, "clickhouse_postgres_up") == want }
			}
			awaitPage(t, scrape, up(1))

			certify(second)
			server.CloseClientConnections()
			awaitPage(t, scrape, up(0))
			if err := os.WriteFile(file, second.pem, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := reload(e); err != nil {
				t.Fatal(err)
			}
			awaitPage(t, scrape, up(1))
		})
	}
}

// TestWebConfig serves by the sample of a web configuration file: as it is,
// and with its lines for mutual TLS switched on.
func TestWebConfig(t *testing.T) {
	sample, err := os.ReadFile("web-config.yml")
	if err != nil {
		t.Fatal(err)
	}
	mutual := regexp.MustCompile(`(?m)^( +)# (client_\w+:)`).ReplaceAll(sample, []byte("$1$2"))
	if bytes.Equal(mutual, sample) {
		t.Fatal("nothing about mutual TLS in the sample")
	}
	ca, stranger := newAuthority(t), newAuthority(t)
	serverCert, serverKey := ca.issue(t, "localhost")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.pem)
	// connect returns a client that may have a certificate.
	connect := func(t *testing.T, maxVersion uint16, issuer *authority, name string) *http.Client {
		c := &tls.Config{RootCAs: roots, MaxVersion: maxVersion}
		if issuer != nil {
			pair, err := tls.X509KeyPair(issuer.issue(t, name))
			if err != nil {
				t.Fatal(err)
			}
			// Whether or not the server says that it trusts its issuer.
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		transport := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport}
	}
	serve := func(t *testing.T, config []byte) (url string) {
		dir := t.TempDir()
		for name, data := range map[string][]byte{
			"web.yml": config, "server.crt": serverCert, "server.key": serverKey, "clients.crt": ca.pem,
		} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		// The probe's own certificate, which only mutual TLS asks for.
		cert, key := ca.issue(t, "prometheus.example.com")
		for name, data := range map[string][]byte{"probe.crt": cert, "probe.key": key} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		certificate := []string{"--client-cert-file=" + filepath.Join(dir, "probe.crt"), "--client-key-file=" + filepath.Join(dir, "probe.key")}
		s, env := upstream(t, simulator.Config{Services: 1, Seed: 1})
		clearFault := s.SetFault(simulator.Fault{Status: http.StatusForbidden, Message: "not from here"})
		file := "--web.config.file=" + filepath.Join(dir, "web.yml")
		e := start(t, env, append(fast, file, "--metrics.interval=100ms", "--inventory.interval=100ms")...)
		ask := func(want int, says string, question ...string) {
			t.Helper()
			if code, said := healthcheck(t, e.address, append(question, file)...); code != want || !strings.Contains(said, says) {
				t.Errorf("healthcheck %q: exit code %d: %s", question, code, said)
			}
		}
		ask(0, "")
		ask(1, "", "--ready")
		ask(0, "", certificate...)
		ask(1, "503 Service Unavailable: not ready: log in for the reason, or see the log\n", append(certificate, "--ready")...)
		clearFault()
		for {
			if code, _ := healthcheck(t, e.address, append(certificate, "--ready", file)...); code == 0 {
				break
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-t.Context().Done():
				t.Fatal("never ready")
			}
		}
		if bytes.Equal(config, mutual) {
			ask(1, "give --client-cert-file and --client-key-file", "--ready")
		} else {
			ask(0, "", "--ready")
		}
		return "https://" + e.address
	}
	status := func(t *testing.T, c *http.Client, url, password string) (int, string, error) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if password != "" {
			r.SetBasicAuth("prometheus", password)
		}
		resp, err := c.Do(r)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body), err
	}
	const password = "change me"

	t.Run("TLS and basic auth", func(t *testing.T) {
		url := serve(t, sample)
		c := connect(t, 0, nil, "")
		for _, path := range []string{"/metrics", "/-/reload", "/", "/v1/organizations/x/postgres/prometheus"} {
			for _, wrong := range []string{"", "wrong"} {
				if code, body, err := status(t, c, url+path, wrong); code != http.StatusUnauthorized || strings.Contains(body, "Postgres") {
					t.Errorf("%s with password %q: %d, %v, %s", path, wrong, code, err, body)
				}
			}
		}
		code, page, err := status(t, c, url+"/metrics", password)
		if code != http.StatusOK || err != nil || !strings.Contains(page, "\nPostgresServiceInfo{") {
			t.Errorf("metrics: %d, %v, %.300s", code, err, page)
		}
		for _, given := range []string{"", "wrong", password} {
			for path, want := range map[string]string{"/-/healthy": "healthy\n", "/-/ready": "ready\n"} {
				if code, body, err := status(t, c, url+path, given); code != http.StatusOK || body != want {
					t.Errorf("%s with password %q: %d, %q, %v", path, given, code, body, err)
				}
			}
		}
		if _, _, err := status(t, connect(t, tls.VersionTLS11, nil, ""), url+"/-/healthy", password); err == nil {
			t.Error("TLS 1.1 is accepted")
		}
		if code, _, _ := status(t, client, strings.Replace(url, "https", "http", 1)+"/metrics", password); code != http.StatusBadRequest {
			t.Errorf("plain HTTP: %d", code)
		}
	})
	t.Run("mutual TLS", func(t *testing.T) {
		url := serve(t, mutual)
		good := connect(t, 0, ca, "prometheus.example.com")
		if code, _, err := status(t, good, url+"/-/healthy", password); code != http.StatusOK {
			t.Errorf("with a certificate: %d, %v", code, err)
		}
		if code, _, err := status(t, good, url+"/metrics", ""); code != http.StatusUnauthorized {
			t.Errorf("with a certificate but no password: %d, %v", code, err)
		}
		for what, c := range map[string]*http.Client{
			"no certificate":             connect(t, 0, nil, ""),
			"a stranger's certificate":   connect(t, 0, stranger, "prometheus.example.com"),
			"a certificate of that name": connect(t, 0, ca, "another.example.com"),
		} {
			if code, _, err := status(t, c, url+"/-/healthy", password); err == nil {
				t.Errorf("%s: code %d", what, code)
			}
		}
	})
}

// TestWebConfigThatCannotServe is found by the check as by a start: its cipher suites
// lack the one that HTTP/2 insists on.
func TestWebConfigThatCannotServe(t *testing.T) {
	dir := t.TempDir()
	cert, key := newAuthority(t).issue(t, "localhost")
	file := filepath.Join(dir, "web.yml")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("server.crt", string(cert))
	write("server.key", string(key))
	const config = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]\n"
	write("web.yml", config)
	_, env := upstream(t, simulator.Config{})
	for _, args := range [][]string{{"--config.check"}, {"--web.listen-address=127.0.0.1:0"}} {
		code, stdout, stderr := runCommand(t, env, append(args, "--web.config.file="+file)...)
		if code != 1 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "clickhouse_postgres_exporter: error: --web.config.file="+file+": http2: TLSConfig.CipherSuites") {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", args, code, stdout, stderr)
		}
	}
	write("web.yml", config+"http_server_config:\n  http2: false\n")
	if code, _, stderr := runCommand(t, env, "--config.check", "--web.config.file="+file); code != 0 {
		t.Errorf("without HTTP/2: exit code %d, stderr %q", code, stderr)
	}
}
