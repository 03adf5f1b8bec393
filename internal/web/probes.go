package web

import (
	"context"
	"net"
	"net/http"
)

// What a probe asks for.
const (
	healthyPath = "/-/healthy"
	readyPath   = "/-/ready"
)

// OpenProbes lets server answer at /-/healthy and /-/ready whom exporter-toolkit
// refuses for the lack of a password: Kubernetes has none for its probes. They are
// told the status alone; the reason is for those who log in.
//
// The toolkit puts its login around server.Handler when it begins to serve, and asks
// for BaseContext after that, which is the moment to look at its answers from outside.
func OpenProbes(server *http.Server, c Collector) {
	base := server.BaseContext
	server.BaseContext = func(l net.Listener) context.Context {
		server.Handler = openProbes(server.Handler, c)
		return base(l)
	}
}

func openProbes(next http.Handler, c Collector) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
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
			plain(w, http.StatusOK, "ready")
		default:
			plain(w, http.StatusServiceUnavailable, "not ready: log in for the reason, or see the log")
		}
	})
}

// probeWriter holds back an answer that asks for a password or for patience.
type probeWriter struct {
	http.ResponseWriter
	refused bool
}

func (w *probeWriter) WriteHeader(code int) {
	if code == http.StatusUnauthorized || code == http.StatusTooManyRequests {
		w.refused = true
		w.Header().Del("WWW-Authenticate")
		return
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *probeWriter) Write(p []byte) (int, error) {
	if w.refused {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}
