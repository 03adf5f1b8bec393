package web

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

// What the template is given. Texts are plain: the template escapes them.

type pageView struct {
	Name, Version string
	Now, Started  time.Time
	Up            string // for how long the process has run

	Verdict verdictView
	// Problems are those that there are; Over are those of the last hour.
	Problems, Over []problemView

	Cards []cardView
	Table tableView

	MetricsPath string
}

type verdictView struct {
	Class    string // ok, warning, error or starting
	Headline string
	Facts    []string
}

type problemView struct {
	problem
	Organization string // "" where there is but one
	For          string // how long it has lasted, or did
	Link         string // to the services it is about
}

type cardView struct {
	Name, ID   string
	Class      string // of the pill
	Condition  string
	Services   int
	States     []stateView
	Newest     string // data age
	Oldest     string
	List       string // age of the list of services
	Next       string
	Rhythm     string
	Refresh    string
	Series     int
	Bytes      int64
	Budget     collector.BudgetStatus
	BudgetFill int // of 100
	Window     string
	Paused     string
	Page       string // path of the organization's metrics
	Plots      []figureView
}

type stateView struct {
	Name, Class string
	Count       int
	X, Width    float64 // of 100
	Link        string
}

// figureView is a plot with its words.
type figureView struct {
	Title, Latest, Greatest string
	Label                   string // for those who cannot see it
	Class                   string
	Plot                    plot
	Span                    string
}

type tableView struct {
	Search        string
	Descending    bool
	OnlyProblems  bool
	Total         int // services that are known
	Selected      int
	First, Last   int
	Several       bool // organizations
	Columns       []columnView
	Rows          []rowView
	Organizations []choiceView
	States        []choiceView
	Regions       []choiceView
	PerPage       []choiceView
	Sorts         []choiceView
	Pages         []pageLink
	Previous      string // links, "" for none
	Next          string
	Caption       string
	Reset         string
}

type columnView struct {
	Key, Title string
	Numeric    bool
	Sort       string // of aria-sort, "" if the table is not sorted by it
	Link       string
}

type choiceView struct {
	Value, Text string
	Selected    bool
}

type pageLink struct {
	Number  int // 0 for a gap
	Link    string
	Current bool
}

type rowView struct {
	Key               string // unique on the page
	Name, ID, Link    string
	Organization      string
	State, StateClass string
	Region, Size      string
	HA, Version, Role string
	CPU, Connections  figureView
	Disk              figureView
	Age, AgeClass     string
	Series            string
	Tags, MoreTags    []string
	Error             string
}

const (
	// shownTags is how many tags of a service are seen without unfolding them.
	shownTags = 3
	// longestTag is how many characters of one are shown.
	longestTag = 60
	// longestError bounds an error in the table, in bytes.
	longestError = 600
	// mostChoices bounds the lists to choose from; states and regions are few.
	mostChoices = 200
)

// view makes the page of a status.
func (p *statusPage) view(s collector.Status, sel selection) pageView {
	v := pageView{
		Name: p.name, Version: p.version, Now: s.Time, Started: p.started,
		Up:          spell(math.Floor(max(0, s.Time.Sub(p.started).Seconds()))),
		MetricsPath: strings.TrimPrefix(p.telemetryPath, "/"),
	}
	several := len(s.Organizations) > 1
	for _, pr := range p.problems(s) {
		end := cmp.Or(pr.Until, s.Time)
		pv := problemView{problem: pr}
		if !pr.Since.IsZero() {
			pv.For = ago(max(0, end.Sub(pr.Since).Seconds()))
		}
		if several {
			pv.Organization = organizationName(s, pr.Organization)
		}
		if pr.query != "" && pr.Until.IsZero() {
			q := pr.query
			if several {
				q += "&organization=" + url.QueryEscape(pr.key.organization)
			}
			pv.Link = "?" + q + "#services"
		}
		if pr.Until.IsZero() {
			v.Problems = append(v.Problems, pv)
		} else {
			v.Over = append(v.Over, pv)
		}
	}
	v.Verdict = verdict(s, v.Problems)

	rows := sel.apply(&s)
	pages := max(1, (len(rows)+sel.perPage-1)/sel.perPage)
	sel.page = min(sel.page, pages)
	first := (sel.page - 1) * sel.perPage
	shown := rows[first:min(first+sel.perPage, len(rows))]

	var past pastHour
	if p.history != nil {
		keys := make([]trackKey, 0, len(s.Organizations)+len(shown))
		for _, o := range s.Organizations {
			keys = append(keys, trackKey{o.ID, ""})
		}
		for _, r := range shown {
			keys = append(keys, trackKey{r.organization.ID, r.service.ID})
		}
		past = p.history.pick(keys)
	}
	for i := range s.Organizations {
		v.Cards = append(v.Cards, card(&s.Organizations[i], s.Time, past, several))
	}
	v.Table = table(s, sel, len(rows), pages, first)
	for i := range shown {
		v.Table.Rows = append(v.Table.Rows, serviceRow(&shown[i], i, past))
	}
	return v
}

// organizationName returns how people call the organization of that id.
func organizationName(s collector.Status, id string) string {
	for _, o := range s.Organizations {
		if o.ID == id {
			return cmp.Or(o.Name, id)
		}
	}
	return id
}

// verdict is the answer to what is looked at first: does it work?
func verdict(s collector.Status, problems []problemView) verdictView {
	var v verdictView
	counts := map[severity]int{}
	for _, p := range problems {
		counts[p.Severity]++
	}
	starting, services, running, ahead, series, oldest := false, 0, 0, 0, 0, 0.0
	for _, o := range s.Organizations {
		starting = starting || !o.Inventory.Tried && o.Error == ""
		services += len(o.Services)
		running += o.ServicesByState[inventory.StateRunning]
		for i := range o.Services {
			if unread(&o.Services[i]) {
				ahead++
			}
		}
		series += o.Series
		if _, age, ok := dataAges(o); ok {
			oldest = max(oldest, age)
		}
	}
	switch {
	case counts[failure] > 0:
		v.Class, v.Headline = "error", plural(counts[failure]+counts[warning], "problem", "problems")
	case counts[warning] > 0:
		v.Class, v.Headline = "warning", "Serving metrics, with "+plural(counts[warning], "problem", "problems")
	case starting:
		v.Class, v.Headline = "starting", "Starting: waiting for ClickHouse Cloud's first answer"
	case ahead > 0:
		v.Class, v.Headline = "starting", "Everything works so far"
	default:
		v.Class, v.Headline = "ok", "Everything works"
	}
	if len(s.Organizations) != 1 {
		v.Facts = append(v.Facts, plural(len(s.Organizations), "organization", "organizations"))
	}
	v.Facts = append(v.Facts, plural(services, "service", "services")+", "+thousands(running)+" running")
	if ahead > 0 {
		v.Facts = append(v.Facts, thousands(ahead)+" not read yet")
	}
	if series > 0 {
		v.Facts = append(v.Facts, thousands(series)+" series", "oldest data "+ago(oldest))
	}
	return v
}

// card makes the card of an organization.
func card(o *collector.OrganizationStatus, now time.Time, past pastHour, several bool) cardView {
	c := cardView{
		Name: cmp.Or(o.Name, o.ID, "Unknown organization"), ID: o.ID,
		Services: len(o.Services), Series: o.Series, Bytes: o.PageBytes,
		Budget: o.Budget, Window: spell(o.Budget.WindowSeconds),
		Refresh: "every " + spell(math.Ceil(o.RefreshSeconds)),
		Newest:  "none yet", List: "not read yet",
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
	if newest, oldest, ok := dataAges(*o); ok {
		c.Newest, c.Oldest = ago(newest), ago(oldest)
	} else if !o.MetricsLastSuccess.IsZero() {
		c.Newest = ago(now.Sub(o.MetricsLastSuccess).Seconds())
	}
	if !o.Inventory.LastSuccess.IsZero() {
		c.List = ago(o.Inventory.AgeSeconds)
	}
	c.Next = next(o, now)
	switch {
	case o.UpstreamRefreshNext.IsZero() && o.MetricsCall == schedule.CallRegularly:
		c.Rhythm = "being learned"
	case o.UpstreamRefreshNext.IsZero():
		c.Rhythm = "not used: services are read one by one"
	default:
		c.Rhythm = "learned: every " + spell(math.Round(o.UpstreamRefreshSeconds))
		if in := o.UpstreamRefreshNext.Sub(now).Seconds(); in > 0 {
			c.Rhythm += ", next in " + ago(in)
		}
	}
	if o.Budget.PausedUntil.After(now) {
		c.Paused = ago(o.Budget.PausedUntil.Sub(now).Seconds())
	}
	if o.Budget.Limit > 0 {
		c.BudgetFill = min(100, 100*o.Budget.Used/o.Budget.Limit)
	}
	c.States = states(o, several)

	t := past.tracks[trackKey{o.ID, ""}]
	d := drawing{width: 240, height: 48, points: mostMoments}
	seconds := func(v float64) string { return ago(v) }
	c.Plots = []figureView{
		picture("Poll duration", "poll", d, past.moments, t[pollSeconds], spell),
		picture("Oldest data", "age", d, past.moments, t[ageSeconds], seconds),
		picture("Budget used", "budget", drawing{width: d.width, height: d.height, points: d.points, top: 1}, past.moments, t[budgetUsed], percent),
	}
	return c
}

// next says what is asked for next, and when.
func next(o *collector.OrganizationStatus, now time.Time) string {
	what := "a request"
	switch o.Next.Endpoint {
	case "":
		if o.Inventory.Tried {
			return "none while answers are awaited"
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
	}
	if in := o.Next.At.Sub(now).Seconds(); in >= 1 {
		return what + " in " + ago(in)
	}
	return what + " now"
}

// states are the parts of the bar of services by state, most frequent first.
func states(o *collector.OrganizationStatus, several bool) []stateView {
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
		q := selection{state: name, page: 1, perPage: defaultPerPage}
		if several {
			q.organization = o.ID
		}
		s := stateView{
			Name: cmp.Or(name, "unknown"), Class: stateClass(name), Count: n,
			X: x, Width: 100 * float64(n) / float64(total), Link: link(q),
		}
		if name == "" {
			s.Link = ""
		}
		x += s.Width
		list = append(list, s)
	}
	return list
}

// stateClass is the kind of a state, whichever states there will be one day.
func stateClass(state string) string {
	switch state {
	case inventory.StateRunning:
		return "good"
	case inventory.StateUnavailable:
		return "bad"
	case inventory.StateStopped:
		return "idle"
	case inventory.StateDeleting:
		return "leaving"
	}
	if slices.Contains(inventory.States(), state) {
		return "changing"
	}
	return "other"
}

// picture draws what was observed.
func picture(title, class string, d drawing, moments []time.Time, values []float32, words func(float64) string) figureView {
	f := figureView{Title: title, Class: class, Plot: d.draw(moments, values)}
	if !f.Plot.Any {
		f.Label = title + ": nothing observed yet"
		return f
	}
	f.Span, f.Greatest = spell(math.Round(f.Plot.Span.Minutes())*60), words(f.Plot.Greatest)
	if f.Plot.Span < time.Minute {
		f.Span = spell(math.Round(f.Plot.Span.Seconds()))
	}
	latest := "none now"
	if !math.IsNaN(f.Plot.Latest) {
		f.Latest = words(f.Plot.Latest)
		latest = f.Latest + " now"
	}
	f.Label = fmt.Sprintf("%s over the last %s: %s, at most %s", title, f.Span, latest, f.Greatest)
	return f
}

// link is the address of a selection, at its table.
func link(s selection) string {
	if q := s.values().Encode(); q != "" {
		return "?" + q + "#services"
	}
	return "./#services"
}

// table makes the table without its rows.
func table(s collector.Status, sel selection, selected, pages, first int) tableView {
	t := tableView{
		Search: sel.query, Descending: sel.descending, OnlyProblems: sel.problems,
		Selected: selected, Several: len(s.Organizations) > 1,
		First: min(first+1, selected), Last: min(first+sel.perPage, selected),
		Reset: "./#services",
	}
	stateCount, regionCount := map[string]int{}, map[string]int{}
	for _, o := range s.Organizations {
		t.Total += len(o.Services)
		for i := range o.Services {
			stateCount[o.Services[i].State]++
			regionCount[o.Services[i].Region]++
		}
		t.Organizations = append(t.Organizations, choiceView{
			Value: o.ID, Text: cmp.Or(o.Name, o.ID),
			Selected: sel.organization != "" && (sel.organization == o.ID || sel.organization == o.Name),
		})
	}
	t.States, t.Regions = choices(stateCount, sel.state), choices(regionCount, sel.region)
	for _, n := range perPageChoices() {
		t.PerPage = append(t.PerPage, choiceView{Value: strconv.Itoa(n), Text: strconv.Itoa(n), Selected: n == sel.perPage})
	}

	sorted := cmp.Or(sel.sort, "name")
	for _, c := range columns(t.Several) {
		to := sel
		to.page, to.sort, to.descending = 1, c.key, false
		v := columnView{Key: c.key, Title: c.title, Numeric: c.numeric}
		if c.key == sorted {
			v.Sort = "ascending"
			to.descending = !sel.descending
			if sel.descending {
				v.Sort = "descending"
			}
		} else if c.numeric {
			to.descending = true // who sorts by a number looks for the great ones
		}
		if to.sort == "name" {
			to.sort = ""
		}
		v.Link = link(to)
		t.Columns = append(t.Columns, v)
		t.Sorts = append(t.Sorts, choiceView{Value: c.key, Text: c.title, Selected: c.key == sorted})
	}
	t.Caption = caption(sel, &t)

	at := func(n int) string {
		to := sel
		to.page = n
		return link(to)
	}
	if sel.page > 1 {
		t.Previous = at(sel.page - 1)
	}
	if sel.page < pages {
		t.Next = at(sel.page + 1)
	}
	if pages > 1 {
		last := 0
		for n := 1; n <= pages; n++ {
			if n != 1 && n != pages && (n < sel.page-2 || n > sel.page+2) {
				continue
			}
			if n > last+1 {
				t.Pages = append(t.Pages, pageLink{})
			}
			t.Pages = append(t.Pages, pageLink{Number: n, Link: at(n), Current: n == sel.page})
			last = n
		}
	}
	return t
}

func caption(sel selection, t *tableView) string {
	text := "No services"
	switch {
	case t.Selected > 0 && t.Selected == t.Total && t.Last-t.First+1 == t.Total:
		text = plural(t.Total, "service", "services")
	case t.Selected > 0:
		text = fmt.Sprintf("Services %s to %s of %s", thousands(t.First), thousands(t.Last), thousands(t.Selected))
		if t.Selected != t.Total {
			text += fmt.Sprintf(" selected, %s in all", thousands(t.Total))
		}
	case t.Total > 0:
		text = "None of " + plural(t.Total, "service", "services") + " matches"
	}
	by := slices.IndexFunc(t.Columns, func(c columnView) bool { return c.Sort != "" })
	if by < 0 || t.Selected < 2 {
		return text
	}
	text += ", sorted by " + t.Columns[by].Title
	if sel.descending {
		text += ", descending"
	}
	return text
}

// choices are what to choose from, with numbers of services. The chosen one is
// among them even if there is no such service.
func choices(count map[string]int, chosen string) []choiceView {
	delete(count, "")
	if _, ok := count[chosen]; !ok && chosen != "" {
		count[chosen] = 0
	}
	var list []choiceView
	for _, name := range slices.Sorted(maps.Keys(count)) {
		if len(list) < mostChoices || name == chosen {
			list = append(list, choiceView{Value: name, Text: name + " (" + thousands(count[name]) + ")", Selected: name == chosen})
		}
	}
	return list
}

// serviceRow makes a row of the table.
func serviceRow(r *row, number int, past pastHour) rowView {
	s := r.service
	v := rowView{
		Key:  "service-" + strconv.Itoa(number),
		Name: cmp.Or(s.Name, s.ID), ID: s.ID,
		Link:         "v1/organizations/" + url.PathEscape(r.organization.ID) + "/postgres/" + url.PathEscape(s.ID) + "/prometheus",
		Organization: r.organizationName(),
		State:        cmp.Or(s.State, "not in the list"), StateClass: stateClass(s.State),
		Region: s.Region, Size: s.Size, HA: s.HAType, Version: s.Version, Role: role(s),
		Age: "none", Series: thousands(s.Series), Error: s.Error,
	}
	if len(v.Error) > longestError {
		v.Error = strings.ToValidUTF8(v.Error[:longestError], "") + "…"
	}
	switch {
	case s.LastSuccess.IsZero():
		if s.State == inventory.StateRunning && s.Error != "" {
			v.AgeClass = "bad"
		}
	default:
		v.Age = ago(s.DataAgeSeconds)
		switch {
		case s.Series == 0:
			v.AgeClass = "bad"
		case s.Error != "" || s.DataAgeSeconds > r.organization.MaxAgeSeconds/2 && s.DataAgeSeconds > 2*r.organization.RefreshSeconds:
			v.AgeClass = "warn"
		}
	}
	for _, tag := range s.Tags {
		text := tag.Key
		if tag.Value != "" {
			text += "=" + tag.Value
		}
		if runes := []rune(text); len(runes) > longestTag {
			text = string(runes[:longestTag]) + "…"
		}
		if len(v.Tags) < shownTags {
			v.Tags = append(v.Tags, text)
		} else {
			v.MoreTags = append(v.MoreTags, text)
		}
	}
	t := past.tracks[trackKey{r.organization.ID, s.ID}]
	d := drawing{width: 48, height: 18, points: 30, top: 1}
	whole := func(v float64) string { return thousands(int(math.Round(v))) }
	v.CPU = cell(picture("CPU", "cpu", d, past.moments, t[cpuUsed], percent), s.CPUUsedRatio, percent, 0.8, 0.95)
	v.Disk = cell(picture("Disk used", "disk", d, past.moments, t[diskUsed], percent), s.DiskUsedRatio, percent, 0.8, 0.9)
	d.top = 0
	v.Connections = cell(picture("Connections", "connections", d, past.moments, t[connections], whole), s.Connections, whole, math.Inf(1), math.Inf(1))
	return v
}

// cell makes a plot one of the table: with the value of the status, which is
// newer than the history, and a mark if that is high.
func cell(f figureView, value *float64, words func(float64) string, warn, bad float64) figureView {
	f.Latest, f.Class = "", ""
	if value == nil {
		return f
	}
	f.Latest = words(*value)
	switch {
	case *value >= bad:
		f.Class = "bad"
	case *value >= warn:
		f.Class = "warn"
	}
	return f
}
