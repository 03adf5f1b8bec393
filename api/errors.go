package api

import (
	"compress/flate"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// ErrorKind says what went wrong. The kinds are few and stable: they serve as
// values of a metric label.
type ErrorKind string

// The kinds of errors. Those with an HTTP status other than 200 come first.
const (
	KindUnauthorized     ErrorKind = "unauthorized"      // 401: key wrong or expired
	KindForbidden        ErrorKind = "forbidden"         // 403: role or IP access list of the key
	KindNotFound         ErrorKind = "not_found"         // 404: organization or service unknown to the key
	KindRateLimited      ErrorKind = "rate_limited"      // 429
	KindBadRequest       ErrorKind = "bad_request"       // any other 4xx, or an id that no request is spent on
	KindServerError      ErrorKind = "server_error"      // 5xx
	KindRedirect         ErrorKind = "redirect"          // to another host, without end, or to nowhere
	KindUnexpectedStatus ErrorKind = "unexpected_status" // a status that no read is answered with, as 206

	KindContentType ErrorKind = "content_type" // HTML, JSON or another type where it does not belong
	KindTooLarge    ErrorKind = "too_large"    // larger than Config.MaxResponseBytes once decompressed
	KindDecode      ErrorKind = "decode"       // JSON or compression not as documented

	KindTimeout     ErrorKind = "timeout"     // Config.Timeout or the caller's deadline passed
	KindDNS         ErrorKind = "dns"         // name not resolved
	KindConnect     ErrorKind = "connect"     // no connection
	KindTLS         ErrorKind = "tls"         // certificate or handshake
	KindCut         ErrorKind = "cut"         // connection lost before the response was complete
	KindCredentials ErrorKind = "credentials" // no usable key; nothing was sent
	KindCanceled    ErrorKind = "canceled"    // by the caller
)

const (
	// Characters that an error repeats of what came over the network.
	maxMessage   = 200
	maxRequestID = 64
	maxCause     = 300
	redacted     = "[redacted]"
)

// Error is why a call, or one attempt of it, failed. Error values are not
// modified after they are returned.
type Error struct {
	Endpoint   Endpoint
	Kind       ErrorKind
	StatusCode int           // of the answer, 0 without one
	Message    string        // upstream's own words, bounded and without control characters
	RequestID  string        // upstream's, to be quoted to its support
	RetryAfter time.Duration // 429: how long the budget is paused; 5xx: what upstream asked for
	Err        error         // what the call met below HTTP or in decoding, may be nil

	what, remedy string // say more than the kind could
	advice       string // of the [Adviser]
	html         bool   // a page for humans came in place of upstream's message
}

// Error returns one sentence: the operation, what happened, what upstream said
// about it, and what can be done.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Endpoint != "" {
		b.WriteString(e.Endpoint.operation())
		b.WriteString(": ")
	}
	what, remedy := e.explain()
	b.WriteString(what)

	var details []string
	if e.StatusCode != 0 && e.StatusCode != http.StatusOK {
		details = append(details, fmt.Sprintf("status %d", e.StatusCode))
	}
	if e.Err != nil && e.Kind != KindTimeout && e.Kind != KindCanceled {
		details = append(details, clean(e.Err.Error(), maxCause))
	}
	if e.html {
		details = append(details, "in an HTML page, perhaps from a gateway or proxy")
	}
	if e.Message != "" {
		details = append(details, fmt.Sprintf("upstream says %q", e.Message))
	}
	if e.RequestID != "" {
		details = append(details, "request id "+e.RequestID)
	}
	if len(details) > 0 {
		fmt.Fprintf(&b, " (%s)", strings.Join(details, ", "))
	}
	if remedy != "" {
		b.WriteString("; ")
		b.WriteString(remedy)
	}
	return b.String()
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// NotOffered tells whether upstream does not have the call, or not for this key: it has
// more of them over time, and some need permissions of their own.
func (e *Error) NotOffered() bool {
	return e.Kind == KindForbidden || e.Kind == KindNotFound || e.StatusCode == http.StatusNotImplemented
}

// explain returns what happened and what can be done about it.
func (e *Error) explain() (what, remedy string) {
	switch e.Kind {
	case KindUnauthorized:
		what = "API key wrong or expired"
	case KindForbidden:
		what, remedy = "API key not allowed to do this", "check the key's role and its IP access list"
		if permission := e.Endpoint.Permission(); permission != "" {
			remedy = "check the key's IP access list, and that its role has " + permission
		}
	case KindNotFound:
		switch e.Endpoint {
		case EndpointOrganizations, EndpointWhoami:
			what = "no such path"
		case EndpointServices, EndpointOrganizationMetrics, EndpointQuotas:
			what = "organization unknown to this API key"
		default:
			what = "organization or service unknown to this API key"
		}
	case KindRateLimited:
		what = "rate limit of the API key reached"
		if e.RetryAfter > 0 {
			remedy = fmt.Sprintf("next request in %s", e.RetryAfter.Round(100*time.Millisecond))
		}
	case KindBadRequest:
		what = "API refused the request"
	case KindServerError:
		what = "API failed"
	case KindRedirect:
		what = "redirect refused"
	case KindUnexpectedStatus:
		what = "unexpected response status"
	case KindContentType:
		what = "a gateway or proxy answered instead of the API"
	case KindTooLarge:
		what = "response too large"
	case KindDecode:
		what = "response not in the documented format"
	case KindTimeout:
		what = "no complete response in time"
	case KindDNS:
		what = "host name not resolved"
	case KindConnect:
		what = "no connection"
	case KindTLS:
		what = "TLS handshake failed"
	case KindCut:
		what = "connection lost before the response was complete"
	case KindCredentials:
		what, remedy = "no usable API key", "check the key id and secret"
	case KindCanceled:
		what = "canceled"
	default:
		what = "failed"
	}
	if e.what != "" {
		what = e.what
	}
	if e.remedy != "" {
		remedy = e.remedy
	}
	switch {
	case remedy == "":
		remedy = e.advice
	case e.advice != "":
		remedy += ", " + e.advice
	}
	return what, remedy
}

// operation is how errors call the endpoint.
func (e Endpoint) operation() string {
	switch e {
	case EndpointOrganizations:
		return "list organizations"
	case EndpointWhoami:
		return "get the key's name"
	case EndpointServices:
		return "list services"
	case EndpointService:
		return "get service"
	case EndpointServiceConfig:
		return "get service config"
	case EndpointBackups:
		return "get service backups"
	case EndpointQuotas:
		return "list quotas"
	case EndpointOrganizationMetrics:
		return "get organization metrics"
	case EndpointServiceMetrics:
		return "get service metrics"
	}
	return string(e)
}

// Permission is what a key needs for the endpoint, "" if every key may call it.
func (e Endpoint) Permission() string {
	switch e {
	case EndpointOrganizations, EndpointWhoami:
		return ""
	case EndpointOrganizationMetrics, EndpointQuotas:
		return "control-plane:organization:view"
	}
	return "control-plane:postgres-service:view"
}

// statusKind returns the kind of an answer whose status is not 200.
func statusKind(status int) ErrorKind {
	switch {
	case status == http.StatusUnauthorized:
		return KindUnauthorized
	case status == http.StatusForbidden:
		return KindForbidden
	case status == http.StatusNotFound:
		return KindNotFound
	case status == http.StatusTooManyRequests:
		return KindRateLimited
	case status >= 400 && status < 500:
		return KindBadRequest
	case status >= 500 && status < 600:
		return KindServerError
	}
	return KindUnexpectedStatus
}

// statusError describes an answer whose status is not 200.
func statusError(a *response) *Error {
	e := &Error{Kind: statusKind(a.status), StatusCode: a.status}
	switch {
	case e.quote(a.body):
	case looksLikeHTML(a):
		e.html = true
	default:
		e.Message = string(a.body)
	}
	if e.RequestID == "" {
		e.RequestID = a.header.Get("X-Request-Id")
	}
	return e
}

// quote takes upstream's own words from a body, and tells whether it is of upstream's form.
func (e *Error) quote(body []byte) bool {
	envelope, err := parseObject(body)
	if err != nil {
		return false
	}
	message, id := envelope.text("error"), envelope.text("requestId")
	if envelope.err != nil {
		return false
	}
	e.Message, e.RequestID = message, id
	return true
}

// transportError describes why a request to target got no answer, or an answer
// without an end. connected says that a connection was there to send it on, and
// timeout is what the attempt was allowed. The kinds of caller's cancellation and
// deadline are decided by the caller's context, ctx.
func transportError(ctx context.Context, err error, target *url.URL, connected bool, timeout time.Duration) *Error {
	e := &Error{Err: err}
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	host := target.Host

	var (
		dns         *net.DNSError
		netErr      net.Error
		unknown     x509.UnknownAuthorityError
		noRoots     x509.SystemRootsError
		otherName   x509.HostnameError
		invalid     x509.CertificateInvalidError
		unverified  *tls.CertificateVerificationError
		record      tls.RecordHeaderError
		alert       tls.AlertError
		operation   *net.OpError
		corrupt     flate.CorruptInputError
		isOperation = errors.As(err, &operation)
	)
	switch {
	case errors.As(err, &dns):
		e.Kind, e.what = KindDNS, "host name "+dns.Name+" not resolved"

	case errors.As(err, &unknown), errors.As(err, &noRoots):
		e.Kind, e.what = KindTLS, "certificate of "+host+" is signed by an unknown authority"
	case errors.As(err, &otherName):
		e.Kind, e.what = KindTLS, "certificate of "+host+" is for another name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		e.Kind, e.what = KindTLS, "certificate of "+host+" is not valid at this time"
	case errors.As(err, &invalid), errors.As(err, &unverified):
		e.Kind, e.what = KindTLS, "certificate of "+host+" is not valid"
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		e.Kind, e.what = KindTLS, host+" does not speak TLS"
	case errors.As(err, &alert), isOperation && operation.Op == "remote error":
		e.Kind, e.what = KindTLS, "TLS handshake with "+host+" failed"

	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &netErr) && netErr.Timeout():
		// Which of many calls it was that timed out does not help: whichever was
		// slow, it is time that ran out.
		e.Kind, e.what = KindTimeout, fmt.Sprintf("no complete response from %s within %s", host, timeout)
		e.Err = context.DeadlineExceeded

	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader), errors.As(err, &corrupt):
		e.Kind, e.what = KindDecode, "compressed response is corrupt"

	case connected,
		errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		e.Kind, e.what = KindCut, "connection to "+host+" lost before the response was complete"
	default:
		e.Kind, e.what = KindConnect, "no connection to "+host
	}
	return e
}

// contextError describes that the caller has canceled the call, or that its time is up.
func contextError(ctx context.Context) *Error {
	e := &Error{Kind: KindCanceled, Err: ctx.Err()}
	if errors.Is(e.Err, context.DeadlineExceeded) {
		e.Kind, e.what = KindTimeout, "deadline exceeded before the response was complete"
	}
	return e
}

// bound makes the texts of e that came over the network fit to be shown: short,
// on one line, and without the secret, should a server or proxy echo it.
func (e *Error) bound(creds Credentials) {
	secrets := redactor(creds)
	e.Message = clip(secrets.Replace(clean(e.Message, 0)), maxMessage)
	e.RequestID = clip(secrets.Replace(clean(e.RequestID, 0)), maxRequestID)
	e.what = clip(secrets.Replace(clean(e.what, 0)), maxCause)
	if e.Err != nil {
		if text := e.Err.Error(); secrets.Replace(text) != text {
			e.Err = errors.New(secrets.Replace(text)) // not wrapped: the chain holds the secret
		}
	}
}

// redactor replaces the secret in the forms in which it goes over the network.
func redactor(creds Credentials) *strings.Replacer {
	// A shorter secret is none, and would be found in any text.
	if len(creds.KeySecret) < 4 {
		return strings.NewReplacer()
	}
	basic := base64.StdEncoding.EncodeToString([]byte(creds.KeyID + ":" + creds.KeySecret))
	return strings.NewReplacer(
		basic, redacted,
		strings.TrimRight(basic, "="), redacted,
		creds.KeySecret, redacted,
		url.QueryEscape(creds.KeySecret), redacted,
		url.PathEscape(creds.KeySecret), redacted,
		strings.Trim(strconv.Quote(creds.KeySecret), `"`), redacted,
	)
}

// clean puts s on one line of printable characters, and clips it unless limit is 0.
func clean(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if limit > 0 {
		s = clip(s, limit)
	}
	return s
}

// clip shortens s to the given number of characters.
func clip(s string, limit int) string {
	if runes := []rune(s); len(runes) > limit {
		return string(runes[:limit]) + "…"
	}
	return s
}
