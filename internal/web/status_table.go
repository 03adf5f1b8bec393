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

	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// tableView is the table of services with its filters and its pages.
type tableView struct {
	Search        string
	Descending    bool
	OnlyProblems  bool
	Total         int // services that are known
	Selected      int
	First, Last   int
	Several       bool // organizations
	Columns       []column
	Rows          []rowView
	Organizations []option
	States        []option
	Regions       []option
	PerPage       []option
	Sorts         []option
	Pages         []option // Text is "" for a gap
	Previous      string   // links, "" for none
	Next          string
	Caption       string
	Reset         string
}

// option is one of several values or pages to choose from.
type option struct {
	Value, Text string
	Selected    bool
}

// rowView is a row as the page shows it.
type rowView struct {
	Key               string // unique on the page
	Name, ID          string
	Link, Metrics     string // the service's own view, and its metrics
	Organization      string
	State, StateClass string
	Region, Size      string
	HA, Version, Role string
	CPU, Connections  chart
	Disk              chart
	Age, AgeClass     string
	Series            string
	Tags, MoreTags    []string
	Error             string

	// In the service's own view only.
	Facts  []option
	Charts []chart
}

const (
	// visibleTags is how many tags of a service are visible without a click.
	visibleTags = 3
	// maxTagLength is how many characters of a tag are shown.
	maxTagLength = 60
	// maxErrorBytes bounds an error in the table.
	maxErrorBytes = 600
	// cpuWarning is the share of the CPU in use above which it is marked: there the alert
	// begins.
	cpuWarning = 0.9
	// maxOptions bounds the options of a filter; states and regions are few.
	maxOptions = 200
)

// newTable returns the table without its rows.
func newTable(s collector.Status, q tableQuery, selected, pages, first int) tableView {
	t := tableView{
		Search: q.search, Descending: q.descending, OnlyProblems: q.problems,
		Selected: selected, Several: len(s.Organizations) > 1,
		First: min(first+1, selected), Last: min(first+q.perPage, selected),
		Reset: "./#services",
	}
	stateCount, regionCount := map[string]int{}, map[string]int{}
	for _, o := range s.Organizations {
		t.Total += len(o.Services)
		for i := range o.Services {
			stateCount[o.Services[i].State]++
			regionCount[o.Services[i].Region]++
		}
		t.Organizations = append(t.Organizations, option{
			Value: o.ID, Text: cmp.Or(o.Name, o.ID),
			Selected: q.organization != "" && (q.organization == o.ID || q.organization == o.Name),
		})
	}
	t.States, t.Regions = options(stateCount, q.state), options(regionCount, q.region)
	for _, n := range perPageChoices() {
		t.PerPage = append(t.PerPage, option{Value: strconv.Itoa(n), Text: strconv.Itoa(n), Selected: n == q.perPage})
	}

	sorted := cmp.Or(q.sort, "name")
	for _, c := range columns(t.Several) {
		to := q
		to.page, to.sort, to.descending = 1, c.Key, c.Numeric // the largest numbers first
		if c.Key == sorted {
			c.Sort = "ascending"
			to.descending = !q.descending
			if q.descending {
				c.Sort = "descending"
			}
		}
		if to.sort == "name" {
			to.sort = ""
		}
		c.Link = to.link()
		t.Columns = append(t.Columns, c)
		t.Sorts = append(t.Sorts, option{Value: c.Key, Text: c.Title, Selected: c.Key == sorted})
	}
	t.Caption = caption(q, &t)

	at := func(n int) string {
		to := q
		to.page = n
		return to.link()
	}
	if q.page > 1 {
		t.Previous = at(q.page - 1)
	}
	if q.page < pages {
		t.Next = at(q.page + 1)
	}
	if pages > 1 {
		last := 0
		for n := 1; n <= pages; n++ {
			if n != 1 && n != pages && (n < q.page-2 || n > q.page+2) {
				continue
			}
			if n > last+1 {
				t.Pages = append(t.Pages, option{})
			}
			t.Pages = append(t.Pages, option{Value: at(n), Text: strconv.Itoa(n), Selected: n == q.page})
			last = n
		}
	}
	return t
}

func caption(q tableQuery, t *tableView) string {
	text := "No services"
	switch {
	case t.Selected > 0 && t.Selected == t.Total && t.Last-t.First+1 == t.Total:
		text = plural(t.Total, "service", "services")
	case t.Selected > 0:
		text = fmt.Sprintf("Services %s to %s of %s", formatInteger(t.First), formatInteger(t.Last), formatInteger(t.Selected))
		if t.Selected != t.Total {
			text += fmt.Sprintf(" selected, %s in all", formatInteger(t.Total))
		}
	case t.Total > 0:
		text = "None of " + plural(t.Total, "service", "services") + " match"
	}
	sorted := slices.IndexFunc(t.Columns, func(c column) bool { return c.Sort != "" })
	if sorted < 0 || t.Selected < 2 {
		return text
	}
	text += ", sorted by " + t.Columns[sorted].Title
	if q.descending {
		text += ", descending"
	}
	return text
}

// options returns the options of a filter, with numbers of services. The chosen one is
// among them even if no service has it.
func options(count map[string]int, chosen string) []option {
	delete(count, "")
	if _, ok := count[chosen]; !ok && chosen != "" {
		count[chosen] = 0
	}
	var list []option
	for _, name := range slices.Sorted(maps.Keys(count)) {
		if len(list) < maxOptions || name == chosen {
			list = append(list, option{Value: name, Text: name + " (" + formatInteger(count[name]) + ")", Selected: name == chosen})
		}
	}
	return list
}

// newRow returns a row of the table.
func newRow(r *row, number int, history *History) rowView {
	s := r.service
	v := rowView{
		Key:  "service-" + strconv.Itoa(number),
		Name: cmp.Or(s.Name, s.ID), ID: s.ID,
		Link:         tableQuery{service: s.ID, organization: r.organization.ID, page: 1, perPage: defaultPerPage}.link(),
		Metrics:      "v1/organizations/" + url.PathEscape(r.organization.ID) + "/postgres/" + url.PathEscape(s.ID) + "/prometheus",
		Organization: r.organizationName(),
		State:        cmp.Or(s.State, "not in the list"), StateClass: stateClass(s.State),
		Region: s.Region, Size: s.Size, HA: s.HAType, Version: s.Version, Role: role(s),
		Age: "none", Series: formatInteger(s.Series), Error: s.Error,
	}
	if len(v.Error) > maxErrorBytes {
		v.Error = strings.ToValidUTF8(v.Error[:maxErrorBytes], "") + "…"
	}
	switch {
	case s.LastSuccess.IsZero():
		if s.State == inventory.StateRunning && s.Error != "" {
			v.AgeClass = "bad"
		}
	default:
		v.Age = formatAge(s.DataAgeSeconds)
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
		if runes := []rune(text); len(runes) > maxTagLength {
			text = string(runes[:maxTagLength]) + "…"
		}
		if len(v.Tags) < visibleTags {
			v.Tags = append(v.Tags, text)
		} else {
			v.MoreTags = append(v.MoreTags, text)
		}
	}
	moments, values := history.track(trackKey{r.organization.ID, s.ID})
	count := func(v float64) string { return formatInteger(int(math.Round(v))) }
	spark := chart{Width: 48, Height: 18, MaxPoints: 30, Title: "Connections"}
	v.Connections = withValue(spark.draw(moments, values[connections], count), s.Connections, count)
	spark.Top, spark.Title = 1, "CPU"
	v.CPU = withValue(spark.draw(moments, values[cpuUsed], formatPercent), s.CPUUsedRatio, formatPercent)
	if s.CPUUsedRatio != nil && *s.CPUUsedRatio > cpuWarning {
		v.CPU.Class = "warn"
	}
	spark.Title = "Disk used"
	v.Disk = withValue(spark.draw(moments, values[diskUsed], formatPercent), s.DiskUsedRatio, formatPercent)
	v.Disk.Class = diskClass(s)
	return v
}

// withValue gives a chart the value of the status, which is newer than the history.
func withValue(c chart, value *float64, format func(float64) string) chart {
	c.Latest = ""
	if value != nil {
		c.Latest = format(*value)
	}
	return c
}

// stateClass returns the style of a state, documented or not.
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
