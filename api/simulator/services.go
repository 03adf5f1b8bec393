package simulator

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator/internal/seeded"
)

const createdAtFormat = "2006-01-02T15:04:05-07:00"

// serviceJSON is a service in the list. The answer about a single service has more fields.
type serviceJSON struct {
	ID               string `json:"id"`
	Name             string `json:"name"`
	Provider         string `json:"provider"`
	Region           string `json:"region"`
	PostgresVersion  string `json:"postgresVersion"`
	Size             string `json:"size"`
	StorageSize      int    `json:"storageSize,omitempty"`
	HAType           string `json:"haType"`
	Tags             []Tag  `json:"tags"`
	ConnectionString string `json:"connectionString,omitempty"`
	Username         string `json:"username,omitempty"`
	Password         string `json:"password,omitempty"`
	Hostname         string `json:"hostname,omitempty"`
	IsPrimary        bool   `json:"isPrimary"`
	State            string `json:"state"`
	CreatedAt        string `json:"createdAt"`

	EarliestRestoreTime string `json:"earliestRestoreTime,omitempty"`
}

func (s *Simulator) listed(v *service, now time.Time) serviceJSON {
	j := serviceJSON{
		ID: v.id, Name: v.name, Provider: v.provider, Region: v.region, PostgresVersion: v.version, Size: v.size,
		StorageSize: v.storageGiB(now), HAType: v.haType, Tags: append([]Tag{}, v.tags...),
		IsPrimary: v.primary, State: v.stateAt(now), CreatedAt: v.CreatedAt.UTC().Format(createdAtFormat),
	}
	if s.config.OmitStorageSize {
		j.StorageSize = 0
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

// service returns the service in the path.
func (s *Simulator) service(c *call) (*service, error) {
	v, ok := s.fleet.get(strings.ToLower(c.id), c.now)
	if !ok || v.stateAt(c.now) == stateGone || !c.key.sees(v.id) {
		return nil, notFound("no Postgres service %s in this organization", c.id)
	}
	return v, nil
}

// changeable returns a copy of the service in the path, for the caller to change and put, unless
// it is being deleted.
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

// put adds a service to the fleet, or replaces it there; see capture.
func (s *Simulator) put(c *call, v *service) {
	s.capture(c.now)
	s.fleet.put(v)
}

// add completes a service that a request creates, and adds it to the fleet. It goes through the
// states until it is running.
func (s *Simulator) add(c *call, v *service, states ...string) {
	s.fleet.created++
	v.Key = seeded.Hash(s.config.Seed, "created "+strconv.Itoa(s.fleet.created))
	v.id, v.index = seeded.UUID(v.Key), -1
	v.CreatedAt = c.now.UTC().Truncate(time.Second)
	v.Boot = c.now.Add(s.config.CreateDelay)
	v.phases = nil
	for i, state := range states {
		v.phases = append(v.phases, phase{c.now.Add(s.config.CreateDelay * time.Duration(i) / time.Duration(len(states))), state})
	}
	v.phases = append(v.phases, phase{v.Boot, stateRunning})
	if v.primary {
		v.firstBackup = v.Boot.Add(s.config.BackupDelay)
	}
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
	v.provider = d.choice("provider", "", providers)
	v.region = d.region(v.provider)
	v.size = d.size(v.provider)
	v.version = d.choice("postgresVersion", defaultVersion, versions)
	v.haType = d.choice("haType", defaultHAType, haTypes)
	v.tags = d.tags()
	v.pgConfig, v.bouncerConfig = d.initialConfig()
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
	j := s.detailed(v, c.now)
	if all := v.backups(c.now); len(all) > 0 {
		j.EarliestRestoreTime = all[len(all)-1].Format(time.RFC3339)
	}
	return j, nil
}

// patchService applies a JSON merge patch (RFC 7396): fields that it does not contain stay, a
// list is replaced as a whole, and null empties tags, the only field that can be empty. A change
// of size or haType is queued, and the old values show until it is due.
func (s *Simulator) patchService(c *call) (any, error) {
	v, err := s.changeable(c)
	if err != nil {
		return nil, err
	}
	d := parseDocument(c.body, "name", "size", "haType", "tags")
	if !v.primary && (d.has("size") || d.has("haType") || d.has("tags")) {
		return nil, badRequest("Read replicas cannot be modified directly! Please modify the parent database instead.")
	}
	if d.has("name") {
		v.name = d.name()
	}
	next := change{due: c.now.Add(s.config.ChangeDelay), size: v.size, haType: v.haType, downtime: s.config.RestartDelay}
	if v.queued != nil {
		next.size, next.haType = v.queued.size, v.queued.haType
	}
	if d.has("size") {
		next.size = d.size(v.provider)
	}
	next.haType = d.choice("haType", next.haType, haTypes)
	if d.has("tags") {
		v.tags = d.tags()
	}
	if state := v.stateAt(c.now); d.has("size") && next.size != v.size && state != stateRunning {
		d.fail("size can change only while the service is running, and it is %s", state)
	}
	if d.err != nil {
		return nil, badRequest("%v", d.err)
	}
	if d.has("size") || d.has("haType") {
		v.queued = &next
	}
	s.put(c, &v)
	return s.detailed(v.at(c.now), c.now), nil
}

// deleteService refuses to delete a primary until its last replica is gone, as upstream does.
// Status and text of the refusal are not documented.
func (s *Simulator) deleteService(c *call) (any, error) {
	found, err := s.service(c)
	if err != nil {
		return nil, err
	}
	v := *found
	if v.stateAt(c.now) == stateDeleting {
		return nil, notFound("the Postgres service %s is being deleted", c.id)
	}
	if slices.ContainsFunc(s.fleet.live(c.now), func(r *service) bool { return r.parent == v.id }) {
		return nil, &refusal{status: http.StatusConflict, message: "CONFLICT: read replicas depend on the service: delete each replica first"}
	}
	v.queued = nil
	v.phases = []phase{{c.now, stateDeleting}, {c.now.Add(s.config.DeleteDelay), stateGone}}
	s.put(c, &v)
	return nil, nil
}
