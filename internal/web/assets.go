package web

import (
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"path"
	"strings"
)

//go:embed assets
var assetFiles embed.FS

// contentSecurityPolicy lets the status page load its own style sheet, script and icon,
// lets the script fetch the page again, and nothing else.
const contentSecurityPolicy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// assetPath is where the status page's style sheet, script and icon are served.
const assetPath = "/-/assets/"

// assetTypes are the content types of assets by extension: those of the operating
// system may differ.
func assetTypes() map[string]string {
	return map[string]string{
		".css": "text/css; charset=utf-8",
		".js":  "text/javascript; charset=utf-8",
		".svg": "image/svg+xml",
	}
}

// loadAssets returns the entity tags of the assets, by name, and the page's template.
func loadAssets() (tags map[string]string, page *template.Template, err error) {
	files, err := assetFiles.ReadDir("assets")
	if err != nil {
		return nil, nil, err
	}
	tags = map[string]string{}
	for _, f := range files {
		if assetTypes()[path.Ext(f.Name())] == "" {
			continue
		}
		body, err := assetFiles.ReadFile("assets/" + f.Name())
		if err != nil {
			return nil, nil, err
		}
		tags[f.Name()] = entityTag(body)
	}
	page, err = template.New("status.html").Funcs(template.FuncMap{
		// The address is relative to the page, so that it also works behind a proxy that
		// adds a path of its own. It changes with the content, so that a browser never
		// keeps an old version.
		"asset": func(name string) (string, error) {
			tag, ok := tags[name]
			if !ok {
				return "", fmt.Errorf("asset %s is missing: this is a bug", name)
			}
			return assetPath[1:] + name + "?v=" + strings.Trim(tag, `"`), nil
		},
		"integer": formatInteger, "bytes": formatBytes, "time": formatTime, "rfc3339": formatRFC3339,
	}).ParseFS(assetFiles, "assets/*.html")
	return tags, page, err
}

func (p *statusPage) serveAsset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	tag, ok := p.assets[name]
	if !ok {
		respondText(w, http.StatusNotFound, "page not found")
		return
	}
	body, err := assetFiles.ReadFile("assets/" + name)
	if err != nil {
		respondText(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Cache-Control", "max-age=86400")
	if !notModified(w, r, tag) {
		respond(w, http.StatusOK, assetTypes()[path.Ext(name)], body)
	}
}
