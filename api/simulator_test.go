package api_test

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// Client and simulator share no code, so what they agree on was read from
// upstream's documentation twice.
func TestSimulatedUpstream(t *testing.T) {
	sim := simulator.New(simulator.Config{Services: 3, Seed: 1})
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	key := sim.Config()
	c, err := api.New(api.Config{
		BaseURL:     server.URL,
		Credentials: api.StaticCredentials(key.KeyID, key.KeySecret),
		Budget:      api.NewBudget(api.BudgetConfig{Requests: 1000, Window: time.Second}),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	ctx := t.Context()

	organizations, err := c.Organizations(ctx)
	if err != nil || len(organizations) != 1 || organizations[0].ID != key.OrganizationID || organizations[0].Name == "" || organizations[0].CreatedAt.IsZero() {
		t.Fatalf("organizations %+v, error %v", organizations, err)
	}
	org := organizations[0].ID

	me, err := c.Whoami(ctx)
	if err != nil || me.ID == "" || me.Name == "" {
		t.Errorf("key %+v, error %v", me, err)
	}

	services, err := c.Services(ctx, org)
	if err != nil || len(services) != 3 {
		t.Fatalf("services %+v, error %v", services, err)
	}
	for _, s := range services {
		for name, value := range map[string]string{
			"name": s.Name, "provider": s.Provider, "region": s.Region, "version": s.PostgresVersion,
			"size": s.Size, "HA type": s.HAType, "state": s.State,
		} {
			if value == "" {
				t.Errorf("service %s without %s", s.ID, name)
			}
		}
		if s.StorageGiB <= 0 || s.CreatedAt.IsZero() {
			t.Errorf("service %s of %v GiB created at %s", s.ID, s.StorageGiB, s.CreatedAt)
		}
		detail, err := c.Service(ctx, org, s.ID)
		if err != nil || detail.ID != s.ID || detail.Name != s.Name || detail.Hostname == "" {
			t.Errorf("service %+v, error %v", detail, err)
		}
		config, err := c.ServiceConfig(ctx, org, s.ID)
		if err != nil || config.Postgres["max_connections"] == "" {
			t.Errorf("config %+v, error %v", config, err)
		}
		backups, err := c.Backups(ctx, org, s.ID)
		if err != nil || backups.Latest.IsZero() != detail.EarliestRestoreTime.IsZero() || detail.EarliestRestoreTime.After(backups.Latest) {
			t.Errorf("backups %+v, restores from %s, error %v", backups, detail.EarliestRestoreTime, err)
		}
		page, err := c.ServiceMetrics(ctx, org, s.ID)
		if err != nil || !strings.Contains(string(page.Body), s.ID) || page.Date.IsZero() {
			t.Errorf("page %+v, error %v", page, err)
		}
	}
	quotas, err := c.Quotas(ctx, org)
	if err != nil || len(quotas) == 0 {
		t.Errorf("quotas %+v, error %v", quotas, err)
	}
	page, err := c.OrganizationMetrics(ctx, org)
	if err != nil || !strings.HasPrefix(page.ContentType, "text/plain") {
		t.Fatalf("page %+v, error %v", page, err)
	}
	for _, s := range services {
		if !strings.Contains(string(page.Body), s.ID) {
			t.Errorf("page without service %s", s.ID)
		}
	}
}
