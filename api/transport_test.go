package api

import (
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
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var discardLog = log.New(io.Discard, "", 0)

// newTLSServer returns a TLS server and a file with its authority.
func newTLSServer(t *testing.T, h http.HandlerFunc, change func(*tls.Config)) (server *httptest.Server, caFile string) {
	t.Helper()
	server = httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = discardLog
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{}
	if change != nil {
		change(server.TLS)
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, caFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	return server, caFile
}

// certificate returns one that signs itself.
func certificate(t *testing.T, template x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(1)
	template.Subject = pkix.Name{CommonName: "test"}
	template.IsCA, template.BasicConstraintsValid = true, true
	if template.NotBefore.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestTLS(t *testing.T) {
	loopback := []net.IP{net.IPv4(127, 0, 0, 1)}
	expired := time.Now().Add(-48 * time.Hour)
	for _, c := range []struct {
		name   string
		server func(*tls.Config)
		noCA   bool
		want   string // "" is no error
	}{
		{name: "authority given"},
		{
			name: "unknown authority", noCA: true,
			want: "list services: certificate of HOST is signed by an unknown authority (tls: failed to verify certificate: x509: certificate signed by unknown authority)",
		},
		{
			name: "another name",
			server: func(s *tls.Config) {
				s.Certificates = []tls.Certificate{certificate(t, x509.Certificate{DNSNames: []string{"other.example"}})}
			},
			want: "list services: certificate of HOST is for another name (tls: failed to verify certificate: x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs)",
		},
		{
			name: "expired",
			server: func(s *tls.Config) {
				s.Certificates = []tls.Certificate{certificate(t, x509.Certificate{IPAddresses: loopback, NotBefore: expired, NotAfter: expired.Add(time.Hour)})}
			},
			want: "list services: certificate of HOST is not valid at this time (tls: failed to verify certificate: x509: certificate has expired or is not yet valid: …)",
		},
		{
			name: "for clients only",
			server: func(s *tls.Config) {
				s.Certificates = []tls.Certificate{certificate(t, x509.Certificate{IPAddresses: loopback, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})}
			},
			want: "list services: certificate of HOST is not valid (tls: failed to verify certificate: x509: certificate specifies an incompatible key usage)",
		},
		{
			name:   "old TLS",
			server: func(s *tls.Config) { s.MinVersion, s.MaxVersion = tls.VersionTLS11, tls.VersionTLS11 },
			want:   "list services: TLS handshake with HOST failed (remote error: tls: protocol version not supported)",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var protocol record
			server, caFile := newTLSServer(t, func(w http.ResponseWriter, r *http.Request) {
				protocol.add(r.Proto)
				fmt.Fprint(w, `{"result":[]}`)
			}, c.server)
			var seen attempts
			client := newTestClient(t, server.URL, seen.hook, func(cfg *Config) {
				if !c.noCA {
					cfg.CAFile = caFile
				}
			})
			_, err := client.Services(t.Context(), "o")
			if c.want == "" {
				if got := protocol.all(); err != nil || !slices.Equal(got, []string{"HTTP/2.0"}) {
					t.Errorf("%s, error %v; want HTTP/2.0", got, err)
				}
				return
			}
			e := asTestError(t, err, KindTLS)
			got := strings.ReplaceAll(e.Error(), strings.TrimPrefix(server.URL, "https://"), "HOST")
			if before, after, found := strings.Cut(got, "not yet valid: "); found {
				_, after, _ = strings.Cut(after, ")")
				got = before + "not yet valid: …)" + after
			}
			if got != c.want {
				t.Errorf("error is\n%s\nwant\n%s", got, c.want)
			}
			seen.check(t, "services 0 tls")
		})
	}
}

func TestTLSToAPlainServer(t *testing.T) {
	server := newServer(t, func(http.ResponseWriter, *http.Request) {})
	_, err := newTestClient(t, strings.Replace(server.URL, "http:", "https:", 1)).Services(t.Context(), "o")
	_ = asTestError(t, err, KindTLS)

	// One that does not speak HTTP either.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "220 mail.example ready\r\n")
			conn.Close()
		}
	}()
	_, err = newTestClient(t, "https://"+listener.Addr().String()).Services(t.Context(), "o")
	_ = asTestError(t, err, KindTLS)
}

// TestPageIsComplete tells bodies that can't have been cut from those that end with
// the connection.
func TestPageIsComplete(t *testing.T) {
	const body = "metric 1"
	packed := string(compressed(t, []byte(body)))
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
	const gzipped = "Content-Encoding: gzip\r\n"
	chunk := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(s), s) }
	for _, test := range []struct {
		name, answer string
		want         bool
		body         string
	}{
		{"content length", head + "Content-Length: 8\r\n\r\n" + body, true, body},
		{"content length of a connection that is closed", head + "Connection: close\r\nContent-Length: 8\r\n\r\n" + body, true, body},
		{"content length of HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 8\r\n\r\n" + body, true, body},
		{"nothing", head + "Content-Length: 0\r\n\r\n", true, ""},
		{"chunks", head + "Transfer-Encoding: chunked\r\n\r\n" + chunk(body), true, body},
		{"gzip in chunks", head + gzipped + "Transfer-Encoding: chunked\r\n\r\n" + chunk(packed), true, body},
		{"gzip of a content length", head + gzipped + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(packed)) + packed, true, body},
		{"gzip until the end", head + gzipped + "Connection: close\r\n\r\n" + packed, true, body},
		{"until the end", head + "Connection: close\r\n\r\n" + body, false, body},
		{"until the end of HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" + body, false, body},
		{"no gzip until the end", head + gzipped + "Connection: close\r\n\r\n", false, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := newServer(t, raw(test.answer))
			page, err := newTestClient(t, server.URL).OrganizationMetrics(t.Context(), "o")
			if err != nil || page.Complete != test.want || string(page.Body) != test.body {
				t.Errorf("%+v, %v", page, err)
			}
		})
	}
	t.Run("HTTP/2", func(t *testing.T) {
		server, caFile := newTLSServer(t, func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor != 2 {
				t.Error(r.Proto)
			}
			w.Header().Set("Content-Type", "text/plain")
			w.(http.Flusher).Flush() // no content length
			fmt.Fprint(w, body)
		}, nil)
		page, err := newTestClient(t, server.URL, func(cfg *Config) { cfg.CAFile = caFile }).OrganizationMetrics(t.Context(), "o")
		if err != nil || !page.Complete || string(page.Body) != body {
			t.Errorf("%+v, %v", page, err)
		}
	})
}
