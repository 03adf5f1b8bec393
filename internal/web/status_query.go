package web

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

const (
	defaultPerPage = 50
	// maxFilterBytes bounds a filter. Names have at most 50 characters, tags 256.
	maxFilterBytes = 1024
)

// perPageChoices are the numbers of services that a page of the table can have.
func perPageChoices() []int { return []int{25, defaultPerPage, 100, 200} }

// tableQuery says which services the table shows, and how. It is parsed from a query,
// each of whose values is bounded; unknown and invalid values are ignored.
type tableQuery struct {
	organization, state, region, search string
	service                             string // id of the one whose own view is shown
	problems                            bool   // only services that have one

	services *inventory.Matcher // of state and region
	words    []string           // of search, in lower case

	sort       string // key of a column, "" for the first
	descending bool
	page       int // from 1
	perPage    int
}

func parseTableQuery(q url.Values) (tableQuery, error) {
	bounded := func(key string) string {
		s := strings.ToValidUTF8(q.Get(key), "\uFFFD")
		return strings.ToValidUTF8(s[:min(len(s), maxFilterBytes)], "")
	}
	t := tableQuery{
		organization: bounded("organization"), state: bounded("state"), region: bounded("region"),
		service:  bounded("service"),
		search:   strings.TrimSpace(bounded("q")),
		problems: q.Get("problems") == "1",
		page:     1, perPage: defaultPerPage,
	}
	for _, c := range columns(true) {
		if c.Key == q.Get("sort") {
			t.sort = c.Key
		}
	}
	t.descending = q.Get("order") == "desc"
	if n, err := strconv.Atoi(q.Get("page")); err == nil && n > 0 {
		t.page = n
	}
	if n, err := strconv.Atoi(q.Get("per_page")); err == nil && slices.Contains(perPageChoices(), n) {
		t.perPage = n
	}
	t.words = strings.Fields(strings.ToLower(t.search))
	var err error
	t.services, err = inventory.Filter{State: inventory.OneOf(t.state), Region: inventory.OneOf(t.region)}.Compile()
	return t, err
}

// values returns the query that is parsed to this one, without defaults.
func (t tableQuery) values() url.Values {
	q := url.Values{}
	set := func(key, value string, given bool) {
		if given {
			q.Set(key, value)
		}
	}
	set("service", t.service, t.service != "")
	set("organization", t.organization, t.organization != "")
	set("state", t.state, t.state != "")
	set("region", t.region, t.region != "")
	set("q", t.search, t.search != "")
	set("problems", "1", t.problems)
	set("sort", t.sort, t.sort != "")
	set("order", "desc", t.descending)
	set("page", strconv.Itoa(t.page), t.page > 1)
	set("per_page", strconv.Itoa(t.perPage), t.perPage != defaultPerPage)
	return q
}

// link returns the address of the table with this query, relative to the page.
func (t tableQuery) link() string {
	switch q := t.values().Encode(); {
	case t.service != "":
		return "?" + q
	case q != "":
		return "?" + q + "#services"
	}
	return "./#services"
}

// filters tells whether it may leave out services.
func (t tableQuery) filters() bool {
	return t.service != "" || t.organization != "" || t.state != "" || t.region != "" || t.search != "" || t.problems
}

// matches tells whether a service is selected.
func (t *tableQuery) matches(r *row) bool {
	return (t.service == "" || t.service == r.service.ID) &&
		(t.organization == "" || isNamed(r.organization, t.organization)) &&
		t.services.Match(r.service.Listed()) &&
		(!t.problems || hasProblem(r.service)) &&
		!slices.ContainsFunc(t.words, func(word string) bool { return !contains(r.service, word) })
}

// contains tells whether a word in lower case occurs in what is known of a service.
func contains(s *collector.ServiceStatus, word string) bool {
	for _, text := range []string{s.Name, s.ID, s.Region, s.Size, s.Version, s.State, s.HAType, s.Provider, s.Hostname} {
		if strings.Contains(strings.ToLower(text), word) {
			return true
		}
	}
	for _, tag := range s.Tags {
		if strings.Contains(strings.ToLower(tag.Key+"="+tag.Value), word) {
			return true
		}
	}
	return false
}
