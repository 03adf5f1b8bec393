package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

func TestStatusPage(t *testing.T) {
	broken := healthyService(2)
	broken.Name, broken.State, broken.Error = "broken", "unavailable", "get service metrics: API failed (status 500)"
	k := statusOf(working("org", healthyService(1), broken, healthyService(3)))
	h := NewHistory(k)
	for i := range 5 {
		s := k.status
		s.Time = statusTime.Add(time.Duration(i-5) * observeInterval)
		h.observe(s)
	}
	base := serve(t, Options{
		Collector: k, History: h, TelemetryPath: "/some/metrics", Name: "The <exporter>", Build: map[string]string{"version": "1.2.3 <x>"},
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
		"3 of 8", "the list of services in 7 s", "every 60 s, next in 30 s", "as of 05:06:07 UTC",
		"ClickHouse Cloud reports 1 service as unavailable", "for 25 s",
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

// TestStatusStates looks at the page in the conditions that a collector can be
// in: the verdict, the problems and their severities.
func TestStatusStates(t *testing.T) {
	failing := collector.CallStatus{Tried: true, Error: "list services: API key wrong or expired (status 401); check the key", Since: statusTime.Add(-2 * time.Minute)}
	refused := collector.CallStatus{Tried: true, Error: "API key wrong or expired (status 401)", Reason: "unauthorized", Since: statusTime.Add(-time.Minute)}
	for _, test := range []struct {
		name     string
		change   func(*collector.OrganizationStatus)
		verdict  string
		problems []string
	}{
		{"well", func(*collector.OrganizationStatus) {}, "Everything works", nil},
		{"starting", func(o *collector.OrganizationStatus) {
			*o = collector.OrganizationStatus{ID: "org", Budget: o.Budget, ServicesByState: map[string]int{}}
		}, "Starting: waiting for the first response from ClickHouse Cloud", nil},
		{"no services", func(o *collector.OrganizationStatus) {
			o.Services, o.ServicesByState, o.Series = nil, map[string]int{}, 0
		}, "Everything works", nil},
		{"organization not found", func(o *collector.OrganizationStatus) {
			*o = collector.OrganizationStatus{Name: "prod", Error: "two organizations", ServicesByState: map[string]int{}}
		}, "1 problem", []string{"error Cannot find the organization of the API key"}},
		{"wrong key from the start", func(o *collector.OrganizationStatus) {
			*o = collector.OrganizationStatus{Error: "no", Discovery: refused, ServicesByState: map[string]int{}}
		}, "1 problem", []string{"error ClickHouse Cloud refuses the API key"}},
		{"wrong key of a known organization from the start", func(o *collector.OrganizationStatus) {
			*o = collector.OrganizationStatus{ID: "org", Error: "no", Inventory: refused, Metrics: refused, ServicesByState: map[string]int{}}
		}, "1 problem", []string{"error ClickHouse Cloud refuses the API key"}},
		{"key revoked", func(o *collector.OrganizationStatus) {
			o.Inventory, o.Metrics = refused, refused
		}, "Serving metrics, with 1 problem", []string{"warning ClickHouse Cloud refuses the API key"}},
		{"key files gone", func(o *collector.OrganizationStatus) {
			o.Inventory, o.Metrics = refused, refused
			o.Inventory.Reason = "credentials"
		}, "Serving metrics, with 1 problem", []string{"warning Cannot read the API key"}},
		{"no list ever", func(o *collector.OrganizationStatus) {
			o.Up, o.InventoryKnown, o.Inventory, o.Services, o.Metrics = false, false, failing, nil, collector.CallStatus{}
		}, "1 problem", []string{"error Cannot read the list of services"}},
		{"list fails", func(o *collector.OrganizationStatus) {
			o.Up, o.Inventory = false, failing
		}, "Serving metrics, with 1 problem", []string{"warning Cannot read the list of services"}},
		{"list is empty", func(o *collector.OrganizationStatus) {
			o.Unconfirmed = true
		}, "Serving metrics, with 1 problem", []string{"warning The list of services is suddenly empty"}},
		{"metrics fail", func(o *collector.OrganizationStatus) {
			o.Up, o.Metrics = false, failing
		}, "Serving metrics, with 1 problem", []string{"warning Cannot read metrics"}},
		{"metrics have expired", func(o *collector.OrganizationStatus) {
			o.Up, o.Metrics = false, failing
			for i := range o.Services {
				o.Services[i].Series = 0
			}
		}, "2 problems", []string{"error Cannot read metrics", "error 3 services have no metrics"}},
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
		}, "Serving metrics, with 1 problem", []string{"warning Cannot read the metrics of 1 service"}},
		{"service has expired", func(o *collector.OrganizationStatus) {
			o.Services[0].Error, o.Services[0].Series = "no", 0
			o.Services[1].Series = 0
		}, "1 problem", []string{"error 2 services have no metrics"}},
		{"service not read yet", func(o *collector.OrganizationStatus) {
			o.Services[0].Series, o.Services[0].LastSuccess = 0, time.Time{}
		}, "Starting: some services have not been read yet", nil},
		{"stopped service", func(o *collector.OrganizationStatus) {
			o.Services[0].Series, o.Services[0].State = 0, "stopped"
		}, "Everything works", nil},
		{"unavailable", func(o *collector.OrganizationStatus) {
			o.Services[0].State, o.Services[2].State = "unavailable", "unavailable"
		}, "Serving metrics, with 1 problem", []string{"warning ClickHouse Cloud reports 2 services as unavailable"}},
		{"unknown", func(o *collector.OrganizationStatus) {
			o.UnknownServices = 1
		}, "Everything works", []string{"notice 1 service is in the metrics but not in the list of services"}},
		{"slow", func(o *collector.OrganizationStatus) {
			o.UncoveredServices, o.RefreshSeconds = 200, 150
		}, "Everything works", []string{"notice The request budget allows one read of each service every 2 min 30 s"}},
		{"too slow", func(o *collector.OrganizationStatus) {
			o.UncoveredServices, o.RefreshSeconds = 1900, 2000
		}, "Serving metrics, with 1 problem", []string{"warning The request budget allows one read of each service every 33 min 20 s"}},
		{"worst first", func(o *collector.OrganizationStatus) {
			o.UnknownServices, o.Unconfirmed, o.Services[0].Series = 1, true, 0
		}, "2 problems", []string{
			"error 1 service has no metrics", "warning The list of services is suddenly empty",
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
	base := serve(t, Options{Collector: k, History: h, Name: hostile, Build: map[string]string{"version": hostile, "revision": hostile}})
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
