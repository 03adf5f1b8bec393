package web

import (
	"net/http"
	"sync"
)

// healthy is about the process alone: an upstream outage is no reason to
// restart it.
func healthy(w http.ResponseWriter, _ *http.Request) {
	plain(w, http.StatusOK, "healthy")
}

// reloader runs one reload at a time.
type reloader struct {
	mu     sync.Mutex
	reload func() error
}

func (l *reloader) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reload != nil {
		if err := l.reload(); err != nil {
			plain(w, http.StatusInternalServerError, "reload failed, the running configuration stays: "+err.Error())
			return
		}
	}
	plain(w, http.StatusOK, "reloaded")
}
