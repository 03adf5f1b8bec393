package modeltest

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
)

// expected is the page as it should be: its series in order, each once.
type expected struct {
	rules  []*relabel.Config
	series []series
	seen   map[string]bool
}

// add adds a series. Of several with the same labels, the first is kept.
func (e *expected) add(s series) {
	if e.seen == nil {
		e.seen = map[string]bool{}
	}
	if id := s.labels.String(); !e.seen[id] {
		e.seen[id] = true
		e.series = append(e.series, s)
	}
}

// own stands for the HELP of the program's own families, which may have any.
const own = "(own)"

// ownNames are names, and beginnings of names, that upstream's families must not have.
var ownNames = regexp.MustCompile("^clickhouse_postgres_(up|services?|organization|exporter)(_|$)")

func reserved(name string) bool { return ownNames.MatchString(name) }

// expect returns the page of one service, or of the organization if that is "".
func (o *oracle) expect(service string) *expected {
	e := &expected{rules: o.config.rules()}
	ids := o.known()
	if service != "" {
		ids = []string{service}
	}
	for _, id := range ids {
		o.addUpstream(e, id)
		o.addInventory(e, id)
	}
	if service == "" && (o.listTried || o.unconfirmed) {
		o.addUpstream(e, "")
	}
	return e
}

// expectEverything returns the page of everything.
func (o *oracle) expectEverything() *expected {
	e := o.expect("")
	o.addTotals(e)
	for _, id := range o.known() {
		o.addHealth(e, id)
	}
	return e
}

// addUpstream adds upstream's series of a service, with the inventory labels.
func (o *oracle) addUpstream(e *expected, id string) {
	m := o.fresh(id)
	if m == nil {
		return
	}
	for _, s := range newest(m.series) {
		if reserved(s.name()) {
			continue
		}
		b := labels.NewBuilder(s.labels)
		for name, value := range o.inline(id) {
			if s.labels.Get(name) == "" {
				b.Set(name, value)
			}
		}
		name := s.name()
		lset, keep := e.relabel(b.Labels())
		if !keep || reserved(lset.Get(model.MetricNameLabel)) {
			continue
		}
		s.labels = lset
		if s.name() != name {
			s.family = s.name()
		}
		if s.stamp == 0 && o.config.timestamps {
			s.stamp = m.changed.UnixMilli()
		}
		e.add(s)
	}
}

// newest keeps one of the lines that a page has for a series: the one with the latest timestamp, or
// else the first.
func newest(list []series) []series {
	var kept []series
	for _, s := range list {
		i := slices.IndexFunc(kept, func(k series) bool { return labels.Equal(k.labels, s.labels) })
		switch {
		case i < 0:
			kept = append(kept, s)
		case s.stamp > kept[i].stamp:
			kept[i] = s
		}
	}
	return kept
}

// relabel applies the user's rules, and reports whether they keep the series.
func (e *expected) relabel(lset labels.Labels) (labels.Labels, bool) {
	if len(e.rules) == 0 {
		return lset, true
	}
	b := labels.NewBuilder(lset)
	if !relabel.ProcessBuilder(b, e.rules...) {
		return lset, false
	}
	lset = b.Labels()
	return lset, lset.Get(model.MetricNameLabel) != ""
}

// inline returns the labels that a service's series get from the inventory.
func (o *oracle) inline(id string) map[string]string {
	s, ok := o.services[id]
	if !ok {
		return nil
	}
	all := map[string]string{
		"name": s.name, "region": s.region, "size": s.size, "state": s.state, "provider": "aws",
		"version": s.version, "ha-type": "none", "is-primary": strconv.FormatBool(s.primary),
		"hostname": o.hostnames[id],
	}
	for key, value := range s.tags {
		all["tag:"+key] = cmp.Or(value, "true")
	}
	chosen := map[string]string{}
	for _, token := range o.config.enrich {
		label := "postgres_" + strings.NewReplacer("-", "_", ":", "_").Replace(token)
		if token == "name" {
			label = "postgres_service_name"
		}
		chosen[label] = all[token]
	}
	return chosen
}

// addGauge adds a series of the program's own, to which rules do not apply; pairs are label names
// and values.
func (o *oracle) addGauge(e *expected, name string, value float64, pairs ...string) {
	b := labels.NewBuilder(labels.EmptyLabels()).Set(model.MetricNameLabel, name).Set("clickhouse_org", organizationID)
	for i := 0; i < len(pairs); i += 2 {
		b.Set(pairs[i], pairs[i+1])
	}
	e.add(series{labels: b.Labels(), value: value, family: name, kind: dto.MetricType_GAUGE, help: own})
}

// addInventory adds the data about a service in the list and in its details.
func (o *oracle) addInventory(e *expected, id string) {
	s, ok := o.services[id]
	if !ok {
		return
	}
	add := func(name string, value float64, more ...string) {
		pairs := append([]string{"postgres_service", id, "postgres_service_name", s.name}, more...)
		o.addGauge(e, "clickhouse_postgres_service_"+name, value, pairs...)
	}
	if !o.config.off["inventory"] {
		add("info", 1, "postgres_provider", "aws", "postgres_region", s.region, "postgres_size", s.size,
			"postgres_version", s.version, "postgres_ha_type", "none",
			"postgres_is_primary", strconv.FormatBool(s.primary), "postgres_hostname", o.hostnames[id])
		if !s.created.IsZero() {
			add("created_timestamp_seconds", seconds(s.created))
		}
		if s.storage > 0 {
			add("storage_size_bytes", s.storage*(1<<30))
		}
	}
	if !o.config.off["state"] {
		add("state", 1, "state", cmp.Or(s.state, "unknown"))
	}
	for key, value := range s.tags {
		if !o.config.off["tags"] && (o.config.tags == nil || slices.Contains(o.config.tags, key)) {
			add("tag", 1, "key", key, "value", value)
		}
	}
	for name, value := range o.settings[id] {
		add("setting", value, "name", name)
	}
	if settings, read := o.settings[id]; read && o.config.assume {
		if _, set := settings["max_connections"]; !set {
			add("setting", 100, "name", "max_connections")
		}
	}
	if b := o.backups[id]; !b.latest.IsZero() {
		add("last_backup_timestamp_seconds", seconds(b.latest))
	}
	if b := o.backups[id]; b.total != nil {
		add("retained_backups", *b.total)
	}
	if at := o.restores[id]; o.config.backups && !at.IsZero() {
		add("earliest_restore_timestamp_seconds", seconds(at))
	}
}

// addTotals adds the organization's quotas, its name, and the number of services in each state.
func (o *oracle) addTotals(e *expected) {
	for code, q := range o.quotas {
		o.addGauge(e, "clickhouse_postgres_organization_quota_limit", q.Value, "quota", code)
		if q.Usage != nil {
			o.addGauge(e, "clickhouse_postgres_organization_quota_usage", *q.Usage, "quota", code)
		}
	}
	if o.listedAt.IsZero() || o.config.off["inventory"] {
		return
	}
	o.addGauge(e, "clickhouse_postgres_organization_info", 1, "name", "shop")
	counts := map[string]int{}
	for _, state := range []string{
		"creating", "deleting", "finalizing_restore", "replaying_wal", "restarting",
		"restoring_backup", "running", "stopped", "unavailable",
	} {
		counts[state] = 0
	}
	for _, s := range o.services {
		counts[cmp.Or(s.state, "unknown")]++
	}
	for _, state := range slices.Sorted(maps.Keys(counts)) {
		o.addGauge(e, "clickhouse_postgres_services", float64(counts[state]), "state", state)
	}
}

// addHealth adds the health metrics of a service.
func (o *oracle) addHealth(e *expected, id string) {
	if o.config.off["service-health"] {
		return
	}
	add := func(name string, value float64) {
		o.addGauge(e, "clickhouse_postgres_service_"+name, value, "postgres_service", id, "postgres_service_name", o.name(id))
	}
	if o.attempted(id) {
		add("up", truth(o.up(id)))
	}
	if m := o.measured[id]; m != nil {
		add("metrics_last_success_timestamp_seconds", seconds(m.page.at))
		add("metrics_last_change_timestamp_seconds", seconds(m.changed))
	}
}

// expectHealth returns the health page of the organization.
func (o *oracle) expectHealth() *expected {
	e := &expected{}
	add := func(name string, value float64) { o.addGauge(e, "clickhouse_postgres_"+name, value) }
	add("up", truth(o.allUp()))
	if !o.listedAt.IsZero() {
		add("exporter_inventory_last_success_timestamp_seconds", seconds(o.listedAt))
	}
	if !o.measuredAt.IsZero() {
		add("exporter_metrics_last_success_timestamp_seconds", seconds(o.measuredAt))
	}
	unknown := 0
	if !o.listedAt.IsZero() {
		unknown = len(o.known()) - len(o.services)
	}
	add("exporter_unknown_services", float64(unknown))
	return e
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
