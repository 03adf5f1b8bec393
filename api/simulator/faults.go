package simulator

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator/internal/seeded"
)

// Fault is something that goes wrong with answers. Its fields combine; those that are zero do
// nothing. A fault applies to requests that have a valid key and are within the rate limit;
// others are still answered 401 or 429. If several faults match, the one set first applies.
type Fault struct {
	// Name is what Request.Fault calls it.
	Name string

	// Endpoints restrict it to some endpoints, by their names in Request.Endpoint; none: all.
	Endpoints []string
	// ServiceIDs restrict it to requests about one of these services; none: all requests.
	ServiceIDs []string
	// Skip is how many matching requests pass before it applies.
	Skip int
	// Count is how many requests it applies to. 0: any number, until it is cleared.
	Count int
	// Probability of applying to a request that matches. 0: certain.
	Probability float64

	// Latency is added before the first byte.
	Latency time.Duration
	// Hang never answers, until the client leaves or the fault is cleared.
	Hang bool
	// Reset closes the connection without an answer.
	Reset bool

	// Status answers this code instead of doing what was asked. An error comes in an envelope
	// with the text Message.
	Status  int
	Message string
	// Redirect redirects to the same path below this URL, with Status, 307 if 0.
	Redirect string

	// Header replaces headers of the answer; one without values is removed.
	Header http.Header
	// Mutate changes the body, before it is compressed. It must not change its argument. See
	// HTML, MalformedLine and the others.
	Mutate func(body []byte) []byte
	// Encode replaces the compression; it returns the bytes to send and their
	// Content-Encoding. See TruncatedGzip and GzipBomb.
	Encode func(body []byte) (encoded []byte, contentEncoding string)

	// BytesPerSecond sends the body at this rate.
	BytesPerSecond int
	// CutAfter closes the connection after this many bytes of the body, after half of the body if
	// it is shorter, and right after the header when negative.
	CutAfter int
	// LengthLie is added to Content-Length. When positive, the body ends too early; when negative,
	// the client cannot know that there is more.
	LengthLie int
}

// fault is a Fault in force. Simulator.mu guards skip and left.
type fault struct {
	Fault
	skip, left int
	cleared    chan struct{}
}

// SetFault applies f to requests from now on, and returns a function that ends it. A fault with a
// Count ends by itself after that many requests.
func (s *Simulator) SetFault(f Fault) (end func()) {
	added := &fault{Fault: f, skip: f.Skip, left: f.Count, cleared: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, added)
	return func() { s.clearFaults(func(f *fault) bool { return f == added }) }
}

// ClearFaults ends all faults, and the requests that hang.
func (s *Simulator) ClearFaults() { s.clearFaults(func(*fault) bool { return true }) }

func (s *Simulator) clearFaults(which func(*fault) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = slices.DeleteFunc(s.faults, func(f *fault) bool {
		if which(f) {
			close(f.cleared)
			return true
		}
		return false
	})
}

// takeFault returns the fault that applies to a call, nil for none.
func (s *Simulator) takeFault(c *call) *fault {
	for _, f := range s.faults {
		if f.Count > 0 && f.left == 0 ||
			len(f.Endpoints) > 0 && !slices.Contains(f.Endpoints, c.route.endpoint) ||
			len(f.ServiceIDs) > 0 && !slices.Contains(f.ServiceIDs, c.id) {
			continue
		}
		if f.skip > 0 {
			f.skip--
			continue
		}
		if f.Probability > 0 {
			s.faultDraws++
			if seeded.Unit(seeded.Hash(s.config.Seed, "fault "+strconv.FormatUint(s.faultDraws, 10))) >= f.Probability {
				continue
			}
		}
		f.left--
		return f
	}
	return nil
}

// silent reports whether the client gets no answer at all.
func (f *fault) silent() bool { return f.Hang || f.Reset }

// replaces reports whether the request is not carried out.
func (f *fault) replaces() bool { return f.silent() || f.Status != 0 || f.Redirect != "" }

func (f *fault) replacement(c *call) (answer, error) {
	switch {
	case f.silent():
		return answer{}, nil
	case f.Redirect != "":
		return answer{
			status: cmp.Or(f.Status, http.StatusTemporaryRedirect),
			header: http.Header{"Location": {strings.TrimSuffix(f.Redirect, "/") + c.URL.RequestURI()}},
		}, nil
	case f.Status < http.StatusBadRequest:
		return answer{status: f.Status, contentType: jsonContentType}, nil
	}
	name := strings.ToUpper(strings.ReplaceAll(http.StatusText(f.Status), " ", "_"))
	return answer{}, &refusal{status: f.Status, message: name + ": " + cmp.Or(f.Message, "simulated")}
}
