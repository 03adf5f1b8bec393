package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/go-kit/log/level"
	"github.com/mdlayher/vsock"
	toolkit "github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v2"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/web"
)

// drainTime is how long answers in progress may take when the program is told
// to stop. Kubernetes kills after 30 s by default.
const drainTime = 15 * time.Second

// servers serve the same pages on each listener. Every listener has a server
// of its own, because exporter-toolkit changes the server that it is given.
type servers struct {
	flags     *toolkit.FlagConfig
	listeners []net.Listener
	http      []*http.Server
	logs      loggers

	// stopWaiting ends the wait of scrapes for the first refresh.
	stopWaiting context.CancelFunc
}

// checkWebConfig says what would keep a server from serving by --web.config.file. It
// starts one that accepts no connection, since toolkit.Validate does not look at what
// net/http asks of TLS.
func checkWebConfig(flags *toolkit.FlagConfig) error {
	file := *flags.WebConfigFile
	if file == "" {
		return nil
	}
	err := toolkit.Serve(noConnections{}, &http.Server{ReadHeaderTimeout: time.Second}, flags, slog.New(slog.DiscardHandler))
	if errors.Is(err, errNoConnections) {
		return nil
	}
	return webConfigError(file, err)
}

// checkWebSyntax says what is wrong in --web.config.file itself, for machines that do not
// have the files that it names.
func checkWebSyntax(flags *toolkit.FlagConfig) error {
	file := *flags.WebConfigFile
	if file == "" {
		return nil
	}
	content, err := os.ReadFile(file)
	if err == nil {
		err = yaml.UnmarshalStrict(content, &toolkit.Config{})
	}
	return webConfigError(file, err)
}

// webConfigError puts an error of --web.config.file, or none, on one line: those of the
// YAML package have several.
func webConfigError(file string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("--web.config.file=%s: %s", file, strings.Join(strings.Fields(err.Error()), " "))
}

var errNoConnections = errors.New("no connections")

// noConnections is a listener on nothing.
type noConnections struct{}

// Accept ends the server that listens.
func (noConnections) Accept() (net.Conn, error) { return nil, errNoConnections }

// Close has nothing to close.
func (noConnections) Close() error { return nil }

// Addr is nowhere.
func (noConnections) Addr() net.Addr { return &net.TCPAddr{} }

// listen takes the ports, so that one that is taken is found before anything
// else is done.
func listen(flags *toolkit.FlagConfig) (_ *servers, err error) {
	s := &servers{flags: flags}
	if flags.WebSystemdSocket != nil && *flags.WebSystemdSocket {
		s.listeners, err = activation.Listeners()
		if err == nil && len(s.listeners) == 0 {
			err = errors.New("systemd passed no socket: start the exporter by a .socket unit")
		}
		if err != nil {
			return nil, fmt.Errorf("--web.systemd-socket: %w", err)
		}
		return s, nil
	}
	for _, address := range *flags.WebListenAddresses {
		l, err := listenOn(address)
		if err != nil {
			s.close()
			return nil, listenError(address, err)
		}
		s.listeners = append(s.listeners, l)
	}
	return s, nil
}

// checkListen says why listen would fail on this machine, unless a port is in use: what
// uses it may be the exporter that runs.
func checkListen(flags *toolkit.FlagConfig) error {
	if *flags.WebSystemdSocket {
		return nil
	}
	for _, address := range *flags.WebListenAddresses {
		l, err := listenOn(address)
		switch {
		case err == nil:
			l.Close()
		case !errors.Is(err, syscall.EADDRINUSE):
			return listenError(address, err)
		}
	}
	return nil
}

// listenError is a sentence for the user.
func listenError(address string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("cannot listen on %s, the address is in use: stop what uses it or choose another --web.listen-address", address)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("cannot listen on %s, permission denied: choose a --web.listen-address with a port above 1023", address)
	}
	return fmt.Errorf("--web.listen-address=%s: %w", address, err)
}

func listenOn(address string) (net.Listener, error) {
	if !strings.HasPrefix(address, "vsock://") {
		return net.Listen("tcp", address)
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(u.Port(), 10, 32)
	if err != nil {
		return nil, errors.New("a vsock address looks like vsock://:9924")
	}
	return vsock.Listen(uint32(port), nil)
}

// url returns where a client on this machine finds path. Whether that needs
// https is only known to the web configuration file, so that none is assumed.
func (s *servers) url(path string) string {
	address := dialable(s.listeners[0].Addr()) + path
	if *s.flags.WebConfigFile != "" {
		return address
	}
	return "http://" + address
}

// handle says what to serve, and from where probes learn about health.
func (s *servers) handle(handler http.Handler, routePrefix string, c web.Collector, logs loggers) {
	s.logs = logs
	ctx, cancel := context.WithCancel(context.Background())
	s.stopWaiting = cancel
	for range s.listeners {
		server := web.NewServer(ctx, handler, logs.kit)
		web.OpenProbes(server, routePrefix, c)
		s.http = append(s.http, server)
	}
}

// run serves until one of the servers ends.
func (s *servers) run() error {
	ended := make(chan error, len(s.http))
	for i, server := range s.http {
		go func() { ended <- toolkit.Serve(s.listeners[i], server, s.flags, s.logs.slog) }()
	}
	return <-ended
}

// shutdown refuses new connections and lets answers in progress finish.
func (s *servers) shutdown() {
	s.stopWaiting()
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	var wg sync.WaitGroup
	for _, server := range s.http {
		wg.Go(func() {
			if err := server.Shutdown(ctx); err != nil {
				level.Warn(s.logs.kit).Log("msg", "Some answers were cut off", "after", drainTime, "err", err)
				server.Close()
			}
		})
	}
	wg.Wait()
}

func (s *servers) close() {
	for _, l := range s.listeners {
		l.Close()
	}
}
