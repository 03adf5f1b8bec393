package simulator

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	metricsContentType = "text/plain; charset=UTF-8"

	// A line's usual length, for reserving memory.
	bytesPerLine = 210
	// rememberedViews is how far back Series knows the fleet as it was.
	rememberedViews = 32
)

// CapMode says what the organization-wide metrics page does when the organization has more
// services than Config.OrgMetricsLimit. The API documents the limit, and not what follows.
type CapMode int

const (
	// CapTruncate leaves services out: always the same ones as long as none comes or goes, in
	// an order that nothing tells.
	CapTruncate CapMode = iota
	// CapTruncateRotating leaves other services out at every refresh.
	CapTruncateRotating
	// CapReject answers 400.
	CapReject
)

// Sample is one series and its value.
type Sample struct {
	Name, Type string // family's name, and gauge or counter
	Labels     map[string]string
	Value      float64
}

// A view is the fleet as one refresh found it. It never changes.
type view struct {
	tick     time.Time // the time that values are of
	asOf     time.Time // the time that states are of: the tick, or later after Simulator.Refresh
	services []*service
}

// organizationPage is the organization-wide page of one view, rendered when it is first asked for. Only
// the latest view has one: it is large.
type organizationPage struct {
	text, gzip func() []byte
}

// capture returns the fleet as it is at the refresh in force at now. Every change of the fleet
// calls it first, so that a change shows at the next refresh and not before. The caller locks.
func (s *Simulator) capture(now time.Time) *view {
	tick := s.tick(now)
	if v := s.latest(); v != nil && v.tick.Equal(tick) {
		return v
	}
	s.fleet.keep(func(v *service) bool { return v.stateAt(tick) != stateGone })
	return s.remember(&view{tick: tick, asOf: tick})
}

// remember completes a view and makes it the latest.
func (s *Simulator) remember(v *view) *view {
	v.services = s.present(v.asOf)
	if len(s.views) == rememberedViews {
		s.views = slices.Delete(s.views, 0, 1)
	}
	s.views = append(s.views, v)
	p := organizationPage{text: sync.OnceValue(func() []byte {
		return appendPage(nil, s.config.OrganizationID, s.within(v), v.tick, v.asOf)
	})}
	p.gzip = sync.OnceValue(func() []byte { return compress(p.text()) })
	s.latestPage = p
	return v
}

// present returns the services that a refresh at asOf finds.
func (s *Simulator) present(asOf time.Time) []*service {
	return slices.DeleteFunc(s.fleet.live(asOf), func(v *service) bool { return v.createdAt.After(asOf) })
}

func (s *Simulator) latest() *view {
	if len(s.views) == 0 {
		return nil
	}
	return s.views[len(s.views)-1]
}

// tick returns the last refresh at or before t. The caller locks.
func (s *Simulator) tick(t time.Time) time.Time {
	interval := int64(s.config.RefreshInterval)
	since := t.UnixNano() - int64(s.config.Phase)
	rest := since % interval
	if rest < 0 {
		rest += interval
	}
	tick := time.Unix(0, t.UnixNano()-rest).UTC()
	if tick.Before(s.noTickBefore) {
		return s.noTickBefore
	}
	return tick
}

// within returns those services that the organization-wide page covers.
func (s *Simulator) within(v *view) []*service {
	limit := s.config.OrgMetricsLimit
	if limit < 0 || len(v.services) <= limit {
		return v.services
	}
	order := "cap"
	if s.config.CapMode == CapTruncateRotating {
		order += strconv.FormatInt(v.tick.UnixNano(), 10)
	}
	type ranked struct {
		rank  uint64
		index int
	}
	all := make([]ranked, len(v.services))
	for i, svc := range v.services {
		all[i] = ranked{hash(svc.key, order), i}
	}
	slices.SortFunc(all, func(a, b ranked) int { return cmp.Compare(a.rank, b.rank) })
	all = all[:limit]
	slices.SortFunc(all, func(a, b ranked) int { return cmp.Compare(a.index, b.index) })
	covered := make([]*service, limit)
	for i, r := range all {
		covered[i] = v.services[r.index]
	}
	return covered
}

// appendPage renders services as they are at tick. A service that does not run has
// PostgresServiceInfo only, and a family without series does not appear.
func appendPage(b []byte, organization string, services []*service, tick, asOf time.Time) []byte {
	type row struct {
		*service
		state   string
		id      string // the labels that say which service, as text
		running bool
		values  [seriesPerService]float64
	}
	escaper := strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
	rows := make([]row, len(services))
	lines := 0
	for i, v := range services {
		r := &rows[i]
		r.service, r.state = v, v.stateAt(asOf)
		r.id = `postgres_service="` + v.id + `",postgres_service_name="` + escaper.Replace(v.name) + `"`
		lines++
		if r.running = r.state == stateRunning; r.running {
			v.values(tick, &r.values)
			lines += seriesPerService - 1
		}
	}
	b = slices.Grow(b, lines*bytesPerLine)
	org := `clickhouse_org="` + organization + `",`

	first := 0 // index of the family's first value
	for fi, f := range families() {
		var headed bool
		for ri := range rows {
			r := &rows[ri]
			if !r.running && fi > 0 {
				continue
			}
			if !headed {
				if headed = true; len(b) > 0 {
					b = append(b, '\n')
				}
				b = append(b, "# HELP "...)
				b = append(append(append(b, f.name...), ' '), f.help...)
				b = append(b, "\n# TYPE "...)
				b = append(append(append(b, f.name...), ' '), f.typ...)
				b = append(b, '\n')
			}
			if fi == 0 {
				b = append(append(append(append(b, f.name...), '{'), org...), r.id...)
				b = append(append(b, `,postgres_status="`...), escaper.Replace(r.state)...)
				b = append(append(b, `",postgres_version="`...), r.version...)
				b = append(b, "\"} 1\n"...)
				continue
			}
			for i := range f.series() {
				b = append(append(append(b, f.name...), '{'), org...)
				// Labels are in alphabetical order, so some come before the service and one after.
				switch f.label {
				case "":
					b = append(b, r.id...)
				case "state":
					b = append(append(append(b, r.id...), `,state="`...), f.values[i]...)
					b = append(b, '"')
				case "database":
					b = append(append(append(b, `database="`...), r.profile.databases[i]...), `",`...)
					b = append(b, r.id...)
				default:
					b = append(append(append(b, f.label...), `="`...), f.values[i]...)
					b = append(append(b, `",`...), r.id...)
				}
				b = append(b, "} "...)
				b = strconv.AppendFloat(b, r.values[first+i], 'f', -1, 64)
				b = append(b, '\n')
			}
		}
		first += f.series()
	}
	return b
}

// samples returns what appendPage renders of one service.
func samples(organization string, v *service, tick, asOf time.Time) []Sample {
	labels := func(more ...string) map[string]string {
		l := map[string]string{"clickhouse_org": organization, "postgres_service": v.id, "postgres_service_name": v.name}
		for i := 0; i < len(more); i += 2 {
			l[more[i]] = more[i+1]
		}
		return l
	}
	state := v.stateAt(asOf)
	families := families()
	all := []Sample{{families[0].name, families[0].typ, labels("postgres_status", state, "postgres_version", v.version), 1}}
	if state != stateRunning {
		return all
	}
	var values [seriesPerService]float64
	v.values(tick, &values)
	next := 1
	for _, f := range families[1:] {
		for i := range f.series() {
			var l map[string]string
			switch f.label {
			case "":
				l = labels()
			case "database":
				l = labels(f.label, v.profile.databases[i])
			default:
				l = labels(f.label, f.values[i])
			}
			all = append(all, Sample{f.name, f.typ, l, values[next]})
			next++
		}
	}
	return all
}

func (s *Simulator) organizationMetrics(c *call) (any, error) {
	v := s.capture(c.now)
	if s.rejects(v) {
		return nil, badRequest("the organization has %d Postgres services, and this endpoint supports at most %d", len(v.services), s.config.OrgMetricsLimit)
	}
	p := s.latestPage
	// Rendering ten thousand services takes a while: not under the lock, and not twice.
	return answer{status: http.StatusOK, contentType: metricsContentType, gzip: p.gzip, render: p.text}, nil
}

func (s *Simulator) serviceMetrics(c *call) (any, error) {
	v, err := s.service(c)
	if err != nil {
		return nil, err
	}
	a := answer{status: http.StatusOK, contentType: metricsContentType}
	refresh := s.capture(c.now)
	// One that was created since the last refresh has nothing to report yet: an empty page.
	if i := slices.IndexFunc(refresh.services, func(r *service) bool { return r.id == v.id }); i >= 0 {
		a.body = appendPage(nil, s.config.OrganizationID, refresh.services[i:i+1], refresh.tick, refresh.asOf)
	}
	return a, nil
}

// Refreshed returns the refresh whose values are served at a moment.
func (s *Simulator) Refreshed(at time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tick(at)
}

// Series returns every series, of every service, with the values that are served at a moment:
// what the organization-wide page says when it has no limit. The fleet is that of the refresh
// in force at the time, if it is one of the last few that were served, and otherwise today's.
func (s *Simulator) Series(at time.Time) []Sample {
	v := s.viewAt(at)
	all := make([]Sample, 0, len(v.services)*seriesPerService)
	for _, svc := range v.services {
		all = append(all, samples(s.config.OrganizationID, svc, v.tick, v.asOf)...)
	}
	return all
}

// ServiceSeries returns that part of Series that one service reports, nil for an unknown one.
func (s *Simulator) ServiceSeries(id string, at time.Time) []Sample {
	v := s.viewAt(at)
	for _, svc := range v.services {
		if svc.id == id {
			return samples(s.config.OrganizationID, svc, v.tick, v.asOf)
		}
	}
	return nil
}

// Covered returns the ids of the services that the organization-wide page tells of at a moment,
// in the order of creation: all of them up to the limit. With CapReject it is nil above it.
func (s *Simulator) Covered(at time.Time) []string {
	v := s.viewAt(at)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rejects(v) {
		return nil
	}
	var ids []string
	for _, svc := range s.within(v) {
		ids = append(ids, svc.id)
	}
	return ids
}

func (s *Simulator) rejects(v *view) bool {
	limit := s.config.OrgMetricsLimit
	return s.config.CapMode == CapReject && limit >= 0 && len(v.services) > limit
}

func (s *Simulator) viewAt(at time.Time) *view {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.config.Now()
	s.capture(now)
	tick := s.tick(at)
	for _, v := range slices.Backward(s.views) {
		if v.tick.Equal(tick) {
			return v
		}
	}
	return &view{tick: tick, asOf: tick, services: s.present(tick)}
}

func compress(body []byte) []byte {
	var b bytes.Buffer
	// Speed counts more than size here, and neither the writer nor the level can fail.
	w, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	_, _ = w.Write(body)
	_ = w.Close()
	return b.Bytes()
}
