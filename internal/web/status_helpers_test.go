package web

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

var statusTime = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// working is an organization in which all is well.
func working(id string, services ...collector.ServiceStatus) collector.OrganizationStatus {
	call := collector.CallStatus{Tried: true, OK: true, Since: statusTime.Add(-time.Hour), LastSuccess: statusTime.Add(-20 * time.Second), AgeSeconds: 20}
	o := collector.OrganizationStatus{
		ID: id, Name: "name of " + id, Up: true, Inventory: call, Metrics: call, InventoryKnown: true,
		MetricsCall: schedule.CallRegularly,
		Next:        collector.RequestStatus{Endpoint: api.EndpointServices, At: statusTime.Add(7 * time.Second)},
		PollSeconds: 1.25, UpstreamRefreshSeconds: 60, UpstreamRefreshNext: statusTime.Add(30 * time.Second),
		Budget:        collector.BudgetStatus{Used: 3, Limit: 8, WindowSeconds: 10},
		MaxAgeSeconds: 300, RefreshSeconds: 30, PageBytes: 12345, MetricsLastSuccess: statusTime.Add(-20 * time.Second),
		ServicesByState: map[string]int{}, Services: services,
	}
	for _, s := range services {
		if s.Known {
			o.ServicesByState[s.State]++
		}
		o.Series += s.Series
	}
	return o
}

// healthyService is a service in which all is well; i makes it differ from others.
func healthyService(i int) collector.ServiceStatus {
	cpu, conns, disk := float64(i%100)/100, float64(i*7%1000), float64(i*13%100)/100
	return collector.ServiceStatus{
		ID: fmt.Sprintf("00000000-0000-0000-0000-%012d", i), Name: fmt.Sprintf("service-%d", i), Known: true,
		Provider: "aws", Region: []string{"eu-west-1", "us-east-1"}[i%2], Size: "r6gd.medium", HAType: "sync", Version: "18",
		State: "running", Primary: i%3 != 0, Tags: []api.Tag{{Key: "team", Value: "a"}, {Key: "keep"}},
		CreatedAt: statusTime.Add(-24 * time.Hour), Up: true, Series: 36,
		LastSuccess: statusTime.Add(-20 * time.Second), LastChange: statusTime.Add(-50 * time.Second), DataAgeSeconds: float64(20 + i%30),
		CPUUsedRatio: &cpu, Connections: &conns, DiskUsedRatio: &disk,
	}
}

func fleet(n int) []collector.ServiceStatus {
	list := make([]collector.ServiceStatus, n)
	for i := range list {
		list[i] = healthyService(i)
	}
	return list
}

func statusOf(organizations ...collector.OrganizationStatus) *known {
	k := knows(organizations...)
	k.status.Time = statusTime
	return k
}

// open reads a page as browsers do.
func open(t *testing.T, url string) (*html.Node, answer) {
	t.Helper()
	a := do(t, "GET", url, nil)
	if a.code != http.StatusOK || a.header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("code %d, %s: %s", a.code, a.header.Get("Content-Type"), a.body)
	}
	doc, err := html.Parse(strings.NewReader(string(a.body)))
	if err != nil {
		t.Fatal(err)
	}
	return doc, a
}

// find returns the elements of that name, in order; of any name for "*".
func find(n *html.Node, name string) []*html.Node {
	var found []*html.Node
	for d := range n.Descendants() {
		if d.Type == html.ElementNode && (name == "*" || d.Data == name) {
			found = append(found, d)
		}
	}
	return found
}

func byID(t *testing.T, n *html.Node, id string) *html.Node {
	t.Helper()
	for _, e := range find(n, "*") {
		if attribute(e, "id") == id {
			return e
		}
	}
	t.Fatalf("no element has id %q", id)
	return nil
}

func attribute(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

// words are the text in an element, with single blanks.
func words(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data + " ")
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// listed returns the names of the services in the table, in order.
func listed(t *testing.T, page *html.Node) []string {
	t.Helper()
	var names []string
	for _, th := range find(byID(t, page, "services-part"), "th") {
		if attribute(th, "scope") == "row" {
			names = append(names, words(th))
		}
	}
	return names
}

// checkPage holds a page against what the policy and assistive technology
// demand of every one.
func checkPage(t *testing.T, page *html.Node) {
	t.Helper()
	ids := map[string]bool{}
	for _, e := range find(page, "*") {
		for _, a := range e.Attr {
			if a.Key == "style" || strings.HasPrefix(a.Key, "on") {
				t.Errorf("<%s %s=%q>", e.Data, a.Key, a.Val)
			}
			if (a.Key == "href" || a.Key == "src" || a.Key == "action") && (strings.Contains(a.Val, "//") || strings.HasPrefix(a.Val, "/")) {
				t.Errorf("<%s %s=%q> is not relative", e.Data, a.Key, a.Val)
			}
		}
		if id := attribute(e, "id"); id != "" {
			if ids[id] {
				t.Errorf("id %q occurs twice", id)
			}
			ids[id] = true
		}
	}
	for _, e := range find(page, "*") {
		switch e.Data {
		case "style", "iframe", "object", "embed", "img", "base":
			t.Errorf("there is a <%s>", e.Data)
		case "script":
			if attribute(e, "src") == "" || e.FirstChild != nil {
				t.Errorf("an inline script")
			}
		case "input", "select":
			if !slices.ContainsFunc(find(page, "label"), func(l *html.Node) bool { return attribute(l, "for") == attribute(e, "id") }) {
				t.Errorf("<%s name=%q> has no label", e.Data, attribute(e, "name"))
			}
		case "svg":
			if attribute(e, "aria-hidden") != "true" && (attribute(e, "role") != "img" || attribute(e, "aria-label") == "") {
				t.Errorf("an svg is neither hidden nor described: %v", e.Attr)
			}
		case "th":
			if attribute(e, "scope") == "" {
				t.Errorf("th without scope: %s", words(e))
			}
		}
		for _, key := range []string{"aria-labelledby", "for"} {
			if id := attribute(e, key); id != "" && !ids[id] {
				t.Errorf("%s names %q, which is not there", key, id)
			}
		}
		if to, ok := strings.CutPrefix(attribute(e, "href"), "#"); ok && !ids[to] {
			t.Errorf("link to #%s, which is not there", to)
		}
	}
	if n := len(find(page, "h1")); n != 1 {
		t.Errorf("%d h1", n)
	}
	for _, table := range find(page, "table") {
		if len(find(table, "caption")) != 1 {
			t.Error("a table without caption")
		}
	}
	if attribute(find(page, "html")[0], "lang") == "" || len(find(page, "title")) != 1 || len(find(page, "main")) != 1 {
		t.Error("lang, title or main is missing")
	}
}
