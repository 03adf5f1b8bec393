package web

import (
	"errors"
	"net/http"
	"path"
	"strings"
)

// ParseRoutePrefix parses the path below which all pages are served: "/" for none, ""
// if it is not said.
func ParseRoutePrefix(text string) (string, error) {
	switch {
	case text == "":
		return "", nil
	case strings.ContainsAny(text, "{}%?# \t\r\n"):
		return "", errors.New("must not contain {}%?# or white space")
	}
	return path.Clean("/" + text), nil
}

// prefixed serves pages below a prefix, "" for none. The probes are served at their own
// paths, too: who probes the process need not know how clients reach it.
func prefixed(prefix string, next http.Handler) http.Handler {
	if prefix == "" {
		return next
	}
	below := http.StripPrefix(prefix, next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch p := r.URL.Path; {
		case p == healthyPath || p == readyPath, p == "/" && r.Method == http.MethodOptions:
			next.ServeHTTP(w, r)
		case p == "/" || p == prefix:
			http.Redirect(w, r, prefix+"/", http.StatusFound)
		case strings.HasPrefix(p, prefix+"/"):
			below.ServeHTTP(w, r)
		default:
			respondText(w, http.StatusNotFound, "page not found")
		}
	})
}

// respondOptions responds to OPTIONS with the methods of a path. HAProxy checks health like
// this unless it is told otherwise.
func respondOptions(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var allowed []string
		if r.Method == http.MethodOptions {
			for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut} {
				other := *r
				other.Method = method
				if _, pattern := mux.Handler(&other); pattern != "" {
					allowed = append(allowed, method)
				}
			}
		}
		if len(allowed) == 0 {
			mux.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Allow", strings.Join(append(allowed, http.MethodOptions), ", "))
		w.WriteHeader(http.StatusNoContent)
	})
}

// secure sets the headers that every response carries and refuses paths that are not
// in their shortest form, to which the mux would respond with a redirect.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		setDefault(h, "X-Content-Type-Options", "nosniff")
		setDefault(h, "X-Frame-Options", "deny")
		setDefault(h, "Referrer-Policy", "no-referrer")
		setDefault(h, "Content-Security-Policy", contentSecurityPolicy)
		p := r.URL.EscapedPath()
		// With a slash at its end, a path is left to the mux.
		if clean := path.Clean(p); p != "*" && p != clean && (clean == "/" || p != clean+"/") {
			respondText(w, http.StatusNotFound, "page not found")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// setDefault leaves alone what the operator's web configuration has set.
func setDefault(h http.Header, key, value string) {
	if h.Get(key) == "" {
		h.Set(key, value)
	}
}
