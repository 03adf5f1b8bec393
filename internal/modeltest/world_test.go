package modeltest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// service is a Postgres service on upstream's list.
type service struct {
	id, name, region, size, state, version, hostname string

	primary bool
	storage float64 // GiB
	created time.Time
	tags    map[string]string
}

func (s service) clone() service {
	s.tags = maps.Clone(s.tags)
	return s
}

// world is upstream's data. List and pages may disagree: pages are renewed once a minute, at
// different times.
type world struct {
	sync.Mutex // held by the test, except while the collectors run

	listed   []service
	measured []measured
	settings map[string]map[string]any // by service
	backups  map[string]int            // how many there are of each
	used     int                       // of a quota

	uncovered map[string]bool // services that the organization's page leaves out
	refresh   int             // counts the times that upstream's values have changed
	reversed  bool            // services are in reverse order on the page
	unnamed   bool            // it has series without a service
	help      int             // which HELP texts and types the pages have
	upper     bool            // ids are written in upper case
}

// measured is a service on the pages.
type measured struct {
	id, name string
	without  map[string]bool // families that it lacks
	twice    bool            // a series appears twice, with different values
	region   string          // a label of upstream that the inventory has, too; "" for none
	reserved bool            // a family has one of the exporter's names
	stray    bool            // its own page has a series without a service
	empty    bool            // it has no series
}

// family is one metric on the pages.
type family struct {
	name, kind string
	labels     []string // of each of its series
}

// families are those on a service's page.
func families(help int) []family {
	kind := func(k ...string) string { return k[help%len(k)] }
	return []family{
		{"PostgresServer_CPUSeconds_Total", "counter", []string{`mode="user"`, `mode="system"`}},
		{"PostgresServer_DiskBytes", kind("gauge", "untyped"), []string{`device="a",empty=""`, `device="b"`}},
		{"PostgresServer_OldConnections", kind("gauge", "gauge", "counter"), []string{""}},
		{"PostgresServer_Connections", "untyped", []string{""}},
		{"PostgresServer_queries_total", kind("counter", "counter", "gauge"), []string{`text="a \"b\" \\ c\nd"`}},
		{"PostgresServer_Latency", "histogram", []string{""}},
		{"PostgresServer_Plain", "", []string{""}},
		{stamped, "gauge", []string{""}},
		{"PostgresServer_Odd", kind("info", "stateset", "gaugehistogram", "Gauge", "unknown", "of_the_future", "gauge "), []string{`odd="1"`}},
	}
}

// stamped is a family whose samples have timestamps.
const stamped = "PostgresServer_Stamped"

// cased returns an id in upstream's present case.
func (w *world) cased(id string) string {
	if w.upper {
		return strings.ToUpper(id)
	}
	return id
}

// page writes the organization's page, or that of one service.
func (w *world) page(own string) string {
	services := slices.Clone(w.measured)
	if w.reversed {
		slices.Reverse(services)
	}
	services = slices.DeleteFunc(services, func(m measured) bool {
		return m.empty || own != "" && m.id != own || own == "" && w.uncovered[m.id]
	})
	var b strings.Builder
	line := func(f family, suffix, labels string, value any) {
		if labels = strings.Trim(labels, ","); labels != "" {
			labels = "{" + labels + "}"
		}
		fmt.Fprintf(&b, "%s%s%s %v\n", f.name, suffix, labels, value)
	}
	for n, f := range families(w.help) {
		if f.kind != "" {
			fmt.Fprintf(&b, "# HELP %s Text %d of it.\n# TYPE %s %s\n", f.name, w.help, f.name, f.kind)
		}
		for _, m := range services {
			if m.without[f.name] {
				continue
			}
			ids := fmt.Sprintf("clickhouse_org=%q,postgres_service=%q,postgres_service_name=%q", w.cased(organizationID), w.cased(m.id), m.name)
			if m.region != "" {
				ids += fmt.Sprintf(",postgres_region=%q", m.region)
			}
			for i, labels := range f.labels {
				value := float64(w.refresh*1000+n*10+i) + float64(len(m.id))/8 + float64(m.id[len(m.id)-1])/1000
				if f.kind == "histogram" {
					count := w.refresh + n
					line(f, "_bucket", ids+`,le="0.5"`, count/2)
					line(f, "_bucket", ids+`,le="+Inf"`, count)
					line(f, "_sum", ids, value)
					line(f, "_count", ids, count)
					continue
				}
				if f.name == stamped {
					at := 1_700_000_000_000 + int64(w.refresh)
					line(f, "", ids, fmt.Sprint(value, " ", at))
					if m.twice {
						line(f, "", ids, fmt.Sprint(value+1, " ", at+int64(w.refresh%3)-1))
					}
					continue
				}
				line(f, "", labels+","+ids, value)
				if m.twice && n == 1 {
					line(f, "", labels+","+ids, value+0.5)
				}
			}
			if m.reserved && n == 2 {
				line(family{name: "clickhouse_postgres_service_up"}, "", ids, w.refresh)
				line(family{name: "clickhouse_postgres_exporter_mine"}, "", ids, w.refresh)
			}
			if own != "" && m.stray && n == 6 {
				line(f, "", `stray="1"`, w.refresh)
			}
		}
		if own == "" && w.unnamed && n == 6 {
			line(f, "", fmt.Sprintf("clickhouse_org=%q", organizationID), w.refresh)
		}
	}
	return b.String()
}

// envelope writes an answer of the JSON API.
func envelope(result any) string {
	text, err := json.Marshal(map[string]any{"status": 200, "requestId": "r", "result": result})
	if err != nil {
		panic(err)
	}
	return string(text)
}

func (w *world) wire(s service) map[string]any {
	tags := []map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(s.tags)) {
		tags = append(tags, map[string]string{"key": key, "value": s.tags[key]})
	}
	return map[string]any{
		"id": w.cased(s.id), "name": s.name, "provider": "aws", "region": s.region, "size": s.size,
		"postgresVersion": s.version, "haType": "none", "state": s.state, "isPrimary": s.primary,
		"storageSize": s.storage, "createdAt": s.created.Format(time.RFC3339), "tags": tags,
		"hostname": s.hostname,
	}
}

// list writes the list of services.
func (w *world) list() string {
	list := []map[string]any{}
	for _, s := range w.listed {
		list = append(list, w.wire(s))
	}
	return envelope(list)
}

// detail writes the answer to a request about one service, other than its page. ok is false if
// there is no such service.
func (w *world) detail(id, call string) (text string, ok bool) {
	i := slices.IndexFunc(w.listed, func(s service) bool { return s.id == id })
	if i < 0 {
		return "", false
	}
	switch call {
	case callHostname:
		wire := w.wire(w.listed[i])
		if n := w.backedUp(id); n > 0 {
			wire["earliestRestoreTime"] = backedUpAt(0).Format(time.RFC3339)
		}
		return envelope(wire), true
	case callBackups:
		list, total := []map[string]any{}, any(nil)
		if n := w.backedUp(id); n > 0 {
			list = append(list, map[string]any{"key": "k", "lastModified": backedUpAt(n).Format(time.RFC3339)})
			if n%2 == 0 {
				total = n
			}
		}
		text, err := json.Marshal(map[string]any{"status": 200, "requestId": "r", "result": list, "totalCount": total})
		if err != nil {
			panic(err)
		}
		return string(text), true
	}
	return envelope(map[string]any{"pgConfig": w.settings[id], "pgBouncerConfig": map[string]any{"max": 7}}), true
}

// backedUp returns how many backups a service has.
func (w *world) backedUp(id string) int {
	if n, ok := w.backups[id]; ok {
		return n
	}
	return 2
}

// backedUpAt returns when the backup of this number was made.
func backedUpAt(n int) time.Time { return time.Date(2026, 1, 1+n, 0, 0, 0, 0, time.UTC) }

// quotas writes the organization's, one of which does not tell its usage.
func (w *world) quotas() string {
	return envelope([]any{
		map[string]any{"quotaCode": "postgres-services-per-organization", "value": 20, "usage": w.used},
		map[string]any{"quotaCode": "replicas-per-warehouse", "value": 5},
	})
}

func (w *world) find(id string) *service {
	for i := range w.listed {
		if w.listed[i].id == id {
			return &w.listed[i]
		}
	}
	return nil
}

func (w *world) findMeasured(id string) *measured {
	for i := range w.measured {
		if w.measured[i].id == id {
			return &w.measured[i]
		}
	}
	return nil
}

// catchUp puts the services of the list that have series on the pages.
func (w *world) catchUp() {
	var now []measured
	for _, s := range w.listed {
		m := measured{id: s.id}
		if old := w.findMeasured(s.id); old != nil {
			m = *old
		}
		m.name = s.name
		m.empty = s.state != "running"
		now = append(now, m)
	}
	slices.SortFunc(now, func(a, b measured) int { return cmp.Compare(a.id, b.id) })
	w.measured = now
	w.refresh++
}
