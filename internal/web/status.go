package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
)

//go:embed assets
var assetFiles embed.FS

// contentSecurityPolicy lets the status page load its own style, script and
// icon, lets the script fetch the page anew, and nothing else.
const contentSecurityPolicy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// assetPath is where the status page's style, script and icon are served.
const assetPath = "/-/assets/"

// assetType does not ask the operating system, which may say anything.
func assetType(name string) string {
	switch path.Ext(name) {
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return ""
}

// asset is a file of the page's, as it is served.
type asset struct {
	contentType string
	etag        string
	body        []byte
}

// statusPage serves the page that an operator opens, and its twin for
// programs.
type statusPage struct {
	collector     Collector
	history       *History // nil for none
	name, version string
	telemetryPath string
	started       time.Time
	template      *template.Template
	assets        map[string]asset // by file name
}

func newStatusPage(o Options) (*statusPage, error) {
	p := &statusPage{
		collector: o.Collector, history: o.History,
		name: o.Name, version: o.Version, telemetryPath: o.TelemetryPath,
		started: time.Now(), assets: map[string]asset{},
	}
	files, err := fs.Glob(assetFiles, "assets/*")
	if err != nil {
		return nil, err
	}
	for _, name := range files {
		if path.Ext(name) == ".html" {
			continue
		}
		body, err := assetFiles.ReadFile(name)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(body)
		p.assets[path.Base(name)] = asset{
			contentType: assetType(name),
			etag:        `"` + hex.EncodeToString(sum[:8]) + `"`,
			body:        body,
		}
	}
	p.template, err = template.New("status.html").Funcs(template.FuncMap{
		"asset": p.assetURL,
		"spell": spell, "ago": ago, "percent": percent, "thousands": thousands, "size": size,
		"clock": clock, "machine": machine,
	}).ParseFS(assetFiles, "assets/*.html")
	if err != nil {
		return nil, err
	}
	return p, p.checkAssets()
}

// assetURL is an asset's address, relative to the page so that it also works
// behind a proxy that adds a path of its own. It changes with the content, so
// that a browser never keeps an old one.
func (p *statusPage) assetURL(name string) string {
	return assetPath[1:] + name + "?v=" + strings.Trim(p.assets[name].etag, `"`)
}

func (p *statusPage) serveAsset(w http.ResponseWriter, r *http.Request) {
	a, ok := p.assets[r.PathValue("name")]
	if !ok {
		plain(w, http.StatusNotFound, "no such page")
		return
	}
	h := w.Header()
	h.Set("ETag", a.etag)
	h.Set("Cache-Control", "max-age=86400")
	if matches(r.Header.Values("If-None-Match"), a.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	p.answer(w, a.contentType, a.body)
}

// ServeHTTP answers the page.
func (p *statusPage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	sel, err := parseSelection(r.URL.Query())
	if err != nil {
		plain(w, http.StatusBadRequest, err.Error())
		return
	}
	var page bytes.Buffer
	if err := p.template.Execute(&page, p.view(p.collector.Status(), sel)); err != nil {
		plain(w, http.StatusInternalServerError, "cannot make the status page: "+err.Error())
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	p.answer(w, "text/html; charset=utf-8", page.Bytes())
}

// statusDocument is the page's twin for programs. Fields are added to it, never
// removed or given another meaning.
type statusDocument struct {
	Time    time.Time `json:"time"`
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	// Ready is what /-/ready says.
	Ready bool `json:"ready"`
	// Problems are those that there are, worst first, then those that are over.
	Problems      []problem                      `json:"problems"`
	Organizations []collector.OrganizationStatus `json:"organizations"`
}

// serveJSON answers the twin. The page's filters select services here, too.
func (p *statusPage) serveJSON(w http.ResponseWriter, r *http.Request) {
	sel, err := parseSelection(r.URL.Query())
	if err != nil {
		plain(w, http.StatusBadRequest, err.Error())
		return
	}
	status := p.collector.Status()
	document := statusDocument{
		Time: status.Time, Version: p.version, Started: p.started, Ready: p.collector.Ready(),
		Problems: append([]problem{}, p.problems(status)...), Organizations: status.Organizations,
	}
	if sel.filters() {
		for i := range document.Organizations {
			o := &document.Organizations[i]
			selected := []collector.ServiceStatus{}
			for j := range o.Services {
				if sel.matches(&row{o, &o.Services[j]}) {
					selected = append(selected, o.Services[j])
				}
			}
			o.Services = selected
		}
	}
	body, err := json.Marshal(document)
	if err != nil {
		plain(w, http.StatusInternalServerError, "cannot write the status as JSON: "+err.Error())
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	p.answer(w, "application/json", append(body, '\n'))
}

// problems returns what is wrong, and what was until lately.
func (p *statusPage) problems(s collector.Status) []problem {
	found := findProblems(s)
	if p.history == nil {
		return found
	}
	p.history.since(found)
	return append(found, p.history.over()...)
}

func (p *statusPage) answer(w http.ResponseWriter, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	// The server drops the body of an answer to HEAD.
	_, _ = w.Write(body)
}

// checkAssets is for NewHandler: a page without its style is a broken build.
func (p *statusPage) checkAssets() error {
	for _, name := range []string{"status.css", "status.js", "icon.svg"} {
		if len(p.assets[name].body) == 0 || p.assets[name].contentType == "" {
			return fmt.Errorf("asset %s is missing: this is a bug", name)
		}
	}
	return nil
}
