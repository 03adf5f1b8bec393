package modeltest

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// What the package comment of collector promises.
const (
	tombstoneAge = 5 * time.Minute // pages may lag behind the list by so much
	emptyGrace   = 3 * time.Minute // for services that have just started
)

// oracle takes in upstream's answers, one after the other, and says what should be served.
type oracle struct {
	config config
	found  bool // the organization's id is known

	// The list.
	listed      []service // the latest that was accepted
	listedAt    time.Time // zero before the first
	unconfirmed bool      // the latest list was empty, and is not accepted yet
	listTried   bool
	listOK      bool // the latest one
	// What follows from the list and the configuration.
	services     map[string]service   // to be exported, by id
	excluded     map[string]bool      // on the list, but not to be exported
	tombstones   map[string]time.Time // when a service left the list
	runningSince map[string]time.Time // of those that were seen to start

	// Metrics.
	page       answer             // the latest good one of the organization
	pageOK     bool               // so was the latest one
	latest     answer             // that one, good or bad; zero while none is asked for
	refused    bool               // upstream refuses that page, to everybody or to this key
	measured   map[string]*sample // the newest of each service, "" for series of none
	failed     map[string]bool    // services whose own page failed
	asked      map[string]bool    // services whose own page was answered before the first list
	measuredAt time.Time          // when any page last was good

	hostnames map[string]string
	restores  map[string]time.Time // the earliest moment to which a service can be restored
	settings  map[string]map[string]float64
	backups   map[string]backups
	quotas    map[string]quota
}

// sample is the content of a page about a service.
type sample struct {
	page    answer
	series  []series
	changed time.Time // when the values were first seen
}

func newOracle(c config) *oracle {
	return &oracle{
		config:   c,
		found:    !c.findOut,
		services: map[string]service{}, excluded: map[string]bool{}, tombstones: map[string]time.Time{},
		runningSince: map[string]time.Time{},
		measured:     map[string]*sample{}, failed: map[string]bool{}, asked: map[string]bool{},
		hostnames: map[string]string{}, restores: map[string]time.Time{}, settings: map[string]map[string]float64{},
		backups: map[string]backups{},
	}
}

// good reports whether the answer is complete and of the right kind.
func (a answer) good() bool {
	wantJSON := a.call != callPage && a.call != callOwn
	return a.status == http.StatusOK && !a.cut && a.body != htmlBody && json.Valid([]byte(a.body)) == wantJSON
}

// take takes in an answer.
func (o *oracle) take(a answer) {
	o.expire(a.at)
	defer o.forgetPage()
	switch a.call {
	case callFind:
		o.found = o.found || a.good() && a.body != envelope([]any{})
	case callList:
		o.takeList(a)
	case callPage:
		o.takePage(a)
	case callOwn:
		o.takeOwn(a)
	case callHostname:
		if _, ok := o.services[a.service]; ok && a.good() {
			o.hostnames[a.service] = parseService(a.body).hostname
			o.restores[a.service] = parseRestore(a.body)
		}
	case callSettings:
		if _, ok := o.services[a.service]; ok && a.good() {
			o.settings[a.service] = parseSettings(a.body)
		}
	case callBackups:
		if _, ok := o.services[a.service]; ok && a.good() {
			o.backups[a.service] = parseBackups(a.body)
		}
	case callQuotas:
		if a.good() {
			o.quotas = parseQuotas(a.body)
		}
	}
}

// takeList takes in a list. A failed one changes nothing; an empty one after one that was not must
// be confirmed by the next.
func (o *oracle) takeList(a answer) {
	if !a.good() {
		o.listTried, o.listOK = true, false
		return
	}
	list := parseList(a.body)
	if len(list) == 0 && len(o.listed) > 0 && !o.unconfirmed {
		o.unconfirmed = true
		return
	}
	o.listTried, o.listOK, o.unconfirmed = true, true, false
	first := o.listedAt.IsZero()
	o.listed, o.listedAt = list, a.at
	o.settle(a.at, first)
}

// reload replaces the configuration.
func (o *oracle) reload(c config) {
	now := time.Now()
	o.expire(now)
	defer o.forgetPage()
	o.config = c
	o.found = o.found || !c.findOut
	if !c.settings {
		clear(o.settings)
		if !slices.Contains(c.enrich, "hostname") {
			clear(o.hostnames)
			clear(o.restores)
		}
	}
	if !c.backups {
		clear(o.backups)
	}
	if !c.quotas {
		o.quotas = nil
	}
	o.settle(now, o.listedAt.IsZero())
}

// expire forgets services of which there are only metrics that are too old.
func (o *oracle) expire(now time.Time) {
	for id, m := range o.measured {
		if _, listed := o.services[id]; !listed && tooOld(m.page, now) {
			o.forget(id)
		}
	}
}

// forgetPage forgets the result of the organization's page when that is no longer requested,
// because there is one service, or because the user gave ids.
func (o *oracle) forgetPage() {
	if o.config.namesIDs() || !o.listedAt.IsZero() && len(o.services) < 2 {
		o.latest = answer{}
	}
}

func tooOld(page answer, now time.Time) bool { return now.Sub(page.at) >= maxAge }

// settle applies the configuration to the list.
func (o *oracle) settle(now time.Time, first bool) {
	before := o.services
	o.services, o.excluded = map[string]service{}, map[string]bool{}
	for _, s := range o.listed {
		if !o.config.selects(s) {
			o.excluded[s.id] = true
			continue
		}
		o.services[s.id] = s
		delete(o.tombstones, s.id)
		switch old, known := before[s.id]; {
		case s.state != "running":
			delete(o.runningSince, s.id)
		case !first && (!known || old.state != "running"):
			o.runningSince[s.id] = o.listedAt
		}
	}
	for id := range before {
		if _, stays := o.services[id]; stays {
			continue
		}
		delete(o.runningSince, id)
		o.forget(id)
		if !o.excluded[id] {
			o.tombstones[id] = o.listedAt
		}
	}
	for id, m := range o.measured {
		if !o.exports(id, m.page.at) {
			o.forget(id)
		}
	}
	for id := range o.asked {
		if !o.exports(id, now) {
			o.forget(id)
		}
	}
	// The page that is held may have series that are wanted from now on.
	if o.page.call != "" && !tooOld(o.page, now) {
		for id, list := range byService(parsePage(o.page.body)) {
			if o.measured[id] == nil && o.exports(id, o.page.at) {
				o.measured[id] = &sample{page: o.page, series: list, changed: o.page.at}
			}
		}
	}
}

func (o *oracle) forget(id string) {
	delete(o.measured, id)
	delete(o.failed, id)
	delete(o.asked, id)
	delete(o.hostnames, id)
	delete(o.restores, id)
	delete(o.backups, id)
	delete(o.settings, id)
}

// exports reports whether series of a service, from a page of that time, are wanted.
func (o *oracle) exports(id string, at time.Time) bool {
	if _, known := o.services[id]; known {
		return true
	}
	if left, ok := o.tombstones[id]; o.excluded[id] || ok && at.Before(left.Add(tombstoneAge)) {
		return false
	}
	if id == "" {
		return o.config.shardIndex == 0
	}
	if o.listedAt.IsZero() && o.config.namesIDs() {
		return o.config.selects(service{id: id})
	}
	return o.config.selection == nil && o.config.owns(id)
}

// takePage takes in the organization's page.
func (o *oracle) takePage(a answer) {
	o.latest = a
	switch a.status {
	case http.StatusBadRequest, http.StatusNotFound:
		o.refused = true
	default:
		o.refused = a.status == http.StatusForbidden && o.listOK
	}
	list, err := tryParsePage(a.body)
	o.pageOK = a.good() && err == nil && (len(list) > 0 || o.mayBeEmpty(a.at))
	if !o.pageOK {
		return
	}
	o.page, o.measuredAt = a, a.at
	groups := byService(list)
	for id, list := range groups {
		if o.exports(id, a.at) {
			o.measure(id, a, list)
			delete(o.failed, id)
		}
	}
	// A service that is not on the list exists only as long as upstream's pages have it.
	for _, id := range slices.AppendSeq(slices.Collect(maps.Keys(o.measured)), maps.Keys(o.asked)) {
		_, known := o.services[id]
		if _, named := groups[id]; !named && !known {
			o.forget(id)
		}
	}
}

// mayBeEmpty reports whether a page without series is believable: only if all running services have
// just been started, and have no series yet.
func (o *oracle) mayBeEmpty(at time.Time) bool {
	for _, s := range o.services {
		if s.state == "running" && !o.justStarted(s.id, at) {
			return false
		}
	}
	return !o.listedAt.IsZero()
}

func (o *oracle) justStarted(id string, at time.Time) bool {
	since, ok := o.runningSince[id]
	return ok && at.Sub(since) < emptyGrace && o.measured[id] == nil
}

// takeOwn takes in the page of one service, all of whose series are the service's.
func (o *oracle) takeOwn(a answer) {
	s, known := o.services[a.service]
	if !known && !o.listedAt.IsZero() {
		return // it is gone by now
	}
	if !known {
		o.asked[a.service] = true
	}
	list, err := tryParsePage(a.body)
	empty := len(list) == 0 && known && s.state == "running" && !o.justStarted(a.service, a.at)
	if !a.good() || err != nil || empty {
		o.failed[a.service] = true
		return
	}
	delete(o.failed, a.service)
	o.measuredAt = a.at
	if len(list) > 0 {
		o.measure(a.service, a, list)
	}
}

// measure sets the newest series of a service.
func (o *oracle) measure(id string, page answer, list []series) {
	next := &sample{page: page, series: list, changed: page.at}
	if old := o.measured[id]; old != nil && !tooOld(old.page, page.at) && slices.EqualFunc(old.series, list, series.equal) {
		next.changed = old.changed
	}
	o.measured[id] = next
}

// fresh returns the service's metrics to be served now, nil if there are none.
func (o *oracle) fresh(id string) *sample {
	if m := o.measured[id]; m != nil && !tooOld(m.page, time.Now()) {
		return m
	}
	return nil
}

// attempted reports whether there has been a request for the service's metrics.
func (o *oracle) attempted(id string) bool {
	return o.measured[id] != nil || o.failed[id] || o.latest.call != "" && !o.pageOK && !o.refused
}

// up reports whether the latest request for the service's metrics succeeded.
func (o *oracle) up(id string) bool {
	m := o.fresh(id)
	if m == nil || o.failed[id] {
		return false
	}
	return m.page.call == callOwn || o.pageOK && m.page.at.Equal(o.page.at)
}

// known returns the sorted ids of all services that appear on pages.
func (o *oracle) known() []string {
	if !o.listTried && !o.unconfirmed {
		return nil // no series appears without the labels that the list will bring
	}
	ids := slices.Collect(maps.Keys(o.services))
	for id := range o.measured {
		if _, listed := o.services[id]; !listed && id != "" && o.fresh(id) != nil {
			ids = append(ids, id)
		}
	}
	for id := range o.asked { // the user named it
		if _, listed := o.services[id]; !listed && o.measured[id] == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// name returns the name of a service.
func (o *oracle) name(id string) string {
	if s, ok := o.services[id]; ok {
		return s.name
	}
	if m := o.measured[id]; m != nil {
		for _, s := range m.series {
			if name := s.labels.Get("postgres_service_name"); name != "" {
				return name
			}
		}
	}
	return ""
}

// noMetrics reports whether no service can have metrics.
func (o *oracle) noMetrics() bool {
	for _, s := range o.services {
		if s.state != "creating" && s.state != "deleting" {
			return false
		}
	}
	return !o.listedAt.IsZero()
}

// status returns how a request for the page of a service, or of the organization if id is "", is
// answered.
func (o *oracle) status(service string) string {
	if !o.found {
		return unavailable
	}
	if service == "" {
		switch {
		case o.noMetrics() && o.listOK, !o.measuredAt.IsZero() && time.Since(o.measuredAt) < maxAge:
			return served
		}
		return unavailable
	}
	if !slices.Contains(o.known(), service) {
		if o.listedAt.IsZero() {
			return unavailable
		}
		return notFound
	}
	s, listed := o.services[service]
	idle := listed && s.state != "running" && time.Since(o.listedAt) < maxAge
	if o.fresh(service) != nil || idle {
		return served
	}
	return unavailable
}

// allUp reports whether the latest requests for the list and for metrics succeeded. If upstream
// refuses the organization's page, or is not asked for it, some services must be readable.
func (o *oracle) allUp() bool {
	switch {
	case !o.listOK:
		return false
	case o.latest.call != "" && !o.refused:
		return o.pageOK
	case o.noMetrics():
		return true
	}
	for id := range o.measured {
		if m := o.fresh(id); m != nil && m.page.call == callOwn {
			return len(o.failed) < len(o.services)
		}
	}
	return false
}

// byService splits the organization's page by service.
func byService(list []series) map[string][]series {
	groups := map[string][]series{}
	for _, s := range list {
		id := strings.Clone(s.labels.Get("postgres_service"))
		groups[id] = append(groups[id], s)
	}
	return groups
}
