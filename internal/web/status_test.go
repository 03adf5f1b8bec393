package web

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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

func TestStatusPage(t *testing.T) {
	broken := healthyService(2)
	broken.Name, broken.State, broken.Error = "broken", "unavailable", "get service metrics: API failed (status 500)"
	k := statusOf(working("org", healthyService(1), broken, healthyService(3)))
	h := NewHistory(k)
	for i := range 5 {
		s := k.status
		s.Time = statusTime.Add(time.Duration(i-5) * observeEvery)
		h.observe(s)
	}
	base := serve(t, Options{
		Collector: k, History: h, TelemetryPath: "/some/metrics", Name: "The <exporter>", Version: "1.2.3 <x>",
	})
	page, a := open(t, base+"/")

	const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
	if got := a.header.Get("Content-Security-Policy"); got != policy {
		t.Errorf("Content-Security-Policy is %q", got)
	}
	if a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control is %q", a.header.Get("Cache-Control"))
	}
	checkPage(t, page)

	text := words(page)
	for _, want := range []string{
		"The <exporter>", "1.2.3 <x>", "Serving metrics, with 2 problems", "3 services, 2 running", "108 series",
		"3 of 8", "the list of services in 7 s", "learned: every 60 s, next in 30 s", "as of 05:06:07 UTC",
		"ClickHouse Cloud says that 1 service is unavailable", "for 25 s",
		"Last error: get service metrics: API failed (status 500)", "team=a", "keep", "max 1.3 s",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not on the page:\n%s", want, text)
		}
	}
	if got := listed(t, page); !slices.Equal(got, []string{"broken", "service-1", "service-3"}) {
		t.Errorf("services %q", got)
	}
	table := find(page, "table")[0]
	if caption := words(find(table, "caption")[0]); caption != "3 services, sorted by Service" {
		t.Errorf("caption %q", caption)
	}
	var head []string
	for _, th := range find(find(table, "thead")[0], "th") {
		head = append(head, strings.TrimSpace(words(th)+" "+attribute(th, "aria-sort")))
	}
	if want := []string{"Service ascending", "State", "Region", "Size", "HA", "Version", "Role", "CPU", "Connections", "Disk", "Data age", "Series"}; !slices.Equal(head, want) {
		t.Errorf("columns %q", head)
	}
	var plots int
	for _, svg := range find(page, "svg") {
		if strings.Contains(attribute(svg, "class"), "plot") || attribute(svg, "class") == "spark" {
			plots++
			if !strings.Contains(attribute(svg, "aria-label"), "over the last 20"+narrowSpace+"s: ") {
				t.Errorf("label of a plot: %q", attribute(svg, "aria-label"))
			}
			if len(find(svg, "path")) != 2 {
				t.Errorf("a plot has %d paths", len(find(svg, "path")))
			}
		}
	}
	if plots != 3+3*3 {
		t.Errorf("%d plots", plots)
	}

	root, _ := url.Parse(base + "/")
	k.pages[[2]string{"org", ""}] = upstreamPage
	for _, s := range k.status.Organizations[0].Services {
		k.pages[[2]string{"org", s.ID}] = serviceA
	}
	links := 0
	for _, e := range find(page, "*") {
		for _, key := range []string{"href", "src"} {
			if to := attribute(e, key); to != "" {
				u, err := root.Parse(to)
				if err != nil || u.Host != root.Host {
					t.Errorf("link to %q", to)
					continue
				}
				links++
				if a := do(t, "GET", u.String(), nil); a.code != http.StatusOK {
					t.Errorf("link to %s: code %d", to, a.code)
				}
			}
		}
	}
	if links < 20 || !strings.Contains(string(a.body), `href="some/metrics"`) {
		t.Errorf("%d links:\n%s", links, a.body)
	}
	if a := do(t, "HEAD", base+"/", nil); a.code != http.StatusOK || len(a.body) != 0 || a.length <= 0 {
		t.Errorf("HEAD: code %d, %d bytes, length %d", a.code, len(a.body), a.length)
	}
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

// TestStatusStates looks at the page in the conditions that a collector can be
// in: the verdict, the problems and their severities.
func TestStatusStates(t *testing.T) {
	failing := collector.CallStatus{Tried: true, Error: "list services: API key wrong or expired (status 401); check the key", Since: statusTime.Add(-2 * time.Minute)}
	for _, test := range []struct {
		name     string
		change   func(*collector.OrganizationStatus)
		verdict  string
		problems []string
	}{
		{"well", func(*collector.OrganizationStatus) {}, "Everything works", nil},
		{"starting", func(o *collector.OrganizationStatus) {
			*o = collector.OrganizationStatus{ID: "org", Budget: o.Budget, ServicesByState: map[string]int{}}
		}, "Starting: waiting for ClickHouse Cloud's first answer", nil},
		{"no services", func(o *collector.OrganizationStatus) {
			o.Services, o.ServicesByState, o.Series = nil, map[string]int{}, 0
		}, "Everything works", nil},
		{"organization not found", func(o *collector.OrganizationStatus) {
			*o = collector.OrganizationStatus{Name: "prod", Error: "two organizations", ServicesByState: map[string]int{}}
		}, "1 problem", []string{"error The organization of the API key is not known"}},
		{"no list ever", func(o *collector.OrganizationStatus) {
			o.Up, o.InventoryKnown, o.Inventory, o.Services, o.Metrics = false, false, failing, nil, collector.CallStatus{}
		}, "1 problem", []string{"error The list of services cannot be read"}},
		{"list fails", func(o *collector.OrganizationStatus) {
			o.Up, o.Inventory = false, failing
		}, "Serving metrics, with 1 problem", []string{"warning The list of services cannot be read"}},
		{"list is empty", func(o *collector.OrganizationStatus) {
			o.Unconfirmed = true
		}, "Serving metrics, with 1 problem", []string{"warning The list of services came back empty"}},
		{"metrics fail", func(o *collector.OrganizationStatus) {
			o.Up, o.Metrics = false, failing
		}, "Serving metrics, with 1 problem", []string{"warning Metrics cannot be read"}},
		{"metrics have expired", func(o *collector.OrganizationStatus) {
			o.Up, o.Metrics = false, failing
			for i := range o.Services {
				o.Services[i].Series = 0
			}
		}, "2 problems", []string{"error Metrics cannot be read", "error 3 services have no metrics"}},
		{"page refused", func(o *collector.OrganizationStatus) {
			o.Metrics, o.MetricsCall = failing, schedule.CallRefused
		}, "Everything works", nil},
		{"rate limit", func(o *collector.OrganizationStatus) {
			o.Budget.PausedUntil = statusTime.Add(9 * time.Second)
		}, "Serving metrics, with 1 problem", []string{"warning ClickHouse Cloud refuses requests because of its rate limit"}},
		{"rate limit is over", func(o *collector.OrganizationStatus) {
			o.Budget.PausedUntil = statusTime.Add(-time.Second)
		}, "Everything works", nil},
		{"service fails", func(o *collector.OrganizationStatus) {
			o.Services[0].Error = "no"
		}, "Serving metrics, with 1 problem", []string{"warning The metrics of 1 service cannot be read"}},
		{"service has expired", func(o *collector.OrganizationStatus) {
			o.Services[0].Error, o.Services[0].Series = "no", 0
			o.Services[1].Series = 0
		}, "1 problem", []string{"error 2 services have no metrics"}},
		{"service not read yet", func(o *collector.OrganizationStatus) {
			o.Services[0].Series, o.Services[0].LastSuccess = 0, time.Time{}
		}, "Everything works so far", nil},
		{"stopped service", func(o *collector.OrganizationStatus) {
			o.Services[0].Series, o.Services[0].State = 0, "stopped"
		}, "Everything works", nil},
		{"unavailable", func(o *collector.OrganizationStatus) {
			o.Services[0].State, o.Services[2].State = "unavailable", "unavailable"
		}, "Serving metrics, with 1 problem", []string{"warning ClickHouse Cloud says that 2 services are unavailable"}},
		{"unknown", func(o *collector.OrganizationStatus) {
			o.UnknownServices = 1
		}, "Everything works", []string{"notice 1 service is in the metrics but not in the list of services"}},
		{"slow", func(o *collector.OrganizationStatus) {
			o.UncoveredServices, o.RefreshSeconds = 200, 150
		}, "Everything works", []string{"notice The request budget allows each service to be read every 2 min 30 s"}},
		{"too slow", func(o *collector.OrganizationStatus) {
			o.UncoveredServices, o.RefreshSeconds = 1900, 2000
		}, "Serving metrics, with 1 problem", []string{"warning The request budget allows each service to be read every 33 min 20 s"}},
		{"worst first", func(o *collector.OrganizationStatus) {
			o.UnknownServices, o.Unconfirmed, o.Services[0].Series = 1, true, 0
		}, "2 problems", []string{
			"error 1 service has no metrics", "warning The list of services came back empty",
			"notice 1 service is in the metrics but not in the list of services",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := working("org", fleet(3)...)
			test.change(&o)
			page, _ := open(t, serve(t, Options{Collector: statusOf(o)})+"/")
			checkPage(t, page)
			if got := words(find(byID(t, page, "verdict"), "strong")[0]); got != test.verdict {
				t.Errorf("verdict %q", got)
			}
			var problems []string
			section := byID(t, page, "problems")
			for _, h3 := range find(section, "h3") {
				problems = append(problems, words(h3))
			}
			if diff := cmp.Diff(test.problems, problems); diff != "" {
				t.Error(diff)
			}
			for _, li := range find(section, "li") {
				if p := find(li, "p"); words(p[len(p)-1]) == "" {
					t.Errorf("no remedy: %s", words(li))
				}
			}
			if hidden := slices.ContainsFunc(section.Attr, func(a html.Attribute) bool { return a.Key == "hidden" }); hidden != (test.problems == nil) {
				t.Errorf("section of problems hidden: %t", hidden)
			}
		})
	}
}

// TestHostileNames puts markup wherever upstream's words can get to.
func TestHostileNames(t *testing.T) {
	const hostile = `"'><script>alert(1)</script><img src=x onerror=alert(1)>{{.Name}}javascript:alert(1)&amp;` + "\x00\u202e\n"
	s := healthyService(1)
	s.ID, s.Name, s.Region, s.Size, s.HAType, s.Version, s.State, s.Error = hostile+"/../..", hostile, hostile, hostile, hostile, hostile, hostile, hostile
	s.Tags = []api.Tag{{Key: hostile, Value: hostile}, {Key: strings.Repeat("k", 300)}, {Key: "c"}, {Key: hostile}}
	second := healthyService(2)
	second.ID, second.Name = `javascript:alert(1)`, "  "
	o := working(hostile, s, second)
	o.Error, o.Inventory = hostile, collector.CallStatus{Tried: true, Error: hostile}
	o.Next.Endpoint = hostile
	o.Services[1].State = "unavailable"
	other := working("other", healthyService(3))
	k := statusOf(o, other)
	h := NewHistory(k)
	h.observe(k.status)
	base := serve(t, Options{Collector: k, History: h, Name: hostile, Version: hostile})
	for _, query := range []string{"", "?q=" + url.QueryEscape(hostile[:20]), "?state=" + url.QueryEscape(hostile), "?organization=" + url.QueryEscape(hostile), "?sort=" + url.QueryEscape(hostile), "?region=" + url.QueryEscape(hostile)} {
		page, a := open(t, base+"/"+query)
		for _, e := range find(page, "*") {
			switch e.Data {
			case "script":
				if !strings.HasPrefix(attribute(e, "src"), "-/assets/status.js?v=") || e.FirstChild != nil {
					t.Errorf("%s: a script got in:\n%s", query, a.body)
				}
			case "img":
				t.Errorf("%s: an image got in", query)
			}
			for _, at := range e.Attr {
				if strings.HasPrefix(at.Key, "on") || at.Key == "style" ||
					at.Key == "href" && strings.HasPrefix(strings.TrimSpace(strings.ToLower(at.Val)), "javascript:") {
					t.Errorf("%s: <%s %s=%q>", query, e.Data, at.Key, at.Val)
				}
			}
		}
		if query == "" && !strings.Contains(words(page), `"'><script>alert(1)</script><img src=x onerror=alert(1)>{{.Name}}`) {
			t.Errorf("the name is not shown as it is")
		}
	}
	a := do(t, "GET", base+"/api/v1/status", nil)
	if a.header.Get("Content-Type") != "application/json" || a.header.Get("X-Content-Type-Options") != "nosniff" || strings.Contains(string(a.body), "<script") {
		t.Errorf("%v %s", a.header, a.body)
	}
}

func TestStatusSort(t *testing.T) {
	list := fleet(7)
	list[3].CPUUsedRatio, list[3].Connections, list[3].DiskUsedRatio = nil, nil, nil
	list[3].Region, list[3].Size, list[3].LastSuccess, list[3].State = "", "", time.Time{}, ""
	list[5].Name = "Alpha"
	list[6].Series = 5
	base := serve(t, Options{Collector: statusOf(working("b", list[:4]...), working("a", list[4:]...))})
	for query, want := range map[string]string{
		"":                            "Alpha 0 1 2 3 4 6",
		"sort=name":                   "Alpha 0 1 2 3 4 6",
		"sort=name&order=desc":        "6 4 3 2 1 0 Alpha",
		"sort=cpu":                    "0 1 2 4 Alpha 6 3",
		"sort=cpu&order=desc":         "6 Alpha 4 2 1 0 3",
		"sort=disk&order=desc":        "6 Alpha 4 2 1 0 3",
		"sort=connections":            "0 1 2 4 Alpha 6 3",
		"sort=age":                    "0 1 2 4 Alpha 6 3",
		"sort=age&order=desc":         "6 Alpha 4 2 1 0 3",
		"sort=series":                 "6 Alpha 0 1 2 3 4",
		"sort=region":                 "0 2 4 6 Alpha 1 3",
		"sort=region&order=desc":      "Alpha 1 0 2 4 6 3",
		"sort=state":                  "Alpha 0 1 2 4 6 3",
		"sort=role":                   "Alpha 1 2 4 0 3 6",
		"sort=organization":           "Alpha 4 6 0 1 2 3",
		"sort=nonsense":               "Alpha 0 1 2 3 4 6",
		"sort=cpu&sort=age&order=bad": "0 1 2 4 Alpha 6 3",
	} {
		page, _ := open(t, base+"/?"+query)
		if got := strings.ReplaceAll(strings.Join(listed(t, page), " "), "service-", ""); got != want {
			t.Errorf("%s: %s, not %s", query, got, want)
		}
	}

	// A click on a column's name sorts by it, a second one turns the order, and
	// neither forgets what was looked for.
	page, _ := open(t, base+"/?q=service&per_page=25")
	first := attribute(byID(t, page, "sort-region"), "href")
	page, _ = open(t, base+"/"+first)
	second := attribute(byID(t, page, "sort-region"), "href")
	if first != "?per_page=25&q=service&sort=region#services" || second != "?order=desc&per_page=25&q=service&sort=region#services" {
		t.Errorf("links %q, %q", first, second)
	}
	if to := attribute(byID(t, page, "sort-cpu"), "href"); to != "?order=desc&per_page=25&q=service&sort=cpu#services" {
		t.Errorf("numbers are not offered greatest first: %q", to)
	}
}

func TestStatusFilter(t *testing.T) {
	list := fleet(6)
	list[0].Name, list[0].Tags = "Älter", []api.Tag{{Key: "Team", Value: "Payments"}}
	list[1].State = "stopped"
	list[2].Error = "no"
	list[3].Series = 0
	list[4].Hostname, list[4].Size = "db.example.com", "r8gd.large"
	base := serve(t, Options{Collector: statusOf(working("org", list[:4]...), working("other", list[4:]...))})
	for query, want := range map[string]string{
		"state=stopped":                    "service-1",
		"state=running&region=us-east-1":   "service-3 service-5",
		"region=nowhere":                   "",
		"q=SERVICE-2":                      "service-2",
		"q=ÄLTER":                          "Älter",
		"q=team%3Dpay":                     "Älter",
		"q=stopped":                        "service-1",
		"q=service+r8gd":                   "service-4",
		"q=service+nothing":                "",
		"q=example.com":                    "service-4",
		"q=000000000005":                   "service-5",
		"problems=1":                       "service-2 service-3",
		"problems=0":                       "service-1 service-2 service-3 service-4 service-5 Älter",
		"organization=other":               "service-4 service-5",
		"organization=name+of+other":       "service-4 service-5",
		"organization=none":                "",
		"q=" + strings.Repeat("x", 20_000): "",
		"q=%ff%fe&state=%00":               "",
		"%zz=;&page=1;2":                   "service-1 service-2 service-3 service-4 service-5 Älter",
	} {
		page, a := open(t, base+"/?"+query)
		if got := strings.Join(listed(t, page), " "); got != want {
			t.Errorf("%.60s: %s, not %s", query, got, want)
		}
		if len(a.body) > 100_000 {
			t.Errorf("%.60s: %d bytes", query, len(a.body))
		}
	}
	page, _ := open(t, base+"/?state=stopped&q=service&problems=1&organization=org&sort=cpu&order=desc")
	for id, want := range map[string]string{"q": "service", "only-problems": "1"} {
		if got := attribute(byID(t, page, id), "value"); got != want {
			t.Errorf("%s is %q", id, got)
		}
	}
	for id, want := range map[string]string{"state": "stopped (1)", "region": "all", "organization": "name of org", "sort": "CPU", "order": "descending", "per_page": "50"} {
		var selected []string
		options := find(byID(t, page, id), "option")
		for _, o := range options {
			if slices.ContainsFunc(o.Attr, func(a html.Attribute) bool { return a.Key == "selected" }) {
				selected = append(selected, words(o))
			}
		}
		if selected == nil {
			selected = []string{words(options[0])} // as browsers do
		}
		if len(selected) != 1 || selected[0] != want {
			t.Errorf("%s: %q selected", id, selected)
		}
	}
	if caption := words(byID(t, page, "caption")); caption != "None of 6 services matches" {
		t.Errorf("caption %q", caption)
	}
}

// TestStatusPages walks through 2,000 services. Whatever is asked for, an answer
// is bounded.
func TestStatusPages(t *testing.T) {
	k := statusOf(working("org", fleet(2000)...))
	for i := range k.status.Organizations[0].Services {
		s := &k.status.Organizations[0].Services[i]
		for j := range 50 * (i % 10 / 9) {
			s.Tags = append(s.Tags, api.Tag{Key: fmt.Sprintf("key-%d", j), Value: strings.Repeat("v", 256)})
		}
		if i%10 == 0 {
			s.Error = strings.Repeat("e", 10_000)
		}
	}
	h := NewHistory(k)
	for i := range 2 * mostMoments {
		s := k.status
		s.Time = statusTime.Add(time.Duration(i) * observeEvery)
		h.observe(s)
	}
	base := serve(t, Options{Collector: k, History: h})
	seen := map[string]bool{}
	at := "?per_page=200&sort=cpu"
	for n := 1; at != ""; n++ {
		page, a := open(t, base+"/"+at)
		if len(a.body) > 3<<20 {
			t.Fatalf("%s: %d bytes", at, len(a.body))
		}
		for _, name := range listed(t, page) {
			if seen[name] {
				t.Fatalf("%s twice", name)
			}
			seen[name] = true
		}
		if caption := words(byID(t, page, "caption")); !strings.HasPrefix(caption, strings.ReplaceAll(fmt.Sprintf("Services %s to %s of 2 000, sorted by CPU", thousands(200*n-199), thousands(200*n)), narrowSpace, " ")) {
			t.Errorf("caption %q", caption)
		}
		if current := words(slices.DeleteFunc(find(page, "a"), func(a *html.Node) bool { return attribute(a, "aria-current") != "page" })[0]); current != strconv.Itoa(n) {
			t.Errorf("on page %d the current one is %s", n, current)
		}
		at = ""
		for _, e := range find(page, "a") {
			if attribute(e, "rel") == "next" {
				at = attribute(e, "href")
			}
		}
	}
	if len(seen) != 2000 {
		t.Errorf("%d services", len(seen))
	}
	for query, want := range map[string]int{
		"": 50, "per_page=25": 25, "per_page=7": 50, "per_page=1000000": 50, "per_page=-1": 50,
		"page=40": 50, "page=41": 50, "page=99999999999999999999": 50, "page=-3": 50, "page=0": 50, "page=x": 50,
		"q=service-1999": 1, "q=service-1999&page=9": 1,
	} {
		page, _ := open(t, base+"/?"+query)
		if got := len(listed(t, page)); got != want {
			t.Errorf("%s: %d services", query, got)
		}
	}
	page, _ := open(t, base+"/?page=20")
	var numbers []string
	for _, li := range find(find(byID(t, page, "services-part"), "nav")[0], "li") {
		numbers = append(numbers, words(li))
	}
	if got := strings.Join(numbers, " "); got != "1 … 18 19 20 21 22 … 40" {
		t.Errorf("pages %s", got)
	}
}

func TestStatusAllocations(t *testing.T) {
	k := statusOf(working("org", fleet(2000)...))
	p, err := newStatusPage(Options{Collector: k, TelemetryPath: "/metrics"})
	if err != nil {
		t.Fatal(err)
	}
	sel, err := parseSelection(url.Values{"sort": {"region"}})
	if err != nil {
		t.Fatal(err)
	}
	n := testing.AllocsPerRun(5, func() {
		if err := p.template.Execute(io.Discard, p.view(k.Status(), sel)); err != nil {
			t.Fatal(err)
		}
	})
	// What is not shown must cost next to nothing: comparing two services takes
	// an allocation or so.
	if n > 80_000 {
		t.Errorf("%.0f allocations", n)
	}
}

func TestStatusJSON(t *testing.T) {
	broken := healthyService(2)
	broken.Name, broken.State, broken.Hostname, broken.StorageGiB = "broken", "unavailable", "broken.example.com", 118
	broken.Error, broken.Series, broken.CPUUsedRatio, broken.Connections, broken.DiskUsedRatio = "get service metrics: API failed", 0, nil, nil, nil
	second := working("second")
	second.Up, second.Unconfirmed, second.Error = false, true, "get organization metrics: API failed (status 500)"
	second.Metrics = collector.CallStatus{Tried: true, Error: second.Error, Since: statusTime.Add(-time.Minute)}
	second.Budget.PausedUntil, second.UnknownServices, second.UncoveredServices = statusTime.Add(time.Minute), 1, 2
	second.Next.Service = "x"
	k := statusOf(working("first", healthyService(1), broken), second)
	h := NewHistory(k)
	over := k.status
	over.Time = statusTime.Add(-time.Minute)
	over.Organizations = []collector.OrganizationStatus{working("first"), working("second")}
	over.Organizations[0].Unconfirmed = true
	h.observe(over)
	h.observe(k.status)
	base := serve(t, Options{Collector: k, History: h, Version: "1.2.3"})

	a := do(t, "GET", base+"/api/v1/status", nil)
	if a.code != http.StatusOK || a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("code %d, header %v", a.code, a.header)
	}
	var v any
	if err := json.Unmarshal(regexp.MustCompile(`"started":"[^"]+"`).ReplaceAll(a.body, []byte(`"started":"2026-01-01T00:00:00Z"`)), &v); err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	golden := filepath.Join("testdata", "status.json")
	if *updateGolden {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Error(diff)
	}

	var document statusDocument
	a = do(t, "GET", base+"/api/v1/status?state=unavailable&page=7&per_page=25", nil)
	if err := json.Unmarshal(a.body, &document); err != nil {
		t.Fatal(err)
	}
	if o := document.Organizations; len(o) != 2 || len(o[0].Services) != 1 || o[0].Services[0].Name != "broken" || o[1].Services == nil {
		t.Errorf("selected: %s", a.body)
	}
	a = do(t, "GET", serve(t, Options{Collector: statusOf(working("org"))})+"/api/v1/status", nil)
	if !strings.Contains(string(a.body), `"problems":[]`) {
		t.Errorf("no problems: %s", a.body)
	}
}

func TestAssets(t *testing.T) {
	base := serve(t, Options{Collector: withData()})
	for name, contentType := range map[string]string{
		"status.css": "text/css; charset=utf-8", "status.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml",
	} {
		a := do(t, "GET", base+"/-/assets/"+name, nil)
		tag := a.header.Get("ETag")
		if a.code != http.StatusOK || a.header.Get("Content-Type") != contentType || len(a.body) == 0 || tag == "" {
			t.Errorf("%s: code %d, header %v", name, a.code, a.header)
		}
		if a := do(t, "GET", base+"/-/assets/"+name, http.Header{"If-None-Match": {tag}}); a.code != http.StatusNotModified || len(a.body) != 0 {
			t.Errorf("%s: code %d when it is known", name, a.code)
		}
		if strings.Contains(string(a.body), "http://") && name != "icon.svg" || strings.Contains(string(a.body), "https://") || strings.Contains(string(a.body), "@import") {
			t.Errorf("%s refers to elsewhere", name)
		}
	}
	for _, path := range []string{"/-/assets/", "/-/assets/status.html", "/-/assets/none", "/-/assets/..%2fstatus.css"} {
		if a := do(t, "GET", base+path, nil); a.code != http.StatusNotFound {
			t.Errorf("%s: code %d", path, a.code)
		}
	}
}

func TestSpell(t *testing.T) {
	for _, test := range []struct {
		got, want string
	}{
		{spell(0), "0 s"},
		{spell(0.0001), "1 ms"},
		{spell(0.25), "250 ms"},
		{spell(0.9999), "1 s"},
		{spell(1.25), "1.3 s"},
		{spell(9.96), "10 s"},
		{spell(59.6), "60 s"},
		{spell(119), "119 s"},
		{spell(120), "2 min"},
		{spell(200), "3 min 20 s"},
		{spell(3600), "1 h"},
		{spell(3660), "1 h 1 min"},
		{spell(48 * 3600), "2 d"},
		{spell(49 * 3600), "2 d 1 h"},
		{spell(-1), "unknown"},
		{spell(1e300), "unknown"},
		{ago(0.9), "0 s"},
		{ago(3.7), "3 s"},
		{ago(61), "61 s"},
		{percent(0), "0 %"},
		{percent(0.0512), "5.1 %"},
		{percent(0.5), "50 %"},
		{percent(0.999), "100 %"},
		{percent(1.5), "150 %"},
		{thousands(0), "0"},
		{thousands(999), "999"},
		{thousands(1000), "1 000"},
		{thousands(-1234567), "-1 234 567"},
		{size(0), "0 B"},
		{size(1023), "1023 B"},
		{size(1536), "1.5 KiB"},
		{size(912 << 10), "912 KiB"},
		{size(5 << 40), "5120 GiB"},
	} {
		if got := strings.ReplaceAll(test.got, narrowSpace, " "); got != test.want {
			t.Errorf("%q, not %q", got, test.want)
		}
	}
}
