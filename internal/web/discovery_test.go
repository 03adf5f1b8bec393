package web

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
)

// twice is a list of services that has been read and read again.
func twice() collector.CallStatus {
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return collector.CallStatus{Tried: true, OK: true, Since: since, LastSuccess: since.Add(time.Minute)}
}

func once() collector.CallStatus {
	c := twice()
	c.LastSuccess = c.Since
	return c
}

func organization(id string, services ...collector.ServiceStatus) collector.OrganizationStatus {
	return collector.OrganizationStatus{ID: id, Name: "name of " + id, InventoryKnown: true, Inventory: once(), Services: services}
}

func service(id, state, region string, tags ...api.Tag) collector.ServiceStatus {
	return collector.ServiceStatus{ID: id, Name: "name of " + id, Known: true, State: state, Region: region, Tags: tags}
}

// discover asks for targets and returns status and body.
func discover(t *testing.T, o Options, query string) (int, string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/sd"+query, nil)
	r.Host = "exporter:9924"
	w := httptest.NewRecorder()
	handler(t, o).ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// groups reads an answer as Prometheus does, and returns its targets by instance.
func groups(t *testing.T, body string) map[string]targetGroup {
	t.Helper()
	var list []struct {
		Targets []model.LabelValue `json:"targets"`
		Labels  model.LabelSet     `json:"labels"`
	}
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	if list == nil {
		t.Fatalf("no list: %s", body)
	}
	out := map[string]targetGroup{}
	for _, g := range list {
		if err := g.Labels.Validate(); err != nil {
			t.Errorf("%v in %v", err, g.Labels)
		}
		if len(g.Targets) != 1 {
			t.Errorf("%d targets in a group", len(g.Targets))
		}
		group := targetGroup{Labels: map[string]string{}}
		for _, target := range g.Targets {
			group.Targets = append(group.Targets, string(target))
		}
		for name, value := range g.Labels {
			group.Labels[string(name)] = string(value)
		}
		instance := string(g.Labels[model.InstanceLabel])
		if _, exists := out[instance]; exists || instance == "" {
			t.Errorf("instance %q twice or empty", instance)
		}
		out[instance] = group
	}
	return out
}

func TestDiscoveryAnswer(t *testing.T) {
	full := service("b2", "running", "eu-west-2",
		api.Tag{Key: "env", Value: "prod"}, api.Tag{Key: "keep"}, api.Tag{Key: "cost.center", Value: `a"b<c>é`})
	full.Provider, full.Size, full.Version, full.HAType, full.Primary = "aws", "r6gd.medium", "18", "sync", true
	c := knows(
		organization("org-2", service("a1", "running", "")),
		organization("org-1", full, service("a0", "creating", "us-east-1"), service("c3", "deleting", "eu-west-2"),
			service("c4", "deleted", "eu-west-2"), collector.ServiceStatus{ID: "d4", State: "running"}),
	)
	base := serve(t, Options{Collector: c, ExternalURL: mustParse(t, "https://proxy.example.com/postgres/")})
	a := do(t, http.MethodGet, base+"/sd", nil)
	if a.code != http.StatusOK || a.header.Get("Content-Type") != "application/json" {
		t.Fatalf("code %d, header %v, body %s", a.code, a.header, a.body)
	}
	var indented any
	if err := json.Unmarshal(a.body, &indented); err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(indented, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "discovery.json")
	if *updateGolden {
		if err := os.WriteFile(golden, append(got, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
		t.Error(diff)
	}
	groups(t, string(a.body)) // is valid

	// The order of organizations and services, and who asks, do not matter.
	slices.Reverse(c.status.Organizations)
	slices.Reverse(c.status.Organizations[0].Services)
	again := do(t, http.MethodGet, base+"/sd", nil)
	if string(again.body) != string(a.body) || a.header.Get("ETag") == "" || again.header.Get("ETag") != a.header.Get("ETag") {
		t.Errorf("not the same again: %s, %v", again.body, again.header)
	}
	head := do(t, http.MethodHead, base+"/sd", nil)
	if head.code != http.StatusOK || len(head.body) != 0 || head.length != int64(len(a.body)) || head.header.Get("ETag") != a.header.Get("ETag") {
		t.Errorf("HEAD: %+v", head)
	}
	unchanged := do(t, http.MethodGet, base+"/sd", http.Header{"If-None-Match": {a.header.Get("ETag")}})
	if unchanged.code != http.StatusNotModified || len(unchanged.body) != 0 {
		t.Errorf("If-None-Match: %+v", unchanged)
	}
	c.status.Organizations[1].Services[0].State = "stopped"
	changed := do(t, http.MethodGet, base+"/sd", http.Header{"If-None-Match": {a.header.Get("ETag")}})
	if changed.code != http.StatusOK || changed.header.Get("ETag") == a.header.Get("ETag") {
		t.Errorf("after a change: %+v", changed)
	}
	if post := do(t, http.MethodPost, base+"/sd", nil); post.code != http.StatusMethodNotAllowed {
		t.Errorf("POST: code %d", post.code)
	}
}

// TestDiscoveryAddress is about address, scheme and path of a target.
func TestDiscoveryAddress(t *testing.T) {
	for _, test := range []struct {
		host, external string
		tls            bool
		want           string // a URL, or what is wrong
	}{
		{host: "exporter:9924", want: "http://exporter:9924/v1/organizations/org/postgres/a/prometheus"},
		{host: "exporter", want: "http://exporter/v1/organizations/org/postgres/a/prometheus"},
		{host: "10.0.0.1:80", tls: true, want: "https://10.0.0.1:80/v1/organizations/org/postgres/a/prometheus"},
		{host: "[2001:db8::1]:9924", want: "http://[2001:db8::1]:9924/v1/organizations/org/postgres/a/prometheus"},
		{host: "[::1]", want: "http://[::1]/v1/organizations/org/postgres/a/prometheus"},
		{host: "h", external: "https://x.example.com", want: "https://x.example.com/v1/organizations/org/postgres/a/prometheus"},
		{host: "h", external: "http://x:1/a//b/", tls: true, want: "http://x:1/a/b/v1/organizations/org/postgres/a/prometheus"},
		{host: "bad host", external: "http://x", want: "http://x/v1/organizations/org/postgres/a/prometheus"},
		{host: "", want: `400 the request's Host header has an invalid host "": set --web.external-url`},
		{host: ":9924", want: `400 the request's Host header has an invalid host "": set --web.external-url`},
		{host: "exporter:0", want: `400 the request's Host header has an invalid port "0": set --web.external-url`},
		{host: "exporter:", want: `400 the request's Host header has an invalid port "": set --web.external-url`},
		{host: "exporter:+80", want: `400 the request's Host header has an invalid port "+80": set --web.external-url`},
		{host: "exporter:65536", want: `400 the request's Host header has an invalid port "65536": set --web.external-url`},
		{host: "a:1:2", want: `400 the request's Host header has an invalid host "a:1": set --web.external-url`},
		{host: "a/b", want: `400 the request's Host header has an invalid host "a/b": set --web.external-url`},
		{host: "é", want: `400 the request's Host header has an invalid host "é": set --web.external-url`},
		{host: "[fe80::1%25eth0]:80", want: `400 the request's Host header has an invalid IPv6 address "[fe80::1%25eth0]": set --web.external-url`},
		{host: "[1.2.3.4]", want: `400 the request's Host header has an invalid IPv6 address "[1.2.3.4]": set --web.external-url`},
		{host: "[::1", want: `400 the request's Host header has an invalid IPv6 address "[:": set --web.external-url`},
	} {
		t.Run(test.host+" "+test.external, func(t *testing.T) {
			h := handler(t, Options{
				Collector:   knows(organization("org", service("a", "running", "eu"))),
				ExternalURL: mustParse(t, test.external),
			})
			r := httptest.NewRequest(http.MethodGet, "/sd", nil)
			r.Host = test.host
			if test.tls {
				r.TLS = &tls.ConnectionState{}
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			var got string
			if w.Code == http.StatusOK {
				g := groups(t, w.Body.String())["a"]
				got = g.Labels["__scheme__"] + "://" + g.Targets[0] + g.Labels["__metrics_path__"]
			} else {
				got = strconv.Itoa(w.Code) + " " + strings.TrimSuffix(w.Body.String(), "\n")
			}
			if got != test.want {
				t.Errorf("%s\nnot %s", got, test.want)
			}
		})
	}
}

func TestDiscoveryTags(t *testing.T) {
	for _, test := range []struct {
		name string
		tags []api.Tag
		want map[string]string // without __meta_clickhouse_
	}{
		{"none", nil, map[string]string{}},
		{"value", []api.Tag{{Key: "env", Value: "prod"}}, map[string]string{"tag_env": "prod", "tagpresent_env": "true"}},
		{"no value", []api.Tag{{Key: "env"}}, map[string]string{"tagpresent_env": "true"}},
		{"mangled", []api.Tag{{Key: "1.a-b_C", Value: "x"}}, map[string]string{"tag_1_a_b_C": "x", "tagpresent_1_a_b_C": "true"}},
		{"beyond ASCII", []api.Tag{{Key: "größe"}}, map[string]string{"tagpresent_gr__e": "true"}},
		{
			"collision",
			[]api.Tag{{Key: "a.b", Value: "dot"}, {Key: "a-b"}},
			map[string]string{"tag_a_b_108bf50c": "dot", "tagpresent_a_b_108bf50c": "true", "tagpresent_a_b_2a89df63": "true"},
		},
		{
			"collision with one that is its label",
			[]api.Tag{{Key: "a.b", Value: "dot"}, {Key: "a_b", Value: "underscore"}},
			map[string]string{"tag_a_b_108bf50c": "dot", "tagpresent_a_b_108bf50c": "true", "tag_a_b": "underscore", "tagpresent_a_b": "true"},
		},
		{
			"collision with a hash",
			[]api.Tag{{Key: "a.b", Value: "dot"}, {Key: "a_b", Value: "1"}, {Key: "a_b_108bf50c", Value: "2"}},
			map[string]string{
				"tag_a_b_108bf50c_": "dot", "tagpresent_a_b_108bf50c_": "true", "tag_a_b": "1", "tagpresent_a_b": "true",
				"tag_a_b_108bf50c": "2", "tagpresent_a_b_108bf50c": "true",
			},
		},
		{"twice", []api.Tag{{Key: "a", Value: "1"}, {Key: "a", Value: "2"}}, map[string]string{"tag_a": "1", "tagpresent_a": "true"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for range 2 {
				code, body := discover(t, Options{Collector: knows(organization("org", service("a", "running", "eu", test.tags...)))}, "")
				if code != http.StatusOK {
					t.Fatalf("code %d: %s", code, body)
				}
				got := map[string]string{}
				for name, value := range groups(t, body)["a"].Labels {
					if short := strings.TrimPrefix(name, "__meta_clickhouse_"); strings.HasPrefix(short, "tag") {
						got[short] = value
					}
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Error(diff)
				}
				if test.name != "twice" {
					slices.Reverse(test.tags) // the order does not matter
				}
			}
		})
	}
}

func TestDiscoveryFilters(t *testing.T) {
	c := knows(
		organization("one",
			service("a", "running", "eu", api.Tag{Key: "env", Value: "prod"}, api.Tag{Key: "team", Value: "x:y"}),
			service("b", "running", "us", api.Tag{Key: "env", Value: "dev"}, api.Tag{Key: "keep"}),
			service("c", "stopped", "us", api.Tag{Key: "env"}),
			service("d", "a b", "eu"),
			service("e", "deleting", "eu"),
		),
		organization("two", service("f", "running", "eu")),
	)
	for query, want := range map[string]string{
		"":                                    "a b c d f",
		"?":                                   "a b c d f",
		"?state=running":                      "a b f",
		"?state=running&state=stopped":        "a b c f",
		"?state=a+b":                          "d",
		"?state=a%20b":                        "d",
		"?state=Running":                      "",
		"?state=deleting":                     "",
		"?region=us":                          "b c",
		"?region=us&state=running":            "b",
		"?tag=env":                            "a b c",
		"?tag=env:prod":                       "a",
		"?tag=env:prod&tag=env:dev":           "a b",
		"?tag=env:":                           "c",
		"?tag=env:dev&tag=keep":               "b",
		"?tag=env:prod&tag=keep":              "",
		"?tag=team:x:y":                       "a",
		"?tag=keep:":                          "b",
		"?organization=two":                   "f",
		"?organization=name+of+two":           "f",
		"?organization=one&organization=two":  "a b c d f",
		"?organization=three":                 `404 unknown organization "three"`,
		"?organization=one&organization=thre": `404 unknown organization "thre"`,
		"?states=running":                     `400 unknown parameter "states": use state, region, tag or organization`,
		"?State=running":                      `400 unknown parameter "State": use state, region, tag or organization`,
		"?zone=a&name=b":                      `400 unknown parameter "name": use state, region, tag or organization`,
		"?state=":                             `400 parameter "state" is empty: give it a value or leave it out`,
		"?tag":                                `400 parameter "tag" is empty: give it a value or leave it out`,
		"?state=running&state=":               `400 parameter "state" is empty: give it a value or leave it out`,
		"?tag=:prod":                          `400 parameter tag=":prod" has no key: write it as key or key:value`,
		"?state=a;b=c":                        "400 cannot parse the query: write it like ?state=running&tag=env:prod",
		"?state=%ff":                          `400 parameter "state" is not valid UTF-8`,
		"?state=.*":                           "",
		"?tag=env:.*":                         "",
		"?tag=env:&tag=env:prod":              "a c",
		"?tag=env:prod&tag=env":               "a b c",
		"?state=%zz":                          "400 cannot parse the query: write it like ?state=running&tag=env:prod",
	} {
		t.Run(query, func(t *testing.T) {
			code, body := discover(t, Options{Collector: c}, query)
			got := strconv.Itoa(code) + " " + strings.TrimSuffix(body, "\n")
			if code == http.StatusOK {
				var ids []string
				for id := range groups(t, body) {
					ids = append(ids, id)
				}
				slices.Sort(ids)
				got = strings.Join(ids, " ")
			}
			if got != want {
				t.Errorf("%s\nnot %s", got, want)
			}
		})
	}
}

// TestDiscoveryWaits for the first list after a start, but not for ever.
func TestDiscoveryWaits(t *testing.T) {
	for _, test := range []struct {
		interval, timeout string
		after, until      time.Duration
		want              int
	}{
		{"", "", 3 * time.Second, 3 * time.Second, 200},
		{"60", "", 9 * time.Second, 9 * time.Second, 200},
		{"", "", time.Minute, 9500 * time.Millisecond, 503},
		{"5", "", time.Minute, 2500 * time.Millisecond, 503},
		{"-1", "", time.Minute, 9500 * time.Millisecond, 503},
		{"NaN", "", time.Minute, 9500 * time.Millisecond, 503},
		{"x", "", time.Minute, 9500 * time.Millisecond, 503},
		{"", "3", time.Minute, 2500 * time.Millisecond, 503},
		{"60", "0.2", time.Minute, 100 * time.Millisecond, 503},
		{"5", "60", time.Minute, 2500 * time.Millisecond, 503},
		{"60", "60", time.Minute, 9500 * time.Millisecond, 503},
		{"60", "x", time.Minute, 9500 * time.Millisecond, 503},
	} {
		t.Run(test.interval+" "+test.timeout+" "+test.after.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := knows(collector.OrganizationStatus{})
				c.wait = func(ctx context.Context) error {
					select {
					case <-time.After(test.after):
						c.status.Organizations = []collector.OrganizationStatus{organization("org", service("a", "running", "eu"))}
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				r := httptest.NewRequest(http.MethodGet, "/sd", nil)
				if test.interval != "" {
					r.Header.Set("X-Prometheus-Refresh-Interval-Seconds", test.interval)
				}
				if test.timeout != "" {
					r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", test.timeout)
				}
				w := httptest.NewRecorder()
				start := time.Now()
				handler(t, Options{Collector: c}).ServeHTTP(w, r)
				if got := time.Since(start); got != test.until || w.Code != test.want {
					t.Errorf("code %d after %s: %s", w.Code, got, w.Body)
				}
			})
		})
	}
}
