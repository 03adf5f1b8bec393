package web

import (
	"context"
	stdlog "log"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

const (
	// Prometheus keeps its connections between scrapes, whose interval is seldom
	// above a few minutes.
	idleTimeout = 5 * time.Minute
	// readTimeout bounds a slow request; no request here has a body worth reading.
	readTimeout = 15 * time.Second
	// writeTimeout bounds a response, unless the client announces a longer scrape
	// timeout.
	writeTimeout = time.Minute
	// maxHeaderBytes is far more than a scrape needs, which sends a few hundred.
	maxHeaderBytes = 64 << 10
)

// NewServer returns a server for handler with a timeout for everything that a client
// can delay. When ctx ends, requests that wait for the first refresh stop waiting;
// responses in progress are completed. The server does not stop by itself: call its
// Shutdown.
func NewServer(ctx context.Context, handler http.Handler, logger log.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          ServerLog(logger),
	}
}

// ServerLog returns an ErrorLog for net/http's servers. Almost all of its messages are
// about clients that hang up or fail the TLS handshake, as port checks do all day;
// they are logged at level debug.
func ServerLog(logger log.Logger) *stdlog.Logger {
	return stdlog.New(serverLog{logger}, "", 0)
}

type serverLog struct{ logger log.Logger }

func (l serverLog) Write(p []byte) (int, error) {
	leveled := level.Debug(l.logger)
	if strings.Contains(string(p), "panic") {
		leveled = level.Error(l.logger)
	}
	return len(p), leveled.Log("msg", "HTTP server", "err", strings.TrimSpace(string(p)))
}
