package web

import (
	"cmp"
	"maps"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

// pageView is what the template shows. Texts are plain: the template escapes them.
type pageView struct {
	Name         string
	Build        map[string]string
	Now, Started time.Time
	Uptime       string

	Class    string // ok, warning, error or starting
	Headline string
	Facts    []string

	Problems, Resolved []problem

	// Either all of this, or one service.
	Cards   []cardView
	Table   tableView
	Service *rowView

	MetricsPath string
}

// cardView is an organization as the page shows it.
type cardView struct {
	Name, ID   string
	Class      string
	Condition  string // up, down or starting
	Services   int
	States     []stateView
	Newest     string // data age
	Oldest     string
	Never      int    // services that should have been read but never were
	List       string // age of the list of services, "" if it has not been read
	Next       string // request
	Upstream   string // its refresh interval
	Refresh    string // interval
	Series     int
	Bytes      int64
	Budget     collector.BudgetStatus
	BudgetFill int // of 100
	Window     string
	Paused     string
	Page       string // path of the organization's metrics
	Charts     []chart
}

// stateView is a state and how many services are in it.
type stateView struct {
	Name, Class string
	Count       int
	X, Width    float64 // of 100
	Link        string
}

// view returns the page of a status.
func (p *statusPage) view(s collector.Status, q tableQuery) pageView {
	v := pageView{
		Name: p.name, Build: p.build, Now: s.Time, Started: p.started,
		Uptime:      formatDuration(math.Floor(max(0, s.Time.Sub(p.started).Seconds()))),
		MetricsPath: strings.TrimPrefix(p.telemetryPath, "/"),
	}
	v.Problems, v.Resolved = p.history.problems(findProblems(s))
	for i := range v.Problems {
		completeProblem(&v.Problems[i], &s)
	}
	for i := range v.Resolved {
		completeProblem(&v.Resolved[i], &s)
	}
	v.summarize(&s)
	several := len(s.Organizations) > 1
	rows := q.rows(&s)
	if q.service != "" {
		v.Service = &rowView{} // which has no name: there is no such service
		if len(rows) > 0 {
			v.Service = newServiceView(&rows[0], several, s.Time, p.history)
		}
		return v
	}
	for i := range s.Organizations {
		v.Cards = append(v.Cards, newCard(&s.Organizations[i], s.Time, p.history, several))
	}
	pages := max(1, (len(rows)+q.perPage-1)/q.perPage)
	q.page = min(q.page, pages)
	first := (q.page - 1) * q.perPage
	v.Table = newTable(s, q, len(rows), pages, first)
	for i := range rows[first:min(first+q.perPage, len(rows))] {
		v.Table.Rows = append(v.Table.Rows, newRow(&rows[first+i], i, p.history))
	}
	return v
}

// completeProblem fills in what depends on the page.
func completeProblem(p *problem, s *collector.Status) {
	if !p.Since.IsZero() {
		p.Duration = formatAge(max(0, cmp.Or(p.Until, s.Time).Sub(p.Since).Seconds()))
	}
	query := p.query
	if len(s.Organizations) > 1 {
		query += "&organization=" + url.QueryEscape(p.organizationID)
		if i := slices.IndexFunc(s.Organizations, func(o collector.OrganizationStatus) bool { return o.ID == p.Organization }); i >= 0 {
			p.Organization = cmp.Or(s.Organizations[i].Name, p.Organization)
		}
	} else {
		p.Organization = "" // goes without saying
	}
	if p.query != "" && p.Until.IsZero() {
		p.Link = "?" + query + "#services"
	}
}

// summarize says in a few words whether everything works.
func (v *pageView) summarize(s *collector.Status) {
	failures, warnings := 0, 0
	for _, p := range v.Problems {
		switch p.Severity {
		case severityError:
			failures++
		case severityWarning:
			warnings++
		}
	}
	starting, services, running, pending, never, series, oldest := false, 0, 0, 0, 0, 0, 0.0
	disks := map[string]int{} // by class
	for i := range s.Organizations {
		o := &s.Organizations[i]
		starting = starting || !o.Inventory.Tried && o.Error == ""
		services += len(o.Services)
		running += o.ServicesByState[inventory.StateRunning]
		for j := range o.Services {
			if isPending(&o.Services[j]) {
				pending++
			}
			disks[diskClass(&o.Services[j])]++
		}
		never += neverRead(o)
		series += o.Series
		if _, age, ok := dataAges(o); ok {
			oldest = max(oldest, age)
		}
	}
	switch {
	case failures > 0:
		v.Class, v.Headline = "error", plural(failures+warnings, "problem", "problems")
	case warnings > 0:
		v.Class, v.Headline = "warning", "Serving metrics, with "+plural(warnings, "problem", "problems")
	case starting:
		v.Class, v.Headline = "starting", "Starting: waiting for the first response from ClickHouse Cloud"
	case pending > 0:
		v.Class, v.Headline = "starting", "Starting: some services have not been read yet"
	default:
		v.Class, v.Headline = "ok", "Everything works"
	}
	if len(s.Organizations) != 1 {
		v.Facts = append(v.Facts, plural(len(s.Organizations), "organization", "organizations"))
	}
	v.Facts = append(v.Facts, plural(services, "service", "services")+", "+formatInteger(running)+" running")
	if n := disks["bad"]; n > 0 {
		v.Facts = append(v.Facts, formatInteger(n)+" read-only")
	}
	if n := disks["warn"]; n > 0 {
		v.Facts = append(v.Facts, plural(n, "disk", "disks")+" above "+formatPercent(diskWarning))
	}
	if series > 0 {
		v.Facts = append(v.Facts, formatInteger(series)+" series", "oldest data "+formatAge(oldest))
	}
	if never > 0 {
		v.Facts = append(v.Facts, formatInteger(never)+" never read")
	}
}

// newCard returns the card of an organization, one of several or the only one.
func newCard(o *collector.OrganizationStatus, now time.Time, history *History, several bool) cardView {
	c := cardView{
		Name: cmp.Or(o.Name, o.ID, "Unknown organization"), ID: o.ID,
		Services: len(o.Services), Series: o.Series, Bytes: o.PageBytes,
		Budget: o.Budget, Window: formatDuration(o.Budget.WindowSeconds),
		Refresh: "every " + formatDuration(math.Ceil(o.RefreshSeconds)),
		Newest:  "no data yet", Never: neverRead(o),
	}
	if o.ID == "" {
		c.ID = "id not known yet"
	} else {
		c.Page = "v1/organizations/" + url.PathEscape(o.ID) + "/postgres/prometheus"
	}
	switch {
	case o.Up:
		c.Class, c.Condition = "good", "up"
	case !o.Inventory.Tried && o.Error == "":
		c.Class, c.Condition = "changing", "starting"
	default:
		c.Class, c.Condition = "bad", "down"
	}
	if newest, oldest, ok := dataAges(o); ok {
		c.Newest, c.Oldest = formatAge(newest), formatAge(oldest)
	} else if !o.MetricsLastSuccess.IsZero() {
		c.Newest = formatAge(now.Sub(o.MetricsLastSuccess).Seconds())
	}
	if !o.Inventory.LastSuccess.IsZero() {
		c.List = formatAge(o.Inventory.AgeSeconds)
	}
	c.Next = nextRequest(o, now)
	switch {
	case o.UpstreamRefreshNext.IsZero() && o.MetricsCall == schedule.CallRegularly:
		c.Upstream = "interval not known yet"
	case o.UpstreamRefreshNext.IsZero():
		c.Upstream = "not used: services are read one by one"
	default:
		c.Upstream = "every " + formatDuration(math.Round(o.UpstreamRefreshSeconds))
		if in := o.UpstreamRefreshNext.Sub(now).Seconds(); in > 0 {
			c.Upstream += ", next in " + formatAge(in)
		}
	}
	if o.Budget.PausedUntil.After(now) {
		c.Paused = formatAge(o.Budget.PausedUntil.Sub(now).Seconds())
	}
	if o.Budget.Limit > 0 {
		c.BudgetFill = min(100, 100*o.Budget.Used/o.Budget.Limit)
	}
	c.States = stateShares(o, several)

	moments, values := history.track(trackKey{o.ID, ""})
	plot := func(title, class string, top float64, column int, format func(float64) string) chart {
		return chart{Title: title, Class: class, Width: 240, Height: 48, MaxPoints: maxMoments, Top: top}.draw(moments, values[column], format)
	}
	c.Charts = []chart{
		plot("Poll duration", "poll", 0, pollSeconds, formatDuration),
		plot("Oldest data", "age", 0, ageSeconds, formatAge),
		plot("Budget used", "budget", 1, budgetUsed, formatPercent),
	}
	return c
}

// nextRequest says what is requested next, and when.
func nextRequest(o *collector.OrganizationStatus, now time.Time) string {
	what := "a request"
	switch o.Next.Endpoint {
	case "":
		if o.Inventory.Tried {
			return "none while responses are pending"
		}
		return "the list of services"
	case api.EndpointServices:
		what = "the list of services"
	case api.EndpointOrganizationMetrics:
		what = "metrics"
	case api.EndpointServiceMetrics:
		what = "a service's metrics"
	case api.EndpointService, api.EndpointServiceConfig:
		what = "a service's details"
	case api.EndpointBackups:
		what = "a service's backups"
	case api.EndpointQuotas:
		what = "quotas"
	}
	if in := o.Next.At.Sub(now).Seconds(); in >= 1 {
		return what + " in " + formatAge(in)
	}
	return what + " now"
}

// stateShares returns how many services are in each state, most frequent first.
func stateShares(o *collector.OrganizationStatus, several bool) []stateView {
	total := 0
	for _, n := range o.ServicesByState {
		total += n
	}
	names := slices.SortedFunc(maps.Keys(o.ServicesByState), func(a, b string) int {
		return cmp.Or(cmp.Compare(o.ServicesByState[b], o.ServicesByState[a]), cmp.Compare(a, b))
	})
	var list []stateView
	x := 0.0
	for _, name := range names {
		n := o.ServicesByState[name]
		if n == 0 {
			continue
		}
		q := tableQuery{state: name, page: 1, perPage: defaultPerPage}
		if several {
			q.organization = o.ID
		}
		s := stateView{
			Name: cmp.Or(name, inventory.StateUnknown), Class: stateClass(name), Count: n,
			X: x, Width: 100 * float64(n) / float64(total), Link: q.link(),
		}
		if name == "" {
			s.Link = ""
		}
		x += s.Width
		list = append(list, s)
	}
	return list
}
