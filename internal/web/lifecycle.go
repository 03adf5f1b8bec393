package web

import (
	"net/http"
	"sync"
)

// Paths of the probes.
const (
	healthyPath = "/-/healthy"
	readyPath   = "/-/ready"
)

// healthy is about the process alone: an upstream outage is no reason to restart it.
func healthy(w http.ResponseWriter, _ *http.Request) {
	respondText(w, http.StatusOK, "healthy")
}

// ready tells whether there is something to serve.
func ready(c Collector) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if c.Ready() {
			respondText(w, http.StatusOK, "ready")
			return
		}
		respondText(w, http.StatusServiceUnavailable, "not ready: "+unavailableReason(c))
	}
}

// unavailableReason says why there is no data.
func unavailableReason(c Collector) string {
	for _, o := range c.Status().Organizations {
		if o.Error != "" {
			return o.Error
		}
	}
	return "waiting for the first response from ClickHouse Cloud"
}

// reloadHandler returns a handler that runs one reload at a time, nil to refuse. It takes
// no requests from pages of other origins: a browser would add the password to these.
func reloadHandler(run func() error) http.Handler {
	var mu sync.Mutex
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if run == nil {
			respondText(w, http.StatusForbidden, "reloading by HTTP is switched off: set --web.enable-lifecycle, or send SIGHUP")
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if err := run(); err != nil {
			respondText(w, http.StatusInternalServerError, "reload failed, the running configuration stays in effect: "+err.Error())
			return
		}
		respondText(w, http.StatusOK, "reloaded")
	})
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		respondText(w, http.StatusForbidden, "pages of other origins cannot reload the configuration")
	}))
	return protection.Handler(handler)
}
