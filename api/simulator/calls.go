package simulator

import (
	"crypto/subtle"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator/internal/seeded"
)

const (
	maxRequestBody   = 1 << 20
	authenticateWith = `Basic realm="ClickHouse Cloud API"`
)

// call is one request on its way through the simulator.
type call struct {
	*http.Request
	now       time.Time
	requestID string
	route     *route
	// From the path.
	org, id, quota string
	key            Key
	body           []byte
}

// receive reads a request. It holds no lock, because the body may be slow.
func (s *Simulator) receive(w http.ResponseWriter, r *http.Request) *call {
	c := &call{Request: r}
	c.route = s.match(c)
	var err error
	if c.body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequestBody)); err != nil {
		c.body = nil
	}
	return c
}

// answer returns the answer to a call, and the fault that applies to it. As in a gateway in front
// of a service, the key is checked first, then the rate limit, then the request.
func (s *Simulator) answer(c *call) (answer, *fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.now = s.config.Now()
	s.requestIDs++
	c.requestID = requestID(seeded.Hash(s.config.Seed, "request "+strconv.FormatUint(s.requestIDs, 10)))

	a, err := answer{}, s.admit(c)
	var f *fault
	if err == nil {
		if f = s.takeFault(c); f != nil && f.replaces() {
			a, err = f.replacement(c)
		} else {
			a, err = s.handle(c)
		}
	}
	if err != nil {
		a = errorAnswer(c, err)
	}
	logged := Request{
		Time: c.now, Method: c.Method, Path: c.URL.Path, Endpoint: c.route.endpoint,
		ServiceID: c.id, Status: a.status, UserAgent: c.UserAgent(),
	}
	logged.KeyID, _, _ = c.BasicAuth()
	if f != nil {
		logged.Fault = f.Name
		if f.silent() {
			logged.Status = 0
		}
	}
	s.log.add(logged)
	return a, f
}

// admit checks the key and its rate limit. A request without a valid key counts towards no limit.
func (s *Simulator) admit(c *call) error {
	id, secret, ok := c.BasicAuth()
	key, known := s.keys[id]
	if !ok || !known || subtle.ConstantTimeCompare([]byte(secret), []byte(key.Secret)) != 1 {
		return &refusal{
			status: http.StatusUnauthorized, message: "UNAUTHORIZED: the API key is not valid",
			header: http.Header{"Www-Authenticate": {authenticateWith}},
		}
	}
	c.key = key
	if wait, ok := s.limiter.take(id, c.now); !ok {
		return tooManyRequests(s.limiter.limit, s.limiter.window, wait)
	}
	return nil
}

func tooManyRequests(limit int, window, wait time.Duration) error {
	// Rounded up, so that a client that waits that long is not refused again.
	reset := (wait + time.Millisecond - 1).Truncate(time.Millisecond).Seconds()
	return &refusal{
		status:  http.StatusTooManyRequests,
		message: fmt.Sprintf("TOO_MANY_REQUESTS: more than %d requests in %v", limit, window),
		header: http.Header{
			"X-Ratelimit-Limit":     {strconv.Itoa(limit)},
			"X-Ratelimit-Remaining": {"0"},
			"X-Ratelimit-Reset":     {strconv.FormatFloat(reset, 'f', -1, 64)},
		},
	}
}

// handle answers a call that was admitted.
func (s *Simulator) handle(c *call) (answer, error) {
	if c.route.methods == nil {
		return answer{}, notFound("no such path: %.200s", c.URL.Path)
	}
	handle, ok := c.route.methods[c.Method]
	if !ok {
		allow := strings.Join(slices.Sorted(maps.Keys(c.route.methods)), ", ")
		return answer{}, &refusal{
			status:  http.StatusMethodNotAllowed,
			message: fmt.Sprintf("METHOD_NOT_ALLOWED: %.20s is not possible here, only %s", c.Method, allow),
			header:  http.Header{"Allow": {allow}},
		}
	}
	if c.key.denies(c.route.endpoint) {
		return answer{}, &refusal{status: http.StatusForbidden, message: "FORBIDDEN: the API key is not allowed to do this"}
	}
	for _, check := range []struct{ name, value string }{{"organizationId", c.org}, {"postgresId", c.id}} {
		if check.value != "" && !uuidPattern.MatchString(check.value) {
			return answer{}, badRequest("%s must be a UUID", check.name)
		}
	}
	if c.org != "" && !strings.EqualFold(c.org, s.config.OrganizationID) {
		return answer{}, notFound("no organization %s that this API key belongs to", c.org)
	}
	if c.Method != http.MethodGet && c.Method != http.MethodDelete {
		if err := c.checkBody(); err != nil {
			return answer{}, err
		}
	}
	result, err := handle(s, c)
	if err != nil {
		return answer{}, err
	}
	if a, ok := result.(answer); ok {
		return a, nil
	}
	return envelope(c, result), nil
}

func (c *call) checkBody() error {
	if c.body == nil {
		return &refusal{
			status:  http.StatusRequestEntityTooLarge,
			message: fmt.Sprintf("PAYLOAD_TOO_LARGE: the request body must be whole, and at most %d bytes", maxRequestBody),
		}
	}
	mediaType, _, _ := mime.ParseMediaType(c.Header.Get("Content-Type"))
	if mediaType == "application/json" || c.Method == http.MethodPatch && mediaType == "application/merge-patch+json" {
		return nil
	}
	return badRequest("Content-Type must be application/json")
}

// number reads a whole number from the query.
func (c *call) number(name string, otherwise, least, most int) (int, error) {
	given := c.URL.Query().Get(name)
	if given == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(given)
	if err != nil || n < least || n > most {
		return 0, badRequest("%s must be a whole number from %d to %d", name, least, most)
	}
	return n, nil
}
