package web

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

const (
	defaultPerPage = 50
	// longestFilter bounds what is looked for, in bytes. Names have 50
	// characters at most, tags 256.
	longestFilter = 1024
)

// perPageChoices are the numbers of services that a page can show.
func perPageChoices() []int { return []int{25, defaultPerPage, 100, 200} }

// column is one by which services can be sorted.
type column struct {
	key, title string
	numeric    bool
	compare    func(a, b *row) int
	// missing tells whether there is nothing to compare. Such services go last,
	// whichever the order; nil means never.
	missing func(*row) bool
}

func text(get func(*collector.ServiceStatus) string) (func(a, b *row) int, func(*row) bool) {
	return func(a, b *row) int {
			return cmp.Compare(strings.ToLower(get(a.service)), strings.ToLower(get(b.service)))
		},
		func(r *row) bool { return get(r.service) == "" }
}

func figure(get func(*collector.ServiceStatus) *float64) (func(a, b *row) int, func(*row) bool) {
	return func(a, b *row) int { return cmp.Compare(*get(a.service), *get(b.service)) },
		func(r *row) bool { return get(r.service) == nil }
}

func textColumn(key, title string, get func(*collector.ServiceStatus) string) column {
	compare, missing := text(get)
	return column{key: key, title: title, compare: compare, missing: missing}
}

func figureColumn(key, title string, get func(*collector.ServiceStatus) *float64) column {
	compare, missing := figure(get)
	return column{key: key, title: title, numeric: true, compare: compare, missing: missing}
}

// columns returns the columns of the table of services, in order.
func columns(severalOrganizations bool) []column {
	list := []column{
		textColumn("name", "Service", func(s *collector.ServiceStatus) string { return cmp.Or(s.Name, s.ID) }),
		textColumn("state", "State", func(s *collector.ServiceStatus) string { return s.State }),
		textColumn("region", "Region", func(s *collector.ServiceStatus) string { return s.Region }),
		textColumn("size", "Size", func(s *collector.ServiceStatus) string { return s.Size }),
		textColumn("ha", "HA", func(s *collector.ServiceStatus) string { return s.HAType }),
		textColumn("version", "Version", func(s *collector.ServiceStatus) string { return s.Version }),
		textColumn("role", "Role", role),
		figureColumn("cpu", "CPU", func(s *collector.ServiceStatus) *float64 { return s.CPUUsedRatio }),
		figureColumn("connections", "Connections", func(s *collector.ServiceStatus) *float64 { return s.Connections }),
		figureColumn("disk", "Disk", func(s *collector.ServiceStatus) *float64 { return s.DiskUsedRatio }),
		{
			key: "age", title: "Data age", numeric: true,
			compare: func(a, b *row) int { return cmp.Compare(a.service.DataAgeSeconds, b.service.DataAgeSeconds) },
			missing: func(r *row) bool { return r.service.LastSuccess.IsZero() },
		},
		{
			key: "series", title: "Series", numeric: true,
			compare: func(a, b *row) int { return cmp.Compare(a.service.Series, b.service.Series) },
		},
	}
	if severalOrganizations {
		list = slices.Insert(list, 1, column{key: "organization", title: "Organization", compare: func(a, b *row) int {
			return cmp.Compare(a.organizationName(), b.organizationName())
		}})
	}
	return list
}

// role is what a service is to others; nothing is known of one that the list
// does not name.
func role(s *collector.ServiceStatus) string {
	switch {
	case !s.Known:
		return ""
	case s.Primary:
		return "primary"
	}
	return "replica"
}

// row is one service and whose it is.
type row struct {
	organization *collector.OrganizationStatus
	service      *collector.ServiceStatus
}

func (r *row) organizationName() string { return cmp.Or(r.organization.Name, r.organization.ID) }

// selection says which services to show, and how. It is made from a query
// whose every value is bounded; what is not understood counts as not given.
type selection struct {
	organization, state, region, query string
	problems                           bool // only services that have one

	services *inventory.Matcher // of state and region
	words    []string           // of query, in lower case

	sort       string // key of a column, "" for the first
	descending bool
	page       int // from 1
	perPage    int
}

func parseSelection(q url.Values) (selection, error) {
	bounded := func(key string) string {
		s := strings.ToValidUTF8(q.Get(key), "\uFFFD")
		return strings.ToValidUTF8(s[:min(len(s), longestFilter)], "")
	}
	s := selection{
		organization: bounded("organization"), state: bounded("state"), region: bounded("region"),
		query:    strings.TrimSpace(bounded("q")),
		problems: q.Get("problems") == "1",
		page:     1, perPage: defaultPerPage,
	}
	for _, c := range columns(true) {
		if c.key == q.Get("sort") {
			s.sort = c.key
		}
	}
	s.descending = q.Get("order") == "desc"
	if n, err := strconv.Atoi(q.Get("page")); err == nil && n > 0 {
		s.page = n
	}
	if n, err := strconv.Atoi(q.Get("per_page")); err == nil && slices.Contains(perPageChoices(), n) {
		s.perPage = n
	}
	s.words = strings.Fields(strings.ToLower(s.query))
	var err error
	s.services, err = inventory.Filter{State: inventory.OneOf(s.state), Region: inventory.OneOf(s.region)}.Compile()
	return s, err
}

// values is the query that selection is made from, without defaults.
func (s selection) values() url.Values {
	q := url.Values{}
	set := func(key, value string, given bool) {
		if given {
			q.Set(key, value)
		}
	}
	set("organization", s.organization, s.organization != "")
	set("state", s.state, s.state != "")
	set("region", s.region, s.region != "")
	set("q", s.query, s.query != "")
	set("problems", "1", s.problems)
	set("sort", s.sort, s.sort != "")
	set("order", "desc", s.descending)
	set("page", strconv.Itoa(s.page), s.page > 1)
	set("per_page", strconv.Itoa(s.perPage), s.perPage != defaultPerPage)
	return q
}

// filters tells whether some services may be left out.
func (s selection) filters() bool {
	return s.organization != "" || s.state != "" || s.region != "" || s.query != "" || s.problems
}

// matches tells whether a service is selected.
func (s *selection) matches(r *row) bool {
	return (s.organization == "" || called(*r.organization, s.organization)) &&
		s.services.Match(r.service.Listed()) &&
		(!s.problems || troubled(r.service)) &&
		!slices.ContainsFunc(s.words, func(word string) bool { return !mentions(r.service, word) })
}

// mentions looks for a word of lower case in what is known of a service.
func mentions(v *collector.ServiceStatus, word string) bool {
	for _, s := range []string{v.Name, v.ID, v.Region, v.Size, v.Version, v.State, v.HAType, v.Provider, v.Hostname} {
		if strings.Contains(strings.ToLower(s), word) {
			return true
		}
	}
	for _, tag := range v.Tags {
		if strings.Contains(strings.ToLower(tag.Key+"="+tag.Value), word) {
			return true
		}
	}
	return false
}

// apply returns the selected services in order.
func (s *selection) apply(status *collector.Status) []row {
	var rows []row
	for i := range status.Organizations {
		o := &status.Organizations[i]
		for j := range o.Services {
			if r := (row{o, &o.Services[j]}); s.matches(&r) {
				rows = append(rows, r)
			}
		}
	}
	list := columns(true)
	by := list[0]
	for _, c := range list {
		if c.key == s.sort {
			by = c
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int {
		if by.missing != nil {
			switch x, y := by.missing(&a), by.missing(&b); {
			case x && y:
				return tie(&a, &b)
			case x:
				return 1
			case y:
				return -1
			}
		}
		c := by.compare(&a, &b)
		if s.descending {
			c = -c
		}
		return cmp.Or(c, tie(&a, &b))
	})
	return rows
}

// tie orders services that are the same to the column.
func tie(a, b *row) int {
	return cmp.Or(
		cmp.Compare(strings.ToLower(a.service.Name), strings.ToLower(b.service.Name)),
		cmp.Compare(a.service.ID, b.service.ID),
		cmp.Compare(a.organization.ID, b.organization.ID),
	)
}
