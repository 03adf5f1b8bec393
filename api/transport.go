package api

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
	"unicode"
)

// newTransport returns what HTTP requests go through. It accepts gzip, which
// net/http asks for and undoes by itself.
func newTransport(timeout time.Duration, caFile string, pem []byte) (http.RoundTripper, error) {
	roots, err := loadRoots(caFile, pem)
	if err != nil {
		return nil, err
	}
	// net/http completes a dial for later use even when its request has given up,
	// so dials need a bound of their own.
	dialer := &net.Dialer{Timeout: timeout, KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:    timeout,
		ForceAttemptHTTP2:      true, // a TLSClientConfig of one's own turns it off
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        90 * time.Second, // outlives the usual poll interval
		MaxResponseHeaderBytes: 64 << 10,
		// Without pings, HTTP/2 goes on using a connection that died silently, as
		// when the machine was suspended, until TCP gives up on it: minutes.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
	}, nil
}

// loadRoots returns the system's roots and those of the file, or nil, which means
// the system's, without one.
func loadRoots(caFile string, pem []byte) (*x509.CertPool, error) {
	if caFile == "" {
		return nil, nil
	}
	if pem == nil {
		var err error
		if pem, err = os.ReadFile(caFile); err != nil {
			return nil, fmt.Errorf("read CA file: %w", err)
		}
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // a machine without a CA bundle is why the file is there
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read CA file %s: no certificate in PEM format found", caFile)
	}
	return roots, nil
}

// ParseURL returns the address of an API, http(s)://host[:port][/prefix], without a
// slash at its end. Errors do not quote it: it may hold a password by mistake.
func ParseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return nil, errors.New("must be an http or https URL")
	case u.User != nil:
		return nil, errors.New("must not contain a user name or password, since the API key has settings of its own")
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#"):
		return nil, errors.New("must end before any ? or #")
	}
	return url.Parse(u.Scheme + "://" + u.Host + strings.TrimRight(u.EscapedPath(), "/"))
}

// endpointURL appends path, which is escaped already, to the base.
func endpointURL(base *url.URL, path string) (*url.URL, error) {
	return url.Parse(base.String() + path)
}

// sameOrigin tells whether credentials for a may be sent to b.
func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	switch p := u.Port(); {
	case p != "":
		return p
	case u.Scheme == "http":
		return "80"
	default:
		return "443"
	}
}

// maxIDBytes is several times the length of upstream's ids, which are UUIDs.
const maxIDBytes = 256

// pathSegment escapes an id for use in a path. An id that could lead to another
// path, here or in a proxy that decodes and cleans paths, is refused.
func pathSegment(name, id string) (string, error) {
	var what string
	switch {
	case id == "":
		what = "is empty"
	case len(id) > maxIDBytes:
		what = "is too long"
	case strings.ContainsAny(id, `/\`) || strings.Contains(id, "..") || id == ".":
		what = "contains a path"
	case strings.ContainsFunc(id, unicode.IsControl):
		what = "contains a control character"
	default:
		return url.PathEscape(id), nil
	}
	return "", &Error{Kind: KindBadRequest, what: name + " id " + what, remedy: "check the " + name + " id"}
}
