package simulator_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3filter"
	"go.uber.org/goleak"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

func TestMain(m *testing.M) {
	openapi3filter.RegisterBodyDecoder("application/x-pem-file", openapi3filter.PlainBodyDecoder)
	goleak.VerifyTestMain(m)
}

// start is when the clock of the tests starts: on a Wednesday, a few seconds past a refresh.
var start = time.Date(2026, time.June, 10, 9, 30, 12, 0, time.UTC)

// lab is a simulator behind real HTTP, with a clock that stands still unless it is moved.
type lab struct {
	*testing.T
	*simulator.Simulator
	clock  *simulator.Clock
	config simulator.Config
	url    string
	client *http.Client
}

// newLab starts a simulator. Every answer that goes through do is checked against the OpenAPI
// descriptions.
func newLab(t *testing.T, config simulator.Config) *lab {
	t.Helper()
	l := &lab{T: t, clock: simulator.NewClock(start), client: &http.Client{Transport: &http.Transport{DisableCompression: true}}}
	config.Now = l.clock.Now
	l.Simulator = simulator.New(config)
	l.config = l.Config()
	server := httptest.NewServer(l)
	l.url = server.URL
	t.Cleanup(func() {
		l.client.CloseIdleConnections()
		server.Close()
	})
	return l
}

// org returns a path below the organization's services, e.g. org("/prometheus").
func (l *lab) org(rest string) string {
	return "/v1/organizations/" + l.config.OrganizationID + "/postgres" + rest
}

type reply struct {
	status int
	header http.Header
	body   []byte
}

// request makes a request with the first key.
func (l *lab) request(method, path, body string) *http.Request {
	l.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(l.Context(), method, l.url+path, reader)
	if err != nil {
		l.Fatal(err)
	}
	req.SetBasicAuth(l.config.KeyID, l.config.KeySecret)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return req
}

// do sends a request and checks the answer against the OpenAPI descriptions.
func (l *lab) do(req *http.Request) reply {
	l.Helper()
	resp, err := l.client.Do(req)
	if err != nil {
		l.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		l.Fatal(err)
	}
	r := reply{resp.StatusCode, resp.Header, body}
	conforms(l.T, req, r)
	return r
}

func (l *lab) call(method, path, body string) reply {
	l.Helper()
	return l.do(l.request(method, path, body))
}

// want is call, and fails the test if the answer has another status.
func (l *lab) want(status int, method, path, body string) reply {
	l.Helper()
	r := l.call(method, path, body)
	if r.status != status {
		l.Fatalf("%s %s: got %d, want %d: %s", method, path, r.status, status, r.body)
	}
	return r
}

// result decodes the result in an envelope.
func (r reply) result(t *testing.T) map[string]any {
	t.Helper()
	var e struct {
		Result map[string]any
	}
	if err := json.Unmarshal(r.body, &e); err != nil {
		t.Fatalf("%v: %s", err, r.body)
	}
	return e.Result
}

func (r reply) list(t *testing.T) []map[string]any {
	t.Helper()
	var e struct {
		Result []map[string]any
	}
	if err := json.Unmarshal(r.body, &e); err != nil {
		t.Fatalf("%v: %s", err, r.body)
	}
	return e.Result
}

func (r reply) error(t *testing.T) string {
	t.Helper()
	var e struct {
		Error     string
		RequestID string
		Status    int
	}
	dec := json.NewDecoder(bytes.NewReader(r.body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		t.Fatalf("%v: %s", err, r.body)
	}
	if e.Status != r.status {
		t.Errorf("envelope says %d, answer is %d", e.Status, r.status)
	}
	return e.Error
}
