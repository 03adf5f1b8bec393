//go:build linux

package faulttest

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
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// trouble is a fault because of which there are no metrics, or none that may be served.
type trouble struct {
	name  string
	begin func(*upstream)
	end   func(*upstream) // nil for the usual
	// reason is the reason of the failure in metrics and in the log; also are others that may occur
	// in passing.
	reason string
	also   []string
	// refused says that a page came with status 200 and was refused as a whole.
	refused bool
	// quiet says that no request fails.
	quiet bool
	// own says that the services' own pages are read instead of the organization's, and fail as
	// well.
	own bool
	// lists says that the list of services fails, too.
	lists bool
	setup setup
}

// onMetrics applies a fault to the metrics endpoints only.
func onMetrics(f simulator.Fault) func(*upstream) {
	f.Endpoints = []string{organizationMetrics, "service_metrics"}
	return func(u *upstream) { u.SetFault(f) }
}

func mutation(mutate func([]byte) []byte) func(*upstream) {
	return onMetrics(simulator.Fault{Mutate: mutate})
}

// TestNoMetrics tries everything because of which there are no metrics: the last good data is
// served unchanged, health metrics and one line of log report the failure, and everything is well
// again as soon as the fault ends.
func TestNoMetrics(t *testing.T) {
	t.Parallel()
	small := flags("--api.max-response-size=1MiB")
	for _, c := range []trouble{
		// Below HTTP.
		{name: "connection refused", begin: func(u *upstream) { u.link.refuse() }, reason: "connect", also: []string{"cut"}, lists: true},
		{name: "black hole", begin: func(u *upstream) { u.link.silent.Store(true) }, reason: "timeout", lists: true, setup: hasty()},
		{name: "reset in the answer", begin: func(u *upstream) { u.link.reset(350) }, reason: "cut", lists: true, refused: true},
		{name: "reset before the answer", begin: func(u *upstream) { u.link.reset(1) }, reason: "cut", lists: true},
		{name: "one byte a second", begin: onMetrics(simulator.Fault{BytesPerSecond: 1}), reason: "timeout", refused: true, setup: hasty()},
		{name: "no answer", begin: onMetrics(simulator.Fault{Hang: true}), reason: "timeout", setup: hasty()},
		{name: "connection closed without an answer", begin: onMetrics(simulator.Fault{Reset: true}), reason: "cut"},
		{name: "connection closed in the answer", begin: onMetrics(simulator.Fault{CutAfter: 500}), reason: "cut", refused: true},
		{name: "connection closed after the header", begin: onMetrics(simulator.Fault{CutAfter: -1}), reason: "cut", refused: true},

		// Statuses.
		{name: "500", begin: onMetrics(simulator.Status(500)), reason: "server_error"},
		{name: "502", begin: onMetrics(simulator.Status(502)), reason: "server_error"},
		{name: "503", begin: onMetrics(simulator.Status(503)), reason: "server_error"},
		{name: "504", begin: onMetrics(simulator.Status(504)), reason: "server_error"},
		{name: "401", begin: onMetrics(simulator.Status(401)), reason: "unauthorized"},
		{name: "403", begin: onMetrics(simulator.Status(403)), reason: "forbidden", own: true},
		{name: "204", begin: onMetrics(simulator.Status(204)), reason: "unexpected_status"},
		{name: "redirect to another host", begin: onMetrics(simulator.Fault{Redirect: "http://elsewhere.invalid"}), reason: "redirect"},
		{name: "redirect in a circle", begin: func(u *upstream) {
			onMetrics(simulator.Fault{Redirect: u.link.url()})(u)
		}, reason: "redirect"},

		// Bodies that are not metrics, with status 200.
		{name: "HTML", begin: onMetrics(simulator.HTML()), reason: "content_type", refused: true},
		{name: "JSON", begin: onMetrics(simulator.JSON()), reason: "content_type", refused: true},
		{name: "HTML under the right type", begin: mutation(func([]byte) []byte { return []byte("<html>\n") }), reason: "content_type", refused: true},
		{name: "wrong Content-Type", begin: onMetrics(simulator.WrongContentType("application/octet-stream")), reason: "content_type", refused: true},
		{name: "empty", begin: onMetrics(simulator.EmptyBody()), reason: "empty", refused: true, quiet: true},
		{name: "nothing but comments", begin: mutation(func([]byte) []byte { return []byte("# TYPE a gauge\n\n") }), reason: "empty", refused: true, quiet: true},
		{name: "truncated gzip", begin: onMetrics(simulator.TruncatedGzip()), reason: "cut", refused: true},
		{name: "gzip that is none", begin: onMetrics(simulator.Fault{Encode: func(b []byte) ([]byte, string) { return b, "gzip" }}), reason: "decode", refused: true},
		{name: "encoding that was not asked for", begin: onMetrics(simulator.Fault{Encode: func(b []byte) ([]byte, string) { return b, "br" }}), reason: "content_type", refused: true},
		{name: "gzip bomb", begin: onMetrics(simulator.GzipBomb(64 << 20)), reason: "too_large", refused: true, setup: small},
		{name: "body over the cap", begin: mutation(func(page []byte) []byte {
			return append(slices.Clone(page), bytes.Repeat([]byte("# Nothing to see here.\n"), 100_000)...)
		}), reason: "too_large", refused: true, setup: small},
		{name: "Content-Length too long", begin: onMetrics(simulator.Fault{LengthLie: 100}), reason: "cut", refused: true},
		{name: "Content-Length too short", begin: onMetrics(simulator.Fault{LengthLie: -100}), reason: "cut", refused: true},

		// Pages with a mistake.
		{name: "malformed line", begin: mutation(simulator.MalformedLine), reason: "parse", refused: true, quiet: true},
		{name: "invalid UTF-8", begin: mutation(simulator.InvalidUTF8), reason: "parse", refused: true, quiet: true},
		{name: "value that is no number", begin: mutation(func(page []byte) []byte {
			return append(slices.Clone(page), "PostgresServer_New 1e\n"...)
		}), reason: "parse", refused: true, quiet: true},
		{name: "zero bytes", begin: mutation(func(page []byte) []byte {
			return append(slices.Clone(page), 0, 0, 0)
		}), reason: "parse", refused: true, quiet: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			u := newUpstream(t, simulator.Config{Services: 3})
			setups := []setup{fast()}
			if c.setup != nil {
				setups = append(setups, c.setup)
			}
			c.run(t, u, start(t, u, setups...))
		})
	}
}

func (c *trouble) run(t *testing.T, u *upstream, e *exporter) {
	t.Helper()
	before := e.ready(u)
	begun := e.log.size()
	c.begin(u)
	u.refresh() // there are other values now, which do not get through
	count := func(p page) float64 {
		if c.quiet {
			return p.sum(refusedName, "endpoint", organizationMetrics, "reason", c.reason)
		}
		return p.sum(failuresName, "endpoint", organizationMetrics, "reason", c.reason)
	}
	polls := func(p page) float64 { return p.sum(pollsName, "endpoint", organizationMetrics) }
	during := e.await("failures", func(p page) bool {
		return count(p) >= 3 && polls(p) >= polls(before)+2 &&
			p.is("clickhouse_postgres_up", 0) && p.is("clickhouse_postgres_service_up", 0)
	})

	// What a scrape returns.
	if diff := differences(before.upstream(), during.upstream()); diff != "" {
		t.Errorf("not the last good data (-before +during):\n%s", diff)
	}
	// What the health metrics say.
	later := e.await("another failure", func(p page) bool { return count(p) > count(during) })
	for _, name := range []string{successName, "clickhouse_postgres_service_metrics_last_success_timestamp_seconds"} {
		if diff := differences(during.find(name), later.find(name)); diff != "" || len(later.find(name)) == 0 {
			t.Errorf("%s moves on:\n%s", name, diff)
		}
	}
	if got := later.sum(refusedName, "endpoint", organizationMetrics); (got > 0) != c.refused {
		t.Errorf("%v pages refused", got)
	}
	for _, s := range slices.Concat(later.find(failuresName), later.find(refusedName)) {
		reason := s.labels.Get("reason")
		metrics := s.labels.Get("endpoint") != services
		if s.value > 0 && (reason != c.reason || !metrics && !c.lists) && !slices.Contains(c.also, reason) {
			t.Errorf("also failed: %s %v", s.labels, s.value)
		}
	}
	listed := later.sum(listedName) > during.sum(listedName)
	if c.lists && listed {
		t.Error("the list was read")
	}
	if code, body := e.get("/-/healthy"); code != http.StatusOK {
		t.Errorf("healthy: %d %s", code, body)
	}
	if code, body := e.get("/-/ready"); code != http.StatusOK {
		t.Errorf("ready: %d %s, though there is data", code, body)
	}
	// What the log says: one line for each kind of request. If the organization's page fails, the
	// services' own pages are tried, too.
	want := 1
	endpoint := organizationMetrics
	if c.own {
		endpoint = "service_metrics"
	}
	if lines := e.log.since(begun, "level=warn", "endpoint="+endpoint, "reason="+c.reason, "err="); len(lines) != 1 {
		t.Errorf("want one line about it, got %q of\n%s", lines, e.log)
	}
	if c.lists {
		want++
	}
	own := 0
	if !c.own {
		own = len(e.log.since(begun, "level=warn", "endpoint=service_metrics", "reason="+c.reason, "err="))
	}
	if lines := slices.Concat(e.log.since(begun, "level=warn"), e.log.since(begun, "level=error")); len(lines) != want+own || own > 1 {
		t.Errorf("want %d warnings, got\n%s", want, strings.Join(lines, "\n"))
	}

	if c.end != nil {
		c.end(u)
	}
	u.ClearFaults()
	u.link.restore()
	e.ready(u) // with the new values
	await(t, "the log to report that it works again", func() bool {
		return len(e.log.since(begun, "level=info", `msg="Refresh works again"`)) == want
	}, e.log.String)
}

// TestTLSFails replaces upstream's certificate with an unknown one, and its TLS with an old version
// or none.
func TestTLSFails(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		config  *tls.Config // nil for plain HTTP
		unknown bool        // the certificate is
		says    string
	}{
		"unknown authority": {&tls.Config{MinVersion: tls.VersionTLS12}, true, "unknown authority"},
		"TLS 1.1":           {&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false, "TLS handshake"}, //nolint:gosec // what is tested
		"no TLS":            {nil, false, "does not speak TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUpstream(t, simulator.Config{Services: 3})
			good := httptest.NewUnstartedServer(u)
			good.TLS = &tls.Config{Certificates: []tls.Certificate{certificate(t, u.link.host())}, MinVersion: tls.VersionTLS12}
			good.StartTLS()
			t.Cleanup(good.Close)
			bad := httptest.NewUnstartedServer(u)
			bad.Config.ErrorLog = discard()
			if bad.TLS = tt.config; tt.config == nil {
				bad.Start()
			} else {
				if bad.TLS.Certificates = good.TLS.Certificates; tt.unknown {
					bad.TLS.Certificates = []tls.Certificate{certificate(t, u.link.host())}
				}
				bad.StartTLS()
			}
			t.Cleanup(bad.Close)
			ca := filepath.Join(t.TempDir(), "ca.pem")
			writeFile(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: good.Certificate().Raw})))
			u.link.redirect(good.Listener.Addr().String())
			e := start(t, u, fast(), env("CLICKHOUSE_API_URL=https://"+u.link.address), flags("--api.ca-file="+ca))
			c := trouble{
				begin:  func(u *upstream) { u.link.redirect(bad.Listener.Addr().String()) },
				end:    func(u *upstream) { u.link.redirect(good.Listener.Addr().String()) },
				reason: "tls", also: []string{"cut"}, lists: true,
			}
			c.run(t, u, e)
			if lines := e.log.lines("reason=tls", tt.says); len(lines) == 0 {
				t.Errorf("the log does not say %q:\n%s", tt.says, e.log)
			}
		})
	}
}

// certificate makes a self-signed certificate of a host.
func certificate(t *testing.T, host string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.ParseIP(host)},
		KeyUsage:    x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestNameNotResolved starts with an upstream that has no address.
func TestNameNotResolved(t *testing.T) {
	t.Parallel()
	u := newUpstream(t, simulator.Config{Services: 1})
	e := start(t, u, fast(), env("CLICKHOUSE_API_URL=https://upstream.invalid"))
	p := e.await("failures", func(p page) bool { return p.sum(pollsName) >= 3 && p.is("clickhouse_postgres_up", 0) })
	if n := len(p.upstream()); n != 0 {
		t.Errorf("%d series without upstream", n)
	}
	// If no server answers DNS queries, the request times out first.
	reason := "dns"
	if len(p.find(failuresName, "reason", "timeout")) > 0 {
		reason = "timeout"
	}
	if p.sum(failuresName, "reason", reason) == 0 {
		t.Errorf("not counted as %s:\n%s", reason, p.health())
	}
	if lines := e.log.lines("level=warn", "endpoint=services", "reason="+reason); len(lines) != 1 {
		t.Errorf("want one line, got %q of\n%s", lines, e.log)
	}
	for path, want := range map[string]int{"/-/healthy": 200, "/-/ready": 503, "/v1/organizations/" + u.org + "/postgres/prometheus": 503} {
		if code, body := e.get(path); code != want {
			t.Errorf("%s: %d %s, want %d", path, code, body, want)
		}
	}
}

// TestListFails has the list of services fail while metrics come.
func TestListFails(t *testing.T) {
	t.Parallel()
	for _, c := range []trouble{
		{name: "500", begin: func(u *upstream) { u.SetFault(onList(simulator.Status(500))) }, reason: "server_error"},
		{name: "429", begin: func(u *upstream) { u.SetFault(onList(once(simulator.TooManyRequests("0", ""), 2))) }, reason: "rate_limited"},
		{name: "403", begin: func(u *upstream) { u.SetFault(onList(simulator.Status(403))) }, reason: "forbidden"},
		{name: "404", begin: func(u *upstream) { u.SetFault(onList(simulator.Status(404))) }, reason: "not_found"},
		{name: "HTML", begin: func(u *upstream) { u.SetFault(onList(simulator.HTML())) }, reason: "content_type"},
		{name: "JSON of another kind", begin: func(u *upstream) { u.SetFault(onList(simulator.JSON())) }, reason: "decode"},
		{name: "empty body", begin: func(u *upstream) { u.SetFault(onList(simulator.EmptyBody())) }, reason: "decode"},
		{name: "null", begin: func(u *upstream) {
			u.SetFault(onList(simulator.Fault{Mutate: func([]byte) []byte { return []byte(`{"result":null}`) }}))
		}, reason: "decode"},
		{name: "half of it", begin: func(u *upstream) {
			u.SetFault(onList(simulator.Fault{Mutate: func(b []byte) []byte { return b[:len(b)/2] }}))
		}, reason: "decode"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			u := newUpstream(t, simulator.Config{Services: 3})
			e := start(t, u, fast())
			before := e.ready(u)
			c.begin(u)
			u.refresh()
			during := e.await("failures and new values", func(p page) bool {
				return p.sum(failuresName, "endpoint", services, "reason", c.reason) >= 2 && len(u.wrong(p)) == 0 &&
					(c.reason == "rate_limited" || p.is("clickhouse_postgres_up", 0))
			})
			if diff := relabelled(before.upstream(), during.upstream()); diff != "" {
				t.Errorf("labels changed:\n%s", diff)
			}
			for _, name := range []string{"clickhouse_postgres_service_info", "clickhouse_postgres_service_state", "clickhouse_postgres_services"} {
				if diff := differences(before.find(name), during.find(name)); diff != "" {
					t.Errorf("inventory changed:\n%s", diff)
				}
			}
			if c.reason != "rate_limited" { // that one ends
				if !during.is("clickhouse_postgres_up", 0) || !during.is("clickhouse_postgres_service_up", 1) {
					t.Errorf("health:\n%s", during.health())
				}
				later := e.await("another poll", func(p page) bool {
					return p.sum(pollsName, "endpoint", services) > during.sum(pollsName, "endpoint", services)
				})
				if later.sum(listedName) != during.sum(listedName) || later.sum(successName) < during.sum(successName) {
					t.Errorf("ages:\n%s", later.health())
				}
			}
			if lines := e.log.lines("level=warn", "endpoint=services", "reason="+c.reason); len(lines) != 1 {
				t.Errorf("want one line, got %q of\n%s", lines, e.log)
			}
			u.ClearFaults()
			e.ready(u)
			if lines := e.log.lines("level=warn"); len(lines) != 1 && c.reason != "rate_limited" {
				t.Errorf("want one warning:\n%s", e.log)
			}
		})
	}
}

func onList(f simulator.Fault) simulator.Fault {
	f.Endpoints = []string{services}
	return f
}

// once ends a fault after n requests.
func once(f simulator.Fault, n int) simulator.Fault {
	f.Count = n
	return f
}

// TestRefusedPage has upstream refuse the organization's page permanently: the services' own pages
// are read, and nothing is reported as wrong.
func TestRefusedPage(t *testing.T) {
	t.Parallel()
	for _, code := range []int{400, 403, 404} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			u := newUpstream(t, simulator.Config{Services: 3})
			e := start(t, u, fast())
			before := e.ready(u)
			u.SetFault(simulator.Fault{Endpoints: []string{organizationMetrics}, Status: code})
			e.await("a refusal", func(p page) bool { return p.sum(failuresName, "endpoint", organizationMetrics) > 0 })
			u.refresh()
			p := e.ready(u)
			if diff := relabelled(before.upstream(), p.upstream()); diff != "" {
				t.Errorf("series:\n%s", diff)
			}
			if !p.is("clickhouse_postgres_service_up", 1) {
				t.Errorf("health:\n%s", p.health())
			}
			if lines := e.log.lines("reading each service's page instead"); len(lines) != 1 || len(e.log.lines("level=warn")) != 0 {
				t.Errorf("log:\n%s", e.log)
			}
		})
	}
}

// TestTooManyRequests answers 429 in all forms; meanwhile scrapes are answered. How long requests
// pause is tested in virtual time, by TestStorm and in package api.
func TestTooManyRequests(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ reset, retryAfter string }{
		{"", ""}, {"0", ""}, {"0.2", ""}, {"1000000000", ""}, {"1e300", ""}, {"-5", ""}, {"soon", ""}, {"NaN", ""}, {"", "1"}, {"", "never"},
	} {
		t.Run(fmt.Sprintf("reset %q, retry after %q", tt.reset, tt.retryAfter), func(t *testing.T) {
			t.Parallel()
			u := newUpstream(t, simulator.Config{Services: 3})
			e := start(t, u, fast(), flags("--api.rate-limit=10", "--api.rate-use=8"))
			before := e.ready(u)
			u.ResetRequests()
			forever := strings.HasPrefix(tt.reset, "1")
			f := simulator.TooManyRequests(tt.reset, tt.retryAfter)
			f.Endpoints, f.Count = []string{services, organizationMetrics}, 3
			u.SetFault(f)
			u.refresh()
			await(t, "a refusal", func() bool { return u.Count("", http.StatusTooManyRequests) > 0 }, e.log.String)
			during := e.await("it to be counted", func(p page) bool {
				return p.sum("clickhouse_postgres_exporter_api_rate_limit_refusals_total") > 0 && p.is("clickhouse_postgres_up", 0)
			})
			if diff := differences(before.upstream(), during.upstream()); diff != "" && len(u.wrong(during)) > 0 {
				t.Errorf("neither the last good data nor newer:\n%s", diff)
			}
			if forever {
				// TestStorm tests the end, in virtual time.
				e.await("time to pass", func(p page) bool { return p.sum("process_start_time_seconds") > 0 })
			} else {
				e.ready(u)
				await(t, "the log to report the end", func() bool { return len(e.log.lines("Refresh works again")) > 0 }, e.log.String)
			}
			e.await("all refusals to be counted", func(p page) bool {
				return p.sum(failuresName, "reason", "rate_limited") == float64(u.Count("", http.StatusTooManyRequests))
			})
			for _, endpoint := range []string{services, organizationMetrics} {
				if lines := e.log.lines("level=warn", "endpoint="+endpoint); len(lines) > 1 {
					t.Errorf("more than one line: %q", lines)
				}
			}
			if len(e.log.lines("level=warn", "reason=rate_limited")) == 0 {
				t.Errorf("nothing in the log:\n%s", e.log)
			}
		})
	}
}

// TestServerTLS serves pages with TLS 1.2 and newer only.
func TestServerTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	own := certificate(t, "127.0.0.1")
	key, err := x509.MarshalPKCS8PrivateKey(own.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "server.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Certificate[0]})))
	writeFile(t, filepath.Join(dir, "server.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	config := filepath.Join(dir, "web.yml")
	writeFile(t, config, "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n")
	u := newUpstream(t, simulator.Config{Services: 1})
	e := start(t, u, fast(), flags("--web.config.file="+config))
	for version, want := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		c, err := tls.Dial("tcp", e.address, &tls.Config{MinVersion: version, MaxVersion: version, InsecureSkipVerify: true}) //nolint:gosec // what is tested
		if (err == nil) != want {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if err == nil {
			c.Close()
		}
	}
	e.wantNoLine("level=warn")
}
