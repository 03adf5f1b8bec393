package simulator

import (
	"bytes"
	"crypto/ed25519"
	"crypto/subtle"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	jsonContentType  = "application/json; charset=utf-8"
	maxRequestBody   = 1 << 20
	gzipFrom         = 1024 // bytes; shorter answers are not worth it
	maxTimePoints    = 250
	createdAtFormat  = "2006-01-02T15:04:05-07:00"
	authenticateWith = `Basic realm="ClickHouse Cloud API"`
)

// Names of endpoints, in Request, Fault and Key.
const (
	endpointOrganizations       = "organizations"
	endpointServices            = "services"
	endpointService             = "service"
	endpointConfig              = "service_config"
	endpointOrganizationMetrics = "organization_metrics"
	endpointServiceMetrics      = "service_metrics"
	endpointState               = "service_state"
	endpointPassword            = "service_password"
	endpointReplica             = "service_replica"
	endpointRestore             = "service_restore"
	endpointCertificates        = "service_certificates"
	endpointTimeSeries          = "service_timeseries"
	endpointSlowQueries         = "service_slow_queries"
	endpointUnknown             = "unknown"
)

// call is one request on its way through the simulator.
type call struct {
	*http.Request
	now       time.Time
	requestID string
	route     *route
	org, id   string // from the path
	key       Key
	body      []byte
}

// answer is what would be sent if nothing went wrong on the way.
type answer struct {
	status      int
	contentType string
	header      http.Header
	body        []byte
	// draw returns the body and gzip the body compressed, where they are shared by many answers.
	draw, gzip func() []byte
}

// A refusal is an answer in the form of an error. Its text is for the client to read.
type refusal struct {
	status  int
	message string
	header  http.Header
}

func (r *refusal) Error() string { return r.message }

func badRequest(format string, args ...any) error {
	return &refusal{status: http.StatusBadRequest, message: "BAD_REQUEST: " + fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) error {
	return &refusal{status: http.StatusNotFound, message: "NOT_FOUND: " + fmt.Sprintf(format, args...)}
}

// handler answers a call that is authorized, within the rate limit, and about this
// organization. Under the lock, it returns a result for the envelope, nil for none, or an
// answer of its own.
type handler func(*Simulator, *call) (any, error)

type route struct {
	endpoint string
	pattern  []string // segments; {org}, {id} and {query} match any
	methods  map[string]handler
}

func newRoutes() []route {
	const organizations, postgres, id = "v1/organizations", "v1/organizations/{org}/postgres", "v1/organizations/{org}/postgres/{id}"
	var all []route
	add := func(path, endpoint string, methods map[string]handler) {
		all = append(all, route{endpoint, strings.Split(path, "/"), methods})
	}
	add(organizations, endpointOrganizations, map[string]handler{"GET": (*Simulator).listOrganizations})
	add(postgres, endpointServices, map[string]handler{"GET": (*Simulator).listServices, "POST": (*Simulator).createService})
	add(postgres+"/prometheus", endpointOrganizationMetrics, map[string]handler{"GET": (*Simulator).organizationMetrics})
	add(id, endpointService, map[string]handler{"GET": (*Simulator).getService, "PATCH": (*Simulator).patchService, "DELETE": (*Simulator).deleteService})
	add(id+"/prometheus", endpointServiceMetrics, map[string]handler{"GET": (*Simulator).serviceMetrics})
	add(id+"/config", endpointConfig, map[string]handler{"GET": (*Simulator).getConfig, "POST": (*Simulator).replaceConfig, "PATCH": (*Simulator).patchConfig})
	add(id+"/state", endpointState, map[string]handler{"PATCH": (*Simulator).commandState})
	add(id+"/password", endpointPassword, map[string]handler{"PATCH": (*Simulator).setPassword})
	add(id+"/readReplica", endpointReplica, map[string]handler{"POST": (*Simulator).createReplica})
	add(id+"/restoredService", endpointRestore, map[string]handler{"POST": (*Simulator).restoreService})
	add(id+"/caCertificates", endpointCertificates, map[string]handler{"GET": (*Simulator).getCertificates})
	add(id+"/metrics", endpointTimeSeries, map[string]handler{"GET": (*Simulator).timeSeries})
	add(id+"/slowQueryPatterns", endpointSlowQueries, map[string]handler{"GET": (*Simulator).slowQueries})
	add(id+"/slowQueryPatterns/{query}", endpointSlowQueries, map[string]handler{"GET": (*Simulator).slowQueries})
	return all
}

// match finds the route of a path, and fills what the path names.
func (s *Simulator) match(c *call) *route {
	segments := strings.Split(strings.TrimPrefix(c.URL.Path, "/"), "/")
	for i := range s.routes {
		r := &s.routes[i]
		if len(r.pattern) != len(segments) {
			continue
		}
		var org, id string
		if slices.EqualFunc(r.pattern, segments, func(pattern, segment string) bool {
			switch pattern {
			case "{org}":
				org = segment
			case "{id}":
				id = segment
			case "{query}":
			default:
				return pattern == segment
			}
			return segment != ""
		}) {
			c.org, c.id = org, id
			return r
		}
	}
	return &route{endpoint: endpointUnknown}
}

// receive reads a request. It holds no lock, for a body may be slow to come.
func (s *Simulator) receive(w http.ResponseWriter, r *http.Request) *call {
	c := &call{Request: r}
	c.route = s.match(c)
	var err error
	if c.body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequestBody)); err != nil {
		c.body = nil
	}
	return c
}

// answer decides on a call, and which fault befalls it. The order is that of a gateway in
// front of a service: who asks, how often, and then what.
func (s *Simulator) answer(c *call) (answer, *fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.now = s.config.Now()
	s.requestIDs++
	c.requestID = requestID(hash(s.config.Seed, "request "+strconv.FormatUint(s.requestIDs, 10)))

	a, err := answer{}, s.admit(c)
	var f *fault
	if err == nil {
		if f = s.strike(c); f != nil && f.replaces() {
			a, err = f.replacement(c)
		} else {
			a, err = s.handle(c)
		}
	}
	if err != nil {
		a = errorAnswer(c, err)
	}
	logged := Request{
		Time: c.now, Method: c.Method, Path: c.URL.Path, Endpoint: c.route.endpoint,
		ServiceID: c.id, Status: a.status, UserAgent: c.UserAgent(),
	}
	logged.KeyID, _, _ = c.BasicAuth()
	if f != nil {
		logged.Fault = f.Name
		if f.silent() {
			logged.Status = 0
		}
	}
	s.log.add(logged)
	return a, f
}

// admit checks who asks and how often. A request without a valid key counts for no limit.
func (s *Simulator) admit(c *call) error {
	id, secret, ok := c.BasicAuth()
	key, known := s.keys[id]
	if !ok || !known || subtle.ConstantTimeCompare([]byte(secret), []byte(key.Secret)) != 1 {
		return &refusal{
			status: http.StatusUnauthorized, message: "UNAUTHORIZED: the API key is not valid",
			header: http.Header{"Www-Authenticate": {authenticateWith}},
		}
	}
	c.key = key
	if wait, ok := s.limiter.take(id, c.now); !ok {
		return tooManyRequests(s.limiter.limit, s.limiter.window, wait)
	}
	return nil
}

func tooManyRequests(limit int, window, wait time.Duration) error {
	// Rounded up: who waits that long is not refused again.
	reset := (wait + time.Millisecond - 1).Truncate(time.Millisecond).Seconds()
	return &refusal{
		status:  http.StatusTooManyRequests,
		message: fmt.Sprintf("TOO_MANY_REQUESTS: more than %d requests in %v", limit, window),
		header: http.Header{
			"X-Ratelimit-Limit":     {strconv.Itoa(limit)},
			"X-Ratelimit-Remaining": {"0"},
			"X-Ratelimit-Reset":     {strconv.FormatFloat(reset, 'f', -1, 64)},
		},
	}
}

// handle answers a call that was admitted.
func (s *Simulator) handle(c *call) (answer, error) {
	if c.route.methods == nil {
		return answer{}, notFound("no such path: %.200s", c.URL.Path)
	}
	handle, ok := c.route.methods[c.Method]
	if !ok {
		allow := strings.Join(slices.Sorted(maps.Keys(c.route.methods)), ", ")
		return answer{}, &refusal{
			status:  http.StatusMethodNotAllowed,
			message: fmt.Sprintf("METHOD_NOT_ALLOWED: %.20s is not possible here, only %s", c.Method, allow),
			header:  http.Header{"Allow": {allow}},
		}
	}
	if c.key.denies(c.route.endpoint) {
		return answer{}, &refusal{status: http.StatusForbidden, message: "FORBIDDEN: the API key is not allowed to do this"}
	}
	for _, check := range []struct{ name, value string }{{"organizationId", c.org}, {"postgresId", c.id}} {
		if check.value != "" && !uuidPattern.MatchString(check.value) {
			return answer{}, badRequest("%s must be a UUID", check.name)
		}
	}
	if c.org != "" && !strings.EqualFold(c.org, s.config.OrganizationID) {
		return answer{}, notFound("no organization %s that this API key belongs to", c.org)
	}
	if c.Method != http.MethodGet && c.Method != http.MethodDelete {
		if err := c.checkBody(); err != nil {
			return answer{}, err
		}
	}
	result, err := handle(s, c)
	if err != nil {
		return answer{}, err
	}
	if a, ok := result.(answer); ok {
		return a, nil
	}
	return envelope(c, result), nil
}

func (c *call) checkBody() error {
	if c.body == nil {
		return &refusal{
			status:  http.StatusRequestEntityTooLarge,
			message: fmt.Sprintf("PAYLOAD_TOO_LARGE: the request body must be whole, and at most %d bytes", maxRequestBody),
		}
	}
	mediaType, _, _ := mime.ParseMediaType(c.Header.Get("Content-Type"))
	if mediaType == "application/json" || c.Method == http.MethodPatch && mediaType == "application/merge-patch+json" {
		return nil
	}
	return badRequest("Content-Type must be application/json")
}

func envelope(c *call, result any) answer {
	return jsonAnswer(http.StatusOK, nil, struct {
		Result    any    `json:"result,omitempty"`
		RequestID string `json:"requestId"`
		Status    int    `json:"status"`
	}{result, c.requestID, http.StatusOK})
}

func errorAnswer(c *call, err error) answer {
	status, header := http.StatusInternalServerError, http.Header(nil)
	var r *refusal
	if errors.As(err, &r) {
		status, header = r.status, r.header
	}
	return jsonAnswer(status, header, struct {
		Error     string `json:"error"`
		RequestID string `json:"requestId"`
		Status    int    `json:"status"`
	}{err.Error(), c.requestID, status})
}

func jsonAnswer(status int, header http.Header, v any) answer {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	// What is encoded are this package's own structs of strings and numbers: it cannot fail.
	_ = enc.Encode(v)
	return answer{status: status, contentType: jsonContentType, header: header, body: b.Bytes()}
}

// requestID returns a UUID of version 4, which is what the API sends.
func requestID(h uint64) string {
	id := []byte(uuid(h))
	id[14] = '4'
	return string(id)
}

type organizationJSON struct {
	ID               string `json:"id"`
	CreatedAt        string `json:"createdAt"`
	Name             string `json:"name"`
	PrivateEndpoints []any  `json:"privateEndpoints"`
	ByocConfig       []any  `json:"byocConfig"`
}

func (s *Simulator) listOrganizations(*call) (any, error) {
	return []organizationJSON{{
		ID:               s.config.OrganizationID,
		CreatedAt:        s.config.Epoch.AddDate(-2, 0, 0).UTC().Format(time.RFC3339),
		Name:             s.config.OrganizationName,
		PrivateEndpoints: []any{},
		ByocConfig:       []any{},
	}}, nil
}

// serviceJSON is a service in a list. The fields that only one service's own answer has are
// pointers, so that they can be absent.
type serviceJSON struct {
	ID               string    `json:"id"`
	Name             string    `json:"name"`
	Provider         string    `json:"provider"`
	Region           string    `json:"region"`
	PostgresVersion  string    `json:"postgresVersion"`
	Size             string    `json:"size"`
	StorageSize      int       `json:"storageSize,omitempty"`
	HAType           string    `json:"haType"`
	Tags             []tagJSON `json:"tags"`
	ConnectionString string    `json:"connectionString,omitempty"`
	Username         string    `json:"username,omitempty"`
	Password         string    `json:"password,omitempty"`
	Hostname         string    `json:"hostname,omitempty"`
	IsPrimary        bool      `json:"isPrimary"`
	State            string    `json:"state"`
	CreatedAt        string    `json:"createdAt"`
}

type tagJSON struct {
	Key   string `json:"key"`
	Value string `json:"value,omitempty"`
}

func (s *Simulator) listed(v *service, now time.Time) serviceJSON {
	j := serviceJSON{
		ID: v.id, Name: v.name, Provider: provider, Region: v.region, PostgresVersion: v.version, Size: v.size,
		StorageSize: v.spec.storageGiB, HAType: v.haType, Tags: make([]tagJSON, len(v.tags)),
		IsPrimary: v.primary, State: v.stateAt(now), CreatedAt: v.createdAt.UTC().Format(createdAtFormat),
	}
	if s.config.OmitStorageSize {
		j.StorageSize = 0
	}
	for i, t := range v.tags {
		j.Tags[i] = tagJSON(t)
	}
	return j
}

func (s *Simulator) detailed(v *service, now time.Time) serviceJSON {
	j := s.listed(v, now)
	j.Username, j.Hostname = username, v.hostname()
	return j
}

func (s *Simulator) listServices(c *call) (any, error) {
	list := []serviceJSON{}
	for _, v := range s.fleet.live(c.now) {
		if c.key.sees(v.id) {
			list = append(list, s.listed(v, c.now))
		}
	}
	return list, nil
}

// service finds the service that the path names.
func (s *Simulator) service(c *call) (*service, error) {
	v, ok := s.fleet.get(strings.ToLower(c.id))
	if !ok || v.stateAt(c.now) == stateGone || !c.key.sees(v.id) {
		return nil, notFound("no Postgres service %s in this organization", c.id)
	}
	return v, nil
}

// changeable finds the service that the path names, to be changed: one that is not on its way
// out. The copy is the caller's, to be put in the fleet.
func (s *Simulator) changeable(c *call) (service, error) {
	v, err := s.service(c)
	if err != nil {
		return service{}, err
	}
	if v.stateAt(c.now) == stateDeleting {
		return service{}, badRequest("the service is being deleted")
	}
	return *v, nil
}

// put makes a change known; see capture.
func (s *Simulator) put(c *call, v *service) {
	s.capture(c.now)
	s.fleet.put(v)
}

// add completes a service that a request creates, and puts it in the fleet.
func (s *Simulator) add(c *call, v *service, states ...string) {
	s.fleet.created++
	v.key = hash(s.config.Seed, "created "+strconv.Itoa(s.fleet.created))
	v.id, v.index = uuid(v.key), -1
	v.createdAt = c.now.UTC().Truncate(time.Second)
	v.boot = c.now.Add(s.config.CreateDelay)
	v.phases = nil
	for i, state := range states {
		v.phases = append(v.phases, phase{c.now.Add(s.config.CreateDelay * time.Duration(i) / time.Duration(len(states))), state})
	}
	v.phases = append(v.phases, phase{v.boot, stateRunning})
	v.complete()
	s.put(c, v)
}

func (s *Simulator) createService(c *call) (any, error) {
	if len(c.key.Services) > 0 {
		return nil, &refusal{status: http.StatusForbidden, message: "FORBIDDEN: the API key is not allowed to do this"}
	}
	d := parseDocument(c.body, "name", "provider", "region", "size", "postgresVersion", "haType", "tags", "pgConfig", "pgBouncerConfig")
	d.require("name", "provider", "region", "size")
	v := &service{primary: true}
	v.name = d.name()
	d.choice("provider", "", provider)
	v.region = d.choice("region", "", regions)
	v.size = d.size()
	v.version = d.choice("postgresVersion", defaultVersion, versions)
	v.haType = d.choice("haType", defaultHAType, haTypes)
	v.tags, v.pgConfig, v.bouncerConfig = d.tags(), d.pgConfig(false), d.bouncerConfig(false)
	if d.err != nil {
		return nil, badRequest("%v", d.err)
	}
	s.add(c, v, stateCreating)
	j := s.detailed(v, c.now)
	j.Password, j.ConnectionString = v.password, v.connectionString()
	return j, nil
}

func (s *Simulator) getService(c *call) (any, error) {
	v, err := s.service(c)
	if err != nil {
		return nil, err
	}
	return s.detailed(v, c.now), nil
}

// patchService applies a JSON merge patch (RFC 7396): what it does not name stays, a list is
// replaced as a whole, and null empties the one field that can be empty.
func (s *Simulator) patchService(c *call) (any, error) {
	v, err := s.changeable(c)
	if err != nil {
		return nil, err
	}
	d := parseDocument(c.body, "name", "size", "haType", "tags")
	if d.has("name") {
		v.name = d.name()
	}
	resized := d.has("size") && d.size() != v.size
	if d.has("size") {
		v.size = d.size()
	}
	v.haType = d.choice("haType", v.haType, haTypes)
	if d.has("tags") {
		v.tags = d.tags()
	}
	if state := v.stateAt(c.now); resized && state != stateRunning {
		d.fail("size can change only while the service is running, and it is %s", state)
	}
	if d.err != nil {
		return nil, badRequest("%v", d.err)
	}
	changed := &v
	if resized { // another machine, which starts with counters of its own
		v.spec, _ = machineOf(v.size)
		changed = v.restart(c.now, s.config.RestartDelay)
	}
	s.put(c, changed)
	return s.detailed(changed, c.now), nil
}

func (s *Simulator) deleteService(c *call) (any, error) {
	v, err := s.changeable(c)
	if err != nil {
		return nil, err
	}
	v.phases = []phase{{c.now, stateDeleting}, {c.now.Add(s.config.DeleteDelay), stateGone}}
	s.put(c, &v)
	return nil, nil
}

func (s *Simulator) commandState(c *call) (any, error) {
	v, err := s.changeable(c)
	if err != nil {
		return nil, err
	}
	d := parseDocument(c.body, "command")
	d.require("command")
	command := d.choice("command", "", commands)
	state := v.stateAt(c.now)
	switch {
	case command == "promote" && v.primary:
		d.fail("command promote is for a read replica, and the service is a primary")
	case command == "switchover" && !v.primary:
		d.fail("command switchover is for a primary, and the service is a read replica")
	case command == "switchover" && v.haType == defaultHAType:
		d.fail("command switchover needs a standby, and haType is %s", defaultHAType)
	case state != stateRunning && (command != "restart" || state != stateUnavailable):
		d.fail("command %s needs a service that is running, and this one is %s", command, state)
	}
	if d.err != nil {
		return nil, badRequest("%v", d.err)
	}
	changed := &v
	switch command {
	case "promote":
		v.primary = true
		v.profile = newProfile(v.key, v.region, true)
		// The replica wrote nothing; what it writes from now on counts from now on.
		v.boot = c.now
	default:
		changed = v.restart(c.now, s.config.RestartDelay)
	}
	s.put(c, changed)
	return s.detailed(changed, c.now), nil
}

func (s *Simulator) setPassword(c *call) (any, error) {
	v, err := s.changeable(c)
	if err != nil {
		return nil, err
	}
	d := parseDocument(c.body, "password")
	password := d.password()
	if d.err != nil {
		return nil, badRequest("%v", d.err)
	}
	var result struct {
		Password string `json:"password,omitempty"`
	}
	if !d.has("password") {
		password = newPassword(hash(hash(v.key, v.password), "next password"))
		result.Password = password
	}
	v.password = password
	s.put(c, &v)
	return result, nil
}

func (s *Simulator) createReplica(c *call) (any, error) {
	parent, err := s.changeable(c)
	if err != nil {
		return nil, err
	}
	d := parseDocument(c.body, "name", "pgConfig", "pgBouncerConfig", "tags")
	d.require("name")
	v := &service{
		name: d.name(), region: parent.region, size: parent.size, version: parent.version, haType: defaultHAType,
		password: parent.password, tags: d.tags(), pgConfig: d.pgConfig(false), bouncerConfig: d.bouncerConfig(false),
	}
	switch state := parent.stateAt(c.now); {
	case !parent.primary:
		d.fail("the service is a read replica itself: use its primary")
	case state != stateRunning:
		d.fail("the service must be running, and is %s", state)
	}
	if d.err != nil {
		return nil, badRequest("%v", d.err)
	}
	s.add(c, v, stateCreating)
	return s.detailed(v, c.now), nil
}

func (s *Simulator) restoreService(c *call) (any, error) {
	source, err := s.changeable(c)
	if err != nil {
		return nil, err
	}
	d := parseDocument(c.body, "name", "restoreTarget", "pgConfig", "pgBouncerConfig", "tags")
	d.require("name", "restoreTarget")
	v := &service{
		name: d.name(), region: source.region, size: source.size, version: source.version, haType: source.haType,
		primary: true, password: source.password,
		tags: d.tags(), pgConfig: d.pgConfig(false), bouncerConfig: d.bouncerConfig(false),
	}
	if target := d.time("restoreTarget"); target.Before(source.createdAt) || target.After(c.now) {
		d.fail("restoreTarget must be between %s, when the service was created, and now", source.createdAt.UTC().Format(time.RFC3339))
	}
	if d.err != nil {
		return nil, badRequest("%v", d.err)
	}
	s.add(c, v, stateRestoringBackup, stateFinalizingRestore)
	return s.detailed(v, c.now), nil
}

type configJSON struct {
	PgConfig        map[string]any `json:"pgConfig"`
	PgBouncerConfig map[string]any `json:"pgBouncerConfig"`
	Message         string         `json:"message,omitempty"`
}

func (s *Simulator) getConfig(c *call) (any, error) {
	v, err := s.service(c)
	if err != nil {
		return nil, err
	}
	return configJSON{PgConfig: v.pgConfig, PgBouncerConfig: v.bouncerConfig}, nil
}

// replaceConfig sets exactly what is given: what is not, has its default again.
func (s *Simulator) replaceConfig(c *call) (any, error) {
	return s.setConfig(c, false)
}

// patchConfig sets what is given besides what is set; null takes a setting away.
func (s *Simulator) patchConfig(c *call) (any, error) {
	return s.setConfig(c, true)
}

func (s *Simulator) setConfig(c *call, patch bool) (any, error) {
	v, err := s.changeable(c)
	if err != nil {
		return nil, err
	}
	d := parseDocument(c.body, "pgConfig", "pgBouncerConfig")
	d.require("pgConfig", "pgBouncerConfig")
	postgres, bouncer := d.pgConfig(patch), d.bouncerConfig(patch)
	if d.err != nil {
		return nil, badRequest("%v", d.err)
	}
	if patch {
		postgres, bouncer = merge(v.pgConfig, postgres), merge(v.bouncerConfig, bouncer)
	}
	var restart []string
	for name := range merge(v.pgConfig, postgres) {
		if s, _ := settingOf(name); s.restart && text(postgres[name]) != text(v.pgConfig[name]) {
			restart = append(restart, name)
		}
	}
	v.pgConfig, v.bouncerConfig = postgres, bouncer
	s.put(c, &v)
	result := configJSON{PgConfig: postgres, PgBouncerConfig: bouncer}
	if len(restart) > 0 {
		slices.Sort(restart)
		result.Message = "The changes in the following parameters require a database restart to take effect: " +
			strings.Join(restart, ", ") + ". You can restart the database by using the restart endpoint."
	}
	return result, nil
}

// text is a setting as Postgres sees it, whether it came as a string or as a number.
func text(value any) string {
	if value == nil {
		return ""
	}
	return fmt.Sprint(value)
}

func merge(config, patch map[string]any) map[string]any {
	merged := make(map[string]any, len(config)+len(patch))
	maps.Copy(merged, config)
	maps.Copy(merged, patch)
	maps.DeleteFunc(merged, func(_ string, v any) bool { return v == nil })
	return merged
}

func (s *Simulator) organizationMetrics(c *call) (any, error) {
	v := s.capture(c.now)
	if s.rejects(v) {
		return nil, badRequest("the organization has %d Postgres services, and this endpoint supports at most %d", len(v.services), s.config.OrgMetricsLimit)
	}
	d := s.drawing
	// Drawing ten thousand services takes a while: not under the lock, and not twice.
	return answer{status: http.StatusOK, contentType: metricsContentType, gzip: d.gzip, draw: d.page}, nil
}

func (s *Simulator) serviceMetrics(c *call) (any, error) {
	v, err := s.service(c)
	if err != nil {
		return nil, err
	}
	a := answer{status: http.StatusOK, contentType: metricsContentType}
	refresh := s.capture(c.now)
	// One that was created since the last refresh has nothing to report yet: an empty page.
	if i := slices.IndexFunc(refresh.services, func(r *service) bool { return r.id == v.id }); i >= 0 {
		a.body = appendPage(nil, s.config.OrganizationID, refresh.services[i:i+1], refresh.tick, refresh.asOf)
	}
	return a, nil
}

func (s *Simulator) getCertificates(c *call) (any, error) {
	if _, err := s.service(c); err != nil {
		return nil, err
	}
	pem, err := s.authority()
	if err != nil {
		return nil, fmt.Errorf("make the certificate: %w", err)
	}
	return answer{
		status: http.StatusOK, contentType: "application/x-pem-file", body: pem,
		header: http.Header{"Content-Disposition": {`attachment; filename="postgres-ca-certificate.pem"`}},
	}, nil
}

// certificate returns a self-signed certificate whose key nobody has.
func certificate(seed uint64, from time.Time) ([]byte, error) {
	var b [ed25519.SeedSize]byte
	copy(b[:], base62(hash(seed, "authority"), len(b)))
	key := ed25519.NewKeyFromSeed(b[:])
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "Simulated Postgres CA"},
		NotBefore:             from.AddDate(-2, 0, 0),
		NotAfter:              from.AddDate(20, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

type timeSeriesJSON struct {
	Key         string           `json:"key"`
	Name        string           `json:"name"`
	Unit        string           `json:"unit"`
	Description string           `json:"description"`
	Series      []labelledPoints `json:"series"`
}

type labelledPoints struct {
	Label      string      `json:"label"`
	DataPoints []dataPoint `json:"dataPoints"`
}

type dataPoint struct {
	Timestamp int64   `json:"timestamp"`
	Value     float64 `json:"value"`
}

// timeSeries answers for charts, of a few metrics, from the same functions as the pages.
func (s *Simulator) timeSeries(c *call) (any, error) {
	v, err := s.service(c)
	if err != nil {
		return nil, err
	}
	var from, to time.Time
	for name, t := range map[string]*time.Time{"from_date": &from, "to_date": &to} {
		if *t, err = time.Parse(time.RFC3339, c.URL.Query().Get(name)); err != nil {
			return nil, badRequest("%s must be a time such as 2026-03-31T18:17:37Z", name)
		}
	}
	window := int64(to.Sub(from).Seconds())
	if window <= 0 {
		return nil, badRequest("to_date must be after from_date")
	}
	bucket := max((window/maxTimePoints+60)/60*60, 60)
	if given := c.URL.Query().Get("bucket_size_seconds"); given != "" {
		if bucket, err = strconv.ParseInt(given, 10, 64); err != nil || bucket < 1 {
			return nil, badRequest("bucket_size_seconds must be a whole number of at least 1")
		}
	}
	if (window+bucket-1)/bucket > maxTimePoints {
		return nil, badRequest("bucket_size_seconds must be at least %d for this window, for at most %d points", (window+maxTimePoints-1)/maxTimePoints, maxTimePoints)
	}
	points := func(value func(*[seriesPerService]float64) float64) []dataPoint {
		all := []dataPoint{}
		for at := from; at.Before(to) && !at.After(c.now); at = at.Add(time.Duration(bucket) * time.Second) {
			if at.Before(v.boot) || !v.running(at) {
				continue
			}
			var values [seriesPerService]float64
			v.values(at, &values)
			all = append(all, dataPoint{at.Unix(), value(&values)})
		}
		return all
	}
	gauge := func(family string, i int) []dataPoint {
		return points(func(values *[seriesPerService]float64) float64 { return values[firstValue(family)+i] })
	}
	connections := []labelledPoints{}
	for i, state := range []string{"active", "idle", "idle in transaction"} {
		connections = append(connections, labelledPoints{state, gauge("PostgresServer_ActiveConnections", i)})
	}
	single := func(family string) []labelledPoints { return []labelledPoints{{"", gauge(family, 0)}} }
	return struct {
		Metrics []timeSeriesJSON `json:"metrics"`
	}{[]timeSeriesJSON{
		{"memory_usage", "Memory usage", "%", "Share of the memory in use.", single("PostgresServer_MemoryUsedPercent")},
		{"disk_usage", "Disk usage", "%", "Share of the storage in use.", single("PostgresServer_FilesystemUsedPercent")},
		{"connection_count", "Connections", "count", "Connections by state.", connections},
		{"cache_hit_ratio", "Cache hit ratio", "%", "Share of blocks that were found in the cache.", single("PostgresServer_CacheHitRatio")},
	}}, nil
}

// firstValue is where the values of a family begin in what (*service).values writes.
func firstValue(name string) int {
	next := 0
	for _, f := range families() {
		if f.name == name {
			break
		}
		next += f.series()
	}
	return next
}

func (s *Simulator) slowQueries(*call) (any, error) {
	return nil, &refusal{status: http.StatusNotImplemented, message: "NOT_IMPLEMENTED: slow query patterns are not simulated"}
}
