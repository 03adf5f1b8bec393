package simulator

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator/internal/metrics"
)

const (
	metricsContentType = "text/plain; charset=UTF-8"

	// bytesPerLine is a line's usual length, for reserving memory.
	bytesPerLine = 210
)

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
	// A service created since the last refresh has nothing to report yet: its page is empty.
	if i := slices.IndexFunc(refresh.services, func(r *service) bool { return r.id == v.id }); i >= 0 {
		a.body = appendPage(nil, s.config.OrganizationID, refresh.services[i:i+1], refresh.tick, refresh.asOf)
	}
	return a, nil
}

// appendPage renders services as of tick. A service that is not running has PostgresServiceInfo
// only, and a family without series does not appear.
func appendPage(b []byte, organization string, services []*service, tick, asOf time.Time) []byte {
	type row struct {
		*service
		state   string
		id      string // the labels that identify the service, as text
		running bool
		values  [metrics.SeriesPerService]float64
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
			v.Values(tick, &r.values)
			lines += metrics.SeriesPerService - 1
		}
	}
	b = slices.Grow(b, lines*bytesPerLine)
	org := `clickhouse_org="` + organization + `",`

	first := 0 // index of the family's first value
	for fi, f := range metrics.Families() {
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
				b = append(append(append(b, f.Name...), ' '), f.Help...)
				b = append(b, "\n# TYPE "...)
				b = append(append(append(b, f.Name...), ' '), f.Type...)
				b = append(b, '\n')
			}
			if fi == 0 {
				b = append(append(append(append(b, f.Name...), '{'), org...), r.id...)
				b = append(append(b, `,postgres_status="`...), escaper.Replace(r.state)...)
				b = append(append(b, `",postgres_version="`...), r.version...)
				b = append(b, "\"} 1\n"...)
				continue
			}
			for i := range f.Series() {
				b = append(append(append(b, f.Name...), '{'), org...)
				// Labels are in alphabetical order, so some come before the service and one after.
				switch f.Label {
				case "":
					b = append(b, r.id...)
				case "state":
					b = append(append(append(b, r.id...), `,state="`...), f.Values[i]...)
					b = append(b, '"')
				case "database":
					b = append(append(append(b, `database="`...), r.Profile.Databases[i]...), `",`...)
					b = append(b, r.id...)
				default:
					b = append(append(append(b, f.Label...), `="`...), f.Values[i]...)
					b = append(append(b, `",`...), r.id...)
				}
				b = append(b, "} "...)
				b = strconv.AppendFloat(b, r.values[first+i], 'f', -1, 64)
				b = append(b, '\n')
			}
		}
		first += f.Series()
	}
	return b
}
