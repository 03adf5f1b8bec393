package web

import (
	"context"
	"net"
	"net/http"
	"strings"
)

// OpenProbes makes server respond at /-/healthy and /-/ready to clients that
// exporter-toolkit refuses for the lack of a password: Kubernetes has none for its
// probes. They get the status alone; only clients that log in get the reason.
//
// The toolkit wraps server.Handler with its authentication when it begins to serve and
// asks for BaseContext after that: this is when its handler can be wrapped in turn.
func OpenProbes(server *http.Server, routePrefix string, c Collector) {
	base := server.BaseContext
	server.BaseContext = func(l net.Listener) context.Context {
		server.Handler = openProbes(server.Handler, routePrefix, c)
		return base(l)
	}
}

func openProbes(next http.Handler, prefix string, c Collector) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, prefix)
		if path != healthyPath && path != readyPath || r.Method != http.MethodGet && r.Method != http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		probe := &probeWriter{ResponseWriter: w}
		next.ServeHTTP(probe, r)
		switch {
		case !probe.refused:
		case path == healthyPath:
			healthy(w, r)
		case c.Ready():
			respondText(w, http.StatusOK, "ready")
		default:
			respondText(w, http.StatusServiceUnavailable, "not ready: log in for the reason, or see the log")
		}
	})
}

// probeWriter holds back a response that asks for a password, or to try again later.
type probeWriter struct {
	http.ResponseWriter
	refused bool
}

// WriteHeader notes a refusal, and passes on any other status.
func (w *probeWriter) WriteHeader(code int) {
	if code == http.StatusUnauthorized || code == http.StatusTooManyRequests {
		w.refused = true
		w.Header().Del("WWW-Authenticate")
		return
	}
	w.ResponseWriter.WriteHeader(code)
}

// Write drops what a refusal says.
func (w *probeWriter) Write(p []byte) (int, error) {
	if w.refused {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}
