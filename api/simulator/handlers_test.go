package simulator_test

import (
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

func TestAccess(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 3})
	id := l.Services()[0].ID
	as := func(user, password, path string) reply {
		req := l.request("GET", path, "")
		req.Header.Del("Authorization")
		if user != "" {
			req.SetBasicAuth(user, password)
		}
		return l.do(req)
	}
	expect := func(status int, r reply) {
		t.Helper()
		if r.status != status {
			t.Errorf("got %d, want %d: %s", r.status, status, r.body)
		}
		if r.status == 401 && (!strings.HasPrefix(r.header.Get("WWW-Authenticate"), "Basic ") || r.error(t) != "UNAUTHORIZED: the API key is not valid") {
			t.Errorf("%v %s", r.header, r.body)
		}
	}
	first, secret := l.config.KeyID, l.config.KeySecret
	expect(200, as(first, secret, l.org("")))
	expect(401, as("", "", l.org("")))
	expect(401, as(first, secret+"x", l.org("")))
	expect(401, as("nobody", secret, l.org("/prometheus")))
	expect(401, as("nobody", secret, "/nowhere"))

	l.AddKey(simulator.Key{ID: "inventory", Secret: "s", Deny: []string{"organization_metrics"}})
	expect(200, as("inventory", "s", l.org("")))
	expect(403, as("inventory", "s", l.org("/prometheus")))

	l.AddKey(simulator.Key{ID: "one", Secret: "s", Services: []string{id}})
	if list := as("one", "s", l.org("")).list(t); len(list) != 1 || list[0]["id"] != id {
		t.Errorf("list: %v", list)
	}
	expect(403, as("one", "s", l.org("/prometheus")))
	expect(200, as("one", "s", l.org("/"+id+"/prometheus")))
	expect(404, as("one", "s", l.org("/"+l.Services()[1].ID+"/prometheus")))

	l.RevokeKey("one")
	expect(401, as("one", "s", l.org("")))
	l.RotateKey(first, "new")
	expect(401, as(first, secret, l.org("")))
	expect(401, as("inventory", "s", l.org("")))
	expect(200, as(first, "new", l.org("/prometheus")))
}

func TestPathsAndMethods(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 1})
	id := l.Services()[0].ID
	const other = "ca04a310-730d-4ce0-93dd-39f2cd2d5e6f"
	for _, test := range []struct {
		method, path string
		status       int
		message      string
	}{
		{"GET", "/", 404, "NOT_FOUND: no such path: /"},
		{"GET", "/v1/organizations/", 404, "NOT_FOUND: no such path: /v1/organizations/"},
		{"GET", l.org("/"), 404, "NOT_FOUND: no such path: " + l.org("/")},
		{"GET", l.org("/" + id + "/nothing"), 404, "NOT_FOUND: no such path: " + l.org("/"+id+"/nothing")},
		{"GET", l.org("/" + other), 404, "NOT_FOUND: no Postgres service " + other + " in this organization"},
		{"GET", l.org("/" + other + "/prometheus"), 404, "NOT_FOUND: no Postgres service " + other + " in this organization"},
		{"GET", l.org("/oltp"), 400, "BAD_REQUEST: postgresId must be a UUID"},
		{"GET", l.org("/" + strings.Repeat("a", 10_000)), 400, "BAD_REQUEST: postgresId must be a UUID"},
		{"GET", "/v1/organizations/myorgid/postgres", 400, "BAD_REQUEST: organizationId must be a UUID"},
		{"GET", "/v1/organizations/" + other + "/postgres", 404, "NOT_FOUND: no organization " + other + " that this API key belongs to"},
		{"GET", "/v1/organizations/" + other + "/postgres/prometheus", 404, "NOT_FOUND: no organization " + other + " that this API key belongs to"},
		{"DELETE", l.org(""), 405, "METHOD_NOT_ALLOWED: DELETE is not possible here, only GET, POST"},
		{"PUT", l.org("/" + id), 405, "METHOD_NOT_ALLOWED: PUT is not possible here, only DELETE, GET, PATCH"},
		{"POST", l.org("/prometheus"), 405, "METHOD_NOT_ALLOWED: POST is not possible here, only GET"},
	} {
		r := l.call(test.method, test.path, "")
		if r.status != test.status || r.error(t) != test.message {
			t.Errorf("%s %s: %d %s", test.method, test.path, r.status, r.body)
		}
		if allow := r.header.Get("Allow"); r.status == 405 && !strings.HasSuffix(test.message, "only "+allow) {
			t.Errorf("%s %s: Allow is %s", test.method, test.path, allow)
		}
	}
}

// An invalid request is refused with an error that names what is wrong, and changes nothing.
func TestValidation(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 1})
	service := l.org("/" + l.Services()[0].ID)
	create := func(replace, by string) string {
		return strings.Replace(`{"name":"n","provider":"aws","region":"us-east-1","size":"r6gd.large"}`, replace, by, 1)
	}
	config := func(pg string) string { return `{"pgConfig":` + pg + `,"pgBouncerConfig":{}}` }
	manyTags := `{"tags":[` + strings.TrimSuffix(strings.Repeat(`{"key":"k"},`, 51), ",") + `]}`
	for _, test := range []struct{ method, path, body, message string }{
		{"POST", l.org(""), `nonsense`, "request body must be a JSON object: invalid character 'o' in literal null (expecting 'u')"},
		{"POST", l.org(""), `null`, "request body must be a JSON object"},
		{"POST", l.org(""), `[]`, "request body must be a JSON object: json: cannot unmarshal array into Go value of type map[string]json.RawMessage"},
		{"POST", l.org(""), `{} {}`, "request body must be one JSON object, and nothing after it"},
		{"POST", l.org(""), `{}`, "name is required"},
		{"POST", l.org(""), create(`"name":"n",`, ``), "name is required"},
		{"POST", l.org(""), create(`"n"`, `""`), "name must have 1 to 50 characters, and has 0"},
		{"POST", l.org(""), create(`"n"`, `"`+strings.Repeat("ä", 51)+`"`), "name must have 1 to 50 characters, and has 51"},
		{"POST", l.org(""), create(`"n"`, `"  "`), "name must be of letters, digits and spaces"},
		{"POST", l.org(""), create(`"n"`, `"a;b"`), "name must be of letters, digits and spaces"},
		{"POST", l.org(""), create(`"n"`, `7`), "name must be a string"},
		{"POST", l.org(""), create(`"aws"`, `"azure"`), `provider must be one of aws, gcp, and is "azure"`},
		{"POST", l.org(""), create(`"aws"`, `"gcp"`), `region must be one of gcp such as europe-west4, and is "us-east-1"`},
		{"POST", l.org(""), create(`"aws","region":"us-east-1"`, `"gcp","region":"us-east1"`), `size must be a VM size such as c4a-highmem-8 or z3-highlssd-8, and is "r6gd.large"`},
		{"POST", l.org(""), create(`r6gd.large`, `c4a-highmem-8`), `size must be a VM size such as r6gd.medium or r8gd.large, and is "c4a-highmem-8"`},
		{"POST", l.org(""), create(`"us-east-1"`, `"moon"`), `region must be one of ap-northeast-1, ap-northeast-2, ap-south-1, ap-southeast-1, ap-southeast-2, ca-central-1, eu-central-1, eu-west-1, eu-west-2, us-east-1, us-east-2, us-west-2, and is "moon"`},
		{"POST", l.org(""), create(`r6gd.large`, `r6gd.huge`), `size must be a VM size such as r6gd.medium or r8gd.large, and is "r6gd.huge"`},
		{"POST", l.org(""), create(`}`, `,"postgresVersion":"9"}`), `postgresVersion must be one of 18, 17, and is "9"`},
		{"POST", l.org(""), create(`}`, `,"postgresVersion":18}`), `postgresVersion must be a string`},
		{"POST", l.org(""), create(`}`, `,"haType":"some"}`), `haType must be one of none, async, sync, and is "some"`},
		{"POST", l.org(""), create(`}`, `,"pgConfig":{"fsync":"off"}}`), "pgConfig.fsync is not a parameter that can be set"},
		{"POST", l.org(""), create(`}`, `,"colour":"red"}`), "colour is not a known field: use name, provider, region, size, postgresVersion, haType, tags, pgConfig, pgBouncerConfig"},
		{"POST", l.org(""), create(`}`, `,"pgConfig":{}}`), "pgConfig must not be empty: leave it out"},
		{"POST", l.org(""), create(`}`, `,"pgBouncerConfig":{}}`), "pgBouncerConfig must not be empty: leave it out"},
		{"POST", service + "/readReplica", `{"name":"n","pgConfig":{}}`, "pgConfig must not be empty: leave it out"},
		{"POST", service + "/restoredService", `{"name":"n","restoreTarget":"2026-06-10T00:00:00Z","pgBouncerConfig":{}}`, "pgBouncerConfig must not be empty: leave it out"},
		{"PATCH", service, `{"name":null}`, "name must be a string"},
		{"PATCH", service, `{"region":"us-east-1"}`, "region is not a known field: use name, size, haType, tags"},
		{"PATCH", service, `{"tags":{}}`, "tags must be a list of objects with key and, optionally, value"},
		{"PATCH", service, manyTags, "tags must be at most 50, and are 51"},
		{"PATCH", service, `{"tags":[{"value":"v"}]}`, "tags[0].key must be 1 to 128 letters, digits, dashes, underscores and dots"},
		{"PATCH", service, `{"tags":[{"key":"a"},{"key":"b c"}]}`, "tags[1].key must be 1 to 128 letters, digits, dashes, underscores and dots"},
		{"PATCH", service, `{"tags":[{"key":"a"},{"key":"a"}]}`, "tags[1].key a was given before"},
		{"PATCH", service, `{"tags":[{"key":"chc_a"}]}`, "tags[0].key must not start with chc_, which is reserved"},
		{"PATCH", service, `{"tags":[{"key":"a","value":"` + strings.Repeat("v", 257) + `"}]}`, "tags[0].value must be 1 to 256 letters, digits, dashes, underscores and dots"},
		{"PATCH", service, `{"tags":[{"key":"a","value":7}]}`, "tags[0].value must be a string"},
		{"PATCH", service, `{"tags":[{"key":"a","colour":"red"}]}`, "tags[0].colour is not a known field: use key, value"},
		{"POST", service + "/config", `{"pgConfig":{}}`, "pgBouncerConfig is required"},
		{"POST", service + "/config", `{"pgConfig":7,"pgBouncerConfig":{}}`, "pgConfig must be an object"},
		{"POST", service + "/config", config(`{"max_connections":0}`), "pgConfig.max_connections must be at least 1"},
		{"POST", service + "/config", config(`{"max_connections":"0"}`), "pgConfig.max_connections must be at least 1"},
		{"POST", service + "/config", config(`{"max_connections":1.5}`), "pgConfig.max_connections must be a whole number, and is 1.5"},
		{"POST", service + "/config", config(`{"max_connections":"many"}`), `pgConfig.max_connections must be a number, with or without a unit, and is "many"`},
		{"POST", service + "/config", config(`{"max_connections":true}`), "pgConfig.max_connections must be a string or a number"},
		{"POST", service + "/config", config(`{"max_connections":null}`), "pgConfig.max_connections must be a string or a number"},
		{"POST", service + "/config", config(`{"wal_compression":"zip"}`), "pgConfig.wal_compression must be one of off, on, lz4, zstd"},
		{"POST", service + "/config", `{"pgConfig":{},"pgBouncerConfig":{"default_pool_size":20}}`, "pgBouncerConfig.default_pool_size must be a string"},
		{"POST", service + "/config", `{"pgConfig":{},"pgBouncerConfig":{"Bad Name":"1"}}`, `pgBouncerConfig."Bad Name" is not a parameter`},
		{"PATCH", service + "/state", `{}`, "command is required"},
		{"PATCH", service + "/password", `{"password":"Short7"}`, "password must have 12 to 1024 characters"},
		{"PATCH", service + "/password", `{"password":"alllowercase7"}`, "password must have at least one lowercase letter, one uppercase letter and one digit"},
		{"POST", service + "/readReplica", `{}`, "name is required"},
		{"POST", service + "/restoredService", `{"name":"n"}`, "restoreTarget is required"},
		{"POST", service + "/restoredService", `{"name":"n","restoreTarget":"yesterday"}`, "restoreTarget must be a time such as 2026-03-31T18:17:37Z"},
	} {
		before := l.want(200, "GET", service, "").result(t)
		r := l.call(test.method, test.path, test.body)
		if r.status != 400 || r.error(t) != "BAD_REQUEST: "+test.message {
			t.Errorf("%s %.200s: %d %s", test.method, test.body, r.status, r.body)
		}
		after := l.want(200, "GET", service, "").result(t)
		if before["name"] != after["name"] || len(before["tags"].([]any)) != len(after["tags"].([]any)) || len(l.Services()) != 1 {
			t.Errorf("%s %.200s: refused, and done", test.method, test.body)
		}
	}

	// What curl -d sends without the header that the guide asks for.
	req := l.request("POST", l.org(""), create("", ""))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if r := l.do(req); r.status != 400 || r.error(t) != "BAD_REQUEST: Content-Type must be application/json" {
		t.Errorf("form: %s", r.body)
	}
	if r := l.call("POST", l.org(""), create(`"n"`, `"`+strings.Repeat("x", 1<<20)+`"`)); r.status != http.StatusRequestEntityTooLarge {
		t.Errorf("large: %d", r.status)
	}
}

func TestPatch(t *testing.T) {
	l := newLab(t, simulator.Config{})
	created := l.want(200, "POST", l.org(""), `{"name":"one","provider":"aws","region":"us-east-1","size":"r6gd.large","tags":[{"key":"a","value":"1"},{"key":"b"}]}`).result(t)
	id, _ := created["id"].(string)
	if created["postgresVersion"] != "17" || created["haType"] != "none" {
		t.Errorf("defaults: %v", created)
	}
	l.want(400, "PATCH", l.org("/"+id), `{"size":"r6gd.xlarge"}`) // not while it is being created
	l.clock.Advance(simulator.DefaultCreateDelay)
	for _, step := range []struct{ patch, want string }{
		{`{}`, `"name":"one",`},
		{`{"name":"two words"}`, `"name":"two words",`},
		{`{"tags":[{"key":"c"}]}`, `"tags":[{"key":"c"}],`},
		{`{"tags":null}`, `"tags":[],`},
		{`{"size":"r6gd.large"}`, `"state":"running"`},
	} {
		if r := l.want(200, "PATCH", l.org("/"+id), step.patch); !strings.Contains(string(r.body), step.want) {
			t.Errorf("%s: %s", step.patch, r.body)
		}
	}
	service, ok := l.Service(id)
	if !ok || service.State != "running" || service.Name != "two words" || !strings.HasPrefix(service.Hostname, "two-words-") {
		t.Errorf("%+v", service)
	}
	l.want(200, "DELETE", l.org("/"+id), "")
	l.want(400, "PATCH", l.org("/"+id), `{"name":"three"}`)
	l.want(404, "DELETE", l.org("/"+id), "")
}

// The documented rate: ten requests in any ten seconds, for each key separately.
func TestRateLimit(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 1, RateLimit: simulator.DefaultRateLimit})
	for range 10 {
		l.want(200, "GET", "/v1/organizations", "")
		l.clock.Advance(500 * time.Millisecond)
	}
	r := l.want(429, "GET", l.org(""), "")
	if got := r.header.Get("X-RateLimit-Reset"); got != "5" {
		t.Errorf("reset in %s s", got)
	}
	l.clock.Advance(4_750 * time.Millisecond)
	if got := l.want(429, "GET", l.org("/prometheus"), "").header.Get("X-RateLimit-Reset"); got != "0.25" {
		t.Errorf("reset in %s s", got)
	}

	l.AddKey(simulator.Key{ID: "other", Secret: "s"})
	req := l.request("GET", l.org(""), "")
	req.SetBasicAuth("other", "s")
	if r := l.do(req); r.status != 200 {
		t.Errorf("another key: %d", r.status)
	}
	req.SetBasicAuth("other", "wrong")
	for range 20 {
		if r := l.do(req); r.status != 401 {
			t.Errorf("wrong key: %d", r.status)
		}
	}

	// Refused requests do not count, so it is enough to wait as long as the answer says.
	l.clock.Advance(250 * time.Millisecond)
	l.want(200, "GET", l.org(""), "")
	l.want(429, "GET", l.org(""), "")
	if ok, limited := l.Count("", 200), l.Count("", 429); ok != 12 || limited != 3 {
		t.Errorf("%d answered, %d refused", ok, limited)
	}

	// The time is rounded up: a client that waits a little less is refused again.
	l.clock.Advance(time.Nanosecond)
	if got := l.want(429, "GET", l.org(""), "").header.Get("X-RateLimit-Reset"); got != "0.5" {
		t.Errorf("reset in %s s", got)
	}

	l.SetRateLimit(20, time.Minute)
	l.clock.Advance(time.Hour)
	for range 20 {
		l.want(200, "GET", l.org(""), "")
	}
	reset, err := strconv.ParseFloat(l.want(429, "GET", l.org(""), "").header.Get("X-RateLimit-Reset"), 64)
	if err != nil || reset != 60 {
		t.Errorf("reset in %v s, %v", reset, err)
	}
	l.clock.Advance(-time.Hour) // a clock that is set back does not lock a key out
	l.want(200, "GET", l.org(""), "")
}

func TestRequestLog(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 1, LogSize: 3})
	id := l.Services()[0].ID
	for _, path := range []string{"/v1/organizations", l.org(""), l.org("/" + id), l.org("/" + id + "/config"), l.org("/prometheus"), l.org("/" + id + "/prometheus"), "/x"} {
		req := l.request("GET", path, "")
		req.Header.Set("User-Agent", "test/1")
		l.do(req)
		l.clock.Advance(time.Second)
	}
	log := l.Requests()
	if len(log) != 3 {
		t.Fatalf("%d requests", len(log))
	}
	want := simulator.Request{
		Time: start.Add(5 * time.Second), Method: "GET", Path: l.org("/" + id + "/prometheus"), Endpoint: "service_metrics",
		ServiceID: id, KeyID: l.config.KeyID, Status: 200, UserAgent: "test/1",
	}
	if log[1] != want {
		t.Errorf("got  %+v\nwant %+v", log[1], want)
	}
	for endpoint, n := range map[string]int{"organizations": 1, "services": 1, "service": 1, "service_config": 1, "organization_metrics": 1, "service_metrics": 1, "unknown": 1, "": 7} {
		if got := l.Count(endpoint, -1); got != n {
			t.Errorf("%d requests to %s", got, endpoint)
		}
	}
	l.ResetRequests()
	if len(l.Requests()) != 0 || l.Count("", -1) != 0 {
		t.Error("requests are not forgotten")
	}
}

// Every request has an id of its own.
func TestRequestIDsDiffer(t *testing.T) {
	l := newLab(t, simulator.Config{})
	var ids []string
	for range 100 {
		_, id, _ := strings.Cut(string(l.call("GET", "/v1/organizations", "").body), `"requestId":"`)
		ids = append(ids, id[:36])
	}
	slices.Sort(ids)
	if n := len(slices.Compact(ids)); n != 100 {
		t.Errorf("%d different request ids", n)
	}
}

// The guide's commands, run by curl.
func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("no curl here")
	}
	l := newLab(t, simulator.Config{Services: 1, CreateDelay: -1})
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), curl, append([]string{"-s", "--user", l.config.KeyID + ":" + l.config.KeySecret}, args...)...).Output()
		if err != nil {
			t.Fatalf("curl %v: %v", args, err)
		}
		return string(out)
	}
	list := l.url + l.org("")
	if out := run(list); !strings.Contains(out, `"status":200}`) {
		t.Errorf("list: %s", out)
	}
	out := run("-H", "Content-Type: application/json", list, "-d", `{
    "name": "my postgres",
    "provider": "aws",
    "region": "us-west-2",
    "postgresVersion": "18",
    "size": "r8gd.large"
}`)
	if !strings.Contains(out, `"state":"running"`) {
		t.Fatalf("create: %s", out)
	}
	_, id, _ := strings.Cut(out, `"id":"`)
	id = id[:36]
	for _, step := range []struct {
		args []string
		want string
	}{
		{[]string{list + "/" + id}, `"hostname":"my-postgres-`},
		{[]string{"-X", "PATCH", "-H", "Content-Type: application/json", list + "/" + id, "-d", `{"tags": [{"key": "Environment", "value": "production"}]}`}, `"tags":[{"key":"Environment","value":"production"}]`},
		{[]string{"-H", "Content-Type: application/json", list + "/" + id + "/config", "-d", `{"pgConfig": {"max_connections": "42"}, "pgBouncerConfig": {}}`}, `require a database restart to take effect: max_connections.`},
		{[]string{"--compressed", list + "/prometheus"}, `PostgresServiceInfo{`},
		{[]string{"-X", "DELETE", list + "/" + id}, `","status":200}`},
	} {
		if out := run(step.args...); !strings.Contains(out, step.want) {
			t.Errorf("curl %v: %s", step.args, out)
		}
	}
}

func TestFleet(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 12, Seed: 42})
	services := l.Services()
	var replicas, tagged, valueless int
	places, sizes := map[string]bool{}, map[string]bool{}
	for i, s := range services {
		if s.State != "running" {
			t.Errorf("%s is %s", s.Name, s.State)
		}
		places[s.Region], sizes[s.Size] = true, true
		if !s.IsPrimary {
			replicas++
			if s.Name != services[i-1].Name+"-replica" || s.Region != services[i-1].Region {
				t.Errorf("%+v replicates %+v", s, services[i-1])
			}
		}
		for _, tag := range s.Tags {
			tagged++
			if tag.Value == "" {
				valueless++
			}
		}
		if !s.CreatedAt.Before(start) {
			t.Errorf("created at %v", s.CreatedAt)
		}
	}
	if replicas != 2 || tagged == 0 || valueless == 0 || len(places) < 4 || len(sizes) < 4 {
		t.Errorf("%d replicas, %d tags, %d without value, %d regions, %d sizes", replicas, tagged, valueless, len(places), len(sizes))
	}

	same := newLab(t, simulator.Config{Services: 20, Seed: 42})
	same.Resize(12)
	for i, s := range same.Services() {
		if s.ID != services[i].ID || s.Name != services[i].Name {
			t.Errorf("service %d differs", i)
		}
	}
	same.Resize(13)
	if fresh := same.Services()[12].ID; fresh == newLab(t, simulator.Config{Services: 13, Seed: 42}).Services()[12].ID {
		t.Error("a service that was removed came back")
	}
	same.Resize(0)
	if list := same.want(200, "GET", same.org(""), ""); !strings.HasPrefix(string(list.body), `{"result":[],`) {
		t.Errorf("empty list: %s", list.body)
	}
	same.clock.Advance(time.Minute)
	if page := same.want(200, "GET", same.org("/prometheus"), ""); len(page.body) != 0 {
		t.Errorf("empty page: %s", page.body)
	}
}

func TestStatesAndChanges(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 200, States: map[string]float64{"stopped": 0.1, "unavailable": 0.05}})
	states := map[string]int{}
	for _, s := range l.Services() {
		states[s.State]++
	}
	if states["stopped"] < 5 || states["unavailable"] < 2 || states["running"] < 150 {
		t.Errorf("states: %v", states)
	}

	id := l.Services()[0].ID
	for name, ok := range map[string]bool{
		"rename": l.Rename(id, "x"), "state": l.SetState(id, "hibernating"), "tags": l.SetTags(id, simulator.Tag{Key: "a/b"}),
		"size": l.SetSize(id, "z9.huge"), "rename unknown": !l.Rename("?", "x"), "delete unknown": !l.Delete("?"),
	} {
		if !ok {
			t.Error(name)
		}
	}
	if s, ok := l.Service(id); !ok || s.Name != "x" || s.State != "hibernating" || s.Tags[0].Key != "a/b" || s.Size != "z9.huge" {
		t.Errorf("%+v", s)
	}
	l.Refresh()
	if page := l.want(200, "GET", l.org("/"+id+"/prometheus"), ""); !strings.Contains(string(page.body), `postgres_status="hibernating"`) {
		t.Errorf("page: %s", page.body)
	}
	if !l.Delete(id) || l.Delete(id) {
		t.Error("deleted never, or twice")
	}
	l.want(404, "GET", l.org("/"+id), "")
}

func TestConcurrentUse(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 30})
	done := make(chan error)
	paths := []string{l.org(""), l.org("/prometheus"), l.org("/" + l.Services()[7].ID + "/prometheus")}
	for i := range 8 {
		go func() {
			for j := range 20 {
				req := l.request("GET", paths[(i+j)%len(paths)], "")
				resp, err := l.client.Do(req)
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for i := range 50 {
		l.Resize(20 + i%20)
		l.clock.Advance(20 * time.Second)
		l.ResetCounters()
		l.Series(l.clock.Now())
		l.SetFault(simulator.Fault{Status: 500, Count: 1})()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
