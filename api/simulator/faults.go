package simulator

import (
	"bytes"
	"cmp"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fault is something that goes wrong with answers. Its parts combine: those that are zero do
// nothing. A fault befalls requests that have a valid key and are within the rate limit; what
// would be 401 or 429 anyway stays so. When several faults match, the one set first counts.
type Fault struct {
	// Name is what Request.Fault calls it.
	Name string

	// Endpoints are those that it befalls, by their names in Request.Endpoint; none: all.
	Endpoints []string
	// ServiceIDs restrict it to requests for one of these services; none: all, and requests
	// that are for no single service.
	ServiceIDs []string
	// Skip lets that many matching requests pass first.
	Skip int
	// Count is how many requests it befalls. 0: any number, until it is cleared.
	Count int
	// Probability of befalling a request that matches. 0: certain.
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

// SetFault lets f befall requests from now on, and returns a function that ends it. A fault
// that has befallen its Count of requests ends by itself.
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

// strike returns the fault that befalls a call, nil for none.
func (s *Simulator) strike(c *call) *fault {
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

// send writes an answer, with what its fault does to it on the way. It may end by
// panic(http.ErrAbortHandler), by which net/http breaks the connection off.
func (s *Simulator) send(w http.ResponseWriter, c *call, a answer, befallen *fault) {
	var f Fault
	if befallen != nil {
		f = befallen.Fault
		if !befallen.delay(c) {
			panic(http.ErrAbortHandler)
		}
		if f.Reset {
			reset(w)
			panic(http.ErrAbortHandler)
		}
	}
	body, encoding := a.encode(c, &f)

	h := w.Header()
	h.Set("Date", c.now.UTC().Format(http.TimeFormat)) // the simulator's clock, which may be another than net/http's
	if a.contentType != "" {
		h.Set("Content-Type", a.contentType)
	}
	h.Set("Content-Length", strconv.Itoa(max(len(body)+f.LengthLie, 0)))
	h.Set("Vary", "Accept-Encoding")
	if encoding != "" {
		h.Set("Content-Encoding", encoding)
	}
	for _, more := range []http.Header{a.header, f.Header} {
		for name, values := range more {
			// Without values it must be there all the same, or net/http fills it in.
			h[http.CanonicalHeaderKey(name)] = slices.Clone(values)
		}
	}
	w.WriteHeader(a.status)

	if f.LengthLie < 0 {
		body = body[:max(len(body)+f.LengthLie, 0)]
	}
	cut := f.CutAfter != 0
	switch {
	case f.CutAfter < 0:
		body = nil
	case cut && f.CutAfter < len(body):
		body = body[:f.CutAfter]
	case cut:
		body = body[:len(body)/2]
	}
	if f.BytesPerSecond > 0 {
		cut = !befallen.trickle(w, c, body) || cut
	} else {
		_, _ = w.Write(body) // an error means that the client has left
	}
	if cut {
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// encode returns the body as it is sent, and its Content-Encoding.
func (a *answer) encode(c *call, f *Fault) (body []byte, encoding string) {
	accepted := strings.Contains(c.Header.Get("Accept-Encoding"), "gzip")
	if a.gzip != nil && accepted && f.Mutate == nil && f.Encode == nil {
		return a.gzip(), "gzip"
	}
	body = a.body
	if a.draw != nil {
		body = a.draw()
	}
	if f.Mutate != nil {
		body = f.Mutate(body)
	}
	switch {
	case f.Encode != nil:
		return f.Encode(body)
	case accepted && len(body) >= gzipFrom:
		return compress(body), "gzip"
	}
	return body, ""
}

// delay waits for as long as the fault says. It is false when the request is over by then.
func (f *fault) delay(c *call) bool {
	if f.Latency > 0 && !f.sleep(c, f.Latency) {
		return false
	}
	if f.Hang {
		select {
		case <-c.Context().Done():
		case <-f.cleared:
		}
		return false
	}
	return true
}

// sleep is false when the client left meanwhile. A fault that is cleared does not delay longer.
func (f *fault) sleep(c *call, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-f.cleared:
	case <-c.Context().Done():
		return false
	}
	return true
}

// trickle writes the body slowly, up to ten times a second. It is false when the client left.
func (f *fault) trickle(w http.ResponseWriter, c *call, body []byte) bool {
	flush := http.NewResponseController(w).Flush
	_ = flush()
	step := max(f.BytesPerSecond/10, 1)
	for chunk := range slices.Chunk(body, step) {
		if !f.sleep(c, time.Second*time.Duration(step)/time.Duration(f.BytesPerSecond)) {
			return false
		}
		if _, err := w.Write(chunk); err != nil {
			return false
		}
		_ = flush()
	}
	return true
}

// reset closes the connection such that the client sees a reset rather than an end, where the
// server allows it.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// Status returns a fault that answers an error code.
func Status(code int) Fault {
	return Fault{Name: "status " + strconv.Itoa(code), Status: code}
}

// TooManyRequests returns a fault that answers 429 with the values given of X-RateLimit-Reset
// and Retry-After, each left out when empty.
func TooManyRequests(reset, retryAfter string) Fault {
	f := Status(http.StatusTooManyRequests)
	f.Header = http.Header{}
	if reset != "" {
		f.Header.Set("X-RateLimit-Reset", reset)
	}
	if retryAfter != "" {
		f.Header.Set("Retry-After", retryAfter)
	}
	return f
}

// HTML returns a fault that answers 200 with a page for humans, as a gateway or a captive
// portal does.
func HTML() Fault {
	return Fault{Name: "HTML", Header: contentType("text/html; charset=utf-8"), Mutate: replaceBy(
		"<!DOCTYPE html>\n<html><head><title>Be right back</title></head><body><h1>Maintenance</h1></body></html>\n",
	)}
}

// JSON returns a fault that answers 200 with an envelope of no known kind.
func JSON() Fault {
	return Fault{Name: "JSON", Header: contentType("application/json"), Mutate: replaceBy(`{"ok":true}` + "\n")}
}

// EmptyBody returns a fault that answers 200 and nothing else.
func EmptyBody() Fault { return Fault{Name: "empty body", Mutate: replaceBy("")} }

// EmptyList returns a fault by which a list is empty and all is well otherwise.
func EmptyList() Fault {
	return Fault{
		Name: "empty list", Endpoints: []string{endpointServices, endpointOrganizations},
		Mutate: func(body []byte) []byte { return resultPattern.ReplaceAll(body, []byte(`{"result":[],"requestId"`)) },
	}
}

var resultPattern = regexp.MustCompile(`(?s)^\{"result":\[.*\],"requestId"`)

// WrongContentType returns a fault that labels its answer as something else.
func WrongContentType(mediaType string) Fault {
	return Fault{Name: "wrong Content-Type", Header: contentType(mediaType)}
}

// TruncatedGzip returns a fault by which a compressed body ends half way, and the connection
// does not tell.
func TruncatedGzip() Fault {
	return Fault{Name: "truncated gzip", Encode: func(body []byte) ([]byte, string) {
		b := compress(body)
		return b[:len(b)/2], "gzip"
	}}
}

// GzipBomb returns a fault whose body is small on the wire, and of size bytes, rounded up to a
// MiB, when it is unpacked. All of it is a valid page of comments.
func GzipBomb(size int) Fault {
	return Fault{Name: "gzip bomb", Encode: func([]byte) ([]byte, string) {
		const block = 1 << 20
		member := compress(bytes.Repeat([]byte("#\n"), block/2))
		return bytes.Repeat(member, (size+block-1)/block), "gzip"
	}}
}

func contentType(v string) http.Header { return http.Header{"Content-Type": {v}} }

func replaceBy(body string) func([]byte) []byte {
	return func([]byte) []byte { return []byte(body) }
}

// MalformedLine puts a line that breaks off into a metrics page, after its first sample.
func MalformedLine(page []byte) []byte {
	return afterFirstSample(page, func(string) string { return `PostgresServer_CPUCores{clickhouse_org="br` })
}

// DuplicateSeries repeats the first sample of a metrics page, with another value.
func DuplicateSeries(page []byte) []byte {
	return afterFirstSample(page, func(line string) string { return line[:strings.LastIndexByte(line, ' ')] + " 7" })
}

// SecondType announces the first family of a metrics page again, in the midst of its samples and
// differently.
func SecondType(page []byte) []byte {
	return afterFirstSample(page, func(line string) string {
		name, _, _ := strings.Cut(line, "{")
		return "# HELP " + name + " Something else.\n# TYPE " + name + " counter"
	})
}

// afterFirstSample inserts a line that is made of the first sample.
func afterFirstSample(page []byte, insert func(line string) string) []byte {
	lines := splitLines(page)
	i := slices.IndexFunc(lines, isSample)
	if i < 0 {
		return page
	}
	return joinLines(slices.Insert(lines, i+1, insert(lines[i])))
}

// InterleavedFamilies orders the samples of a metrics page by service rather than by family.
func InterleavedFamilies(page []byte) []byte {
	var comments, samples []string
	for _, line := range splitLines(page) {
		if isSample(line) {
			samples = append(samples, line)
		} else if line != "" {
			comments = append(comments, line)
		}
	}
	slices.SortStableFunc(samples, func(a, b string) int {
		return strings.Compare(labelOf(a, "postgres_service"), labelOf(b, "postgres_service"))
	})
	return joinLines(append(comments, samples...))
}

// InvalidUTF8 puts bytes that are no UTF-8 into the first label value of a metrics page.
func InvalidUTF8(page []byte) []byte {
	return bytes.Replace(page, []byte(`postgres_service_name="`), []byte("postgres_service_name=\"\xff\xfe"), 1)
}

// HugeLabel returns a mutation that gives the first sample of a metrics page a label of n bytes.
func HugeLabel(n int) func([]byte) []byte {
	return func(page []byte) []byte {
		return bytes.Replace(page, []byte("} "), []byte(`,zz_huge="`+strings.Repeat("x", n)+`"} `), 1)
	}
}

// ManySeries returns a mutation that adds a family of n series to a metrics page, all of its
// first service.
func ManySeries(n int) func([]byte) []byte {
	return func(page []byte) []byte {
		id := labelOf(string(page[:min(len(page), 1<<10)]), "postgres_service")
		line := "PostgresServer_Many{postgres_service=\"" + id + "\",n=\""
		b := append(slices.Grow(slices.Clone(page), n*(len(line)+12)), "\n# TYPE PostgresServer_Many gauge\n"...)
		for i := range n {
			b = append(strconv.AppendInt(append(b, line...), int64(i), 10), "\"} 1\n"...)
		}
		return b
	}
}

// ReservedFamilies adds families to a metrics page whose names others think are theirs: those
// that a scraper, an exporter and its runtime make themselves.
func ReservedFamilies(page []byte) []byte {
	ids := identity(page)
	var b strings.Builder
	for _, name := range []string{"up", "scrape_duration_seconds", "go_goroutines", "clickhouse_postgres_service_info", "clickhouse_postgres_up"} {
		fmt.Fprintf(&b, "\n# HELP %s Not what you think.\n# TYPE %s gauge\n%s{%s} 42\n", name, name, name, ids)
	}
	return append(slices.Clone(page), b.String()...)
}

// LabelClash gives every sample of a metrics page labels that its reader may want to add itself.
func LabelClash(page []byte) []byte {
	return bytes.ReplaceAll(page, []byte(`",postgres_service_name="`), []byte(`",postgres_region="upstream",postgres_state="upstream",postgres_service_name="`))
}

// FutureFamilies adds what a metrics page never had but may: a histogram, a summary, an untyped
// family, one without any announcement, special values, escapes, names beyond ASCII, and
// timestamps.
func FutureFamilies(page []byte) []byte {
	return append(slices.Clone(page), strings.ReplaceAll(`
# HELP PostgresServer_QuerySeconds Time that queries take, with a \\ and a\nsecond line.
# TYPE PostgresServer_QuerySeconds histogram
PostgresServer_QuerySeconds_bucket{IDS,le="0.1"} 12
PostgresServer_QuerySeconds_bucket{IDS,le="1"} 40
PostgresServer_QuerySeconds_bucket{IDS,le="+Inf"} 42
PostgresServer_QuerySeconds_sum{IDS} 13.5
PostgresServer_QuerySeconds_count{IDS} 42

# HELP PostgresServer_LockSeconds Time that locks are waited for.
# TYPE PostgresServer_LockSeconds summary
PostgresServer_LockSeconds{IDS,quantile="0.5"} 0.01
PostgresServer_LockSeconds{IDS,quantile="0.99"} NaN
PostgresServer_LockSeconds_sum{IDS} 1.25e-05
PostgresServer_LockSeconds_count{IDS} 7

# HELP PostgresServer_Mystery Of no known type.
# TYPE PostgresServer_Mystery untyped
PostgresServer_Mystery{IDS,edge="nan"} NaN
PostgresServer_Mystery{IDS,edge="inf"} +Inf
PostgresServer_Mystery{IDS,edge="minus inf"} -Inf
PostgresServer_Mystery{IDS,edge="minus zero"} -0
PostgresServer_Mystery{IDS,edge="tiny"} 4.9e-324
PostgresServer_Mystery{IDS,edge="quote \" backslash \\ newline \n end"} 0.25
PostgresServer_Mystery{IDS,edge="größer 🐘"} 1e+300

PostgresServer_Bare{IDS} 3

# HELP PostgresServer_Stamped Samples that say when.
# TYPE PostgresServer_Stamped gauge
PostgresServer_Stamped{IDS} 5 1767225600000

# HELP "postgres.größe" A name beyond ASCII.
# TYPE "postgres.größe" gauge
{"postgres.größe",IDS,"label.with.dots"="yes"} 6
`, "IDS", identity(page))...)
}

// identity returns the labels, as text, of the first service of a page.
func identity(page []byte) string {
	head := string(page[:min(len(page), 64<<10)])
	label := func(name string) string { return name + `="` + labelOf(head, name) + `"` }
	return label("clickhouse_org") + "," + label("postgres_service") + "," + label("postgres_service_name")
}

// labelOf returns the value of a label where text first has it, escaped as it is there. It is
// good enough for pages of this package.
func labelOf(text, name string) string {
	_, after, _ := strings.Cut(text, name+`="`)
	value, _, _ := strings.Cut(after, `"`)
	return value
}

func isSample(line string) bool { return line != "" && line[0] != '#' }

func splitLines(page []byte) []string {
	return strings.Split(strings.TrimSuffix(string(page), "\n"), "\n")
}

func joinLines(lines []string) []byte { return []byte(strings.Join(lines, "\n") + "\n") }

// Catalogue returns one of each kind of fault, each with a name of its own, for tests that try
// them all. They are meant for pages of metrics, but for those that name other endpoints.
func Catalogue() []Fault {
	mutation := func(name string, mutate func([]byte) []byte) Fault { return Fault{Name: name, Mutate: mutate} }
	all := []Fault{
		{Name: "latency", Latency: 2 * time.Second},
		{Name: "slow body", BytesPerSecond: 1},
		{Name: "cut body", CutAfter: 1000},
		{Name: "cut after header", CutAfter: -1},
		{Name: "reset", Reset: true},
		{Name: "hang", Hang: true},
		{Name: "Content-Length too long", LengthLie: 100},
		{Name: "Content-Length too short", LengthLie: -100},
		{Name: "redirect", Redirect: "http://elsewhere.invalid"},
		HTML(),
		JSON(),
		EmptyBody(),
		EmptyList(),
		WrongContentType("application/octet-stream"),
		TruncatedGzip(),
		GzipBomb(1 << 30),
		mutation("oversized body", func(page []byte) []byte {
			return append(slices.Clone(page), bytes.Repeat([]byte("# Nothing to see here.\n"), 3<<20)...)
		}),
		mutation("malformed line", MalformedLine),
		mutation("duplicate series", DuplicateSeries),
		mutation("second type", SecondType),
		mutation("interleaved families", InterleavedFamilies),
		mutation("invalid UTF-8", InvalidUTF8),
		mutation("huge label", HugeLabel(10<<20)),
		mutation("many series", ManySeries(1_000_000)),
		mutation("reserved families", ReservedFamilies),
		mutation("label clash", LabelClash),
		mutation("future families", FutureFamilies),
	}
	for _, code := range []int{401, 403, 404, 500, 502, 503, 504} {
		all = append(all, Status(code))
	}
	for _, reset := range []string{"", "0", "0.2", "1000000000", "soon"} {
		f := TooManyRequests(reset, "")
		f.Name = strings.TrimSpace("status 429, reset " + reset)
		all = append(all, f)
	}
	f := TooManyRequests("", "3")
	f.Name = "status 429, retry after 3"
	return append(all, f)
}
