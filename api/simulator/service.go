package simulator

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Tag is one tag of a service. An empty Value is a tag without value.
type Tag struct {
	Key, Value string
}

// Service is a copy of what the simulator knows of one service at one moment. Changing it
// changes nothing in the simulator.
type Service struct {
	ID, Name, Provider, Region, PostgresVersion, Size, HAType, State string

	StorageGiB int
	Tags       []Tag
	IsPrimary  bool
	CreatedAt  time.Time
	Hostname   string
}

// States that the API documents. SetState takes any other string, too.
const (
	stateCreating          = "creating"
	stateRestarting        = "restarting"
	stateRunning           = "running"
	stateRestoringBackup   = "restoring_backup"
	stateFinalizingRestore = "finalizing_restore"
	stateUnavailable       = "unavailable"
	stateDeleting          = "deleting"

	// stateGone is no state of the API: it is what follows deleting.
	stateGone = ""
)

const (
	aws            = "aws"
	gcp            = "gcp"
	username       = "postgres"
	defaultVersion = "17"
	defaultHAType  = "none"

	// domain ends every host name. It is reserved, so no simulated name is ever anyone's host.
	domain = "pg.simulator.invalid"
)

// phase is a state and the moment from which it holds.
type phase struct {
	from  time.Time
	state string
}

// service is one service's record. A record never changes once it is in the fleet: a change
// puts an altered copy in its place. So a refresh is a list of records, pages are rendered
// without a lock, and what was true at the last refresh stays true until the next.
type service struct {
	id        string
	key       uint64 // seeds everything that is particular to this service
	index     int    // of the fleet that the seed defines; -1 for what API calls created
	name      string
	provider  string
	region    string
	version   string
	size      string
	spec      machine
	haType    string
	tags      []Tag
	primary   bool
	createdAt time.Time
	password  string

	// phases are in order of time; the last that has begun holds.
	phases []phase
	// queued is a change that does not show yet, nil for none; see at.
	queued *change
	// boot is when the counters began to count, in the future while the service restarts.
	boot time.Time

	// parent is the id of the primary that a read replica follows, "" for a primary. No answer
	// tells it.
	parent string
	// firstBackup is when the first backup is complete. It is zero for a read replica, whose
	// backups are not known.
	firstBackup time.Time
	// backupsEnd is when backups began to fail, zero while they do not.
	backupsEnd time.Time

	pgConfig, bouncerConfig map[string]any
	// maxConnections is the value in force; pgConfig may hold one that awaits a restart.
	maxConnections int

	profile *profile
	filling filling
	// freeDisk is how many bytes of the disk are free, whatever the profile says; 0 for none.
	freeDisk float64
}

// change is of what upstream changes some time after it was asked to.
type change struct {
	due          time.Time
	size, haType string
	downtime     time.Duration // if the size changes
}

// at returns the service as it is at t: with the change that was queued, once that is due. A
// change of size is another machine, which starts with counters of its own.
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
	w.spec, _ = machineOf(c.size)
	return w.restart(c.due, c.downtime)
}

// stateAt returns the state at t, stateGone when the service is no more.
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
	h := hash(v.key, "host")
	return fmt.Sprintf("%s-%08x.pg%s.c0.%s.%s.%s", strings.Trim(slug.String(), "-"),
		uint32(h), base36(hash(h, "cell"), 24), v.region, v.provider, domain)
}

func (v *service) connectionString() string {
	return fmt.Sprintf("postgres://%s:%s@%s:5432/postgres?channel_binding=require", username, v.password, v.hostname())
}

func (v *service) snapshot(t time.Time) Service {
	return Service{
		ID: v.id, Name: v.name, Provider: v.provider, Region: v.region, PostgresVersion: v.version,
		Size: v.size, HAType: v.haType, State: v.stateAt(t), StorageGiB: v.storageGiB(t),
		Tags: slices.Clone(v.tags), IsPrimary: v.primary, CreatedAt: v.createdAt, Hostname: v.hostname(),
	}
}

// restart returns the service as it is when it restarts at now, for delay: counters begin
// anew and configuration that waited for a restart comes into force.
func (v service) restart(now time.Time, delay time.Duration) *service {
	up := now.Add(delay)
	v.phases = []phase{{now, stateRestarting}, {up, stateRunning}}
	v.boot = up
	v.maxConnections = maxConnections(v.pgConfig, v.spec)
	return &v
}

// complete fills what follows from the rest of a new record.
func (v *service) complete() {
	v.spec, _ = machineOf(v.size)
	if v.password == "" {
		v.password = newPassword(hash(v.key, "password"))
	}
	if v.pgConfig == nil {
		v.pgConfig = map[string]any{}
	}
	if v.bouncerConfig == nil {
		v.bouncerConfig = map[string]any{}
	}
	v.maxConnections = maxConnections(v.pgConfig, v.spec)
	v.profile = newProfile(v.key, v.region, v.primary)
}

// maxConnections reads the setting as given, a number or a string. Where it is not set, what
// is returned is this package's own choice of how many clients come: nothing tells the API's
// default, and no answer says it.
func maxConnections(pgConfig map[string]any, spec machine) int {
	if n, err := strconv.Atoi(fmt.Sprint(pgConfig["max_connections"])); err == nil && n > 0 {
		return n
	}
	return min(100*spec.cores, 1000)
}
