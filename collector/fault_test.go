package collector

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
)

func TestStaleDataVanishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 3}, nil)
		b.refreshed()
		org, id := b.sim.Config().OrganizationID, b.sim.Services()[0].ID
		b.sim.SetFault(simulator.Fault{Endpoints: []string{"organization_metrics", "service_metrics"}, Status: 500})
		b.pass(4 * time.Minute)
		before := identities(b.upstreamSeries())
		if len(before) < 100 {
			t.Fatalf("%d series before they are too old", len(before))
		}
		b.want("clickhouse_postgres_up", "0")
		if all := b.series(); all[ids(all, serviceUpName, id)[0]] != "0" {
			t.Error("the service is up although its metrics cannot be read")
		}

		b.pass(2 * time.Minute)
		if found := b.upstreamSeries(); len(found) != 0 {
			t.Errorf("%d series that are too old", len(found))
		}
		all := b.series()
		for _, name := range []string{serviceInfoName, serviceUpName, "clickhouse_postgres_service_metrics_last_success_timestamp_seconds"} {
			if len(ids(all, name+"{", id)) != 1 {
				t.Errorf("no %s", name)
			}
		}
		b.want("clickhouse_postgres_exporter_series", "0")
		var unavailable *UnavailableError
		for _, service := range []string{"", id} {
			_, err := b.c.Page(org, service)
			if !errors.As(err, &unavailable) || !strings.Contains(unavailable.Reason, "expired") ||
				!strings.Contains(unavailable.Reason, "500") {
				t.Errorf("page of service %q: %v", service, err)
			}
		}
		if lines := b.logs.lines("endpoint=organization_metrics"); len(lines) != 2 { // read, fails
			t.Errorf("log: %q", lines)
		}

		b.sim.ClearFaults()
		b.pass(2 * time.Minute)
		if diff := cmp.Diff(before, identities(b.upstreamSeries())); diff != "" {
			t.Errorf("series (-before +after):\n%s", diff)
		}
		b.want("clickhouse_postgres_up", "1")
	})
}

// Expiry must not depend on a worker that runs, nor on anybody asking.
func TestExpiryIsCheckedWhenServing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 2}, nil)
		b.refreshed()
		b.stop()
		b.pass(4 * time.Minute)
		if len(b.upstreamSeries()) == 0 {
			t.Fatal("data is gone too soon")
		}
		b.pass(2 * time.Minute)
		if n := len(b.upstreamSeries()); n != 0 {
			t.Errorf("%d series that are too old", n)
		}
		if len(ids(b.series(), serviceInfoName)) != 2 {
			t.Error("the inventory is gone, too")
		}
	})
}

func TestRefusedPages(t *testing.T) {
	mutate := func(f func([]byte) []byte) simulator.Fault { return simulator.Fault{Mutate: f} }
	for _, tt := range []struct {
		name   string
		fault  simulator.Fault
		reason string
	}{
		{"HTML", simulator.HTML(), "content_type"},
		{"JSON", simulator.JSON(), "content_type"},
		{"wrong type", simulator.WrongContentType("image/png"), "content_type"},
		{"nothing", simulator.EmptyBody(), "empty"},
		{"only comments", mutate(func([]byte) []byte { return []byte("# TYPE a gauge\n\n") }), "empty"},
		{"malformed line", mutate(simulator.MalformedLine), "parse"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, simulator.Config{Services: 3}, nil)
				b.refreshed()
				before := sorted(b.upstreamSeries())
				tt.fault.Endpoints = []string{"organization_metrics"}
				b.sim.SetFault(tt.fault)
				b.pass(100 * time.Second)
				if diff := cmp.Diff(before, sorted(b.upstreamSeries())); diff != "" {
					t.Errorf("the last good page is not kept (-before +after):\n%s", diff)
				}
				if n := b.own("clickhouse_postgres_exporter_pages_refused_total", `endpoint="organization_metrics"`, fmt.Sprintf("reason=%q", tt.reason)); n == "" || n == "0" {
					t.Errorf("not counted: %v", b.health())
				}
				b.want("clickhouse_postgres_up", "0")
				if lines := b.logs.lines("level=warn", "reason="+tt.reason); len(lines) != 1 {
					t.Errorf("want one line, got %q of %q", lines, b.logs.lines())
				}
			})
		})
	}
}

func TestEmptyPageIsRightWhenNothingRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 2, States: map[string]float64{"creating": 1}}, nil)
		b.sim.SetFault(simulator.Fault{Endpoints: []string{"organization_metrics"}, Mutate: func([]byte) []byte { return nil }})
		b.refreshed()
		b.pass(2 * time.Minute)
		b.want("clickhouse_postgres_up", "1")
		if len(ids(b.series(), serviceStateName, `state="creating"`)) != 2 {
			t.Error("no inventory")
		}
		org, id := b.sim.Config().OrganizationID, b.sim.Services()[0].ID
		if _, err := b.c.Page(org, id); err != nil {
			t.Errorf("page of a service that is being created: %v", err)
		}
	})
}

func TestOneOrganizationDoesNotDelayAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		second := simulator.New(simulator.Config{Services: 2, Seed: 99})
		b := newBench(t, simulator.Config{Services: 2}, func(o *Options, _ *Organization) {
			o.Organizations = []Organization{allOwn(Organization{ID: second.Config().OrganizationID, API: upstream(t, second)})}
		})
		b.sim.SetFault(simulator.Fault{Hang: true})
		b.pass(10 * time.Minute)
		if n := len(ids(b.upstreamSeries(), second.Config().OrganizationID)); n < 60 {
			t.Errorf("%d series of the organization that works", n)
		}
		if n := second.Count("organization_metrics", 200); n < 15 {
			t.Errorf("%d polls in 10 minutes of the organization that works", n)
		}
		if !b.c.Ready() {
			t.Error("not ready")
		}
		if _, err := b.c.Page(second.Config().OrganizationID, ""); err != nil {
			t.Error(err)
		}
		if _, err := b.c.Page(b.sim.Config().OrganizationID, ""); !errors.As(err, new(*UnavailableError)) {
			t.Errorf("page of the organization that hangs: %v", err)
		}
		if _, err := b.c.Page("nobody's", ""); !errors.Is(err, ErrNotFound) {
			t.Errorf("page of an unknown organization: %v", err)
		}
		b.sim.ClearFaults()
		b.pass(3 * time.Minute)
		if n := len(ids(b.upstreamSeries(), b.sim.Config().OrganizationID)); n < 60 {
			t.Errorf("%d series of the organization that recovered", n)
		}
	})
}

// With a short interval, data expires at the age that was asked for.
func TestMaxAgeOfShortIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 3}, func(_ *Options, o *Organization) {
			o.MetricsInterval, o.MaxAge = 2*time.Second, 10*time.Second
		})
		b.refreshed()
		for range 600 {
			b.pass(time.Second)
			if n := len(ids(b.upstreamSeries(), "PostgresServiceInfo")); n != 3 {
				t.Fatalf("%d services are exported", n)
			}
		}
		b.sim.SetFault(simulator.Fault{Endpoints: []string{"organization_metrics", "service_metrics"}, Status: 503})
		b.pass(5 * time.Second)
		if len(b.upstreamSeries()) == 0 {
			t.Error("gone too soon")
		}
		b.pass(7 * time.Second)
		if n := len(b.upstreamSeries()); n != 0 {
			t.Errorf("%d series that are older than 10 s", n)
		}
	})
}

func TestOneServiceWhosePageFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 8, OrgMetricsLimit: 5}, nil)
		b.refreshed()
		b.pass(3 * time.Minute)
		covered := b.sim.Covered(time.Now())
		var id string
		for _, s := range b.sim.Services() {
			if !slices.Contains(covered, s.ID) {
				id = s.ID
			}
		}
		heal := b.sim.SetFault(simulator.Fault{Endpoints: []string{"service_metrics"}, ServiceIDs: []string{id}, Status: 500})
		b.pass(20 * time.Minute)
		all := b.series()
		if n := len(ids(all, "PostgresServiceInfo")); n != 7 {
			t.Errorf("%d services are exported, want all but one", n)
		}
		for _, up := range ids(all, serviceUpName) {
			if want := map[bool]string{true: "0", false: "1"}[strings.Contains(up, id)]; all[up] != want {
				t.Errorf("%s %s, want %s", up, all[up], want)
			}
		}
		b.want("clickhouse_postgres_up", "1")
		if lines := b.logs.lines("level=warn", "endpoint=service_metrics"); len(lines) != 1 {
			t.Errorf("want one line, got %q", lines)
		}
		var unavailable *UnavailableError
		if _, err := b.c.Page(b.sim.Config().OrganizationID, id); !errors.As(err, &unavailable) || !strings.Contains(unavailable.Reason, "500") {
			t.Errorf("page of the service: %v", err)
		}
		heal()
		b.pass(20 * time.Minute)
		if n := len(ids(b.series(), "PostgresServiceInfo")); n != 8 {
			t.Errorf("%d services are exported", n)
		}
		if lines := b.logs.lines("can be read again"); len(lines) != 1 {
			t.Errorf("want one line, got %q", lines)
		}
	})
}

func TestNothingEmittedHoldsTheSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 2}, nil)
		b.refreshed()
		for _, fault := range simulator.Catalogue() {
			switch fault.Name {
			case "gzip bomb", "oversized body", "huge label", "many series":
				continue // gigabytes, under the race detector, that hold no secret either
			}
			if fault.Endpoints == nil {
				fault.Endpoints = []string{"organization_metrics", "service_metrics"}
			}
			clearFault := b.sim.SetFault(fault)
			b.pass(40 * time.Second)
			clearFault()
		}
		b.sim.RotateKey("other", "key")
		b.pass(3 * time.Minute)
		status, err := json.Marshal(b.c.Status())
		if err != nil {
			t.Fatal(err)
		}
		everything := strings.Join(b.logs.lines(), "\n") + b.text("", "") + string(status) + fmt.Sprint(b.health()) +
			fmt.Sprintf("%+v", *b.poller(0).config)
		if strings.Contains(everything, b.sim.Config().KeySecret) {
			t.Error("the secret shows")
		}
		if !strings.Contains(everything, "unauthorized") {
			t.Error("the refused key does not show")
		}
	})
}

// badKey is a key that cannot be had, as when its file is gone.
type badKey struct{}

func (badKey) Credentials() (api.Credentials, error) {
	return api.Credentials{}, errors.New("open key: no such file")
}

func (badKey) Invalidate() {}

// What fails before a request is sent is counted as well.
func TestUnusableKeyIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 2}, func(_ *Options, o *Organization) { o.API.Credentials = badKey{} })
		b.pass(5 * time.Minute)
		n, err := strconv.Atoi(b.own("clickhouse_postgres_exporter_api_request_failures_total", `endpoint="services"`, `reason="credentials"`))
		if err != nil || n < 4 || n > 15 {
			t.Errorf("%d failures: %v", n, b.health())
		}
		if got := b.sim.Count("", -1); got != 0 {
			t.Errorf("%d requests without a key", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 2}, func(_ *Options, o *Organization) {
			o.ID, o.Name, o.API.Credentials = "", "acme", badKey{}
		})
		b.pass(5 * time.Minute)
		if found := ids(b.health(), "clickhouse_org="); len(found) != 0 {
			t.Errorf("series of an organization without an id: %q", found)
		}
		if lines := b.logs.lines("level=warn", "org_name=acme", "reason=credentials"); len(lines) != 1 {
			t.Errorf("want one line, got %q", b.logs.lines())
		}
	})
}

// A page is refused for having been cut only where nothing proves that it is whole.
func TestPagesThatMayHaveBeenCut(t *testing.T) {
	const text, openMetrics = "text/plain; version=0.0.4", "application/openmetrics-text; version=1.0.0"
	b := &bench{t: t, sim: simulator.New(simulator.Config{})}
	org := Organization{ID: "o", API: api.Config{
		Credentials: api.StaticCredentials("k", "s"), Budget: api.NewBudget(api.BudgetConfig{}),
	}}
	var err error
	if b.c, err = New(Options{Organizations: []Organization{org}}); err != nil {
		t.Fatal(err)
	}
	parser := exposition.NewParser("")
	// What one page was like says nothing of the next.
	for _, tt := range []struct {
		page api.Page
		want string // reason of the refusal
	}{
		{page: api.Page{Body: []byte("a 1\n"), ContentType: text}},
		{page: api.Page{Body: []byte("a 1\nb 2"), ContentType: text, Complete: true}},
		{page: api.Page{Body: []byte("a 1\nb 2"), ContentType: text}, want: "parse"},
		{page: api.Page{Body: []byte("a 1\nb 2\n"), ContentType: text}},
		{page: api.Page{ContentType: text}},
		{page: api.Page{Body: []byte("# TYPE a gauge\na 1\n# EOF"), ContentType: openMetrics}},
		{page: api.Page{Body: []byte("# TYPE a gauge\na 1\n# EOF\n"), ContentType: openMetrics}},
		{page: api.Page{Body: []byte("# TYPE a gauge\na 1\n"), ContentType: openMetrics}, want: "parse"},
		{page: api.Page{Body: []byte("# TYPE a gauge\na 1\n"), ContentType: openMetrics, Complete: true}, want: "parse"},
		{page: api.Page{Body: []byte("a 1\nb 2"), ContentType: text, Complete: true}},
	} {
		got := ""
		if _, err := b.poller(0).parse(parser, &response{page: &tt.page}); err != nil {
			got, _ = reason(err)
		}
		if got != tt.want {
			t.Errorf("%+v: refused for %q, want %q", tt.page, got, tt.want)
		}
	}
}

// A type that is not known costs nobody the page; it is counted, and told once.
func TestUnknownTypes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 3}, nil)
		b.sim.SetFault(simulator.Fault{Endpoints: []string{"organization_metrics"}, Mutate: func(page []byte) []byte {
			page = bytes.ReplaceAll(page, []byte("# TYPE PostgresServiceInfo gauge"), []byte("# TYPE PostgresServiceInfo info"))
			return bytes.ReplaceAll(page, []byte("# TYPE PostgresServer_CPUCores gauge"), []byte("# TYPE PostgresServer_CPUCores quux"))
		}})
		b.refreshed()
		b.pass(5 * time.Minute)
		all := b.upstreamSeries()
		if len(ids(all, "PostgresServiceInfo{")) != 3 || len(ids(all, "PostgresServer_CPUCores{")) != 3 || len(all) < 90 {
			t.Errorf("%d series", len(all))
		}
		b.want("clickhouse_postgres_up", "1")
		if n, err := strconv.Atoi(b.own("clickhouse_postgres_exporter_families_downgraded_total")); err != nil || n < 10 || n%2 != 0 {
			t.Errorf("%d families were downgraded, %v", n, err)
		}
		if lines := b.logs.lines("level=warn", "families=2"); len(lines) != 1 {
			t.Errorf("want one line, got %q", lines)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, simulator.Config{Services: 3}, nil)
		b.refreshed()
		b.want("clickhouse_postgres_exporter_families_downgraded_total", "0")
	})
}
