package simulator_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// The vendor's guide, step by step, with a look at metrics after each.
func TestGuide(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 2})

	orgs := l.want(200, "GET", "/v1/organizations", "").list(t)
	if len(orgs) != 1 || orgs[0]["id"] != l.config.OrganizationID {
		t.Fatalf("organizations: %v", orgs)
	}
	if n := len(l.want(200, "GET", l.org(""), "").list(t)); n != 2 {
		t.Fatalf("%d services listed, want 2", n)
	}

	created := l.want(200, "POST", l.org(""), `{
		"name": "my postgres",
		"provider": "aws",
		"region": "us-west-2",
		"postgresVersion": "18",
		"size": "r8gd.large"
	}`).result(t)
	id, _ := created["id"].(string)
	password, _ := created["password"].(string)
	hostname, _ := created["hostname"].(string)
	if password == "" || hostname == "" || created["connectionString"] != "postgres://postgres:"+password+"@"+hostname+":5432/postgres?channel_binding=require" {
		t.Errorf("credentials: %v", created)
	}
	if !strings.HasPrefix(hostname, "my-postgres-") || created["username"] != "postgres" {
		t.Errorf("host and user: %v", created)
	}
	for name, want := range map[string]any{
		"name": "my postgres", "provider": "aws", "region": "us-west-2", "postgresVersion": "18", "size": "r8gd.large",
		"storageSize": 118.0, "haType": "none", "isPrimary": true, "state": "creating",
	} {
		if created[name] != want {
			t.Errorf("%s is %v, want %v", name, created[name], want)
		}
	}

	info := `postgres_service="` + id + `",postgres_service_name="my postgres",postgres_status=`
	metrics := func(path string) string { return string(l.want(200, "GET", l.org(path), "").body) }
	if strings.Contains(metrics("/prometheus"), id) || metrics("/"+id+"/prometheus") != "" {
		t.Error("metrics of a service that was created since the last refresh")
	}
	l.clock.Advance(time.Minute)
	if page := metrics("/prometheus"); strings.Count(page, id) != 1 || !strings.Contains(page, info+`"creating"`) {
		t.Errorf("creating, metrics are:\n%s", page)
	}

	l.clock.Advance(simulator.DefaultCreateDelay)
	read := l.want(200, "GET", l.org("/"+id), "").result(t)
	if read["state"] != "running" || read["hostname"] != hostname || read["password"] != nil || read["connectionString"] != nil {
		t.Errorf("running: %v", read)
	}
	if page := metrics("/prometheus"); strings.Count(page, id) != 36 || !strings.Contains(page, info+`"running"`) {
		t.Errorf("running, %d series:\n%s", strings.Count(page, id), page)
	}
	if page := metrics("/" + id + "/prometheus"); strings.Count(page, id) != 36 {
		t.Errorf("its own page:\n%s", page)
	}

	patched := l.want(200, "PATCH", l.org("/"+id), `{"tags": [{"key": "Environment", "value": "production"}]}`)
	if !strings.Contains(string(patched.body), `"tags":[{"key":"Environment","value":"production"}]`) || patched.result(t)["name"] != "my postgres" {
		t.Errorf("patched: %s", patched.body)
	}

	config := l.want(200, "POST", l.org("/"+id+"/config"), `{"pgConfig": {"max_connections": "42"}, "pgBouncerConfig": {}}`)
	if !strings.HasPrefix(string(config.body), `{"result":{"pgConfig":{"max_connections":"42"},"pgBouncerConfig":{},"message":"The changes in the following parameters require a database restart to take effect: max_connections. You can restart the database by using the restart endpoint."},"requestId":"`) {
		t.Errorf("config: %s", config.body)
	}

	deleted := l.want(200, "DELETE", l.org("/"+id), "")
	if !strings.HasPrefix(string(deleted.body), `{"requestId":"`) || !strings.HasSuffix(string(deleted.body), `","status":200}`+"\n") {
		t.Errorf("deleted: %s", deleted.body)
	}
	if state := l.want(200, "GET", l.org("/"+id), "").result(t)["state"]; state != "deleting" {
		t.Errorf("state is %v", state)
	}
	l.clock.Advance(simulator.DefaultDeleteDelay)
	l.want(404, "GET", l.org("/"+id), "")
	l.want(404, "GET", l.org("/"+id+"/prometheus"), "")
	if page := metrics("/prometheus"); strings.Count(page, id) != 1 || !strings.Contains(page, info+`"deleting"`) {
		t.Errorf("deleting, metrics are:\n%s", page)
	}
	l.clock.Advance(time.Minute)
	if strings.Contains(metrics("/prometheus"), id) {
		t.Error("metrics of a service that is gone")
	}
	if n := len(l.want(200, "GET", l.org(""), "").list(t)); n != 2 {
		t.Errorf("%d services listed, want 2", n)
	}
}

func TestRestart(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 1, RestartDelay: 90 * time.Second})
	id := l.Services()[0].ID
	value := func() float64 {
		for _, s := range l.ServiceSeries(id, l.clock.Now()) {
			if s.Name == "PostgresServer_TransactionsCommitted_Total" {
				return s.Value
			}
		}
		return -1
	}
	before := value()
	if before <= 0 {
		t.Fatalf("%v transactions", before)
	}
	if state := l.want(200, "PATCH", l.org("/"+id+"/state"), `{"command":"restart"}`).result(t)["state"]; state != "restarting" {
		t.Errorf("state is %v", state)
	}
	l.want(400, "PATCH", l.org("/"+id+"/state"), `{"command":"restart"}`)
	if got := value(); got != before {
		t.Error("a change shows before the next refresh")
	}
	l.clock.Advance(time.Minute)
	if page := l.want(200, "GET", l.org("/prometheus"), ""); !strings.Contains(string(page.body), `postgres_status="restarting"`) || strings.Contains(string(page.body), "PostgresServer_") {
		t.Errorf("restarting:\n%s", page.body)
	}
	l.clock.Advance(2 * time.Minute)
	if state := l.want(200, "GET", l.org("/"+id), "").result(t)["state"]; state != "running" {
		t.Errorf("state is %v", state)
	}
	if after := value(); after <= 0 || after >= before {
		t.Errorf("counter went from %v to %v", before, after)
	}
}

func TestReplicaPromoteSwitchoverRestore(t *testing.T) {
	l := newLab(t, simulator.Config{})
	create := func(haType string) string {
		id, _ := l.want(200, "POST", l.org(""), `{"name":"main","provider":"aws","region":"eu-west-1","size":"m6gd.large","haType":"`+haType+`"}`).result(t)["id"].(string)
		return id
	}
	id := create("none")
	l.want(400, "POST", l.org("/"+id+"/readReplica"), `{"name":"copy"}`) // still creating
	l.clock.Advance(simulator.DefaultCreateDelay + simulator.DefaultBackupDelay)

	replica := l.want(200, "POST", l.org("/"+id+"/readReplica"), `{"name":"copy","tags":[{"key":"ro"}]}`).result(t)
	if replica["isPrimary"] != false || replica["region"] != "eu-west-1" || replica["state"] != "creating" || replica["password"] != nil {
		t.Errorf("replica: %v", replica)
	}
	l.clock.Advance(simulator.DefaultCreateDelay)
	copied, _ := replica["id"].(string)
	command := func(id, command string) reply {
		return l.call("PATCH", l.org("/"+id+"/state"), `{"command":"`+command+`"}`)
	}
	for _, refused := range []struct{ id, command, message string }{
		{id, "promote", "BAD_REQUEST: command promote is for a read replica, and the service is a primary"},
		{copied, "switchover", "BAD_REQUEST: command switchover is for a primary, and the service is a read replica"},
		{id, "explode", `BAD_REQUEST: command must be one of restart, promote, switchover, and is "explode"`},
	} {
		if r := command(refused.id, refused.command); r.status != 400 || r.error(t) != refused.message {
			t.Errorf("%s: %s", refused.command, r.body)
		}
	}
	l.want(400, "POST", l.org("/"+copied+"/readReplica"), `{"name":"copy of a copy"}`)
	if r := command(copied, "promote"); r.status != 200 || r.result(t)["isPrimary"] != true {
		t.Errorf("promote: %s", r.body)
	}
	for _, haType := range []string{"none", "async"} {
		standby := create(haType)
		l.clock.Advance(simulator.DefaultCreateDelay)
		if r := command(standby, "switchover"); r.status != 200 || r.result(t)["state"] != "restarting" || r.result(t)["id"] != standby {
			t.Errorf("switchover: %s", r.body)
		}
	}

	l.want(400, "POST", l.org("/"+id+"/restoredService"), `{"name":"back","restoreTarget":"2031-01-01T00:00:00Z"}`)
	restored := l.want(200, "POST", l.org("/"+id+"/restoredService"), `{"name":"back","restoreTarget":"`+l.clock.Now().Add(-time.Minute).Format(time.RFC3339)+`"}`).result(t)
	if restored["state"] != "restoring_backup" || restored["isPrimary"] != true {
		t.Errorf("restored: %v", restored)
	}
	back, _ := restored["id"].(string)
	for _, want := range []string{"finalizing_restore", "running"} {
		l.clock.Advance(simulator.DefaultCreateDelay / 2)
		if state := l.want(200, "GET", l.org("/"+back), "").result(t)["state"]; state != want {
			t.Errorf("state is %v, want %s", state, want)
		}
	}
}

func TestConfig(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 4})
	created := l.want(200, "POST", l.org(""), `{"name":"n","provider":"aws","region":"us-east-1","size":"r6gd.large"}`).result(t)["id"].(string)
	for _, id := range []string{created, l.Services()[3].ID} {
		if r := l.want(200, "GET", l.org("/"+id+"/config"), ""); !strings.HasPrefix(string(r.body), `{"result":{"pgConfig":{},"pgBouncerConfig":{}},`) {
			t.Errorf("nothing was set, and there is: %s", r.body)
		}
	}
	path := l.org("/" + l.Services()[0].ID + "/config")
	if config := l.want(200, "GET", path, "").result(t); config["pgConfig"].(map[string]any)["max_connections"] == nil {
		t.Errorf("config: %v", config)
	}
	for _, step := range []struct{ method, body, want string }{
		{"POST", `{"pgConfig":{"max_connections":"42","work_mem":"4MB"},"pgBouncerConfig":{"default_pool_size":"20"}}`, `{"pgConfig":{"max_connections":"42","work_mem":"4MB"},"pgBouncerConfig":{"default_pool_size":"20"},"message":"The changes`},
		// The same value in another form is no change; numbers are returned as they were sent.
		{"PATCH", `{"pgConfig":{"max_connections":42,"random_page_cost":1.10},"pgBouncerConfig":{}}`, `{"pgConfig":{"max_connections":42,"random_page_cost":1.10,"work_mem":"4MB"},"pgBouncerConfig":{"default_pool_size":"20"}}`},
		{"PATCH", `{"pgConfig":{"work_mem":null},"pgBouncerConfig":{"default_pool_size":null}}`, `{"pgConfig":{"max_connections":42,"random_page_cost":1.10},"pgBouncerConfig":{}}`},
		{"GET", "", `{"pgConfig":{"max_connections":42,"random_page_cost":1.10},"pgBouncerConfig":{}}`},
		{"POST", `{"pgConfig":{},"pgBouncerConfig":{}}`, `{"pgConfig":{},"pgBouncerConfig":{},"message":"The changes`},
	} {
		if r := l.want(200, step.method, path, step.body); !strings.HasPrefix(string(r.body), `{"result":`+step.want) {
			t.Errorf("%s %s: %s", step.method, step.body, r.body)
		}
	}
}

func TestPassword(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 1})
	path := l.org("/" + l.Services()[0].ID + "/password")
	first := l.want(200, "PATCH", path, `{}`).result(t)["password"]
	second := l.want(200, "PATCH", path, `{}`).result(t)["password"]
	if first == nil || second == nil || first == second {
		t.Errorf("passwords %v and %v", first, second)
	}
	if r := l.want(200, "PATCH", path, `{"password":"Correct7horse"}`); strings.Contains(string(r.body), "Correct7horse") {
		t.Error("a password that was given is repeated")
	}
	if r := l.want(400, "PATCH", path, `{"password":"correct7horse"}`); strings.Contains(string(r.body), "horse") || !strings.Contains(r.error(t), "password must") {
		t.Errorf("refused: %s", r.body)
	}
}

func TestCertificatesAndTimeSeries(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 1})
	service := l.org("/" + l.Services()[0].ID)
	first, again := l.want(200, "GET", service+"/caCertificates", ""), l.want(200, "GET", service+"/caCertificates", "")
	if !strings.HasPrefix(string(first.body), "-----BEGIN CERTIFICATE-----\n") || string(first.body) != string(again.body) {
		t.Errorf("certificate: %s", first.body)
	}

	window := service + "/metrics?from_date=2026-06-10T08:00:00Z&to_date=2026-06-10T09:00:00Z"
	series := l.want(200, "GET", window, "")
	if n := strings.Count(string(series.body), `"timestamp":`); n != 6*60 {
		t.Errorf("%d points", n)
	}
	for query, field := range map[string]string{
		service + "/metrics": "_date",
		service + "/metrics?from_date=2026-06-10T08:00:00Z&to_date=2026-06-10T08:00:00Z": "to_date",
		window + "&bucket_size_seconds=1":                                                "bucket_size_seconds",
		window + "&bucket_size_seconds=ten":                                              "bucket_size_seconds",
	} {
		if r := l.want(400, "GET", query, ""); !strings.Contains(r.error(t), field) {
			t.Errorf("%s: %s", query, r.body)
		}
	}
}

// Only slow query patterns need dates with milliseconds.
func TestSlowQueries(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 1})
	patterns := l.org("/" + l.Services()[0].ID + "/slowQueryPatterns")
	const window = "?from_date=2026-06-10T08:00:00.000Z&to_date=2026-06-10T09:00:00.000Z"
	if r := l.want(200, "GET", patterns+window+"&limit=500&offset=7&sort_by=call_count", ""); !strings.HasPrefix(string(r.body), `{"result":[],`) {
		t.Errorf("patterns: %s", r.body)
	}
	l.want(404, "GET", patterns+"/1234"+window+"&db_name=d&db_user=u&db_operation=SELECT", "")
	for path, message := range map[string]string{
		patterns: "from_date is required",
		patterns + "?from_date=2026-06-10T08:00:00.000Z":                                       "to_date is required",
		patterns + "?from_date=2026-06-10T08:00:00Z&to_date=2026-06-10T09:00:00.000Z":          "'2026-06-10T08:00:00Z'",
		patterns + "?from_date=2026-06-10T08:00:00.000Z&to_date=2026-06-10T09:00:00.000-01:00": "'2026-06-10T09:00:00.000-01:00'",
		patterns + "?from_date=2026-06-10T08:00:00.000Z&to_date=2026-06-10T08:00:00.000Z":      "to_date must be after from_date",
		patterns + window + "&limit=501":                                                       "limit must be a whole number from 1 to 500",
		patterns + "/1234" + window:                                                            "db_name is required",
		patterns + "/1234?from_date=monday":                                                    "'monday'",
	} {
		if r := l.want(400, "GET", path, ""); r.error(t) != "BAD_REQUEST: "+message {
			t.Errorf("%s: %s", path, r.body)
		}
	}
}
