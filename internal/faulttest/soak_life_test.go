//go:build soak && linux

package faulttest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// customerID is the key with which services are created, changed and deleted. It has its own rate
// limit.
const customerID = "customer-key"

const soakMostServices = 18

var serviceID = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// live lets time pass in which services come and go, and nothing else happens.
func (w *walk) live(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		w.manage()
		w.pass(w.between(time.Second, 10*time.Second))
	}
	w.pass(soakFresh / 2)
}

// changed records a change of a service.
func (w *walk) changed(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := change{fmt.Sprintf(format, args...), time.Now()}
	w.changes = append(w.changes, c)
	w.t.Logf("%s %s", c.at.Sub(w.started).Round(time.Second), c.what)
}

// changeable returns the services that may be changed.
func (w *walk) changeable() []simulator.Service {
	return slices.DeleteFunc(w.u.Services(), func(s simulator.Service) bool {
		return slices.Contains(w.stable, s.ID) || s.State == "deleting"
	})
}

// manage changes one service as a customer does, through upstream's API.
func (w *walk) manage() {
	changeable := w.changeable()
	kind := w.random.IntN(10)
	if len(changeable) < 3 || kind == 0 && len(w.u.Services()) < soakMostServices {
		w.create()
		return
	}
	v := changeable[w.random.IntN(len(changeable))]
	running := v.State == "running"
	switch {
	case kind == 1:
		w.remove(v)
	case kind <= 3 && running:
		w.request(http.MethodPatch, "/"+v.ID+"/state", `{"command":"restart"}`)
		w.changed("%s restarted", v.ID)
	case kind == 4 && running:
		// The API cannot stop or start a service.
		w.u.SetState(v.ID, "stopped")
		w.changed("%s stopped", v.ID)
	case kind <= 4:
		w.u.SetState(v.ID, "running")
		w.changed("%s started", v.ID)
	case kind == 5 && v.IsPrimary:
		w.request(http.MethodPatch, "/"+v.ID, `{"tags":`+w.tags()+`}`)
		w.changed("%s tagged", v.ID)
	case kind == 6 && v.IsPrimary:
		w.request(http.MethodPatch, "/"+v.ID, fmt.Sprintf(`{"name":%q}`, w.name()))
		w.changed("%s renamed", v.ID)
	case kind == 7 && v.IsPrimary && running && len(w.u.Services()) < soakMostServices:
		// Refused before the first backup.
		w.request(http.MethodPost, "/"+v.ID+"/readReplica", fmt.Sprintf(`{"name":%q}`, w.name()), "not ready for read replicas")
		w.changed("%s replicated", v.ID)
	case kind == 8 && v.IsPrimary && running:
		w.request(http.MethodPatch, "/"+v.ID, fmt.Sprintf(`{"size":%q}`, []string{"m6gd.large", "m6gd.xlarge"}[w.random.IntN(2)]))
		w.changed("%s resized", v.ID)
	default:
		w.disturb()
	}
}

// create creates a service, perhaps with the name of a deleted one.
func (w *walk) create() {
	w.request(http.MethodPost, "", fmt.Sprintf(`{"name":%q,"provider":"aws","region":"eu-west-1","size":"m6gd.large","tags":%s}`, w.name(), w.tags()))
	w.changed("service created")
}

// remove deletes a service. A primary is not deleted before its replicas.
func (w *walk) remove(v simulator.Service) {
	w.request(http.MethodDelete, "/"+v.ID, "", "replica")
	w.changed("%s deleted", v.ID)
}

// disturb changes a service as no customer can, without a request.
func (w *walk) disturb() {
	changeable := w.changeable()
	if len(changeable) == 0 {
		return
	}
	v := changeable[w.random.IntN(len(changeable))]
	switch w.random.IntN(5) {
	case 0:
		w.u.SetState(v.ID, []string{"stopped", "running", "unavailable", "never seen"}[w.random.IntN(4)])
		w.changed("%s in another state", v.ID)
	case 1:
		w.u.Rename(v.ID, w.name())
		w.changed("%s renamed", v.ID)
	case 2:
		w.u.SetTags(v.ID, simulator.Tag{Key: "a.b", Value: "1"}, simulator.Tag{Key: "a-b", Value: "2"}, simulator.Tag{Key: "bare"})
		w.changed("%s with tags that clash", v.ID)
	case 3:
		w.u.ResetCounters(v.ID)
		w.changed("%s with new counters", v.ID)
	case 4:
		w.u.Delete(v.ID)
		w.changed("%s deleted at once", v.ID)
	}
}

// name returns one of a few names, so that some collide and some are reused.
func (w *walk) name() string { return fmt.Sprintf("name %d", w.random.IntN(4)) }

func (w *walk) tags() string {
	return []string{`[]`, `[{"key":"team","value":"growth"}]`, `[{"key":"team","value":"data"},{"key":"bare"}]`}[w.random.IntN(3)]
}

// request makes a change through the API. It must succeed, unless it is refused with one of some
// words.
func (w *walk) request(method, path, body string, refusals ...string) {
	r := httptest.NewRequestWithContext(w.t.Context(), method, "/v1/organizations/"+w.u.org+"/postgres"+path, strings.NewReader(body))
	r.SetBasicAuth(customerID, secret)
	r.Header.Set("Content-Type", "application/json")
	answer := httptest.NewRecorder()
	w.u.Simulator.ServeHTTP(answer, r)
	refused := slices.ContainsFunc(refusals, func(words string) bool { return strings.Contains(answer.Body.String(), words) })
	if answer.Code != http.StatusOK && !refused {
		w.problem(time.Now(), "%s %s: %d %s", method, path, answer.Code, answer.Body)
	}
}

// listing is upstream's list of services at a moment, as text by id.
type listing struct {
	at       time.Time
	services map[string]string
	deleting map[string]bool
}

func (w *walk) list(at time.Time) listing {
	list := listing{at, map[string]string{}, map[string]bool{}}
	for _, s := range w.u.Services() {
		team := ""
		for _, tag := range s.Tags {
			if tag.Key == "team" {
				team = tag.Value
			}
		}
		list.services[s.ID] = facts(s.Name, s.State, s.Region, s.Size, s.IsPrimary, team, len(s.Tags))
		list.deleting[s.ID] = s.State == "deleting"
	}
	return list
}

func facts(name, state, region, size string, primary bool, team string, tags int) string {
	text, _ := json.Marshal([]any{name, state, region, size, primary, team, tags})
	return string(text)
}

// recent returns upstream's lists in the soakFresh before a moment. The caller locks.
func (w *walk) recent(at time.Time) []listing {
	var lists []listing
	for _, l := range w.lists {
		if age := at.Sub(l.at); age >= 0 && age <= soakFresh {
			lists = append(lists, l)
		}
	}
	return lists
}

// targets returns the services that discovery must have at a moment, and those that it may have.
// The caller locks.
func (w *walk) targets(at time.Time) (certain []string, possible map[string]bool) {
	count, possible := map[string]int{}, map[string]bool{}
	lists := w.recent(at)
	for _, l := range lists {
		for id := range l.services {
			if !l.deleting[id] {
				count[id]++
				possible[id] = true
			}
		}
	}
	for id, n := range count {
		if n == len(lists) {
			certain = append(certain, id)
		}
	}
	return certain, possible
}

// checkInventory compares the exporter's inventory with upstream's recent lists, once there has
// been no fault for a while: each service on all of them must be there, and everything there must
// be as on one of them.
func (w *walk) checkInventory(at time.Time, p page) {
	w.mu.Lock()
	calm, lists := w.calm(at), w.recent(at)
	w.mu.Unlock()
	if calm <= soakCalm {
		return
	}
	states, names, teams, tags := map[string]string{}, map[string]string{}, map[string]string{}, map[string]int{}
	for _, s := range p.find("clickhouse_postgres_service_state") {
		if id := s.labels.Get("postgres_service"); s.value == 1 {
			states[id], names[id] = s.labels.Get("state"), s.labels.Get("postgres_service_name")
		}
	}
	for _, s := range p.find("clickhouse_postgres_service_tag") {
		id := s.labels.Get("postgres_service")
		tags[id]++
		if s.labels.Get("key") == "team" {
			teams[id] = s.labels.Get("value")
		}
	}
	seen := map[string]bool{}
	for _, s := range p.find("clickhouse_postgres_service_info") {
		id := s.labels.Get("postgres_service")
		name := s.labels.Get("postgres_service_name")
		got := facts(name, states[id], s.labels.Get("postgres_region"), s.labels.Get("postgres_size"), s.labels.Get("postgres_is_primary") == "true", teams[id], tags[id])
		if seen[id] || names[id] != name {
			w.problem(at, "service %s has several names in the inventory: %q, %q", id, name, names[id])
		}
		seen[id] = true
		if !slices.ContainsFunc(lists, func(l listing) bool { return l.services[id] == got }) {
			w.problem(at, "service %s is %s in the inventory, and %s upstream", id, got, lists[len(lists)-1].services[id])
		}
	}
	for id := range lists[0].services {
		lasting := !slices.ContainsFunc(lists, func(l listing) bool { return l.services[id] == "" })
		if lasting && !seen[id] {
			w.problem(at, "service %s is not in the inventory", id)
		}
	}
	// A service that is gone must leave nothing behind.
	for _, s := range p {
		id := s.labels.Get("postgres_service")
		if id != "" && !slices.ContainsFunc(lists, func(l listing) bool { return l.services[id] != "" }) && !w.families[s.name()] {
			w.problem(at, "%s is about a service that upstream no longer has", s.labels)
		}
	}
	w.tally("the exporter's inventory", func(t *tally) {
		t.scrapes++
		t.values += len(seen)
	})
}
