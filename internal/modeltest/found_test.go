package modeltest

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// Failures that the machine has found, as short as possible.

// plain returns running services.
func plain(n int) *world {
	w := &world{settings: map[string]map[string]any{}, backups: map[string]int{}, uncovered: map[string]bool{}}
	for i := range n {
		w.listed = append(w.listed, service{
			id: id(i), name: fmt.Sprintf("service-%d", i), region: "us-east-1", size: "small", state: "running", version: "18",
			created: time.Unix(1_700_000_000, 0),
		})
	}
	w.catchUp()
	return w
}

// play runs a sequence of events on a machine that has polled for two minutes.
func play(t *testing.T, services int, story func(*machine)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, plain(services), config{enrich: []string{"region", "size", "state"}})
		defer m.end()
		m.pass(2 * time.Minute)
		m.check()
		story(m)
	})
}

// A service leaves the organization's page, and other services' labels change twice
// before there is a new page.
func TestLabelsChangeWhileAServiceHasLeftThePage(t *testing.T) {
	play(t, 3, func(m *machine) {
		m.world.uncovered[id(0)] = true
		m.world.refresh++
		m.disturb(callOwn, trouble{left: 1000, kind: "503"})
		m.pass(time.Minute)
		m.check()
		m.disturb(callPage, trouble{left: 1000, kind: "503"})
		for _, size := range []string{"medium", "large", "small"} {
			for i := range m.world.listed {
				m.world.listed[i].size = size
			}
			m.pass(30 * time.Second)
			m.check()
		}
	})
}

// The same with rules, which do not wait for a list. The first ones leave every service with fewer
// series.
func TestRulesChangeWhileAServiceHasLeftThePage(t *testing.T) {
	play(t, 3, func(m *machine) {
		m.world.uncovered[id(0)] = true
		m.apply(config{ruleTexts: ruleMenu[:1]})
		m.pass(time.Minute)
		m.check()
		m.apply(config{ruleTexts: ruleMenu[3:4]})
		m.check()
	})
}

// The own page of a service that no longer runs becomes empty, so that its last series stay until
// they are too old, and then the service changes.
func TestLabelsChangeAfterAnOwnPageBecameEmpty(t *testing.T) {
	play(t, 1, func(m *machine) {
		s := m.world.find(id(0))
		s.state = "stopped"
		m.pass(30 * time.Second)
		m.check()
		m.world.catchUp()
		m.pass(5 * time.Minute)
		m.check()
		s.size = "large"
		m.pass(time.Minute)
		m.check()
	})
}

// A family that has a type on one page and none on another: the type counts, whether the two meet
// in a merge or because of a rule.
func TestTypeThatIsKnownCounts(t *testing.T) {
	play(t, 2, func(m *machine) {
		m.world.help = 1 // PostgresServer_DiskBytes is untyped
		m.world.uncovered[id(0)] = true
		m.world.refresh++
		m.disturb(callPage, trouble{left: 1000, kind: "503"})
		m.pass(2 * time.Minute)
		m.check()
		m.apply(config{ruleTexts: []string{
			"{source_labels: [__name__], regex: PostgresServer_Connections, target_label: __name__, replacement: PostgresServer_queries_total}",
		}})
		m.check()
	})
}

// The time of the last change is that of upstream's values, even if rules drop them all.
func TestLastChangeOfWhatRulesDrop(t *testing.T) {
	play(t, 2, func(m *machine) {
		m.apply(config{ruleTexts: []string{"{source_labels: [__name__], regex: PostgresServer_.*, action: drop}"}})
		m.pass(time.Minute)
		m.check()
		m.world.refresh++
		m.pass(time.Minute)
		m.check()
	})
}

// When one of two services is deleted, the other's own page is read instead of the organization's.
// Until then, its latest request for metrics is the one that succeeded.
func TestUpWhenTheFleetShrinksToOne(t *testing.T) {
	play(t, 2, func(m *machine) {
		m.world.listed = m.world.listed[:1]
		m.disturb(callOwn, trouble{left: 1, late: time.Minute})
		m.pass(20 * time.Second)
		for _, s := range m.sides {
			page, _, _ := serve(s.collector, "", "")
			got, err := readText(page)
			if err != nil {
				t.Fatal(err)
			}
			up := fmt.Sprintf(`{__name__="clickhouse_postgres_service_up", clickhouse_org=%q, postgres_service=%q, postgres_service_name="service-0"}`, organizationID, id(0))
			if got.series[up] != "1" {
				t.Errorf("%s is %q, want 1", up, got.series[up])
			}
		}
	})
}

// The name of a service that only its own page has is the one on that page, even if some series
// have none.
func TestNameOfAServiceBeforeTheFirstList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := plain(1)
		w.measured[0].stray = true
		m := newMachine(t, w, config{selection: &selection{include: []filter{{ids: []string{id(0)}}}}})
		defer m.end()
		m.disturb(callList, trouble{left: 1000, kind: "403"})
		m.pass(time.Minute)
		m.check()
	})
}

// New rules apply to the metrics held, even while the list fails.
func TestReloadBeforeTheFirstList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, plain(2), config{})
		defer m.end()
		m.disturb(callList, trouble{left: 1000, kind: "403"})
		m.pass(30 * time.Second)
		m.check()
		m.apply(config{ruleTexts: ruleMenu[:1], timestamps: true})
		m.check()
		m.apply(config{selection: &selection{include: []filter{{name: "orders"}}}})
		m.check()
	})
}

// A list that is empty twice removes the fleet from the inventory, and the next one brings it back:
// the metrics on the page that is held are served again at once.
func TestServicesComeBackToTheList(t *testing.T) {
	play(t, 2, func(m *machine) {
		m.apply(config{timestamps: true})
		m.disturb(callList, trouble{left: 2, kind: troubleEmpty})
		m.disturb(callPage, trouble{left: 1000, kind: "503"})
		for range 20 {
			m.pass(3 * time.Second)
			m.check()
		}
	})
}

// They come back with a list that took so long that the page is too old.
func TestServicesComeBackAfterMaxAge(t *testing.T) {
	play(t, 2, func(m *machine) {
		m.disturb(callList, trouble{left: 2, kind: troubleEmpty})
		m.pass(40 * time.Second)
		m.check()
		m.disturb(callList, trouble{left: 1, late: maxAge + time.Minute})
		m.disturb(callPage, trouble{left: 1000, kind: "503"})
		m.disturb(callOwn, trouble{left: 1000, kind: "503"})
		m.pass(maxAge + 2*time.Minute)
		m.check()
	})
}

// A reload keeps the metrics of services whose ids the user gave, even while the list fails.
func TestReloadOfNamedServicesBeforeTheFirstList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		named := &selection{include: []filter{{ids: []string{id(0), id(1)}}}}
		m := newMachine(t, plain(2), config{selection: named})
		defer m.end()
		m.disturb(callList, trouble{left: 1000, kind: "403"})
		m.pass(30 * time.Second)
		m.check()
		m.apply(config{selection: named, ruleTexts: ruleMenu[:1]})
		m.check()
		m.apply(config{selection: &selection{include: []filter{{ids: []string{id(0)}}}}})
		m.check()
		m.apply(config{})
		m.check()
		m.pass(30 * time.Second)
		m.check()
		if _, _, status := serve(m.sides[0].collector, organizationID, id(1)); status != served {
			t.Errorf("the page of a service is %s", status)
		}
	})
}

// A service whose id the user gave is down if its own page is empty, even while the list fails.
func TestNamedServiceWithoutMetricsBeforeTheFirstList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, plain(2), config{selection: &selection{include: []filter{{ids: []string{id(0), id(1)}}}}})
		defer m.end()
		m.world.measured[0].empty = true
		m.disturb(callList, trouble{left: 1000, kind: "403"})
		m.pass(30 * time.Second)
		m.check()
		m.apply(config{selection: &selection{include: []filter{{ids: []string{id(1)}}}}})
		m.check()
	})
}

// The organization's quotas are read before its list of services.
func TestQuotasBeforeTheFirstList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t, plain(2), config{quotas: true, selection: &selection{include: []filter{{ids: []string{id(0), id(1)}}}}})
		defer m.end()
		m.disturb(callList, trouble{left: 1000, kind: "403"})
		m.pass(30 * time.Second)
		m.check()
	})
}
