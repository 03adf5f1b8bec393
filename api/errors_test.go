package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// answerWith is a server's answer with a JSON body.
func answerWith(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// raw is an answer below HTTP, after which the connection is closed.
func raw(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, answer)
	}
}

func failure(status int, message string) string {
	return fmt.Sprintf(`{"status":%d,"error":%q,"requestId":"6f0d2f0e-0000-4000-8000-00000000abcd"}`, status, message)
}

const gatewayPage = "<html><head><title>502 Bad Gateway</title></head></html>"

// Every way in which an answer can be wrong, how the error reads (in the golden
// file), and that the secret is in none of them although the server echoes it.
func TestFaults(t *testing.T) {
	page := strings.Repeat("metric 1\n", 1000)
	zipped := compressed(t, []byte(page))
	damaged := slices.Clone(zipped)
	damaged[len(damaged)-6] ^= 0xff // in the checksum
	echo := testSecret + " and " + base64.StdEncoding.EncodeToString([]byte(testKeyID+":"+testSecret)) + " and " + url.QueryEscape(testSecret)

	type fault struct {
		name     string
		answer   http.HandlerFunc
		kind     ErrorKind
		endpoint Endpoint // services unless given
		retried  bool
		lenient  bool // no error in this case
	}
	faults := []fault{
		{name: "400", answer: answerWith(400, failure(400, "organizationId must be a UUID")), kind: KindBadRequest},
		{name: "401", answer: answerWith(401, failure(401, "Invalid credentials")), kind: KindUnauthorized},
		{name: "401 without a body", answer: answerWith(401, ""), kind: KindUnauthorized},
		{name: "403", answer: answerWith(403, failure(403, "IP address not allowed")), kind: KindForbidden},
		{name: "403 by a gateway", answer: answerWith(403, gatewayPage, "Content-Type", "text/html"), kind: KindForbidden},
		{name: "404", answer: answerWith(404, failure(404, "Not found")), kind: KindNotFound},
		{name: "404 organizations", endpoint: EndpointOrganizations, answer: answerWith(404, ""), kind: KindNotFound},
		{name: "404 service", endpoint: EndpointService, answer: answerWith(404, failure(404, "Not found")), kind: KindNotFound},
		{name: "404 config", endpoint: EndpointServiceConfig, answer: answerWith(404, failure(404, "Not found")), kind: KindNotFound},
		{name: "404 organization metrics", endpoint: EndpointOrganizationMetrics, answer: answerWith(404, failure(404, "Not found")), kind: KindNotFound},
		{name: "404 service metrics", endpoint: EndpointServiceMetrics, answer: answerWith(404, failure(404, "Not found")), kind: KindNotFound},
		{name: "405", answer: answerWith(405, "Method Not Allowed"), kind: KindBadRequest},
		{name: "418", answer: answerWith(418, ""), kind: KindBadRequest},
		{name: "500", answer: answerWith(500, failure(500, "Internal error")), kind: KindServerError, retried: true},
		{name: "500 with a cut body", answer: raw("HTTP/1.1 500 Oh\r\nContent-Length: 100\r\n\r\nsorr"), kind: KindServerError, retried: true},
		{name: "500 with a request id in the header", answer: answerWith(500, "", "X-Request-Id", "abc"), kind: KindServerError, retried: true},
		{name: "501", answer: answerWith(501, ""), kind: KindServerError},
		{name: "502 by a gateway", answer: answerWith(502, gatewayPage, "Content-Type", "text/html"), kind: KindServerError, retried: true},
		{name: "503", answer: answerWith(503, "upstream connect error\n\tor disconnect"), kind: KindServerError, retried: true},
		{name: "504 metrics", endpoint: EndpointOrganizationMetrics, answer: answerWith(504, "", "Content-Type", "text/plain"), kind: KindServerError, retried: true},
		{name: "204", answer: answerWith(204, ""), kind: KindUnexpectedStatus},
		{name: "206", answer: answerWith(206, `{"result":[]}`), kind: KindUnexpectedStatus},
		{name: "status 700", answer: raw("HTTP/1.1 700 What\r\nContent-Length: 0\r\n\r\n"), kind: KindUnexpectedStatus},
		{name: "long message", answer: answerWith(400, failure(400, strings.Repeat("ä", 1000))), kind: KindBadRequest},
		{name: "message with control characters", answer: answerWith(400, `{"error":"a\u001b[31m\r\nlevel=error\u202e b\u0000"}`), kind: KindBadRequest},
		{name: "message of another type", answer: answerWith(400, `{"error":{"code":1},"requestId":7}`), kind: KindBadRequest},
		{name: "endless error", answer: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			for {
				if _, err := w.Write(bytes.Repeat([]byte("no "), 1000)); err != nil {
					return
				}
			}
		}, kind: KindBadRequest},

		{name: "HTML for a list", answer: answerWith(200, gatewayPage, "Content-Type", "text/html"), kind: KindContentType},
		{name: "HTML for a list called JSON", answer: answerWith(200, gatewayPage), kind: KindContentType},
		{name: "HTML for metrics", endpoint: EndpointServiceMetrics, answer: answerWith(200, gatewayPage, "Content-Type", "text/html"), kind: KindContentType},
		{name: "HTML for metrics called text", endpoint: EndpointServiceMetrics, answer: answerWith(200, gatewayPage, "Content-Type", "text/plain"), kind: KindContentType},
		{name: "JSON for metrics", endpoint: EndpointOrganizationMetrics, answer: answerWith(200, failure(500, "No metrics")), kind: KindContentType},
		{name: "another type for metrics", endpoint: EndpointOrganizationMetrics, answer: answerWith(200, page, "Content-Type", "application/octet-stream"), kind: KindContentType},
		{name: "encoding not asked for", answer: answerWith(200, "?", "Content-Encoding", "br"), kind: KindContentType},
		{name: "identity encoding", answer: answerWith(200, `{"result":[]}`, "Content-Encoding", "identity"), lenient: true},
		{name: "nothing for a list", answer: answerWith(200, ""), kind: KindDecode},
		{name: "text for a list", answer: answerWith(200, "OK", "Content-Type", "text/plain"), kind: KindDecode},
		{name: "no result", answer: answerWith(200, `{"status":200}`), kind: KindDecode},
		{name: "error with status 200", answer: answerWith(200, failure(500, "Sorry")), kind: KindDecode},
		{name: "element without id", answer: answerWith(200, `{"result":[{"id":"a"},{}],"requestId":"r"}`), kind: KindDecode},

		{name: "body shorter than promised", answer: raw("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\nmetric 1\n"), endpoint: EndpointServiceMetrics, kind: KindCut, retried: true},
		{name: "chunks without an end", answer: raw("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nmetric 1\n\r\n"), endpoint: EndpointServiceMetrics, kind: KindCut, retried: true},
		{name: "closed without an answer", answer: raw(""), kind: KindCut, retried: true},
		{name: "header cut", answer: raw("HTTP/1.1 200 OK\r\nContent-Le"), kind: KindCut, retried: true},
		{name: "not HTTP", answer: raw("SSH-2.0-" + testSecret + "\r\n"), kind: KindCut, retried: true},
		{name: "endless header", answer: raw("HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", 1<<20) + "\r\n\r\n"), kind: KindCut, retried: true},
		{name: "gzip cut", endpoint: EndpointServiceMetrics, answer: answerWith(200, string(zipped[:len(zipped)/2]), "Content-Encoding", "gzip", "Content-Type", "text/plain"), kind: KindCut, retried: true},
		{name: "gzip without its end", endpoint: EndpointServiceMetrics, answer: answerWith(200, string(zipped[:len(zipped)-4]), "Content-Encoding", "gzip", "Content-Type", "text/plain"), kind: KindCut, retried: true},
		{name: "gzip damaged", endpoint: EndpointServiceMetrics, answer: answerWith(200, string(damaged), "Content-Encoding", "gzip", "Content-Type", "text/plain"), kind: KindDecode},
		{name: "not gzip", endpoint: EndpointServiceMetrics, answer: answerWith(200, page, "Content-Encoding", "gzip", "Content-Type", "text/plain"), kind: KindDecode},
		{name: "gzip bomb", endpoint: EndpointServiceMetrics, answer: answerWith(200, string(compressed(t, make([]byte, 1<<22))), "Content-Encoding", "gzip", "Content-Type", "text/plain"), kind: KindTooLarge},
		{name: "too large", answer: answerWith(200, strings.Repeat(" ", 1<<21)), kind: KindTooLarge},

		{name: "secret in a JSON error", answer: answerWith(400, failure(400, echo)), kind: KindBadRequest},
		{name: "secret in a text error", answer: answerWith(503, echo), kind: KindServerError, retried: true},
		{name: "secret at the bound of a message", answer: answerWith(400, failure(400, strings.Repeat("x", maxMessage-8)+testSecret)), kind: KindBadRequest},
		{name: "secret in a request id", answer: answerWith(400, "", "X-Request-Id", echo), kind: KindBadRequest},
		{name: "secret in a decode error", answer: answerWith(200, fmt.Sprintf(`{"error":%q}`, echo)), kind: KindDecode},
		{name: "secret in a redirect", answer: answerWith(302, "", "Location", "https://host/"+url.PathEscape(testSecret)), kind: KindRedirect},
		{name: "secret in a content type", endpoint: EndpointServiceMetrics, answer: answerWith(200, page, "Content-Type", testSecret), kind: KindContentType},
		{name: "secret in an encoding", answer: answerWith(200, page, "Content-Encoding", testSecret), kind: KindContentType},
		{name: "secret in a host name", answer: answerWith(302, "", "Location", "https://s3cr3t.example/"), kind: KindRedirect, lenient: true},
	}

	var golden strings.Builder
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			server := newServer(t, f.answer)
			endpoint := f.endpoint
			if endpoint == "" {
				endpoint = EndpointServices
			}
			var seen attempts
			c := newTestClient(t, server.URL, seen.hook, func(cfg *Config) { cfg.MaxResponseBytes = 1 << 20 })
			err := callEndpoint(t.Context(), c, endpoint)
			if f.lenient {
				return
			}
			e := asTestError(t, err, f.kind)
			if e.Endpoint != endpoint {
				t.Errorf("endpoint %q, want %q", e.Endpoint, endpoint)
			}
			if _, retry := retryAfter(e, 0, 1, 0); retry != f.retried {
				t.Errorf("retried: %t, want %t", retry, f.retried)
			}
			seen.check(t, fmt.Sprintf("%s %d %s", endpoint, e.StatusCode, f.kind))
			text := strings.ReplaceAll(e.Error(), strings.TrimPrefix(server.URL, "http://"), "HOST")
			if len(text) > 1000 || strings.ContainsAny(text, "\n\r\x1b\x00") {
				t.Errorf("not a line of moderate length: %q", text)
			}
			fmt.Fprintf(&golden, "%s\n\t%s\n", f.name, text)
		})
	}
	checkGolden(t, "faults.golden", golden.String())
}

func callEndpoint(ctx context.Context, c *Client, endpoint Endpoint) (err error) {
	switch endpoint {
	case EndpointOrganizations:
		_, err = c.Organizations(ctx)
	case EndpointServices:
		_, err = c.Services(ctx, "o")
	case EndpointService:
		_, err = c.Service(ctx, "o", "s")
	case EndpointServiceConfig:
		_, err = c.ServiceConfig(ctx, "o", "s")
	case EndpointOrganizationMetrics:
		_, err = c.OrganizationMetrics(ctx, "o")
	case EndpointServiceMetrics:
		_, err = c.ServiceMetrics(ctx, "o", "s")
	}
	return err
}

func checkGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (run with -update to accept): %s", name, diff)
	}
}

func TestConnectionRefused(t *testing.T) {
	const host = "127.0.0.1:1" // a port that is never given to a test
	_, err := newTestClient(t, "http://"+host).Services(t.Context(), "o")
	e := asTestError(t, err, KindConnect)
	want := "list services: no connection to " + host + " (dial tcp " + host + ": connect: connection refused)"
	if e.Error() != want || !errors.Is(e, syscall.ECONNREFUSED) {
		t.Errorf("error is\n%s\nwant\n%s", e, want)
	}
}

// What cannot be provoked in a test on every machine.
func TestTransportErrors(t *testing.T) {
	target := &url.URL{Scheme: "https", Host: "api.example"}
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for _, c := range []struct {
		err       error
		connected bool
		kind      ErrorKind
		text      string
	}{
		{
			dial(&net.DNSError{Err: "no such host", Name: "api.example", IsNotFound: true}), false, KindDNS,
			"host name api.example not resolved (dial tcp: lookup api.example: no such host)",
		},
		{
			dial(&net.DNSError{Err: "i/o timeout", Name: "api.example", IsTimeout: true}), false, KindDNS,
			"host name api.example not resolved (dial tcp: lookup api.example: i/o timeout)",
		},
		{
			dial(os.ErrDeadlineExceeded), false, KindTimeout,
			"no complete response from api.example within 30s",
		},
		{
			context.DeadlineExceeded, true, KindTimeout,
			"no complete response from api.example within 30s",
		},
		{
			dial(syscall.ENETUNREACH), false, KindConnect,
			"no connection to api.example (dial tcp: network is unreachable)",
		},
		{
			errors.New("Proxy Authentication Required"), false, KindConnect,
			"no connection to api.example (Proxy Authentication Required)",
		},
		{
			&net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}, true, KindCut,
			"connection to api.example lost before the response was complete (read tcp: connection reset by peer)",
		},
		{
			&net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}, false, KindCut, // during the handshake
			"connection to api.example lost before the response was complete (read tcp: connection reset by peer)",
		},
		{
			errors.New("http2: server sent GOAWAY"), true, KindCut,
			"connection to api.example lost before the response was complete (http2: server sent GOAWAY)",
		},
		{io.EOF, false, KindCut, "connection to api.example lost before the response was complete (EOF)"},
	} {
		e := transportError(t.Context(), c.err, target, c.connected, 30*time.Second)
		if e.Kind != c.kind || e.Error() != c.text {
			t.Errorf("%v: kind %s\n%s\nwant kind %s\n%s", c.err, e.Kind, e, c.kind, c.text)
		}
	}
}

// Errors made elsewhere, as in tests of other packages, read well too.
func TestErrorText(t *testing.T) {
	cause := errors.New("cause")
	for _, c := range []struct {
		e    Error
		want string
	}{
		{Error{}, "failed"},
		{Error{Endpoint: "new"}, "new: failed"},
		{Error{Endpoint: EndpointServices, Kind: KindRateLimited, StatusCode: 429, RetryAfter: 12345 * time.Millisecond}, "list services: rate limit of the API key reached (status 429); next request in 12.3s"},
		{Error{Endpoint: EndpointServices, Kind: KindRateLimited, StatusCode: 429}, "list services: rate limit of the API key reached (status 429)"},
		{Error{Kind: KindTimeout}, "no complete response in time"},
		{Error{Kind: KindCut, Err: cause}, "connection lost before the response was complete (cause)"},
		{Error{Kind: KindConnect}, "no connection"},
		{Error{Kind: KindDNS}, "host name not resolved"},
		{Error{Kind: KindTLS}, "TLS handshake failed"},
		{Error{Kind: KindTooLarge}, "response too large"},
		{Error{Kind: KindRedirect}, "redirect refused"},
		{Error{Kind: KindCanceled, Err: context.Canceled}, "canceled"},
		{Error{Kind: KindDecode, Err: errors.New(strings.Repeat("a\n", 1000))}, "response not in the documented format (" + strings.Repeat("a ", 150) + "…)"},
	} {
		if got := c.e.Error(); got != c.want {
			t.Errorf("error is\n%s\nwant\n%s", got, c.want)
		}
	}
	if e := (&Error{Err: cause}); !errors.Is(e, cause) {
		t.Error("cause not wrapped")
	}
}

func FuzzErrorText(f *testing.F) {
	f.Add([]byte(failure(400, "no")), "text/html", "r")
	f.Add([]byte("\x1b[2J"+testSecret), "", testSecret)
	f.Add([]byte(`{"error":"\u001b`+`\ud800"}`), "application/json", "\xff")
	f.Fuzz(func(t *testing.T, body []byte, contentType, requestID string) {
		e := statusError(&response{status: 400, body: body, header: http.Header{"Content-Type": {contentType}, "X-Request-Id": {requestID}}})
		e.bound(Credentials{testKeyID, testSecret})
		text := e.Error()
		if strings.Contains(text, testSecret) {
			t.Errorf("the secret shows in %q", text)
		}
		if clean(text, 0) != strings.Join(strings.Fields(text), " ") {
			t.Errorf("not printable: %q", text)
		}
		if n := len([]rune(e.Message)); n > maxMessage+1 {
			t.Errorf("message of %d characters", n)
		}
	})
}
