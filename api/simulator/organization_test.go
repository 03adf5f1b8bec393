package simulator_test

import (
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

func TestOrganization(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 3})
	path := "/v1/organizations/" + l.config.OrganizationID
	listed := l.want(200, "GET", "/v1/organizations", "").list(t)[0]
	got := l.want(200, "GET", path, "").result(t)
	if got["id"] != l.config.OrganizationID || got["name"] != listed["name"] || got["createdAt"] != listed["createdAt"] {
		t.Errorf("listed as %v, and by itself %v", listed, got)
	}

	usage := map[string]any{}
	for _, q := range l.want(200, "GET", path+"/quotas", "").list(t) {
		code, _ := q["quotaCode"].(string)
		usage[code] = q["usage"]
		if one := l.want(200, "GET", path+"/quotas/"+code, "").result(t); one["value"] != q["value"] || one["usage"] != q["usage"] {
			t.Errorf("listed as %v, and by itself %v", q, one)
		}
	}
	if usage["postgres-services-per-organization"] != 3.0 || len(usage) != 4 || usage["replicas-per-warehouse"] != nil {
		t.Errorf("usage: %v", usage)
	}
	l.Resize(25)
	if q := l.want(200, "GET", path+"/quotas/postgres-services-per-organization", "").result(t); q["value"] != 20.0 || q["usage"] != 25.0 {
		t.Errorf("quota: %v", q)
	}
	l.want(404, "GET", path+"/quotas/clouds-per-sky", "")
	l.want(404, "GET", strings.Replace(path, path[18:22], "0000", 1)+"/quotas", "")
}

func TestWhoami(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 1})
	l.AddKey(simulator.Key{ID: "reader", Secret: "s", Name: "prometheus", Services: []string{l.Services()[0].ID}})
	seen := map[any]bool{}
	for id, name := range map[string]string{l.config.KeyID: l.config.KeyID, "reader": "prometheus"} {
		req := l.request("GET", "/v1/whoami", "")
		if id == "reader" {
			req.SetBasicAuth(id, "s")
		}
		got := l.do(req).result(t)
		if got["actorType"] != "apiKey" || got["name"] != name || got["organizationId"] != l.config.OrganizationID || seen[got["keyId"]] {
			t.Errorf("%s is %v", id, got)
		}
		seen[got["keyId"]] = true
	}
	// The key sees one service, and not the organization.
	for _, path := range []string{"", "/quotas", "/quotas/services-per-organization", "/postgres/prometheus"} {
		req := l.request("GET", "/v1/organizations/"+l.config.OrganizationID+path, "")
		req.SetBasicAuth("reader", "s")
		if r := l.do(req); r.status != 403 {
			t.Errorf("%q: %d", path, r.status)
		}
	}
	req := l.request("GET", "/v1/whoami", "")
	req.SetBasicAuth("reader", "wrong")
	if r := l.do(req); r.status != 401 {
		t.Errorf("wrong secret: %d", r.status)
	}
}
