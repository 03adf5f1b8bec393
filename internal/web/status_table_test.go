package web

import (
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
)

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
	if caption := words(byID(t, page, "caption")); caption != "None of 6 services match" {
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
	for i := range 2 * maxMoments {
		s := k.status
		s.Time = statusTime.Add(time.Duration(i) * observeInterval)
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
		if caption := words(byID(t, page, "caption")); !strings.HasPrefix(caption, strings.ReplaceAll(fmt.Sprintf("Services %s to %s of 2 000, sorted by CPU", formatInteger(200*n-199), formatInteger(200*n)), narrowSpace, " ")) {
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
	sel, err := parseTableQuery(url.Values{"sort": {"region"}})
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
