package simulator

import (
	"cmp"
	"maps"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator/internal/seeded"
)

// Defaults of Config.
const (
	DefaultRefreshInterval = time.Minute
	DefaultOrgMetricsLimit = 100
	DefaultCreateDelay     = 2 * time.Minute
	DefaultRestartDelay    = 30 * time.Second
	DefaultDeleteDelay     = time.Minute
	DefaultBackupDelay     = time.Minute
	DefaultChangeDelay     = 15 * time.Second
	DefaultLogSize         = 10_000

	// DefaultRateLimit and DefaultRateWindow are what the API documents. They are not the default
	// of Config: with a zero RateLimit there is no limit.
	DefaultRateLimit  = 10
	DefaultRateWindow = 10 * time.Second
)

// Config describes the organization to simulate. The zero value is an organization without
// services and without a rate limit, refreshed once a minute.
type Config struct {
	// OrganizationID is a UUID. OrganizationID, KeyID and KeySecret are derived from Seed when
	// empty.
	OrganizationID, OrganizationName string
	// KeyID and KeySecret are the first API key, which may do everything. See also AddKey.
	KeyID, KeySecret string

	// Services is the initial number of services.
	Services int
	// Seed determines the fleet and all its values.
	Seed uint64
	// ServicesQuota is how many services the organization may have according to its quotas;
	// nothing is refused above it. Zero: twice Services, and at least 20.
	ServicesQuota int
	// FillDisks fills up two disks in every dozen services of the fleet within the hour, again
	// and again: one until there is so little space that upstream makes its service read-only,
	// another until it is replaced by a larger one. All other disks are healthy for years.
	FillDisks bool
	// States are the shares, by state, of services that start in another state than running:
	// {"stopped": 0.1} stops about one in ten.
	States map[string]float64
	// Epoch is when the first fleet is complete: all of it was created, and its counters
	// started, before. The default is the start of the year (UTC) in which New is called, so that
	// simulators started in the same year agree.
	Epoch time.Time
	// OmitStorageSize leaves storageSize, which is deprecated, out of every answer.
	OmitStorageSize bool

	// RefreshInterval is how often metrics change; in between, they are the same, byte for byte.
	// Refreshes are at multiples of it since 1970, plus Phase. An interval slightly different
	// from the caller's drifts against it.
	RefreshInterval, Phase time.Duration

	// RateLimit is how many requests a key may make in any RateWindow (10 s when zero). Zero or
	// less: any number.
	RateLimit  int
	RateWindow time.Duration

	// OrgMetricsLimit is how many services fit on the organization-wide metrics page: 100 when
	// zero, any number when negative. CapMode says what happens above the limit.
	OrgMetricsLimit int
	CapMode         CapMode

	// How long a service is creating, restarting and deleting. Negative: no time at all.
	CreateDelay, RestartDelay, DeleteDelay time.Duration
	// BackupDelay is how long after it first runs a service has its first backup, ChangeDelay how
	// long a change of size or haType is queued. Negative: no time at all.
	BackupDelay, ChangeDelay time.Duration

	// LogSize is how many requests Requests remembers.
	LogSize int

	// Now is the clock, time.Now when nil. Latency and slow bodies always take real time.
	Now func() time.Time
}

// withDefaults returns c with all defaults filled in.
func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	c.OrganizationID = cmp.Or(c.OrganizationID, seeded.UUID(seeded.Hash(c.Seed, "organization")))
	c.OrganizationName = cmp.Or(c.OrganizationName, "Simulated organization")
	c.KeyID = cmp.Or(c.KeyID, seeded.Base62(seeded.Hash(c.Seed, "key id"), 20))
	c.KeySecret = cmp.Or(c.KeySecret, "4b1d"+seeded.Base62(seeded.Hash(c.Seed, "key secret"), 38))
	if c.Epoch.IsZero() {
		c.Epoch = time.Date(c.Now().UTC().Year(), time.January, 1, 0, 0, 0, 0, time.UTC)
	}
	if c.RefreshInterval <= 0 {
		c.RefreshInterval = DefaultRefreshInterval
	}
	if c.RateWindow <= 0 {
		c.RateWindow = DefaultRateWindow
	}
	c.OrgMetricsLimit = cmp.Or(c.OrgMetricsLimit, DefaultOrgMetricsLimit)
	c.CreateDelay = max(cmp.Or(c.CreateDelay, DefaultCreateDelay), 0)
	c.RestartDelay = max(cmp.Or(c.RestartDelay, DefaultRestartDelay), 0)
	c.DeleteDelay = max(cmp.Or(c.DeleteDelay, DefaultDeleteDelay), 0)
	c.BackupDelay = max(cmp.Or(c.BackupDelay, DefaultBackupDelay), 0)
	c.ChangeDelay = max(cmp.Or(c.ChangeDelay, DefaultChangeDelay), 0)
	if c.LogSize <= 0 {
		c.LogSize = DefaultLogSize
	}
	c.ServicesQuota = cmp.Or(c.ServicesQuota, max(2*c.Services, 20))
	c.States = maps.Clone(c.States)
	return c
}
