package simulator

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
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

	// DefaultRateLimit and DefaultRateWindow are what the API documents. They are no default of
	// Config, whose zero RateLimit is none.
	DefaultRateLimit  = 10
	DefaultRateWindow = 10 * time.Second
)

// Config is the organization to simulate. The zero value is an organization without services
// and without rate limit, refreshed once a minute.
type Config struct {
	// OrganizationID is a UUID. It and the next three follow from Seed when empty.
	OrganizationID, OrganizationName string
	// KeyID and KeySecret are the first API key, which may do everything. See also AddKey.
	KeyID, KeySecret string

	// Services is how many there are at first.
	Services int
	// Seed determines the fleet and all its values.
	Seed uint64
	// ServicesQuota is how many services the organization may have, as its quotas tell; nothing
	// is refused above it. Zero: twice as many as Services, and at least 20.
	ServicesQuota int
	// FillDisks lets two disks of every dozen services of the fleet fill up within the hour, again
	// and again: one until there is so little space that upstream lets its service only read,
	// another until it is replaced by a larger one. All others are healthy for years.
	FillDisks bool
	// States are shares, by state, of services that are in another state than running from the
	// first: {"stopped": 0.1} stops about one in ten.
	States map[string]float64
	// Epoch is when the first fleet is complete: all of it was created, and began to count,
	// before. By default that is the start of the year (UTC) in which New is called, so that
	// simulators started in the same year agree.
	Epoch time.Time
	// OmitStorageSize leaves storageSize, which is deprecated, out of every answer.
	OmitStorageSize bool

	// RefreshInterval is how often metrics change; asked sooner, they are the same, byte for
	// byte. Refreshes are at multiples of it since 1970, plus Phase. An interval that is not
	// quite the caller's drifts against it.
	RefreshInterval, Phase time.Duration

	// RateLimit is how many requests a key may make in any RateWindow (10 s when zero). Zero or
	// less: any number.
	RateLimit  int
	RateWindow time.Duration

	// OrgMetricsLimit is how many services the organization-wide metrics page can hold: 100 when
	// zero, any number when less. CapMode says what happens above.
	OrgMetricsLimit int
	CapMode         CapMode

	// How long a service is creating, restarting and deleting. Less than zero: no time at all.
	CreateDelay, RestartDelay, DeleteDelay time.Duration
	// BackupDelay is how long after it runs a service has its first backup, ChangeDelay how long
	// a change of size or haType is queued. Less than zero: no time at all.
	BackupDelay, ChangeDelay time.Duration

	// LogSize is how many requests Requests remembers.
	LogSize int

	// Now is the clock, time.Now when nil. Latency and slow bodies take real time all the same.
	Now func() time.Time
}

// withDefaults returns c with everything filled in.
func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	c.OrganizationID = cmp.Or(c.OrganizationID, uuid(hash(c.Seed, "organization")))
	c.OrganizationName = cmp.Or(c.OrganizationName, "Simulated organization")
	c.KeyID = cmp.Or(c.KeyID, base62(hash(c.Seed, "key id"), 20))
	c.KeySecret = cmp.Or(c.KeySecret, "4b1d"+base62(hash(c.Seed, "key secret"), 38))
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

// Key is an API key.
type Key struct {
	ID, Secret string
	// Name is what the API calls it: ID when empty.
	Name string
	// Deny are the endpoints, by the names in Request.Endpoint, that answer this key 403. "*"
	// is all of them.
	Deny []string
	// Services are the ids of the only services that the key may see; none means all. Such a key
	// may not ask for the organization, its quotas and its metrics, nor create services.
	Services []string
}

func (k *Key) denies(endpoint string) bool {
	switch endpoint {
	case endpointOrganization, endpointQuotas, endpointOrganizationMetrics, endpointRestore, endpointReplica:
		if len(k.Services) > 0 {
			return true
		}
	}
	return slices.Contains(k.Deny, endpoint) || slices.Contains(k.Deny, "*")
}

func (k *Key) sees(id string) bool {
	return len(k.Services) == 0 || slices.Contains(k.Services, id)
}

// Simulator is one organization and its API. It is an http.Handler, safe for concurrent use,
// and starts no goroutine: everything that happens by itself is a function of the time.
type Simulator struct {
	config Config // all but Phase, which mu guards, is constant
	routes []route

	mu           sync.Mutex
	keys         map[string]Key
	fleet        fleet
	limiter      limiter
	views        []*view          // captured, oldest first
	latestPage   organizationPage // of the latest view
	noTickBefore time.Time
	requestIDs   uint64
	faults       []*fault
	faultDraws   uint64
	log          requestLog

	authority func() ([]byte, error) // the certificate in PEM, made once
}

// New returns a simulator of the organization that config describes.
func New(config Config) *Simulator {
	config = config.withDefaults()
	s := &Simulator{
		config:  config,
		routes:  newRoutes(),
		keys:    map[string]Key{config.KeyID: {ID: config.KeyID, Secret: config.KeySecret}},
		limiter: limiter{limit: config.RateLimit, window: config.RateWindow},
		log:     requestLog{size: config.LogSize},
	}
	s.authority = sync.OnceValues(func() ([]byte, error) { return certificate(config.Seed, config.Epoch) })
	s.fleet.resize(config.Services, config.member)
	return s
}

// Config returns the configuration, with all defaults filled in.
func (s *Simulator) Config() Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.config
	c.States = maps.Clone(c.States)
	c.RateLimit, c.RateWindow = s.limiter.limit, s.limiter.window
	return c
}

// Services returns the services as they are now, in order of creation.
func (s *Simulator) Services() []Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.config.Now()
	live := s.fleet.live(now)
	all := make([]Service, len(live))
	for i, v := range live {
		all[i] = v.snapshot(now)
	}
	return all
}

// Service returns one service as it is now.
func (s *Simulator) Service(id string) (Service, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.config.Now()
	v, ok := s.fleet.get(id, now)
	if !ok || v.stateAt(now) == stateGone {
		return Service{}, false
	}
	return v.snapshot(now), true
}

// Resize makes the fleet n services large, besides those created through the API. The youngest
// go, at once; what comes was never there before. Metrics follow at the next refresh.
func (s *Simulator) Resize(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.capture(s.config.Now())
	s.fleet.resize(n, s.config.member)
}

// change replaces a service by what alter makes of a copy. It is false for an unknown id.
func (s *Simulator) change(id string, alter func(v *service, now time.Time)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.config.Now()
	s.capture(now)
	old, ok := s.fleet.get(id, now)
	if !ok || old.stateAt(now) == stateGone {
		return false
	}
	v := *old
	alter(&v, now)
	s.fleet.put(&v)
	return true
}

// Rename gives a service any name, also one that the API would refuse or that another one has.
// Like all that change one service, it returns false when there is no such service, shows in
// the list at once and in metrics at the next refresh.
func (s *Simulator) Rename(id, name string) bool {
	return s.change(id, func(v *service, _ time.Time) { v.name = name })
}

// SetState puts a service into any state, also one that the API does not document, until
// further notice. Counters begin anew when a service becomes running that was not. One that
// is creating was created now, and has no backup.
func (s *Simulator) SetState(id, state string) bool {
	return s.change(id, func(v *service, now time.Time) {
		if state == stateRunning && !v.running(now) {
			v.boot = now
		}
		switch {
		case state == stateCreating:
			v.createdAt, v.firstBackup = now.UTC().Truncate(time.Second), time.Time{}
		case state == stateRunning && v.primary && v.firstBackup.IsZero():
			v.firstBackup = now.Add(s.config.BackupDelay)
		}
		v.phases, v.queued = []phase{{now, state}}, nil
	})
}

// SetTags replaces the tags of a service, by any that are given.
func (s *Simulator) SetTags(id string, tags ...Tag) bool {
	return s.change(id, func(v *service, _ time.Time) { v.tags = slices.Clone(tags) })
}

// SetSize gives a service another machine, without a restart. An unknown size has one core.
func (s *Simulator) SetSize(id, size string) bool {
	return s.change(id, func(v *service, _ time.Time) {
		v.size, v.queued = size, nil
		if spec, ok := machineOf(size); ok {
			v.spec = spec
		} else {
			v.spec = machine{cores: 1, memoryGiB: 8, storageGiB: 59}
		}
	})
}

// SetFreeDisk leaves so many bytes of a service's disk free, until further notice. Metrics tell
// it as a percentage with two digits after the point. 0 lets it be as before.
func (s *Simulator) SetFreeDisk(id string, bytes float64) bool {
	return s.change(id, func(v *service, _ time.Time) { v.freeDisk = bytes })
}

// StopBackups lets all further backups of a service fail.
func (s *Simulator) StopBackups(id string) bool {
	return s.change(id, func(v *service, now time.Time) { v.backupsEnd = now })
}

// Delete removes a service at once, as if its deletion had come to an end.
func (s *Simulator) Delete(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.config.Now()
	s.capture(now)
	v, ok := s.fleet.get(id, now)
	if !ok || v.stateAt(now) == stateGone {
		return false
	}
	s.fleet.keep(func(v *service) bool { return v.id != id })
	return true
}

// ResetCounters lets the counters of some services, or of all when none is named, begin anew
// at the next refresh, as a failover does that nobody announced.
func (s *Simulator) ResetCounters(ids ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.config.Now()
	s.capture(now)
	for _, old := range s.fleet.live(now) {
		if len(ids) == 0 || slices.Contains(ids, old.id) {
			v := *old
			v.boot = now
			s.fleet.put(&v)
		}
	}
}

// Refresh lets metrics show the fleet as it is now, before its time. Values stay those of the
// last refresh that was due.
func (s *Simulator) Refresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.config.Now()
	s.remember(&view{tick: s.tick(now), asOf: now})
}

// SetPhase moves the moment of the refreshes. What has been served is never taken back: until
// the first refresh of the new phase, the last one of the old holds.
func (s *Simulator) SetPhase(phase time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noTickBefore = s.capture(s.config.Now()).tick
	s.config.Phase = phase
}

// SetRateLimit changes the limit of every key: n requests in any window, none when n is 0.
func (s *Simulator) SetRateLimit(n int, window time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limiter.limit, s.limiter.window = n, window
}

// AddKey adds an API key, or replaces the one of the same id. Each has a rate limit of its own.
func (s *Simulator) AddKey(k Key) {
	k.Deny, k.Services = slices.Clone(k.Deny), slices.Clone(k.Services)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[k.ID] = k
}

// RevokeKey makes a key invalid: 401 from now on.
func (s *Simulator) RevokeKey(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, id)
}

// RotateKey makes this pair the only one that is valid, with all permissions.
func (s *Simulator) RotateKey(id, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.keys)
	s.keys[id] = Key{ID: id, Secret: secret}
}

// Request is one request that the simulator has received.
type Request struct {
	Time         time.Time
	Method, Path string
	// Endpoint is organizations, organization, quotas, whoami, services, service, service_config, service_backups,
	// organization_metrics, service_metrics, or for what only people and other clients call:
	// service_state, service_password, service_replica, service_restore, service_certificates,
	// service_timeseries, service_slow_queries. It is "unknown" for other paths.
	Endpoint  string
	ServiceID string // "" where the path has none
	KeyID     string // as sent, valid or not
	Status    int    // 0 when no answer was given
	Fault     string // name of the fault that applied to it, or ""
	UserAgent string
}

// requestLog is a ring of the last requests, and counts of all. The caller locks.
type requestLog struct {
	size   int
	ring   []Request
	next   int
	counts map[requestKind]int
}

type requestKind struct {
	endpoint string
	status   int
}

func (l *requestLog) add(r Request) {
	if l.counts == nil {
		l.counts = make(map[requestKind]int)
	}
	l.counts[requestKind{r.Endpoint, r.Status}]++
	if len(l.ring) < l.size {
		l.ring = append(l.ring, r)
		return
	}
	l.ring[l.next] = r
	l.next = (l.next + 1) % l.size
}

// Requests returns the last requests (Config.LogSize), oldest first. A request is there before
// the first byte of its answer is sent.
func (s *Simulator) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Concat(s.log.ring[s.log.next:], s.log.ring[:s.log.next])
}

// Count returns how many requests there were since the start, or since ResetRequests, to an
// endpoint and with a status. "" is any endpoint and -1 any status.
func (s *Simulator) Count(endpoint string, status int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var n int
	for kind, count := range s.log.counts {
		if (endpoint == "" || endpoint == kind.endpoint) && (status == -1 || status == kind.status) {
			n += count
		}
	}
	return n
}

// ResetRequests forgets all requests. The rate limit does not.
func (s *Simulator) ResetRequests() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = requestLog{size: s.log.size}
}

// ServeHTTP answers a request as the API would.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := s.receive(w, r)
	answer, fault := s.answer(c)
	s.send(w, c, answer, fault)
}
