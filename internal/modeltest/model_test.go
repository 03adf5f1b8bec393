package modeltest

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

var modelTime = flag.Duration("model.time", 0, "go on with other random events for so long")

var steps atomic.Int64 // done by all checks

// TestMain checks every commit with the same events. rapid's flags and -model.time change them.
func TestMain(m *testing.M) {
	flag.Parse()
	given := *modelTime > 0
	flag.Visit(func(f *flag.Flag) { given = given || strings.HasPrefix(f.Name, "rapid.") })
	if !given {
		setFlag("rapid.seed", "10")
		setFlag("rapid.checks", "30")
	}
	goleak.VerifyTestMain(m)
}

func setFlag(name, value string) {
	if err := flag.Set(name, value); err != nil {
		panic(err)
	}
}

func TestModel(t *testing.T) {
	started := time.Now()
	for {
		if *modelTime > 0 {
			setFlag("rapid.seed", strconv.FormatUint(rand.Uint64(), 10))
		}
		rapid.Check(t, func(t *rapid.T) {
			rapid.SyncTest(t, func(t *rapid.T) {
				w := drawWorld(t)
				e := &events{machine: newMachine(t, w, drawConfig(t))}
				defer e.end()
				if rapid.Bool().Draw(t, "late list") {
					e.disturb(callList, trouble{left: 1, late: 40*time.Second + time.Millisecond})
					e.pass(30 * time.Second)
				}
				actions := rapid.StateMachineActions(e)
				delete(actions, "Check")
				t.Repeat(actions)
			})
		})
		took := time.Since(started).Round(time.Second)
		t.Logf("%d steps in %s, the latest with -rapid.seed=%s", steps.Load(), took, flag.Lookup("rapid.seed").Value)
		if t.Failed() || took >= *modelTime {
			return
		}
	}
}

// events are the possible events, in the form that rapid wants: one method each.
type events struct{ *machine }

// Check runs after each event.
func (e *events) Check(t *rapid.T) {
	steps.Add(1)
	e.t = t
	e.check()
}

func id(n int) string { return fmt.Sprintf("5e7v1ce0-0000-4000-8000-00000000000%d", n) }

const mostServices = 6

func drawService(t *rapid.T, id string) service {
	s := service{
		id: id, created: time.Unix(1_700_000_000, 0).UTC(), primary: true, storage: 118, hostname: id + ".test",
	}
	change(t, &s)
	return s
}

// change changes data of a service.
func change(t *rapid.T, s *service) {
	s.name = rapid.SampledFrom([]string{"orders", "users", "scratch"}).Draw(t, "name")
	s.region = rapid.SampledFrom([]string{"us-east-1", "eu-west-1", ""}).Draw(t, "region")
	s.size = rapid.SampledFrom([]string{"small", "large"}).Draw(t, "size")
	s.version = rapid.SampledFrom([]string{"17", "18"}).Draw(t, "version")
	s.primary = rapid.Bool().Draw(t, "primary")
	s.tags = rapid.SampledFrom([]map[string]string{
		nil, {"team": "a"}, {"team": "b", "pci": ""}, {"team": "", "env": "x"},
	}).Draw(t, "tags")
	drawState(t, s)
}

func drawState(t *rapid.T, s *service) {
	s.state = rapid.SampledFrom([]string{
		"running", "running", "running", "running", "running", "stopped", "restarting", "creating", "deleting", "new_state", "",
	}).Draw(t, "state")
}

func drawWorld(t *rapid.T) *world {
	w := &world{settings: map[string]map[string]any{}, backups: map[string]int{}, uncovered: map[string]bool{}}
	for n := range rapid.IntRange(0, 4).Draw(t, "services") {
		w.listed = append(w.listed, drawService(t, id(n)))
	}
	w.catchUp()
	for i := range w.measured {
		w.measured[i].twice = rapid.Bool().Draw(t, "twice")
	}
	return w
}

// pick returns one of the services on the list.
func (e *events) pick(t *rapid.T) *service {
	if len(e.world.listed) == 0 {
		t.Skip("there is none")
	}
	return &e.world.listed[rapid.IntRange(0, len(e.world.listed)-1).Draw(t, "service")]
}

// pickMeasured returns one of the services on the pages.
func (e *events) pickMeasured(t *rapid.T) *measured {
	if len(e.world.measured) == 0 {
		t.Skip("there is none")
	}
	return &e.world.measured[rapid.IntRange(0, len(e.world.measured)-1).Draw(t, "service")]
}

// Create adds services to the list, maybe some that were there before.
func (e *events) Create(t *rapid.T) {
	for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(0, mostServices-1), 1, 3, rapid.ID[int]).Draw(t, "numbers") {
		if e.world.find(id(n)) == nil {
			e.world.listed = append(e.world.listed, drawService(t, id(n)))
			e.meet(id(n))
		}
	}
}

// meet remembers the page of a service.
func (e *events) meet(id string) {
	if !slices.Contains(e.ids, id) {
		e.ids = append(e.ids, id)
	}
}

// Delete removes a service from the list.
func (e *events) Delete(t *rapid.T) {
	s := e.pick(t)
	i := slices.IndexFunc(e.world.listed, func(o service) bool { return o.id == s.id })
	e.world.listed = slices.Delete(e.world.listed, i, i+1)
}

// Change renames, moves, resizes and retags a service.
func (e *events) Change(t *rapid.T) { change(t, e.pick(t)) }

// Restart changes the state of a service.
func (e *events) Restart(t *rapid.T) { drawState(t, e.pick(t)) }

// Start makes all services run. Their pages have series after the next refresh.
func (e *events) Start(*rapid.T) {
	for i := range e.world.listed {
		e.world.listed[i].state = "running"
	}
}

// Shuffle changes the order of the list, and may repeat a service.
func (e *events) Shuffle(t *rapid.T) {
	s := *e.pick(t)
	slices.Reverse(e.world.listed)
	if rapid.Bool().Draw(t, "twice") && len(e.world.listed) < mostServices {
		s = s.clone()
		s.size = "twice"
		e.world.listed = append(e.world.listed, s)
	}
}

// Refresh makes the pages catch up with the list.
func (e *events) Refresh(*rapid.T) { e.world.catchUp() }

// Renew changes the values on the pages.
func (e *events) Renew(*rapid.T) { e.world.refresh++ }

// Shout switches upstream to ids in upper case, or back.
func (e *events) Shout(*rapid.T) {
	e.world.upper = !e.world.upper
	e.world.refresh++
}

// Appear adds a service to the pages that is not on the list.
func (e *events) Appear(t *rapid.T) {
	id := id(rapid.IntRange(0, mostServices-1).Draw(t, "number"))
	if e.world.findMeasured(id) != nil {
		t.Skip("there is one")
	}
	e.world.measured = append(e.world.measured, measured{id: id, name: "unknown"})
	e.world.refresh++
	e.meet(id)
}

// Vanish removes a service from the pages that may be on the list.
func (e *events) Vanish(t *rapid.T) {
	m := e.pickMeasured(t)
	e.world.measured = slices.DeleteFunc(e.world.measured, func(o measured) bool { return o.id == m.id })
	e.world.refresh++
}

// Cover changes which services the organization's page leaves out.
func (e *events) Cover(t *rapid.T) {
	id := e.pickMeasured(t).id
	e.world.uncovered[id] = !e.world.uncovered[id]
}

// Rearrange changes which series the pages have, and their types and HELP.
func (e *events) Rearrange(t *rapid.T) {
	m := e.pickMeasured(t)
	e.world.refresh++
	switch rapid.SampledFrom([]string{"without", "twice", "region", "reserved", "stray", "reversed", "unnamed", "help"}).Draw(t, "what") {
	case "without":
		all := families(0)
		name := all[rapid.IntRange(0, len(all)-1).Draw(t, "family")].name
		m.without = maps.Clone(m.without)
		if m.without == nil {
			m.without = map[string]bool{}
		}
		m.without[name] = !m.without[name]
	case "twice":
		m.twice = !m.twice
	case "region":
		m.region = rapid.SampledFrom([]string{"", "upstream"}).Draw(t, "region")
	case "reserved":
		m.reserved = !m.reserved
	case "stray":
		m.stray = !m.stray
	case "reversed":
		e.world.reversed = !e.world.reversed
	case "unnamed":
		e.world.unnamed = !e.world.unnamed
	case "help":
		e.world.help++
	}
}

// Set changes a setting of a service, and how many backups it has.
func (e *events) Set(t *rapid.T) {
	e.world.used++
	e.world.backups[e.pick(t).id] = rapid.IntRange(0, 3).Draw(t, "backups")
	e.world.settings[e.pick(t).id] = rapid.SampledFrom([]map[string]any{
		nil, {"max_connections": 500, "work_mem": "64MB"}, {"max_connections": "100"},
	}).Draw(t, "settings")
}

// Disturb causes trouble with the next answers.
func (e *events) Disturb(t *rapid.T) {
	calls := []string{callFind, callList, callList, callPage, callPage, callPage, callOwn, callOwn, callHostname, callSettings, callBackups, callQuotas}
	call := rapid.SampledFrom(calls).Draw(t, "call")
	kinds := []string{troubleCut, troubleEmpty, troubleHTML, troubleLine, "429", "503", "400", "404", "403"}
	e.disturb(call, trouble{
		left: rapid.IntRange(1, 6).Draw(t, "times"),
		skip: rapid.Bool().Draw(t, "every other"),
		kind: rapid.SampledFrom(kinds).Draw(t, "kind"),
	})
}

// Delay holds the next answer to a call back while others are given.
func (e *events) Delay(t *rapid.T) {
	e.disturb(rapid.SampledFrom([]string{callList, callPage, callOwn}).Draw(t, "call"), trouble{
		left: 1, late: time.Duration(rapid.IntRange(1, 90).Draw(t, "seconds"))*time.Second + 333*time.Millisecond,
	})
}

// Pass lets seconds or minutes pass.
func (e *events) Pass(t *rapid.T) {
	e.pass(time.Duration(rapid.IntRange(1, 120).Draw(t, "seconds")) * time.Second)
}

// PassLong lets so much time pass that data that is not renewed expires.
func (e *events) PassLong(t *rapid.T) {
	e.pass(time.Duration(rapid.IntRange(2, 22).Draw(t, "minutes")) * time.Minute)
}

// Reload replaces a part of the configuration.
func (e *events) Reload(t *rapid.T) {
	c := e.config
	what := []string{"rules", "enrich", "selection", "shards", "timestamps", "settings", "assume", "backups", "quotas", "collectors", "tags", "case"}
	if c.findOut {
		what = append(what, "id")
	}
	drawPart(t, &c, rapid.SampledFrom(what).Draw(t, "what"))
	e.apply(c)
}

// drawConfig returns an initial configuration.
func drawConfig(t *rapid.T) config {
	c := config{enrich: enrichMenu[1]}
	for _, part := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{
		"rules", "enrich", "selection", "shards", "timestamps", "settings", "assume", "backups", "quotas", "collectors", "tags", "id",
	}), 0, 3, rapid.ID[string]).Draw(t, "configured") {
		drawPart(t, &c, part)
	}
	return c
}

func drawPart(t *rapid.T, c *config, part string) {
	switch part {
	case "rules":
		c.ruleTexts = rapid.SliceOfNDistinct(rapid.SampledFrom(ruleMenu), 0, 3, rapid.ID[string]).Draw(t, "rules")
	case "enrich":
		c.enrich = rapid.SampledFrom(enrichMenu).Draw(t, "enrich")
	case "selection":
		c.selection = rapid.SampledFrom(selectionMenu).Draw(t, "selection")
	case "shards":
		c.shardIndex, c.shardCount = 0, 0
		if rapid.Bool().Draw(t, "sharded") {
			c.shardIndex, c.shardCount = rapid.IntRange(0, 1).Draw(t, "index"), 2
		}
	case "timestamps":
		c.timestamps = !c.timestamps
	case "settings":
		c.settings = !c.settings
	case "assume":
		c.assume = !c.assume
	case "backups":
		c.backups = !c.backups
	case "quotas":
		c.quotas = !c.quotas
	case "collectors":
		name := rapid.SampledFrom([]string{"inventory", "state", "tags", "service-health"}).Draw(t, "collector")
		off := maps.Clone(c.off)
		if off == nil {
			off = map[string]bool{}
		}
		off[name] = !off[name]
		c.off = off
	case "tags":
		c.tags = rapid.SampledFrom([][]string{nil, {"team"}, {"pci", "none"}, {}}).Draw(t, "tags")
	case "id":
		c.findOut = !c.findOut
	case "case":
		c.upper = !c.upper
	}
}

var ruleMenu = []string{
	"{source_labels: [__name__], regex: PostgresServer_Disk.*, action: drop}",
	"{source_labels: [__name__], regex: 'PostgresServer_.*|clickhouse_postgres_service_(info|state)', action: keep}",
	"{source_labels: [postgres_state], regex: stopped, action: drop}",
	"{regex: device, action: labeldrop}",
	"{regex: postgres_service, action: labeldrop}",
	"{regex: 'postgres_(region|size)', replacement: 'pg_$1', action: labelmap}",
	"{source_labels: [postgres_region, postgres_size], separator: /, target_label: place}",
	"{source_labels: [__name__], regex: PostgresServer_OldConnections, target_label: __name__, replacement: PostgresServer_Connections}",
	"{source_labels: [__name__], regex: PostgresServer_Connections, target_label: __name__, replacement: PostgresServer_queries_total}",
	"{source_labels: [__name__], regex: PostgresServer_Plain, target_label: __name__, replacement: ''}",
	"{source_labels: [__name__], regex: PostgresServer_Plain, target_label: __name__, replacement: clickhouse_postgres_service_info}",
	"{source_labels: [postgres_service_name], target_label: __tmp}",
	"{source_labels: [__tmp], target_label: copy}",
	"{source_labels: [postgres_service_name], action: lowercase, target_label: postgres_service_name}",
}

var enrichMenu = [][]string{
	nil,
	{"region", "size", "state"},
	{"name", "version", "ha-type", "is-primary", "provider"},
	{"hostname", "state"},
	{"tag:team", "tag:pci", "size"},
}

var selectionMenu = []*selection{
	nil,
	nil,
	{include: []filter{{tags: map[string]string{"team": "a|b"}}}},
	{include: []filter{{region: "us-.*"}, {state: "running"}}},
	{exclude: []filter{{name: "scratch"}}},
	{exclude: []filter{{ids: []string{id(0)}}, {state: "stopped"}}},
	{include: []filter{{ids: []string{id(1), id(2)}}}},
	{include: []filter{{ids: []string{id(0)}}}},
}
