package simulator

import (
	"encoding/binary"
	"fmt"
	"maps"
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
	provider       = "aws"
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
	// boot is when the counters began to count, in the future while the service restarts.
	boot time.Time

	pgConfig, bouncerConfig map[string]any
	// maxConnections is the value in force; pgConfig may hold one that awaits a restart.
	maxConnections int

	profile *profile
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
		uint32(h), base36(hash(h, "cell"), 24), v.region, provider, domain)
}

func (v *service) connectionString() string {
	return fmt.Sprintf("postgres://%s:%s@%s:5432/postgres?channel_binding=require", username, v.password, v.hostname())
}

func (v *service) snapshot(t time.Time) Service {
	return Service{
		ID: v.id, Name: v.name, Provider: provider, Region: v.region, PostgresVersion: v.version,
		Size: v.size, HAType: v.haType, State: v.stateAt(t), StorageGiB: v.spec.storageGiB,
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

// fleet holds the services of the organization, in order of creation. The caller locks.
type fleet struct {
	services []*service
	position map[string]int
	// grown is the next index of the seed's fleet; created counts those made by API calls.
	grown, created int
}

func (f *fleet) get(id string) (*service, bool) {
	i, ok := f.position[id]
	if !ok {
		return nil, false
	}
	return f.services[i], true
}

// put adds a service, or replaces the one of the same id.
func (f *fleet) put(v *service) {
	if i, ok := f.position[v.id]; ok {
		f.services[i] = v
		return
	}
	if f.position == nil {
		f.position = make(map[string]int)
	}
	f.position[v.id] = len(f.services)
	f.services = append(f.services, v)
}

// keep forgets the services for which keep is false.
func (f *fleet) keep(keep func(*service) bool) {
	if !slices.ContainsFunc(f.services, func(v *service) bool { return !keep(v) }) {
		return
	}
	f.services = slices.DeleteFunc(f.services, func(v *service) bool { return !keep(v) })
	clear(f.position)
	for i, v := range f.services {
		f.position[v.id] = i
	}
}

// live returns the services that exist at t, in order of creation.
func (f *fleet) live(t time.Time) []*service {
	live := make([]*service, 0, len(f.services))
	for _, v := range f.services {
		if v.stateAt(t) != stateGone {
			live = append(live, v)
		}
	}
	return live
}

// resize grows or shrinks the part of the fleet that the seed defines to n services. What
// goes is the youngest; what comes is what the seed has next, so that growing back brings
// services that were never there before.
func (f *fleet) resize(n int, member func(index int) *service) {
	var ours int
	for _, v := range f.services {
		if v.index >= 0 {
			ours++
		}
	}
	for ; ours < n; ours++ {
		f.put(member(f.grown))
		f.grown++
	}
	if ours == n {
		return
	}
	surplus, drop := ours-max(n, 0), map[string]bool{}
	for i := len(f.services) - 1; i >= 0 && len(drop) < surplus; i-- {
		if f.services[i].index >= 0 {
			drop[f.services[i].id] = true
		}
	}
	f.keep(func(v *service) bool { return !drop[v.id] })
}

// A machine is what a size name stands for.
type machine struct {
	cores                 int
	memoryGiB, storageGiB int
}

// machineOf resolves a size name such as r8gd.large; false for one that is not offered.
func machineOf(size string) (machine, bool) {
	var (
		memoryGiB, storageGiB int // per core
		steps                 string
	)
	family, step, _ := strings.Cut(size, ".")
	switch family {
	case "c6gd":
		memoryGiB, storageGiB, steps = 2, 59, "large xlarge 2xlarge 4xlarge 8xlarge 16xlarge"
	case "m6gd", "m6id", "m8gd":
		memoryGiB, storageGiB, steps = 4, 59, "large xlarge 2xlarge 4xlarge 8xlarge 16xlarge"
	case "r6gd":
		memoryGiB, storageGiB, steps = 8, 59, "medium large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge"
	case "r6id":
		memoryGiB, storageGiB, steps = 8, 59, "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 32xlarge"
	case "r8gd":
		memoryGiB, storageGiB, steps = 8, 59, "medium large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge"
	case "i7i":
		memoryGiB, storageGiB, steps = 8, 234, "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge"
	case "i8g":
		memoryGiB, storageGiB, steps = 8, 234, "large xlarge 2xlarge 4xlarge 8xlarge 16xlarge 24xlarge"
	case "i7ie", "i8ge":
		memoryGiB, storageGiB, steps = 8, 625, "large xlarge 2xlarge 3xlarge 6xlarge 12xlarge 18xlarge 24xlarge"
	}
	if !slices.Contains(strings.Fields(steps), step) {
		return machine{}, false
	}
	var cores int
	switch step {
	case "medium":
		cores = 1
	case "large":
		cores = 2
	case "xlarge":
		cores = 4
	default:
		n, err := strconv.Atoi(strings.TrimSuffix(step, "xlarge"))
		if err != nil {
			return machine{}, false
		}
		cores = 4 * n
	}
	return machine{cores: cores, memoryGiB: cores * memoryGiB, storageGiB: cores * storageGiB}, true
}

// regions are those in which a service can be made.
const regions = "ap-northeast-1, ap-northeast-2, ap-south-1, ap-southeast-1, ap-southeast-2, ca-central-1, " +
	"eu-central-1, eu-west-1, eu-west-2, us-east-1, us-east-2, us-west-2"

// utcOffset returns the hours that a region is ahead of UTC, which says when its users are awake.
func utcOffset(region string) float64 {
	switch region {
	case "ap-northeast-1", "ap-northeast-2":
		return 9
	case "ap-south-1":
		return 5.5
	case "ap-southeast-1":
		return 8
	case "ap-southeast-2":
		return 10
	case "eu-central-1":
		return 1
	case "ca-central-1", "us-east-1", "us-east-2":
		return -5
	case "us-west-2":
		return -8
	default:
		return 0
	}
}

// What the fleet that the seed defines is made of.
const (
	// The first services have names to remember, and regions to match. At the places of read
	// replicas there is none.
	fleetNames = "orders-eu=eu-west-2,billing=us-east-1,my postgres=us-west-2,oltp=eu-central-1,=," +
		"inventory=us-east-1,users=eu-west-2,web shop=us-east-2,payments=us-east-1,=,catalog-us=us-west-2,sessions=ap-southeast-2"
	fleetSubjects = "orders,billing,users,inventory,payments,catalog,search,events,reports,ledger,auth,shipping,pricing,reviews,loyalty,tickets"
	// An empty qualifier is replaced by the continent.
	fleetQualifiers = ",,,staging,prod,dev,core,v2"
	fleetRegions    = "us-east-1,eu-west-2,us-west-2,eu-central-1,us-east-2,ap-southeast-2,eu-west-1,ap-northeast-1"
	fleetSizes      = "r6gd.medium,r6gd.large,m6gd.large,r8gd.large,c6gd.xlarge,r6gd.medium,r8gd.xlarge,m8gd.2xlarge,i8g.large,r8gd.medium,r8gd.2xlarge,i7ie.xlarge"
	fleetTeams      = "checkout,platform,growth,data,identity"
	fleetDatabases  = "app,orders,analytics,warehouse,accounts,events,cms,sessions"
)

// member returns service number index of the fleet that the seed defines: a pure function of
// seed, index and epoch, whatever was made or deleted meanwhile.
func (c *Config) member(index int) *service {
	key := hash(c.Seed, "service "+strconv.Itoa(index))
	v := &service{
		id: uuid(key), key: key, index: index, primary: true, version: "18", haType: defaultHAType,
		region: pick(fleetRegions, hash(key, "region")),
		size:   pick(fleetSizes, hash(key, "size")),
	}
	if first := strings.Split(fleetNames, ","); index < len(first) {
		v.name, v.region, _ = strings.Cut(first[index], "=")
	} else {
		h := hash(key, "name")
		qualifier := pick(fleetQualifiers, h>>20)
		if qualifier == "" {
			qualifier, _, _ = strings.Cut(v.region, "-")
		}
		v.name = fmt.Sprintf("%s-%s-%d", pick(fleetSubjects, h), qualifier, index)
	}
	if hash(key, "version")%4 == 0 {
		v.version = "17"
	}
	switch hash(key, "ha") % 4 {
	case 0:
		v.haType = "async"
	case 1:
		v.haType = "sync"
	}
	switch hash(key, "tags") % 4 {
	case 0:
	case 1:
		v.tags = []Tag{{Key: "Environment", Value: "production"}}
	case 2:
		v.tags = []Tag{{Key: "Environment", Value: "staging"}, {Key: "team", Value: pick(fleetTeams, hash(key, "team"))}}
	case 3:
		v.tags = []Tag{{Key: "Environment", Value: "production"}, {Key: "team", Value: pick(fleetTeams, hash(key, "team"))}, {Key: "pii"}}
	}
	v.createdAt = c.Epoch.Add(-24*time.Hour - time.Duration(unit(hash(key, "created"))*400*24*float64(time.Hour))).Truncate(time.Second)
	if index%5 == 4 { // a read replica of the one before, which is never a replica itself
		parent := c.member(index - 1)
		v.name, v.region, v.size, v.version = parent.name+"-replica", parent.region, parent.size, parent.version
		v.haType, v.primary = defaultHAType, false
		v.createdAt = parent.createdAt.Add(time.Hour)
	}
	v.boot = v.createdAt.Add(time.Duration(unit(hash(key, "boot")) * float64(c.Epoch.Sub(v.createdAt)))).Truncate(time.Second)

	state, share := stateRunning, unit(hash(key, "state"))
	for _, name := range slices.Sorted(maps.Keys(c.States)) {
		if share -= c.States[name]; share < 0 {
			state = name
			break
		}
	}
	v.phases = []phase{{v.createdAt, state}}
	v.complete()
	return v
}

// complete fills what follows from the rest of a new record.
func (v *service) complete() {
	v.spec, _ = machineOf(v.size)
	if v.password == "" {
		v.password = newPassword(hash(v.key, "password"))
	}
	if len(v.pgConfig) == 0 {
		connections := min(100*v.spec.cores, 1000)
		v.pgConfig = map[string]any{"max_connections": strconv.Itoa(connections)}
		if v.key%2 == 0 { // upstream answers with either
			v.pgConfig["max_connections"] = connections
		}
	}
	if len(v.bouncerConfig) == 0 {
		v.bouncerConfig = map[string]any{"default_pool_size": "16"}
	}
	v.maxConnections = maxConnections(v.pgConfig, v.spec)
	v.profile = newProfile(v.key, v.region, v.primary)
}

// maxConnections reads the setting as given, a number or a string.
func maxConnections(pgConfig map[string]any, spec machine) int {
	if n, err := strconv.Atoi(fmt.Sprint(pgConfig["max_connections"])); err == nil && n > 0 {
		return n
	}
	return min(100*spec.cores, 1000)
}

// hash mixes a number and a name into a number that shares no pattern with either: FNV-1a,
// finished as in SplitMix64.
func hash(seed uint64, name string) uint64 {
	h := seed ^ 0xcbf29ce484222325
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 0x100000001b3
	}
	return mix(h)
}

func mix(h uint64) uint64 {
	h += 0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// unit maps a hash into [0,1).
func unit(h uint64) float64 { return float64(h>>11) / (1 << 53) }

// pick returns one of some words that commas separate.
func pick(words string, h uint64) string {
	of := strings.Split(words, ",")
	return of[h%uint64(len(of))]
}

// uuid returns a well-formed UUID of the custom version 8, as the API's service ids are.
func uuid(key uint64) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], hash(key, "id"))
	binary.BigEndian.PutUint64(b[8:], hash(key, "id, second half"))
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func base36(h uint64, n int) string { return letters("0123456789abcdefghijklmnopqrstuvwxyz", h, n) }

func base62(h uint64, n int) string {
	return letters("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", h, n)
}

func letters(of string, h uint64, n int) string {
	b := make([]byte, n)
	for i := range b {
		h = mix(h)
		b[i] = of[h%uint64(len(of))]
	}
	return string(b)
}

// newPassword returns a password that satisfies the API's own rules.
func newPassword(h uint64) string { return "v" + base62(h, 18) + "Z7" }

// seconds is t as the values see it.
func seconds(t time.Time) float64 {
	return float64(t.Unix()) + float64(t.Nanosecond())/1e9
}
