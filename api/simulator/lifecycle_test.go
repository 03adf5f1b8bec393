package simulator_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

const notReady = "BAD_REQUEST: Parent server is not ready for read replicas. There are no backups, yet."

// create creates a service through the API, and returns its id.
func (l *lab) create(body string) string {
	l.Helper()
	id, _ := l.want(200, "POST", l.org(""), body).result(l.T)["id"].(string)
	return id
}

const main = `{"name":"main","provider":"aws","region":"eu-west-1","size":"m6gd.large"}`

func (l *lab) state(id string) any {
	l.Helper()
	return l.want(200, "GET", l.org("/"+id), "").result(l.T)["state"]
}

// A replica is made from a backup, which is complete some time after the primary runs.
func TestReplicaNeedsABackup(t *testing.T) {
	l := newLab(t, simulator.Config{})
	id := l.create(main)
	const replica = `{"name":"copy"}`
	for range 2 {
		if r := l.want(400, "POST", l.org("/"+id+"/readReplica"), replica); r.error(t) != notReady {
			t.Errorf("%s while it is %v", r.body, l.state(id))
		}
		if earliest := l.want(200, "GET", l.org("/"+id), "").result(t)["earliestRestoreTime"]; earliest != nil {
			t.Errorf("restores from %v without a backup", earliest)
		}
		l.clock.Advance(simulator.DefaultCreateDelay)
	}
	if state := l.state(id); state != "running" {
		t.Fatalf("state is %v", state)
	}
	l.want(200, "POST", l.org("/"+id+"/readReplica"), replica)

	// The services of the first fleet are ready.
	l.Resize(1)
	old := l.Services()[2].ID
	l.want(200, "POST", l.org("/"+old+"/readReplica"), replica)
	l.SetState(old, "creating")
	l.want(400, "POST", l.org("/"+old+"/readReplica"), replica)
	l.SetState(old, "running")
	l.want(400, "POST", l.org("/"+old+"/readReplica"), replica)
	l.clock.Advance(simulator.DefaultBackupDelay)
	l.want(200, "POST", l.org("/"+old+"/readReplica"), replica)
}

// The settings of a replica are its primary's, unless it has its own.
func TestReplicaSettings(t *testing.T) {
	l := newLab(t, simulator.Config{})
	id := l.create(`{"name":"main","provider":"aws","region":"eu-west-1","size":"m6gd.large","pgConfig":{"max_connections":50}}`)
	l.clock.Advance(simulator.DefaultCreateDelay + simulator.DefaultBackupDelay)
	for body, want := range map[string]string{`{"name":"copy"}`: "50", `{"name":"copy","pgConfig":{"max_connections":70}}`: "70"} {
		replica, _ := l.want(200, "POST", l.org("/"+id+"/readReplica"), body).result(t)["id"].(string)
		var answer struct {
			Result struct{ PgConfig map[string]json.Number }
		}
		if err := json.Unmarshal(l.want(200, "GET", l.org("/"+replica+"/config"), "").body, &answer); err != nil {
			t.Fatal(err)
		}
		if got := answer.Result.PgConfig["max_connections"].String(); got != want {
			t.Errorf("%s: max_connections is %s, want %s", body, got, want)
		}
	}
}

// What a replica has from its primary is changed there; its settings are its own.
func TestReplicaIsNotModified(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 5})
	replica := l.org("/" + l.Services()[4].ID)
	for _, body := range []string{`{"size":"r6gd.large"}`, `{"haType":"async"}`, `{"tags":[]}`, `{"name":"x","tags":[]}`} {
		if r := l.want(400, "PATCH", replica, body); r.error(t) != "BAD_REQUEST: Read replicas cannot be modified directly! Please modify the parent database instead." {
			t.Errorf("%s: %s", body, r.body)
		}
	}
	l.want(400, "PATCH", replica+"/password", `{}`)
	l.want(200, "PATCH", replica+"/config", `{"pgConfig":{"work_mem":"8MB"},"pgBouncerConfig":{}}`)
	l.want(200, "PATCH", replica+"/state", `{"command":"promote"}`)
	l.want(200, "PATCH", replica, `{"tags":[]}`)
}

func TestDelete(t *testing.T) {
	l := newLab(t, simulator.Config{})
	id := l.create(main)
	l.clock.Advance(simulator.DefaultCreateDelay + simulator.DefaultBackupDelay)
	replica, _ := l.want(200, "POST", l.org("/"+id+"/readReplica"), `{"name":"copy"}`).result(t)["id"].(string)

	// A primary cannot be deleted while it has a replica, even one that is being created.
	l.want(409, "DELETE", l.org("/"+id), "")
	l.want(200, "DELETE", l.org("/"+replica), "")
	l.want(409, "DELETE", l.org("/"+id), "")
	if state := l.state(id); state != "running" {
		t.Errorf("refused, and %v", state)
	}
	l.clock.Advance(simulator.DefaultDeleteDelay)
	l.want(404, "GET", l.org("/"+replica), "")

	// The second request is refused as if the service were already gone.
	l.want(200, "DELETE", l.org("/"+id), "")
	l.want(404, "DELETE", l.org("/"+id), "")
	if state := l.state(id); state != "deleting" {
		t.Errorf("state is %v", state)
	}
	l.clock.Advance(simulator.DefaultDeleteDelay)
	l.want(404, "DELETE", l.org("/"+id), "")
	l.want(404, "GET", l.org("/"+id), "")

	// A promoted replica does not depend on its primary.
	l.Resize(5)
	fleet := l.Services()
	l.want(409, "DELETE", l.org("/"+fleet[3].ID), "")
	l.want(200, "PATCH", l.org("/"+fleet[4].ID+"/state"), `{"command":"promote"}`)
	l.want(200, "DELETE", l.org("/"+fleet[3].ID), "")
}

// backups returns a page of backups.
func backups(t *testing.T, r reply) (times []time.Time, total *int, next string) {
	t.Helper()
	var answer struct {
		Result []struct {
			LastModified time.Time `json:"lastModified"`
		} `json:"result"`
		TotalCount *int   `json:"totalCount"`
		NextCursor string `json:"nextCursor"`
	}
	if err := json.Unmarshal(r.body, &answer); err != nil {
		t.Fatalf("%v: %s", err, r.body)
	}
	for _, b := range answer.Result {
		times = append(times, b.LastModified)
	}
	return times, answer.TotalCount, answer.NextCursor
}

func TestBackups(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 12})
	var counted, uncounted int
	for _, s := range l.Services() {
		path := l.org("/" + s.ID + "/backups")
		all, total, next := backups(t, l.want(200, "GET", path, ""))
		if !s.IsPrimary {
			if len(all) != 0 {
				t.Errorf("%d backups of a replica", len(all))
			}
			continue
		}
		if len(all) != 7 || next != "" {
			t.Errorf("%d backups, then %q", len(all), next)
		}
		if total == nil {
			uncounted++
		} else if counted++; *total != len(all) {
			t.Errorf("%d backups are said to be %d", len(all), *total)
		}
		for i, b := range all {
			age := l.clock.Now().Sub(b)
			if least := time.Duration(i) * 24 * time.Hour; age < least || age > least+24*time.Hour {
				t.Errorf("backup %d is %v old", i, age)
			}
		}
		// In pages of three, they are the same.
		var paged []time.Time
		for query := "?limit=3"; ; query = "?limit=3&cursor=" + next {
			var page []time.Time
			if page, _, next = backups(t, l.want(200, "GET", path+query, "")); len(page) > 3 {
				t.Errorf("%d on a page of 3", len(page))
			}
			if paged = append(paged, page...); next == "" {
				break
			}
		}
		for i := range max(len(all), len(paged)) {
			if i >= len(all) || i >= len(paged) || !all[i].Equal(paged[i]) {
				t.Errorf("in one: %v; in pages: %v", all, paged)
				break
			}
		}
		if last, _, _ := backups(t, l.want(200, "GET", path+"?limit=1", "")); len(last) != 1 || !last[0].Equal(all[0]) {
			t.Errorf("the last is %v", last)
		}
		if earliest := l.want(200, "GET", l.org("/"+s.ID), "").result(t)["earliestRestoreTime"]; earliest != all[6].Format(time.RFC3339) {
			t.Errorf("restores from %v", earliest)
		}
	}
	if counted == 0 || uncounted == 0 {
		t.Errorf("%d with a total, %d without", counted, uncounted)
	}
	path := l.org("/" + l.Services()[0].ID + "/backups")
	for _, query := range []string{"?limit=0", "?limit=101", "?limit=x", "?cursor=!", "?cursor=eA"} {
		l.want(400, "GET", path+query, "")
	}
	for _, item := range l.want(200, "GET", l.org(""), "").list(t) {
		if item["earliestRestoreTime"] != nil {
			t.Errorf("in a list: %v", item)
		}
	}

	l.StopBackups(l.Services()[0].ID)
	before, _, _ := backups(t, l.want(200, "GET", path, ""))
	l.clock.Advance(3 * 24 * time.Hour)
	after, _, _ := backups(t, l.want(200, "GET", path, ""))
	if len(after) != len(before)-3 || !after[0].Equal(before[0]) {
		t.Errorf("backups end at %v, ended at %v", after[0], before[0])
	}
}

// A queued change does not show until it is due, and the service runs until then.
func TestQueuedChanges(t *testing.T) {
	l := newLab(t, simulator.Config{})
	id := l.create(main)
	l.clock.Advance(simulator.DefaultCreateDelay)
	path := l.org("/" + id)
	expect := func(size, haType, state string, storage float64) {
		t.Helper()
		got := l.want(200, "GET", path, "").result(t)
		if got["size"] != size || got["haType"] != haType || got["state"] != state || got["storageSize"] != storage {
			t.Errorf("got %v, want %s, %s, %s, %v GiB", got, size, haType, state, storage)
		}
		if listed := l.want(200, "GET", l.org(""), "").list(t)[0]; listed["size"] != size || listed["haType"] != haType || listed["state"] != state {
			t.Errorf("listed as %v", listed)
		}
	}
	if patched := l.want(200, "PATCH", path, `{"haType":"sync","name":"other"}`).result(t); patched["haType"] != "none" || patched["name"] != "other" {
		t.Errorf("patched: %v", patched)
	}
	expect("m6gd.large", "none", "running", 118)
	l.clock.Advance(simulator.DefaultChangeDelay)
	expect("m6gd.large", "sync", "running", 118)

	// A later change is added to the queued one, and other changes in between stay.
	l.want(200, "PATCH", path, `{"size":"m6gd.xlarge"}`)
	l.clock.Advance(simulator.DefaultChangeDelay / 2)
	l.want(200, "PATCH", path, `{"haType":"async"}`)
	l.want(200, "PATCH", path, `{"tags":[{"key":"a"}]}`)
	expect("m6gd.large", "sync", "running", 118)
	l.clock.Advance(simulator.DefaultChangeDelay)
	expect("m6gd.xlarge", "async", "restarting", 236)
	l.clock.Advance(simulator.DefaultRestartDelay)
	expect("m6gd.xlarge", "async", "running", 236)
	if s, _ := l.Service(id); len(s.Tags) != 1 || s.Name != "other" {
		t.Errorf("%+v", s)
	}
	l.clock.Advance(time.Minute)
	for _, s := range l.ServiceSeries(id, l.clock.Now()) {
		if s.Name == "PostgresServer_CPUCores" && s.Value != 4 {
			t.Errorf("%v cores", s.Value)
		}
	}

	// A queued change is dropped when the service is deleted.
	l.want(200, "PATCH", path, `{"size":"m6gd.large"}`)
	l.want(200, "DELETE", path, "")
	l.clock.Advance(simulator.DefaultChangeDelay)
	expect("m6gd.xlarge", "async", "deleting", 236)
}

func TestSecondProvider(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 24})
	providers := map[string]int{}
	for _, s := range l.Services() {
		if providers[s.Provider]++; s.StorageGiB <= 0 {
			t.Errorf("%+v", s)
		}
	}
	if providers["gcp"] < 2 || providers["aws"] < 20 {
		t.Errorf("providers: %v", providers)
	}
	doc, err := ownDescription()
	if err != nil {
		t.Fatal(err)
	}
	offered := 0
	for _, size := range doc.Components.Schemas["Size"].Value.Enum {
		provider, region := "aws", "us-east-1"
		if name := size.(string); !strings.Contains(name, ".") {
			provider, region = "gcp", "europe-west4"
			offered++
		}
		created := l.want(200, "POST", l.org(""), fmt.Sprintf(`{"name":"n","provider":%q,"region":%q,"size":%q}`, provider, region, size)).result(t)
		if created["provider"] != provider || created["region"] != region || created["size"] != size || !strings.Contains(created["hostname"].(string), "."+provider+".") {
			t.Errorf("created: %v", created)
		}
	}
	if offered != 61 {
		t.Errorf("%d sizes of gcp", offered)
	}
}
