package simulator

import (
	"maps"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator/internal/metrics"
	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator/internal/seeded"
)

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
	case state != stateRunning && (command != "restart" || state != stateUnavailable):
		d.fail("command %s needs a service that is running, and this one is %s", command, state)
	}
	if d.err != nil {
		return nil, badRequest("%v", d.err)
	}
	changed := &v
	switch command {
	case "promote":
		v.primary, v.parent = true, ""
		v.firstBackup = c.now.Add(s.config.BackupDelay)
		v.Profile = metrics.NewProfile(v.Key, utcOffset(v.region), true)
		// The replica has written nothing so far, so its counters start now.
		v.Boot = c.now
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
	if !v.primary {
		return nil, badRequest("the password of a read replica is that of its primary: change it there")
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
		password = newPassword(seeded.Hash(seeded.Hash(v.Key, v.password), "next password"))
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
		name: d.name(), provider: parent.provider, region: parent.region, size: parent.size, version: parent.version, haType: defaultHAType,
		parent: parent.id, password: parent.password, tags: d.tags(),
	}
	v.pgConfig, v.bouncerConfig = d.initialConfig()
	if v.pgConfig == nil {
		v.pgConfig = maps.Clone(parent.pgConfig)
	}
	if v.bouncerConfig == nil {
		v.bouncerConfig = maps.Clone(parent.bouncerConfig)
	}
	switch state := parent.stateAt(c.now); {
	case !parent.primary:
		d.fail("the service is a read replica itself: use its primary")
	case len(parent.backups(c.now)) == 0:
		// Clients wait as long as they get this very text.
		d.fail("Parent server is not ready for read replicas. There are no backups, yet.")
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
		name: d.name(), provider: source.provider, region: source.region, size: source.size, version: source.version, haType: source.haType,
		primary: true, password: source.password, tags: d.tags(),
	}
	v.pgConfig, v.bouncerConfig = d.initialConfig()
	target, backups := d.time("restoreTarget"), source.backups(c.now)
	if len(backups) == 0 {
		d.fail("the service has no backup to restore")
	} else if earliest := backups[len(backups)-1]; target.Before(earliest) || target.After(c.now) {
		d.fail("restoreTarget must be between %s, the earliest restore time, and now", earliest.Format(time.RFC3339))
	}
	if d.err != nil {
		return nil, badRequest("%v", d.err)
	}
	s.add(c, v, stateRestoringBackup, stateFinalizingRestore)
	return s.detailed(v, c.now), nil
}
