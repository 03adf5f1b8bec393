package web

import (
	"bytes"
	"encoding/json"
	"html/template"
	"io"
	"net/http"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
)

// statusPage serves the status for people and, as JSON, for programs.
type statusPage struct {
	collector     Collector
	history       *History // nil for none
	name          string
	build         map[string]string
	telemetryPath string
	started       time.Time
	template      *template.Template
	assets        map[string]string // entity tags by file name
}

func newStatusPage(o Options) (*statusPage, error) {
	p := &statusPage{
		collector: o.Collector, history: o.History,
		name: o.Name, build: o.Build, telemetryPath: o.TelemetryPath,
		started: time.Now(),
	}
	var err error
	if p.assets, p.template, err = loadAssets(); err != nil {
		return nil, err
	}
	// A page without its style sheet is a broken build.
	q, err := parseTableQuery(nil)
	if err != nil {
		return nil, err
	}
	return p, p.template.Execute(io.Discard, p.view(collector.Status{}, q))
}

func (p *statusPage) serveHTML(w http.ResponseWriter, r *http.Request) {
	q, err := parseTableQuery(r.URL.Query())
	if err != nil {
		respondText(w, http.StatusBadRequest, err.Error())
		return
	}
	var page bytes.Buffer
	if err := p.template.Execute(&page, p.view(p.collector.Status(), q)); err != nil {
		respondText(w, http.StatusInternalServerError, "render the status page: "+err.Error())
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	respond(w, http.StatusOK, "text/html; charset=utf-8", page.Bytes())
}

// statusDocument is the status as JSON. Fields are added to it, never removed or given
// another meaning.
type statusDocument struct {
	Time    time.Time         `json:"time"`
	Build   map[string]string `json:"build"`
	Started time.Time         `json:"started"`
	// Ready is what /-/ready says.
	Ready bool `json:"ready"`
	// Problems are the present ones, worst first, then those resolved lately.
	Problems      []problem                      `json:"problems"`
	Organizations []collector.OrganizationStatus `json:"organizations"`
}

// serveJSON takes the filters of the page, too.
func (p *statusPage) serveJSON(w http.ResponseWriter, r *http.Request) {
	q, err := parseTableQuery(r.URL.Query())
	if err != nil {
		respondText(w, http.StatusBadRequest, err.Error())
		return
	}
	status := p.collector.Status()
	active, resolved := p.history.problems(findProblems(status))
	document := statusDocument{
		Time: status.Time, Build: p.build, Started: p.started, Ready: p.collector.Ready(),
		Problems: append(active, resolved...), Organizations: status.Organizations,
	}
	if q.filters() {
		for i := range document.Organizations {
			o := &document.Organizations[i]
			selected := []collector.ServiceStatus{}
			for j := range o.Services {
				if q.matches(&row{o, &o.Services[j]}) {
					selected = append(selected, o.Services[j])
				}
			}
			o.Services = selected
		}
	}
	body, err := json.Marshal(document)
	if err != nil {
		respondText(w, http.StatusInternalServerError, "encode the status as JSON: "+err.Error())
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	respond(w, http.StatusOK, "application/json", append(body, '\n'))
}
