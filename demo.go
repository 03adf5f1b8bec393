package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/web"
)

// demoInterval is how often the demo polls, and how often its simulated
// values change: fast enough to watch.
const demoInterval = 5 * time.Second

// The exporter's own key in the demo. The rate limit counts per key, so that
// the user, who is given another key, has the whole of it for curl.
const (
	demoKeyID     = "demo-exporter"
	demoKeySecret = "demo-exporter-secret"
)

// demoRunning is the state of most of the demo's services.
const demoRunning = "running"

// demoState is the state of service number i: of every twelve, three do not run, so
// that the demo shows what that looks like. The first few all run.
func demoState(i int) string {
	switch i % 12 {
	case 5:
		return "stopped"
	case 7:
		return "restarting"
	case 11:
		return "creating"
	default:
		return demoRunning
	}
}

// demo is the simulated API, served on a listener of its own.
type demo struct {
	listener  net.Listener
	simulator *simulator.Simulator
}

// newDemo listens, and changes o so that the exporter polls what it serves.
func newDemo(o *options) (*demo, error) {
	l, err := net.Listen("tcp", o.demoListenAddress)
	if err != nil {
		return nil, fmt.Errorf("cannot serve the simulated API: %w; choose another --demo.listen-address", err)
	}
	s := simulator.New(simulator.Config{
		Services:        o.demoServices,
		Seed:            o.demoSeed,
		RefreshInterval: demoInterval,
		CreateDelay:     3 * demoInterval,
		RestartDelay:    2 * demoInterval,
		DeleteDelay:     2 * demoInterval,
		BackupDelay:     3 * demoInterval,
		ChangeDelay:     2 * demoInterval,
		FillDisks:       true,
		RateLimit:       o.rate.limit,
		RateWindow:      o.rate.window,
	})
	s.AddKey(simulator.Key{ID: demoKeyID, Secret: demoKeySecret})
	for i, v := range s.Services() {
		if state := demoState(i); state != demoRunning {
			s.SetState(v.ID, state)
		}
	}
	d := &demo{listener: l, simulator: s}
	o.apiURL = d.url()
	o.organizationID = s.Config().OrganizationID
	o.credentials = api.StaticCredentials(demoKeyID, demoKeySecret)
	return d, nil
}

func (d *demo) url() string { return "http://" + dialable(d.listener.Addr()) }

// server serves the simulated API with the same bounds as the exporter's own
// pages.
func (d *demo) server(l loggers) *http.Server {
	return &http.Server{
		Handler:           d.simulator,
		ReadHeaderTimeout: 15 * time.Second,
		WriteTimeout:      time.Minute,
		IdleTimeout:       time.Minute,
		ErrorLog:          web.ServerLog(l.kit),
	}
}

// onDemo calls f, and serves the simulated API for that long if o asks for it.
func onDemo(o *options, stderr io.Writer, f func() error) error {
	if !o.demo {
		return f()
	}
	logs, err := newLoggers(stderr, o.logLevel, o.logFormat)
	if err != nil {
		return err
	}
	d, err := newDemo(o)
	if err != nil {
		return err
	}
	server, stopped := d.server(logs), make(chan struct{})
	go func() {
		defer close(stopped)
		_ = server.Serve(d.listener) // ends with ErrServerClosed
	}()
	defer func() {
		server.Close()
		<-stopped
	}()
	return f()
}

// introduce tells how to play with the demo.
func (d *demo) introduce(w io.Writer, metrics string) {
	c, running := d.simulator.Config(), 0
	for _, v := range d.simulator.Services() {
		if v.State == demoRunning {
			running++
		}
	}
	// A closed stdout is no reason to stop.
	_, _ = fmt.Fprintf(w, `Simulating ClickHouse Cloud with %d Postgres services, %d of them running, at %s

In another terminal, for the commands of the Managed Postgres API guide
(put $API_URL where they say https://api.clickhouse.cloud):

  export API_URL=%s
  export KEY_ID=%s
  export KEY_SECRET=%s
  export ORG_ID=%s
  curl -s --user "$KEY_ID:$KEY_SECRET" "$API_URL/v1/organizations/$ORG_ID/postgres"

This key may make %d requests in %s, as in the cloud. The exporter follows
within %s, with a key of its own:

  curl -s %s | grep PostgresServer_CPUSeconds_Total

`, c.Services, running, d.url(), d.url(), c.KeyID, c.KeySecret, c.OrganizationID,
		c.RateLimit, c.RateWindow, 2*demoInterval, metrics)
}

// dialable returns a listener's address as a client on this machine can use
// it: one that means all interfaces becomes localhost.
func dialable(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return a.String()
	}
	if len(tcp.IP) == 0 || tcp.IP.IsUnspecified() {
		return fmt.Sprintf("localhost:%d", tcp.Port)
	}
	return tcp.String()
}
