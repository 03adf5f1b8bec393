package simulator

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fault is something that goes wrong with answers. Its parts combine: those that are zero do
// nothing. A fault applies to requests that have a valid key and are within the rate limit; what
// would be 401 or 429 anyway stays so. When several faults match, the one set first counts.
type Fault struct {
	// Name is what Request.Fault calls it.
	Name string

	// Endpoints are those that it applies to, by their names in Request.Endpoint; none: all.
	Endpoints []string
	// ServiceIDs restrict it to requests for one of these services; none: all, and requests
	// that are for no single service.
	ServiceIDs []string
	// Skip lets that many matching requests pass first.
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

	// Status answers this code instead of doing what was asked, with the envelope of an error
	// whose text is Message when it is one.
	Status  int
	Message string
	// Redirect answers with the same path below this URL as location, and Status, 307 if 0.
	Redirect string

	// Header is set over the answer's own; a name without values is removed.
	Header http.Header
	// Mutate changes the body, before it is compressed. It must not change its argument. See
	// HTML, MalformedLine and the others.
	Mutate func(body []byte) []byte
	// Encode replaces the compression; it returns the bytes to send and their
	// Content-Encoding. See TruncatedGzip and GzipBomb.
	Encode func(body []byte) (encoded []byte, contentEncoding string)

	// BytesPerSecond sends the body at this rate.
	BytesPerSecond int
	// CutAfter closes the connection after this many bytes of the body, after half of it when it
	// is shorter, and right after the header when negative.
	CutAfter int
	// LengthLie is added to Content-Length. A positive one promises more than comes; of a
	// negative one the client cannot know that it has not got everything.
	LengthLie int
}

// fault is a Fault in force. Simulator.mu guards skip and left.
type fault struct {
	Fault
	skip, left int
	cleared    chan struct{}
}

// SetFault lets f apply to requests from now on, and returns a function that ends it. A fault
// that has applied to its Count of requests ends by itself.
func (s *Simulator) SetFault(f Fault) (end func()) {
	added := &fault{Fault: f, skip: f.Skip, left: f.Count, cleared: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, added)
	return func() { s.clearFaults(func(f *fault) bool { return f == added }) }
}

// ClearFaults ends all faults, and those requests that hang.
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
			if unit(hash(s.config.Seed, "fault "+strconv.FormatUint(s.faultDraws, 10))) >= f.Probability {
				continue
			}
		}
		f.left--
		return f
	}
	return nil
}

// silent is whether the client gets no answer at all.
func (f *fault) silent() bool { return f.Hang || f.Reset }

// replaces is whether what was asked is not done.
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
