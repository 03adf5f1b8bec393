package simulator

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator/internal/metrics"
	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator/internal/seeded"
)

// Tag is one tag of a service. It has no value if Value is empty.
type Tag struct {
	Key   string `json:"key"`
	Value string `json:"value,omitempty"`
}

// Service is a copy of what the simulator knows about one service at one moment. Changing it
// changes nothing in the simulator.
type Service struct {
	ID, Name, Provider, Region, PostgresVersion, Size, HAType, State string

	StorageGiB int
	Tags       []Tag
	IsPrimary  bool
	CreatedAt  time.Time
	Hostname   string
}

// States that the API documents. SetState accepts any other string, too.
const (
	stateCreating          = "creating"
	stateRestarting        = "restarting"
	stateRunning           = "running"
	stateRestoringBackup   = "restoring_backup"
	stateFinalizingRestore = "finalizing_restore"
	stateUnavailable       = "unavailable"
	stateDeleting          = "deleting"

	// stateGone is not a state of the API: it is what follows deleting.
	stateGone = ""
)

const (
	aws            = "aws"
	gcp            = "gcp"
	username       = "postgres"
	defaultVersion = "17"
	defaultHAType  = "none"

	// domain ends every host name. It is reserved, so no simulated name is a real host.
	domain = "pg.simulator.invalid"
)

// phase is a state and the time from which it holds.
type phase struct {
	from  time.Time
	state string
}

// service is one service's record. A record never changes once it is in the fleet: a change
// puts an altered copy in its place. So a refresh is a list of records, pages are rendered
// without a lock, and what was true at the last refresh stays true until the next.
type service struct {
	id       string
	index    int // in the fleet that the seed defines; -1 for a service created through the API
	name     string
	provider string
	region   string
	version  string
	size     string
	haType   string
	tags     []Tag
	primary  bool
	password string

	// phases are in chronological order; the last that has begun holds.
	phases []phase
	// queued is a change that does not show yet, nil for none; see at.
	queued *change

	// parent is the id of the primary that a read replica follows, "" for a primary. No answer
	// contains it.
	parent string
	// firstBackup is when the first backup is complete. It is zero for a read replica, whose
	// backups are not known.
	firstBackup time.Time
	// backupsEnd is when backups began to fail, zero while they do not.
	backupsEnd time.Time

	// max_connections in pgConfig may be waiting for a restart; Server has the value in force.
	pgConfig, bouncerConfig map[string]any

	metrics.Server // what the values of metrics depend on
}

// change is a change of size or haType, which upstream makes some time after the request.
type change struct {
	due          time.Time
	size, haType string
	downtime     time.Duration // if the size changes
}

// at returns the service as of t: with the queued change, once that is due. A change of size
// moves it to another machine, where the counters start at zero.
func (v *service) at(t time.Time) *service {
	if v.queued == nil || t.Before(v.queued.due) {
		return v
	}
	w, c := *v, v.queued
	w.queued, w.haType = nil, c.haType
	if w.size == c.size {
		return &w
	}
	w.size = c.size
	w.Machine, _ = machineOf(c.size)
	return w.restart(c.due, c.downtime)
}

// stateAt returns the state at t, stateGone once the service is deleted.
func (v *service) stateAt(t time.Time) string {
	state := v.phases[0].state
	for _, p := range v.phases[1:] {
		if t.Before(p.from) {
			break
		}
		state = p.state
	}
	return state
}

func (v *service) running(t time.Time) bool { return v.stateAt(t) == stateRunning }

// hostname follows the name, as it does upstream.
func (v *service) hostname() string {
	var slug strings.Builder
	for _, r := range strings.ToLower(v.name) {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			slug.WriteRune(r)
		case slug.Len() > 0 && !strings.HasSuffix(slug.String(), "-"):
			slug.WriteByte('-')
		}
	}
	h := seeded.Hash(v.Key, "host")
	return fmt.Sprintf("%s-%08x.pg%s.c0.%s.%s.%s", strings.Trim(slug.String(), "-"),
		uint32(h), seeded.Base36(seeded.Hash(h, "cell"), 24), v.region, v.provider, domain)
}

func (v *service) connectionString() string {
	return fmt.Sprintf("postgres://%s:%s@%s:5432/postgres?channel_binding=require", username, v.password, v.hostname())
}

func (v *service) snapshot(t time.Time) Service {
	return Service{
		ID: v.id, Name: v.name, Provider: v.provider, Region: v.region, PostgresVersion: v.version,
		Size: v.size, HAType: v.haType, State: v.stateAt(t), StorageGiB: v.storageGiB(t),
		Tags: slices.Clone(v.tags), IsPrimary: v.primary, CreatedAt: v.CreatedAt, Hostname: v.hostname(),
	}
}

// storageGiB is the size of the disk as the API reports it.
func (v *service) storageGiB(t time.Time) int {
	limit, _ := v.Disk(t)
	return int(limit / (1 << 30))
}

// newPassword returns a password that satisfies the API's rules.
func newPassword(h uint64) string { return "v" + seeded.Base62(h, 18) + "Z7" }

// restart returns the service with a restart at now that takes delay: counters are reset, and
// settings that need a restart take effect.
func (v service) restart(now time.Time, delay time.Duration) *service {
	up := now.Add(delay)
	v.phases = []phase{{now, stateRestarting}, {up, stateRunning}}
	v.Boot = up
	v.MaxConnections = maxConnections(v.pgConfig, v.Machine)
	return &v
}

// complete fills in what a new record's other fields determine.
func (v *service) complete() {
	v.Machine, _ = machineOf(v.size)
	if v.password == "" {
		v.password = newPassword(seeded.Hash(v.Key, "password"))
	}
	if v.pgConfig == nil {
		v.pgConfig = map[string]any{}
	}
	if v.bouncerConfig == nil {
		v.bouncerConfig = map[string]any{}
	}
	v.MaxConnections = maxConnections(v.pgConfig, v.Machine)
	v.Profile = metrics.NewProfile(v.Key, utcOffset(v.region), v.primary)
}

// maxConnections returns the setting, given as a number or a string. The default is this
// package's own choice: the API's is not documented, and no answer contains it.
func maxConnections(pgConfig map[string]any, m metrics.Machine) int {
	if n, err := strconv.Atoi(fmt.Sprint(pgConfig["max_connections"])); err == nil && n > 0 {
		return n
	}
	return min(100*m.Cores, 1000)
}
