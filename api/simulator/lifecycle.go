package simulator

import (
	"time"
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
