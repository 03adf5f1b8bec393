package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode"
)

// DefaultURL is where ClickHouse Cloud serves its API.
const DefaultURL = "https://api.clickhouse.cloud"

const (
	defaultTimeout          = 30 * time.Second
	defaultMaxResponseBytes = 64 << 20
	defaultMaxRetries       = 2
	defaultUserAgent        = "clickhouse_postgres_exporter"

	maxRedirects     = 3
	maxErrorBodySize = 64 << 10 // of an answer whose status is not 200; more is ignored
	largeBodySize    = 4 << 20  // of which a client reads one at a time

	minPiece, maxPiece = 4 << 10, 1 << 20 // of a body while it is read
)

// Endpoint names one of the API's calls. The names serve as values of a metric
// label.
type Endpoint string

// The endpoints that a [Client] calls.
const (
	EndpointOrganizations       Endpoint = "organizations"
	EndpointWhoami              Endpoint = "whoami"
	EndpointServices            Endpoint = "services"
	EndpointService             Endpoint = "service"
	EndpointServiceConfig       Endpoint = "service_config"
	EndpointBackups             Endpoint = "service_backups"
	EndpointQuotas              Endpoint = "quotas"
	EndpointOrganizationMetrics Endpoint = "organization_metrics"
	EndpointServiceMetrics      Endpoint = "service_metrics"
)

// Hooks observe what a client does, for metrics. Each is optional, is called
// concurrently, and holds up the call that it observes.
type Hooks struct {
	// RequestDone is called once for every HTTP request, those of retries and
	// redirects included. code is 0 if there was no answer, and err an [*Error]
	// if the request did not yield what the call wants, which happens with a code
	// of 200 too. d is the time from the request's start to the end of its body.
	// A call that fails before it sends anything (no credentials, canceled while
	// waiting for the budget) is not seen here, only in its error.
	RequestDone func(endpoint Endpoint, code int, err error, d time.Duration)
	// BudgetWait is called once for every slot that was taken from the budget,
	// and for every wait that was given up. waited may be 0.
	BudgetWait func(endpoint Endpoint, waited time.Duration)
}

// Config configures a [Client].
type Config struct {
	BaseURL          string            // http(s)://host[:port][/prefix], default DefaultURL
	Credentials      CredentialsSource // required
	Budget           *Budget           // required; shared by every client that uses the same key
	UserAgent        string
	Timeout          time.Duration // of one attempt including its body, waits excluded; default 30s
	MaxResponseBytes int64         // after decompression, default 64 MiB
	CAFile           string        // PEM file of roots to trust beside the system's
	CACertificates   []byte        // what CAFile holds; read from there if nil
	MaxRetries       int           // after 5xx and lost connections; 0 is the default of 2, less is none
	Hooks            Hooks
	Adviser          Adviser // nil for none

	// Transport is what requests go through instead of the network, such as an
	// upstream within the process. It gets no CAFile, and has to undo a content
	// encoding itself. nil is the network.
	Transport http.RoundTripper
}

// Adviser knows what the user of a client can do about an error. Implementations can be
// compared.
type Adviser interface {
	// Advise returns words to put at the end of the error's text, "" for none.
	Advise(e *Error) string
}

// Client calls the API. It is safe for concurrent use. Every call waits for the
// budget, and is bounded by its context, which the budget's pauses (up to two and
// a half minutes after a 429) may well outlast.
type Client struct {
	base        *url.URL
	credentials CredentialsSource
	budget      *Budget
	userAgent   string
	timeout     time.Duration
	maxBytes    int64
	maxRetries  int
	hooks       Hooks
	adviser     Adviser
	transport   http.RoundTripper
	large       chan struct{} // held while a large body is read
	sizes       sync.Map      // by Endpoint: int64, the size of the latest body
}

// New returns a client, or an error that names the setting to mend. It does not
// use the network, and does not look at the credentials yet.
func New(cfg Config) (*Client, error) {
	if cfg.BaseURL == "" {
		cfg.BaseURL = DefaultURL
	}
	base, err := ParseURL(cfg.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("API client: base URL %w", err)
	}
	if cfg.Credentials == nil {
		return nil, errors.New("API client: no source of credentials given")
	}
	if cfg.Budget == nil {
		return nil, errors.New("API client: no request budget given")
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = defaultUserAgent
	}
	if strings.ContainsFunc(cfg.UserAgent, unicode.IsControl) {
		return nil, errors.New("API client: user agent contains a control character")
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.MaxResponseBytes <= 0 {
		cfg.MaxResponseBytes = defaultMaxResponseBytes
	}
	if cfg.MaxRetries == 0 {
		cfg.MaxRetries = defaultMaxRetries
	}
	if cfg.Hooks.RequestDone == nil {
		cfg.Hooks.RequestDone = func(Endpoint, int, error, time.Duration) {}
	}
	if cfg.Hooks.BudgetWait == nil {
		cfg.Hooks.BudgetWait = func(Endpoint, time.Duration) {}
	}
	transport := cfg.Transport
	if transport == nil {
		if transport, err = newTransport(cfg.Timeout, cfg.CAFile, cfg.CACertificates); err != nil {
			return nil, err
		}
	}
	return &Client{
		base:        base,
		credentials: cfg.Credentials,
		budget:      cfg.Budget,
		userAgent:   cfg.UserAgent,
		timeout:     cfg.Timeout,
		maxBytes:    cfg.MaxResponseBytes,
		maxRetries:  cfg.MaxRetries,
		hooks:       cfg.Hooks,
		adviser:     cfg.Adviser,
		transport:   transport,
		large:       make(chan struct{}, 1),
	}, nil
}

// Close closes the connections that no call uses.
func (c *Client) Close() {
	if t, ok := c.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// Organizations lists the organizations that the key may see, which is normally
// the one that it belongs to.
func (c *Client) Organizations(ctx context.Context) ([]Organization, error) {
	return get(ctx, c, EndpointOrganizations, nil, decodeOrganizations)
}

// Whoami returns what upstream calls the key. Not every upstream has this call.
func (c *Client) Whoami(ctx context.Context) (Key, error) {
	return get(ctx, c, EndpointWhoami, nil, decodeKey)
}

// Services lists the Postgres services of an organization. The list is complete
// or an error; of an organization without services it is empty.
func (c *Client) Services(ctx context.Context, org string) ([]Service, error) {
	return get(ctx, c, EndpointServices, []string{org}, decodeServices)
}

// Service returns one service with what the list leaves out.
func (c *Client) Service(ctx context.Context, org, id string) (ServiceDetail, error) {
	return get(ctx, c, EndpointService, []string{org, id}, func(body []byte) (ServiceDetail, error) {
		return decodeService(body, id)
	})
}

// ServiceConfig returns the settings of one service.
func (c *Client) ServiceConfig(ctx context.Context, org, id string) (ServiceConfig, error) {
	return get(ctx, c, EndpointServiceConfig, []string{org, id}, decodeServiceConfig)
}

// Backups returns what upstream tells of a service's backups.
func (c *Client) Backups(ctx context.Context, org, id string) (Backups, error) {
	return get(ctx, c, EndpointBackups, []string{org, id}, decodeBackups)
}

// Quotas lists the quotas of an organization that apply to it.
func (c *Client) Quotas(ctx context.Context, org string) ([]Quota, error) {
	return get(ctx, c, EndpointQuotas, []string{org}, decodeQuotas)
}

// OrganizationMetrics returns the metrics of every service of an organization, of
// which upstream includes 100 at most.
func (c *Client) OrganizationMetrics(ctx context.Context, org string) (*Page, error) {
	return c.page(ctx, EndpointOrganizationMetrics, org)
}

// ServiceMetrics returns the metrics of one service.
func (c *Client) ServiceMetrics(ctx context.Context, org, id string) (*Page, error) {
	return c.page(ctx, EndpointServiceMetrics, org, id)
}

// path returns the escaped path, and query, of an endpoint for an organization's id and a
// service's id, as far as the endpoint has them.
func (e Endpoint) path(ids ...string) (string, error) {
	names := [...]string{"organization", "service"}
	segments := make([]any, len(ids))
	for i, id := range ids {
		segment, err := pathSegment(names[i], id)
		if err != nil {
			return "", err
		}
		segments[i] = segment
	}
	formats := map[Endpoint]string{
		EndpointOrganizations:       "/v1/organizations",
		EndpointWhoami:              "/v1/whoami",
		EndpointServices:            "/v1/organizations/%s/postgres",
		EndpointService:             "/v1/organizations/%s/postgres/%s",
		EndpointServiceConfig:       "/v1/organizations/%s/postgres/%s/config",
		EndpointBackups:             "/v1/organizations/%s/postgres/%s/backups?limit=1", // newest first
		EndpointQuotas:              "/v1/organizations/%s/quotas",
		EndpointOrganizationMetrics: "/v1/organizations/%s/postgres/prometheus",
		EndpointServiceMetrics:      "/v1/organizations/%s/postgres/%s/prometheus",
	}
	return fmt.Sprintf(formats[e], segments...), nil
}

// accept returns the media type of the endpoint's answers.
func (e Endpoint) accept() string {
	if e == EndpointOrganizationMetrics || e == EndpointServiceMetrics {
		return "text/plain"
	}
	return "application/json"
}

// get makes a call that is answered in JSON.
func get[T any](ctx context.Context, c *Client, endpoint Endpoint, ids []string, decode func([]byte) (T, error)) (T, error) {
	var result T
	err := c.call(ctx, endpoint, ids, func(a *response) *Error {
		if looksLikeHTML(a) {
			return &Error{Kind: KindContentType}
		}
		v, err := decode(a.body)
		if err != nil {
			e := &Error{Kind: KindDecode, Err: err}
			e.quote(a.body)
			return e
		}
		result = v
		return nil
	})
	return result, err
}

// page makes a call that is answered in an exposition format.
func (c *Client) page(ctx context.Context, endpoint Endpoint, ids ...string) (*Page, error) {
	var page *Page
	err := c.call(ctx, endpoint, ids, func(a *response) *Error {
		contentType := a.header.Get("Content-Type")
		if contentType == "" {
			contentType = "text/plain"
		}
		mediaType, _, err := mime.ParseMediaType(contentType)
		isText := err == nil && (mediaType == "text/plain" || mediaType == "application/openmetrics-text")
		switch {
		case looksLikeHTML(a):
			return &Error{Kind: KindContentType, what: "HTML from a gateway or proxy instead of metrics"}
		case looksLikeJSON(a.body):
			e := &Error{Kind: KindContentType, what: "JSON instead of metrics"}
			e.quote(a.body)
			return e
		case !isText:
			return &Error{Kind: KindContentType, what: fmt.Sprintf("content type %q instead of metrics", contentType)}
		}
		page = &Page{Body: a.body, ContentType: contentType, ReceivedAt: a.receivedAt, Complete: a.complete}
		page.Date, _ = parseHTTPDate(a.header.Get("Date"))
		return nil
	})
	return page, err
}

// looksLikeHTML holds for every HTML and XML document, and for no answer of the
// API: neither JSON nor metrics begin like that.
func looksLikeHTML(a *response) bool {
	mediaType, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	return mediaType == "text/html" || bytes.HasPrefix(trimSpace(a.body), []byte("<"))
}

// looksLikeJSON holds for JSON objects and lists. The brace alone does not tell:
// a line of metrics may begin with one, before a name in quotes.
func looksLikeJSON(body []byte) bool {
	body = trimSpace(body)
	return len(body) > 0 && (body[0] == '{' || body[0] == '[') && json.Valid(body)
}

// trimSpace also removes a byte order mark.
func trimSpace(body []byte) []byte {
	return bytes.TrimLeft(bytes.TrimPrefix(body, []byte("\uFEFF")), " \t\r\n")
}

// response is what one request was answered with, redirects excluded.
type response struct {
	status     int
	header     http.Header
	body       []byte
	complete   bool      // nothing of body can be missing
	receivedAt time.Time // when the header came
}

// call makes a call, and adds advice to its error.
func (c *Client) call(ctx context.Context, endpoint Endpoint, ids []string, decode func(*response) *Error) error {
	failure := c.attempts(ctx, endpoint, ids, decode)
	if failure == nil {
		return nil
	}
	if c.adviser != nil {
		failure.advice = c.adviser.Advise(failure)
	}
	return failure
}

// attempts makes a call: attempts, with what comes between them. decode gets a response
// of status 200, and keeps the result if it is good. The errors are the caller's own.
func (c *Client) attempts(ctx context.Context, endpoint Endpoint, ids []string, decode func(*response) *Error) *Error {
	path, err := endpoint.path(ids...)
	if err != nil {
		return asError(err, endpoint, KindBadRequest)
	}
	target, err := endpointURL(c.base, path)
	if err != nil {
		return asError(err, endpoint, KindBadRequest)
	}
	retries, renewed := 0, false
	for {
		creds, err := c.credentials.Credentials()
		if err != nil {
			return asError(err, endpoint, KindCredentials)
		}
		failure := c.attempt(ctx, endpoint, target, creds, decode)
		if failure == nil {
			return nil
		}
		if failure.Kind == KindUnauthorized && !renewed {
			renewed = true
			c.credentials.Invalidate()
			if now, err := c.credentials.Credentials(); err == nil && now != creds {
				continue
			}
		}
		wait, retry := retryAfter(failure, retries, c.maxRetries, rand.Float64())
		if !retry {
			return failure
		}
		retries++
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			if errors.Is(ctx.Err(), context.Canceled) {
				failure = contextError(ctx)
				failure.Endpoint = endpoint
			}
			return failure
		}
	}
}

// asError returns err as an *Error of the endpoint, and of the kind if it has none.
func asError(err error, endpoint Endpoint, kind ErrorKind) *Error {
	var e *Error
	if !errors.As(err, &e) {
		return &Error{Endpoint: endpoint, Kind: kind, Err: err}
	}
	located := *e // it may be shared
	located.Endpoint = endpoint
	return &located
}
