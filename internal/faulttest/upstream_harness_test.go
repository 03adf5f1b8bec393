//go:build linux

package faulttest

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// upstream is a simulated organization behind a link.
type upstream struct {
	*simulator.Simulator
	clock *simulator.Clock
	link  *link
	org   string

	mu       sync.Mutex
	arrivals []arrival
}

// arrival is a request, with its time by the real clock.
type arrival struct {
	at       time.Time
	endpoint string // path without ids
	status   int
}

// ServeHTTP has the simulator answer, and records the request.
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

// seen returns the requests so far, in order of arrival.
func (u *upstream) seen() []arrival {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := slices.Clone(u.arrivals)
	slices.SortFunc(all, func(a, b arrival) int { return a.at.Compare(b.at) })
	return all
}

// statusWriter records the status.
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

// newUpstream serves an organization without a rate limit. Its clock stands still unless config has
// one.
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

// refresh advances the clock to upstream's next values.
func (u *upstream) refresh() { u.clock.Advance(u.Config().RefreshInterval) }

// wrong returns the first few differences between upstream's series and those on a page, apart from
// the labels that the exporter adds.
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

// identity returns a series as upstream names it.
func identity(name string, l map[string]string) string {
	l = maps.Clone(l)
	l[model.MetricNameLabel] = name
	return labels.FromMap(l).String()
}
