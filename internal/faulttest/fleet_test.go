//go:build linux

package faulttest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// of returns all series with a service's id, upstream's and the exporter's.
func (p page) of(service string) page {
	var found page
	for _, s := range p {
		if s.labels.Get("postgres_service") == service {
			found = append(found, s)
		}
	}
	return found
}

// TestFleetChanges renames, deletes and creates services.
func TestFleetChanges(t *testing.T) {
	t.Parallel()
	u := newUpstream(t, simulator.Config{Services: 4, DeleteDelay: -1, CreateDelay: -1})
	e := start(t, u, fast())
	before := e.ready(u)
	list := u.Services()
	first, second, third := list[0], list[1], list[2]
	full := len(before.of(first.ID).upstream())

	// Renamed: the same series under the new name, none under the old one. The
	// metrics follow the inventory at upstream's next refresh.
	u.Rename(first.ID, "renamed")
	u.refresh()
	p := e.await("the new name", func(p page) bool {
		return len(u.wrong(p)) == 0 && len(p.find("clickhouse_postgres_service_info", "postgres_service_name", "renamed")) == 1
	})
	if left := p.find("clickhouse_postgres_service_info", "postgres_service_name", first.Name); len(left) > 0 {
		t.Errorf("the old name is left: %v", left)
	}
	for _, s := range p.of(first.ID) {
		if s.labels.Get("postgres_service_name") != "renamed" {
			t.Errorf("under the old name: %s", s.labels)
		}
	}
	if n := len(p.of(first.ID).upstream()); n != full {
		t.Errorf("%d series after the change of name, %d before", n, full)
	}
	if diff := relabelled(before.of(second.ID).upstream(), p.of(second.ID).upstream()); diff != "" {
		t.Errorf("another service changed:\n%s", diff)
	}

	// Deleted: gone, even while the metrics page still has it.
	u.Delete(second.ID)
	p = e.await("the service to go", func(p page) bool { return len(p.of(second.ID)) == 0 })
	if n := len(p.of(third.ID).upstream()); n != full {
		t.Errorf("another service has %d series, and had %d", n, full)
	}
	if code, body := e.get("/v1/organizations/" + u.org + "/postgres/" + second.ID + "/prometheus"); code != http.StatusNotFound {
		t.Errorf("page of the deleted service: %d %s", code, body)
	}
	u.refresh()
	e.ready(u)

	// Recreated with the name of the deleted one: another service.
	u.Resize(5)
	list = u.Services()
	created := list[len(list)-1]
	u.Rename(created.ID, second.Name)
	u.refresh()
	p = e.await("the new service", func(p page) bool { return len(u.wrong(p)) == 0 && len(p.of(created.ID).upstream()) == full })
	if created.ID == second.ID || len(p.of(second.ID)) != 0 {
		t.Error("the deleted service is back")
	}
	if found := p.find("PostgresServiceInfo", "postgres_service_name", second.Name); len(found) != 1 {
		t.Errorf("services of that name: %v", found)
	}

	// Two of the same name: both complete, distinguished by their ids.
	u.Rename(third.ID, second.Name)
	u.refresh()
	p = e.await("both", func(p page) bool { return len(u.wrong(p)) == 0 })
	if len(p.of(third.ID).upstream()) != full || len(p.of(created.ID).upstream()) != full {
		t.Error("two services of one name are mixed up")
	}
	e.wantNoLine("level=warn")
	e.wantNoLine("level=error")
}

// TestStateNeverSeen puts a service into an undocumented state.
func TestStateNeverSeen(t *testing.T) {
	t.Parallel()
	u := newUpstream(t, simulator.Config{Services: 3})
	e := start(t, u, fast())
	e.ready(u)
	id := u.Services()[1].ID
	u.SetState(id, "hibernating")
	u.refresh()
	p := e.await("the state", func(p page) bool {
		return len(u.wrong(p)) == 0 && p.is("clickhouse_postgres_service_state", 1, "postgres_service", id, "state", "hibernating") &&
			p.is("PostgresServiceInfo", 1, "postgres_service", id, "postgres_state", "hibernating")
	})
	if p.sum("clickhouse_postgres_service_state", "postgres_service", id) != 1 {
		t.Errorf("in several states: %v", p.find("clickhouse_postgres_service_state", "postgres_service", id))
	}
	if !p.is("clickhouse_postgres_services", 1, "state", "hibernating") || !p.is("clickhouse_postgres_services", 2, "state", "running") {
		t.Errorf("counts: %v", p.find("clickhouse_postgres_services"))
	}
	u.SetState(id, "running")
	u.refresh()
	e.ready(u)
	e.wantNoLine("level=warn")
}

// TestTags has many tags, tags without a value, and tags that are alike.
func TestTags(t *testing.T) {
	t.Parallel()
	u := newUpstream(t, simulator.Config{Services: 2})
	list := u.Services()
	many := make([]simulator.Tag, 50)
	for i := range many {
		many[i] = simulator.Tag{Key: fmt.Sprintf("key-%02d", i), Value: fmt.Sprintf("value %d", i)}
	}
	alike := []simulator.Tag{
		{Key: "a.b", Value: "dot"},
		{Key: "a-b", Value: "dash"},
		{Key: "a_b", Value: "line"},
		{Key: "bare"},
		{Key: "größe", Value: "groß"},
		{Key: "__name__", Value: "mine"},
	}
	u.SetTags(list[0].ID, many...)
	u.SetTags(list[1].ID, alike...)
	e := start(t, u, fast())
	p := e.ready(u)
	const name = "clickhouse_postgres_service_tag"
	if found := p.find(name, "postgres_service", list[0].ID); len(found) != 50 {
		t.Errorf("%d of fifty tags: %v", len(found), found)
	}
	found := p.find(name, "postgres_service", list[1].ID)
	if len(found) != len(alike) {
		t.Errorf("tags: %v", found)
	}
	for _, tag := range alike {
		if !p.is(name, 1, "postgres_service", list[1].ID, "key", tag.Key, "value", tag.Value) {
			t.Errorf("no tag %q of value %q: %v", tag.Key, tag.Value, found)
		}
	}
	for _, s := range p.upstream() {
		if strings.Contains(s.labels.String(), "tag_") {
			t.Fatalf("tags are labels though nobody asked for it: %s", s.labels)
		}
	}
	// The order of tags does not matter.
	slices.Reverse(alike)
	u.SetTags(list[1].ID, alike...)
	listed := p.sum(listedName)
	p = e.await("another list", func(p page) bool { return p.sum(listedName) > listed+1 })
	if diff := cmp.Diff(found.ids(), p.find(name, "postgres_service", list[1].ID).ids()); diff != "" {
		t.Errorf("another order of tags changes labels:\n%s", diff)
	}
	e.wantNoLine("level=warn")
}

// TestEmptyList has upstream return an empty list, once by mistake and once for good.
func TestEmptyList(t *testing.T) {
	t.Parallel()
	u := newUpstream(t, simulator.Config{Services: 3})
	e := start(t, u, fast())
	before := e.ready(u)
	hiccup := simulator.EmptyList()
	hiccup.Endpoints, hiccup.Count = []string{"services"}, 1
	u.SetFault(hiccup)
	await(t, "a warning", func() bool { return len(e.log.lines("level=warn", "empty")) > 0 }, e.log.String)
	listed := before.sum(listedName)
	for range 5 {
		p := e.scrape()
		if diff := relabelled(before.upstream(), p.upstream()); diff != "" {
			t.Fatalf("services vanish by one empty answer:\n%s", diff)
		}
		p = e.await("another list", func(p page) bool { return p.sum(listedName) > listed })
		listed = p.sum(listedName)
	}
	if lines := e.log.lines("level=warn"); len(lines) != 1 {
		t.Errorf("log:\n%s", strings.Join(lines, "\n"))
	}

	u.SetFault(simulator.EmptyList())
	p := e.await("the fleet to go", func(p page) bool { return len(p.upstream()) == 0 })
	if found := p.find("clickhouse_postgres_service_info"); len(found) > 0 {
		t.Errorf("inventory: %v", found)
	}
	e.await("no error", func(p page) bool { return p.is("clickhouse_postgres_up", 1) })
	u.ClearFaults()
	p = e.ready(u)
	if diff := relabelled(before.upstream(), p.upstream()); diff != "" {
		t.Errorf("after its return:\n%s", diff)
	}
}

// TestEmptyOrganization has no services from the start, which is not an error.
func TestEmptyOrganization(t *testing.T) {
	t.Parallel()
	u := newUpstream(t, simulator.Config{})
	e := start(t, u, fast())
	p := e.await("the list", func(p page) bool { return p.is("clickhouse_postgres_up", 1) })
	if len(p.upstream()) != 0 || !p.is("clickhouse_postgres_services", 0) {
		t.Errorf("%s", p.health())
	}
	for path, want := range map[string]int{"/-/ready": 200, "/-/healthy": 200, "/v1/organizations/" + u.org + "/postgres/prometheus": 200} {
		if code, body := e.get(path); code != want {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	e.wantNoLine("level=warn")
}
