package web

import (
	"net/http"
	"strings"
	"testing"
)

func TestAssets(t *testing.T) {
	base := serve(t, Options{Collector: withData()})
	for name, contentType := range map[string]string{
		"status.css": "text/css; charset=utf-8", "status.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml",
	} {
		a := do(t, "GET", base+"/-/assets/"+name, nil)
		tag := a.header.Get("ETag")
		if a.code != http.StatusOK || a.header.Get("Content-Type") != contentType || len(a.body) == 0 || tag == "" {
			t.Errorf("%s: code %d, header %v", name, a.code, a.header)
		}
		if a := do(t, "GET", base+"/-/assets/"+name, http.Header{"If-None-Match": {tag}}); a.code != http.StatusNotModified || len(a.body) != 0 {
			t.Errorf("%s: code %d when it is known", name, a.code)
		}
		if strings.Contains(string(a.body), "http://") && name != "icon.svg" || strings.Contains(string(a.body), "https://") || strings.Contains(string(a.body), "@import") {
			t.Errorf("%s refers to elsewhere", name)
		}
	}
	for _, path := range []string{"/-/assets/", "/-/assets/status.html", "/-/assets/none", "/-/assets/..%2fstatus.css"} {
		if a := do(t, "GET", base+path, nil); a.code != http.StatusNotFound {
			t.Errorf("%s: code %d", path, a.code)
		}
	}
}
