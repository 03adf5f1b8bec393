package modeltest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
)

// machine is upstream, several collectors that poll it, and an oracle for each.
type machine struct {
	t      rapid.TB // a *rapid.T or a *testing.T
	world  *world
	config config
	ids    []string // of all services that ever existed
	sides  []*side

	checked bool // since the collectors could do anything
}

// side is a collector, the answers that it got, and its oracle.
type side struct {
	upstream  upstream
	budget    *api.Budget
	collector *collector.Collector
	oracle    *oracle
	bugs      complaints
	stop      func()
}

// newMachine starts the collectors. Call it in a synctest bubble, and end the machine with end.
func newMachine(t rapid.TB, w *world, c config) *machine {
	t.Helper()
	m := &machine{t: t, world: w, config: c}
	w.Lock()
	for _, options := range variants() {
		s := &side{budget: budget(), oracle: newOracle(c)}
		s.upstream = upstream{world: w, troubles: map[string]trouble{}}
		o, err := c.organization(&s.upstream, s.budget)
		if err != nil {
			t.Fatal(err)
		}
		options.Logger = s.bugs.logger()
		options.Organizations = []collector.Organization{o}
		if s.collector, err = collector.New(options); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- s.collector.Run(ctx) }()
		s.stop = func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		m.sides = append(m.sides, s)
	}
	for _, s := range w.listed {
		m.ids = append(m.ids, s.id)
	}
	return m
}

func (m *machine) end() {
	m.world.Unlock()
	for _, s := range m.sides {
		s.stop()
	}
}

// pass lets time pass.
func (m *machine) pass(d time.Duration) {
	m.checked = false
	m.world.Unlock()
	defer m.world.Lock()
	<-time.After(d)
	synctest.Wait()
}

// disturb causes trouble with the next answers to a call.
func (m *machine) disturb(call string, t trouble) {
	for _, s := range m.sides {
		s.upstream.mu.Lock()
		s.upstream.troubles[call] = t
		s.upstream.mu.Unlock()
	}
}

// apply replaces the configuration.
func (m *machine) apply(c config) {
	m.t.Helper()
	m.checked = false
	m.world.Unlock()
	defer m.world.Lock()
	m.config = c
	for _, s := range m.sides {
		s.listen(m.t) // to what came before
		o, err := c.organization(&s.upstream, s.budget)
		if err != nil {
			m.t.Fatal(err)
		}
		if err := s.collector.Apply([]collector.Organization{o}); err != nil {
			m.t.Fatal(err)
		}
		s.oracle.reload(c)
	}
	synctest.Wait()
}

// check compares all pages of all collectors with those of the oracles. If nobody has asked
// upstream since it changed, there is nothing new to compare.
func (m *machine) check() {
	m.t.Helper()
	if m.checked {
		return
	}
	m.checked = true
	for n, s := range m.sides {
		s.listen(m.t)
		if bugs := s.bugs.all(); bugs != "" {
			m.t.Fatalf("collector %d says:\n%s", n, bugs)
		}
		bad := s.checkPage("", "")
		for _, id := range append([]string{""}, m.ids...) {
			if len(bad) == 0 { // one wrong page is enough
				bad = s.checkPage(organizationID, id)
			}
		}
		if s.oracle.found { // otherwise the name of the organization is unknown
			bad = append(bad, s.checkHealth()...)
		}
		if len(bad) > 0 {
			m.t.Fatalf("collector %d at %s:\n%s", n, time.Now().UTC().Format("15:04:05.000"), strings.Join(bad, "\n"))
		}
	}
}

// listen passes upstream's answers to the oracle.
func (s *side) listen(t rapid.TB) {
	for _, a := range s.upstream.take() {
		t.Log(a)
		s.oracle.take(a)
	}
}

// checkHealth returns what is wrong with the health page of the organization.
func (s *side) checkHealth() (bad []string) {
	page, err := serveHealth(s.collector)
	want, wantErr := s.oracle.expectHealth().textFacts()
	for _, line := range compare(page, readText, want, errors.Join(err, wantErr)) {
		bad = append(bad, "health: "+line)
	}
	return bad
}

// checkPage returns what is wrong with a page.
func (s *side) checkPage(org, service string) (bad []string) {
	what := strings.Trim("page "+org+"/"+service, "/")
	text, openMetrics, status := serve(s.collector, org, service)
	want := served
	if org != "" {
		want = s.oracle.status(service)
	}
	if status != want {
		return []string{fmt.Sprintf("%s is %s and should be %s", what, status, want)}
	}
	if status != served {
		return nil
	}
	e := s.oracle.expect(service)
	if org == "" {
		e = s.oracle.expectEverything()
	}
	facts, err := e.textFacts()
	for _, line := range compare(text, readText, facts, err) {
		bad = append(bad, what+", text: "+line)
	}
	if bad != nil {
		return bad // OpenMetrics will say the same
	}
	facts, err = e.openMetricsFacts()
	for _, line := range compare(openMetrics, readOpenMetrics, facts, err) {
		bad = append(bad, what+", OpenMetrics: "+line)
	}
	return bad
}
