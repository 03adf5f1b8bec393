//go:build linux

package faulttest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"html"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

const module = "github.com/ClickHouse/clickhouse_postgres_exporter"

// binary is the exporter, built with the race detector; or the one that
// $FAULTTEST_EXPORTER names.
var binary = os.Getenv("FAULTTEST_EXPORTER")

// release builds the exporter as it is released, static and without the race detector,
// whose memory would be counted, and returns its path.
var release func() (string, error)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "faulttest")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	// Other users must be able to run what is built.
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // see above
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if binary == "" {
		binary = filepath.Join(dir, "exporter")
		if out, err := exec.Command("go", "build", "-race", "-o", binary, module).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "cannot build the exporter: %v\n%s", err, out)
			return 1
		}
	}
	release = sync.OnceValues(func() (string, error) {
		path := filepath.Join(dir, "released")
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, module)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=") // which may say -race
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w\n%s", err, out)
		}
		return path, nil
	})
	// Tests spend their time waiting, not computing.
	if f := flag.Lookup("test.parallel"); f != nil && f.Value.String() == f.DefValue {
		_ = flag.Set("test.parallel", "8")
	}
	return m.Run()
}

// patience is how long a test waits for what must come: long, since the machine may be
// busy with other tests.
const patience = 2 * time.Minute

// await waits until done holds, and fails the test if it does not in time. describe
// says what is there instead.
func await(t *testing.T, what string, done func() bool, describe func() string) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("in vain waited for: %s\n%s", what, describe())
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

// secret has what different ways of escaping change.
const (
	keyID  = "fault-key"
	secret = `hunt%me/+=&"\<7f3a9c1e5b2d>`
)

// secretForms are the secret in the forms in which it could leak.
func secretForms(id, secret string) []string {
	quoted, _ := json.Marshal(secret)
	forms := []string{
		secret,
		url.QueryEscape(secret),
		url.PathEscape(secret),
		html.EscapeString(secret),
		strings.Trim(strconv.Quote(secret), `"`),
		strings.Trim(string(quoted), `"`),
		fmt.Sprintf("%x", secret),
		"7f3a9c1e5b2d", // whatever the escaping
	}
	for _, text := range []string{secret, id + ":" + secret} {
		forms = append(forms, base64.RawStdEncoding.EncodeToString([]byte(text)), base64.RawURLEncoding.EncodeToString([]byte(text)))
	}
	return forms
}

// upstream is a simulated organization behind a link.
type upstream struct {
	*simulator.Simulator
	clock *simulator.Clock
	link  *link
	org   string

	mu       sync.Mutex
	arrivals []arrival
}

// arrival is a request as it was seen by a clock that does not stand still.
type arrival struct {
	at       time.Time
	endpoint string // path without ids
	status   int
}

// ServeHTTP lets the simulator answer, and notes when.
func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := time.Now()
	s := &statusWriter{ResponseWriter: w}
	defer func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.arrivals = append(u.arrivals, arrival{at, r.URL.Path, s.status})
	}()
	u.Simulator.ServeHTTP(s, r)
}

// seen returns the requests so far, in the order of their arrival.
func (u *upstream) seen() []arrival {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := slices.Clone(u.arrivals)
	slices.SortFunc(all, func(a, b arrival) int { return a.at.Compare(b.at) })
	return all
}

// statusWriter notes the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (s *statusWriter) WriteHeader(code int) {
	s.status = code
	s.ResponseWriter.WriteHeader(code)
}

// Unwrap is for http.ResponseController.
func (s *statusWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// newUpstream serves an organization without rate limit, whose clock stands still
// unless config has one.
func newUpstream(t *testing.T, config simulator.Config) *upstream {
	t.Helper()
	u := &upstream{clock: simulator.NewClock(time.Now().Truncate(time.Minute))}
	if config.Now == nil {
		config.Now = u.clock.Now
	}
	if config.Seed == 0 {
		config.Seed = 11
	}
	config.KeyID, config.KeySecret = keyID, secret
	u.Simulator = simulator.New(config)
	u.org = u.Config().OrganizationID
	server := httptest.NewServer(u)
	t.Cleanup(func() {
		u.ClearFaults()
		server.CloseClientConnections()
		server.Close()
	})
	u.link = newLink(t, server.Listener.Addr().String())
	return u
}

// refresh lets upstream's values move on.
func (u *upstream) refresh() { u.clock.Advance(u.Config().RefreshInterval) }

// wrong returns up to a few differences between upstream's series and those that
// are on a page as upstream's, apart from the labels that the exporter adds.
func (u *upstream) wrong(p page) []string {
	want, families := map[string]float64{}, map[string]bool{}
	for _, s := range u.Series(u.Config().Now()) {
		want[identity(s.Name, s.Labels)] = s.Value
		families[s.Name] = true
	}
	var diffs []string
	for _, s := range p.upstream() {
		if !families[s.name()] && s.name() != "" {
			continue // a fault's own
		}
		id := s.identity()
		value, known := want[id]
		switch {
		case !known:
			diffs = append(diffs, "not of upstream: "+id)
		case value != s.value:
			diffs = append(diffs, fmt.Sprintf("%s is %v and not %v", id, s.value, value))
		}
		delete(want, id)
	}
	for id := range want {
		diffs = append(diffs, "missing: "+id)
	}
	slices.Sort(diffs)
	return diffs[:min(len(diffs), 5)]
}

// identity is a series as upstream names it.
func identity(name string, l map[string]string) string {
	l = maps.Clone(l)
	l[model.MetricNameLabel] = name
	return labels.FromMap(l).String()
}

// link is a TCP connection to upstream that can fail. Safe for concurrent use.
type link struct {
	t       *testing.T
	address string
	target  atomic.Pointer[string]

	mu       sync.Mutex
	listener net.Listener // nil while connections are refused
	conns    map[net.Conn]struct{}
	hangUps  int

	silent atomic.Bool  // nothing passes, nothing ends
	cut    atomic.Int64 // bytes of an answer after which the connection is reset, 0 for never
}

// newLink makes a link on a loopback address of its own: on the address that all
// share, a port that is closed for a while may be given to somebody else.
func newLink(t *testing.T, target string) *link {
	t.Helper()
	own := net.IPv4(127, byte(1+rand.IntN(254)), byte(rand.IntN(256)), byte(1+rand.IntN(254))) //nolint:gosec // not a secret
	l := &link{t: t, address: net.JoinHostPort(own.String(), "0"), conns: map[net.Conn]struct{}{}}
	l.target.Store(&target)
	l.listen()
	t.Cleanup(l.refuse)
	return l
}

func (l *link) url() string { return "http://" + l.address }

func (l *link) host() string { return strings.Split(l.address, ":")[0] }

func (l *link) listen() {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listener != nil {
		return
	}
	listener, err := net.Listen("tcp", l.address)
	if err != nil {
		l.t.Fatal(err)
	}
	l.listener, l.address = listener, listener.Addr().String()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go l.serve(c)
		}
	}()
}

// hangUp hangs up on whoever is connected, or about to be.
func (l *link) hangUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hangUps++
	for c := range l.conns {
		_ = c.Close()
	}
}

// refuse makes upstream's port closed.
func (l *link) refuse() {
	l.mu.Lock()
	if l.listener != nil {
		_ = l.listener.Close()
		l.listener = nil
	}
	l.mu.Unlock()
	l.hangUp()
}

// restore ends every fault.
func (l *link) restore() {
	l.silent.Store(false)
	l.cut.Store(0)
	l.hangUp()
	l.listen()
}

// reset cuts every answer after n bytes.
func (l *link) reset(n int64) {
	l.cut.Store(n)
	l.hangUp()
}

// redirect leads elsewhere from now on.
func (l *link) redirect(target string) {
	l.target.Store(&target)
	l.hangUp()
}

// register takes in connections that were made after so many calls of hangUp.
func (l *link) register(hangUps int, conns ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	late := l.listener == nil || l.hangUps != hangUps
	for _, c := range conns {
		if late {
			_ = c.Close()
			continue
		}
		l.conns[c] = struct{}{}
	}
	return !late
}

func (l *link) serve(client net.Conn) {
	l.mu.Lock()
	hangUps := l.hangUps
	l.mu.Unlock()
	server, err := net.Dial("tcp", *l.target.Load())
	if err != nil {
		_ = client.Close()
		return
	}
	if !l.register(hangUps, client, server) {
		return
	}
	done := make(chan struct{}, 2)
	go func() { l.pump(server, client, 0); done <- struct{}{} }()
	go func() { l.pump(client, server, l.cut.Load()); done <- struct{}{} }()
	<-done
	_ = client.Close()
	_ = server.Close()
	<-done
	l.mu.Lock()
	delete(l.conns, client)
	delete(l.conns, server)
	l.mu.Unlock()
}

// pump copies until one side ends, or resets the connection after limit bytes, if
// that is not 0.
func (l *link) pump(to, from net.Conn, limit int64) {
	buf := make([]byte, 4096)
	for sum := int64(0); ; {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if l.silent.Load() {
			continue
		}
		if sum += int64(n); limit > 0 && sum >= limit {
			_, _ = to.Write(buf[:n-int(sum-limit)])
			_ = to.(*net.TCPConn).SetLinger(0)
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// output is what a process prints. Safe for concurrent use.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// lines returns the lines that hold all of the words.
func (o *output) lines(words ...string) []string { return o.since(0, words...) }

// size is how much there is so far, for since.
func (o *output) size() int { return len(o.String()) }

// since returns those of the lines after the first size bytes.
func (o *output) since(size int, words ...string) []string {
	var found []string
	for line := range strings.Lines(o.String()[size:]) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// exporter is the real binary at work.
type exporter struct {
	t       *testing.T
	org     string
	address string
	client  *http.Client
	command *exec.Cmd
	log     *output
	leaks   atomic.Int64  // answers that held the secret
	ended   chan struct{} // closed when the process has

	code     int // expected when it ends
	stopOnce sync.Once
}

// setup changes how an exporter is started.
type setup func(*exec.Cmd)

// flags adds to the command line, in place of earlier ones of the same name.
func flags(args ...string) setup {
	return func(c *exec.Cmd) {
		for _, arg := range args {
			name, _, _ := strings.Cut(arg, "=")
			c.Args = slices.DeleteFunc(c.Args, func(a string) bool { return strings.HasPrefix(a, name+"=") })
			c.Args = append(c.Args, arg)
		}
	}
}

// env sets variables, and removes those without a value.
func env(vars ...string) setup {
	return func(c *exec.Cmd) {
		for _, v := range vars {
			name, value, _ := strings.Cut(v, "=")
			c.Env = slices.DeleteFunc(c.Env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
			if value != "" {
				c.Env = append(c.Env, v)
			}
		}
	}
}

// fast polls several times a second.
func fast() setup {
	return flags(
		"--api.rate-limit=1000", "--api.rate-use=1000", "--api.rate-window=1s",
		"--metrics.interval=200ms", "--inventory.interval=200ms",
	)
}

// hasty gives up on an answer after a while in which a good one comes on any machine.
func hasty() setup { return flags("--api.timeout=6s") }

// start runs the exporter of an organization until the test ends, when it must stop
// within bounds and have told nobody the secret.
func start(t *testing.T, u *upstream, setups ...setup) *exporter {
	t.Helper()
	e := launch(t, u, setups...)
	await(t, "listening", func() bool {
		for _, line := range e.log.lines(`msg="Listening on"`) {
			_, e.address, _ = strings.Cut(line, "address=")
			return true
		}
		select {
		case <-e.ended:
			t.Fatalf("ended:\n%s", e.log)
		default:
		}
		return false
	}, e.log.String)
	return e
}

func launch(t *testing.T, u *upstream, setups ...setup) *exporter {
	t.Helper()
	e := &exporter{
		t: t, org: u.org, log: &output{}, ended: make(chan struct{}),
		client: &http.Client{Transport: &http.Transport{DisableCompression: true}, Timeout: patience},
	}
	cmd := exec.Command(binary, "--web.listen-address=127.0.0.1:0")
	cmd.Env = []string{
		"GORACE=atexit_sleep_ms=0",
		"CLICKHOUSE_API_URL=" + u.link.url(),
		"CLICKHOUSE_CLOUD_API_KEY=" + keyID,
		"CLICKHOUSE_CLOUD_API_SECRET=" + secret,
		"CLICKHOUSE_ORG_ID=" + u.org,
	}
	cmd.Stdout, cmd.Stderr = e.log, e.log
	for _, s := range setups {
		s(cmd)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	e.command = cmd
	go func() {
		_ = cmd.Wait()
		close(e.ended)
	}()
	t.Cleanup(func() {
		e.stop()
		e.client.CloseIdleConnections()
	})
	return e
}

// stop ends the exporter as Kubernetes does, and holds what it leaves behind against
// what is always expected.
func (e *exporter) stop() {
	e.stopOnce.Do(func() {
		e.t.Helper()
		select {
		case <-e.ended:
		default:
			if e.address != "" {
				e.browse()
			}
			_ = e.command.Process.Signal(syscall.SIGTERM)
			select {
			case <-e.ended:
			case <-time.After(patience):
				_ = e.command.Process.Signal(syscall.SIGQUIT)
				<-e.ended
				e.t.Errorf("did not stop:\n%s", e.log)
			}
		}
		if code := e.command.ProcessState.ExitCode(); code != e.code {
			e.t.Errorf("exit code %d, want %d:\n%s", code, e.code, tail(e.log.String()))
		}
		for _, word := range []string{"DATA RACE", "panic", "goroutine 1 ["} {
			if lines := e.log.lines(word); len(lines) > 0 {
				e.t.Errorf("%s:\n%s", word, e.log)
			}
		}
		e.hunt()
	})
}

func tail(s string) string { return s[max(0, len(s)-8000):] }

// browse asks for every page there is, so that all of them are searched.
func (e *exporter) browse() {
	service := "/v1/organizations/" + e.org + "/postgres"
	for _, path := range []string{
		"/", "/metrics", "/-/healthy", "/-/ready", "/sd", "/status", "/api/v1/status", "/config", "/flags",
		"/debug/pprof/", "/debug/pprof/cmdline", "/debug/vars",
		service + "/prometheus", service + "/unknown/prometheus", "/v1/organizations/unknown/postgres/prometheus",
	} {
		for _, accept := range []string{"", "application/openmetrics-text;version=1.0.0"} {
			if accept != "" && path != "/metrics" {
				continue
			}
			_, _, _ = e.try(http.MethodGet, path, "Accept", accept, "X-Prometheus-Scrape-Timeout-Seconds", "0.2")
		}
	}
}

// hunt searches everything that the exporter has ever emitted for the secret.
func (e *exporter) hunt() {
	e.t.Helper()
	if found := leak(e.log.String()); found != "" {
		e.t.Errorf("the secret is in the log:\n%s", found)
	}
	if n := e.leaks.Load(); n > 0 {
		e.t.Errorf("the secret is in %d answers", n)
	}
}

// leak returns where a text holds the secret, in whatever form, "" if nowhere.
func leak(text string) string {
	for _, form := range secretForms(keyID, secret) {
		if at := strings.Index(text, form); at >= 0 {
			return fmt.Sprintf("%.400s", text[max(0, at-200):])
		}
	}
	return ""
}

// wantNoLine fails the test if the log has lines with the words.
func (e *exporter) wantNoLine(words ...string) {
	e.t.Helper()
	if lines := e.log.lines(words...); len(lines) > 0 {
		e.t.Errorf("log:\n%s", strings.Join(lines, "\n"))
	}
}

// try sends a request and searches what is answered.
func (e *exporter) try(method, path string, header ...string) (code int, body string, err error) {
	r, err := http.NewRequestWithContext(context.Background(), method, "http://"+e.address+path, nil)
	if err != nil {
		return 0, "", err
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := e.client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, "", err
	}
	body = string(content)
	if found := leak(fmt.Sprint(resp.Header)) + leak(body); found != "" {
		e.leaks.Add(1)
		e.t.Errorf("%s %s tells the secret:\n%s", method, path, found)
	}
	return resp.StatusCode, body, nil
}

func (e *exporter) get(path string, header ...string) (code int, body string) {
	e.t.Helper()
	code, body, err := e.try(http.MethodGet, path, header...)
	if err != nil {
		e.t.Fatalf("GET %s: %v\n%s", path, err, tail(e.log.String()))
	}
	return code, body
}

// scrape returns the page of everything, which must be whole and well formed.
func (e *exporter) scrape() page {
	e.t.Helper()
	code, body := e.get("/metrics", "X-Prometheus-Scrape-Timeout-Seconds", "10")
	if code != http.StatusOK {
		e.t.Fatalf("scrape: %d: %.300s", code, body)
	}
	p, err := parse(body)
	if err != nil {
		e.t.Fatalf("not a page that Prometheus takes: %v", err)
	}
	return p
}

// await scrapes until the page is as wanted.
func (e *exporter) await(what string, done func(page) bool) page {
	e.t.Helper()
	var p page
	await(e.t, what, func() bool { p = e.scrape(); return done(p) }, func() string {
		return p.health() + "\n" + tail(e.log.String())
	})
	return p
}

// ready waits until upstream's series are all there.
func (e *exporter) ready(u *upstream) page {
	e.t.Helper()
	return e.await("all of upstream's series with their values", func(p page) bool {
		return p.is("clickhouse_postgres_up", 1) && len(u.wrong(p)) == 0
	})
}

// page is an exposition in Prometheus's text format.
type page []series

type series struct {
	labels labels.Labels
	value  float64
}

// name is the metric's.
func (s series) name() string { return s.labels.Get(model.MetricNameLabel) }

// identity is the series without what the exporter adds by default, and without
// the label that one fault adds.
func (s series) identity() string {
	return labels.NewBuilder(s.labels).Del("postgres_region", "postgres_size", "postgres_state", "zz_huge").Labels().String()
}

// parse reads a page by Prometheus's own parser, and checks what that does not:
// that no series comes twice, and that families are announced once and not torn
// apart.
func parse(text string) (page, error) {
	var (
		p      page
		seen   = map[string]bool{}
		types  = map[string]bool{}
		closed = map[string]bool{}
		family string
	)
	parser := textparse.NewPromParser([]byte(text), labels.NewSymbolTable(), false)
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			return p, nil
		}
		if err != nil {
			return nil, err
		}
		switch entry {
		case textparse.EntryType:
			name, _ := parser.Type()
			if types[string(name)] {
				return nil, fmt.Errorf("TYPE of %s comes twice", name)
			}
			types[string(name)] = true
			closed[family] = true
			if family = string(name); closed[family] {
				return nil, fmt.Errorf("family %s is torn apart", name)
			}
		case textparse.EntrySeries:
			var l labels.Labels
			_, _, value := parser.Series()
			parser.Labels(&l)
			key := string(l.Bytes(nil))
			if seen[key] {
				return nil, fmt.Errorf("%s comes twice", l)
			}
			seen[key] = true
			p = append(p, series{l, value})
		}
	}
}

// upstream returns the series that are upstream's.
func (p page) upstream() page {
	var found page
	for _, s := range p {
		if strings.HasPrefix(s.name(), "Postgres") {
			found = append(found, s)
		}
	}
	return found
}

// find returns the series of that name that have the labels, given as name and value
// in turn.
func (p page) find(name string, pairs ...string) page {
	var found page
	for _, s := range p {
		ok := s.name() == name
		for i := 0; ok && i < len(pairs); i += 2 {
			ok = s.labels.Get(pairs[i]) == pairs[i+1]
		}
		if ok {
			found = append(found, s)
		}
	}
	return found
}

// sum is the sum of the values of what find finds.
func (p page) sum(name string, pairs ...string) float64 {
	total := 0.0
	for _, s := range p.find(name, pairs...) {
		total += s.value
	}
	return total
}

// is tells whether there are such series, all of which have the value.
func (p page) is(name string, value float64, pairs ...string) bool {
	found := p.find(name, pairs...)
	return len(found) > 0 && !slices.ContainsFunc(found, func(s series) bool { return s.value != value })
}

// ids are the sorted identities of series as they are exposed, labels of the
// exporter's own included.
func (p page) ids() []string {
	var ids []string
	for _, s := range p {
		ids = append(ids, s.labels.String())
	}
	slices.Sort(ids)
	return ids
}

// health is what the page says of the exporter's health, for people.
func (p page) health() string {
	var b strings.Builder
	for _, s := range p {
		if name := s.name(); strings.HasPrefix(name, "clickhouse_postgres_") && !strings.Contains(name, "_bucket") && !strings.Contains(name, "service_state") {
			fmt.Fprintf(&b, "%s %v\n", s.labels, s.value)
		}
	}
	return b.String()
}

const (
	failuresName = "clickhouse_postgres_exporter_api_request_failures_total"
	refusedName  = "clickhouse_postgres_exporter_pages_refused_total"
	pollsName    = "clickhouse_postgres_exporter_poll_duration_seconds_count"
	droppedName  = "clickhouse_postgres_exporter_series_dropped_total"
	successName  = "clickhouse_postgres_exporter_metrics_last_success_timestamp_seconds"
	listedName   = "clickhouse_postgres_exporter_inventory_last_success_timestamp_seconds"

	organizationMetrics = "organization_metrics"
	services            = "services"
)

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil { //nolint:gosec // others must read it
		t.Fatal(err)
	}
}

// discard is a log for servers that fail on purpose.
func discard() *log.Logger { return log.New(io.Discard, "", 0) }

// differences returns up to a few differences between two pages, "" for none.
func differences(before, after page) string {
	was, is := values(before), values(after)
	var diffs []string
	for id, value := range was {
		if now, ok := is[id]; !ok {
			diffs = append(diffs, "- "+id)
		} else if now != value {
			diffs = append(diffs, fmt.Sprintf("~ %s was %v, is %v", id, value, now))
		}
	}
	for id := range is {
		if _, ok := was[id]; !ok {
			diffs = append(diffs, "+ "+id)
		}
	}
	slices.Sort(diffs)
	return strings.Join(diffs[:min(len(diffs), 6)], "\n")
}

// relabelled returns up to a few series that are only on one of two pages.
func relabelled(before, after page) string {
	var diffs []string
	was, is := values(before), values(after)
	for id := range was {
		if _, ok := is[id]; !ok {
			diffs = append(diffs, "- "+id)
		}
	}
	for id := range is {
		if _, ok := was[id]; !ok {
			diffs = append(diffs, "+ "+id)
		}
	}
	slices.Sort(diffs)
	return strings.Join(diffs[:min(len(diffs), 6)], "\n")
}

// values are the series and what they are worth.
func values(p page) map[string]float64 {
	all := map[string]float64{}
	for _, s := range p {
		all[s.labels.String()] = s.value
	}
	return all
}
