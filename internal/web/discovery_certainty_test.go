package web

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/go-kit/log"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
)

// TestDiscoveryIsNeverWrong has every state of knowledge in which an answer would
// make Prometheus forget targets.
func TestDiscoveryIsNeverWrong(t *testing.T) {
	fine := organization("fine", service("a", "running", "eu"))
	empty := organization("org")
	confirmed := organization("org")
	confirmed.Inventory = twice()
	failedSince := confirmed
	failedSince.Inventory.OK, failedSince.Inventory.Error = false, "no luck today"
	unfound := collector.OrganizationStatus{Error: "API key wrong or expired"}
	unlisted := collector.OrganizationStatus{ID: "org", Inventory: collector.CallStatus{Tried: true, Error: "API failed"}, Error: "another"}
	revoked, undiscovered := unlisted, collector.OrganizationStatus{Discovery: collector.CallStatus{Tried: true, Error: "API key wrong or expired", Reason: "unauthorized"}, Error: "API key wrong or expired"}
	revoked.ID, revoked.Inventory.Error, revoked.Inventory.Reason = "revoked", "API key wrong or expired", "unauthorized"
	since := fine
	since.Inventory.OK, since.Inventory.Error, since.Inventory.Reason = false, "API key wrong or expired", "unauthorized"
	lasting := fine
	lasting.Inventory.OK, lasting.Inventory.Error = false, "no luck today"
	for _, test := range []struct {
		name          string
		organizations []collector.OrganizationStatus
		query         string
		want          string
	}{
		{"nothing heard yet", []collector.OrganizationStatus{{}}, "", "503 the services of the organization are not known: waiting for the first response from ClickHouse Cloud"},
		{"not even found", []collector.OrganizationStatus{unfound}, "", "503 the services of the organization are not known: API key wrong or expired"},
		{"list fails", []collector.OrganizationStatus{unlisted}, "", `503 the services of organization "org" are not known: API failed`},
		{"empty once", []collector.OrganizationStatus{empty}, "", `503 ClickHouse Cloud lists no services of organization "org"; waiting for the next list to confirm this`},
		{"empty twice", []collector.OrganizationStatus{confirmed}, "", "200 []"},
		{"empty and then failed", []collector.OrganizationStatus{failedSince}, "", `503 ClickHouse Cloud lists no services of organization "org"; waiting for the next list to confirm this`},
		{"one of two", []collector.OrganizationStatus{fine, unlisted}, "", `503 the services of organization "org" are not known: API failed; ask for the other organizations with ?organization=<id>`},
		{"the good one of two", []collector.OrganizationStatus{fine, unlisted}, "?organization=fine", "200 a"},
		{"the bad one of two", []collector.OrganizationStatus{fine, unlisted}, "?organization=org", `503 the services of organization "org" are not known: API failed`},
		{"perhaps the one that is looked for", []collector.OrganizationStatus{fine, unfound}, "?organization=x", "503 the services of the organization are not known: API key wrong or expired"},
		{"a key of two refused", []collector.OrganizationStatus{revoked, fine}, "", "200 a without revoked"},
		{"keys of three refused", []collector.OrganizationStatus{undiscovered, fine, revoked}, "", "200 a without unknown, revoked"},
		{"both keys refused", []collector.OrganizationStatus{revoked, undiscovered}, "", `503 the services of organization "revoked" are not known: API key wrong or expired`},
		{"a key refused, another list fails", []collector.OrganizationStatus{revoked, unlisted, fine}, "", `503 the services of organization "org" are not known: API failed; ask for the other organizations with ?organization=<id>`},
		{"the one whose key is refused", []collector.OrganizationStatus{revoked, fine}, "?organization=revoked", `503 the services of organization "revoked" are not known: API key wrong or expired`},
		{"both, by their ids", []collector.OrganizationStatus{revoked, fine}, "?organization=revoked&organization=fine", "200 a without revoked"},
		{"a key refused later", []collector.OrganizationStatus{since}, "", "200 a"},
		{"outage later", []collector.OrganizationStatus{lasting}, "", "200 a"},
		{"filtered to none", []collector.OrganizationStatus{fine}, "?state=stopped", "200 []"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/sd"+test.query, nil)
			r.Host = "exporter:9924"
			w := httptest.NewRecorder()
			handler(t, Options{Collector: knows(test.organizations...)}).ServeHTTP(w, r)
			code, body := w.Code, w.Body.String()
			got := strings.TrimSuffix(body, "\n")
			if code == http.StatusOK && got != "[]" {
				got = ""
				for id := range groups(t, body) {
					got += id
				}
			}
			if missing := w.Header().Get("X-Missing-Organizations"); missing != "" {
				got += " without " + missing
			}
			if got = strconv.Itoa(code) + " " + got; got != test.want {
				t.Errorf("%s\nnot %s", got, test.want)
			}
		})
	}
}

// TestPartialDiscovery is counted each time and told once.
func TestPartialDiscovery(t *testing.T) {
	fine, revoked := organization("fine", service("a", "running", "eu")), collector.OrganizationStatus{ID: "revoked"}
	revoked.Inventory = collector.CallStatus{Tried: true, Error: "API key wrong or expired", Reason: "unauthorized"}
	var logged lines
	registry := prometheus.NewRegistry()
	c := knows(fine, revoked)
	h := handler(t, Options{Collector: c, Metrics: NewMetrics(registry), Logger: log.NewLogfmtLogger(&logged)})
	ask := func(query string) {
		r := httptest.NewRequest(http.MethodGet, "/sd"+query, nil)
		r.Host = "exporter:9924"
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != http.StatusOK {
			t.Errorf("code %d: %s", w.Code, w.Body)
		}
	}
	ask("")
	ask("?organization=fine")
	ask("")
	c.status = knows(fine, organization("revoked")).status
	c.status.Organizations[1].Inventory = twice()
	ask("")
	want := `level=warn msg="Service discovery leaves out organizations whose API key is refused" organizations=revoked
level=info msg="Service discovery is complete again"
`
	if logged.String() != want {
		t.Errorf("log:\n%s", logged.String())
	}
	if got := total(t, registry, "clickhouse_postgres_exporter_discovery_partial_total"); got != 2 {
		t.Errorf("%v counted", got)
	}
}
