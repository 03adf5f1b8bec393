package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/config"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/web"
)

// The exporter's own key in the demo. The rate limit counts per key, so that
// the user, who is given another key, has the whole of it for curl.
const (
	demoKeyID     = "demo-exporter"
	demoKeySecret = "demo-exporter-secret"
)

// demoState is the state of service number i: of every twelve, three do not run, so
// that the demo shows what that looks like. The first few all run.
func demoState(i int) string {
	switch i % 12 {
	case 5:
		return inventory.StateStopped
	case 7:
		return inventory.StateRestarting
	case 11:
		return inventory.StateCreating
	default:
		return inventory.StateRunning
	}
}

// demo is the simulated API, served on a listener of its own.
type demo struct {
	listener  net.Listener
	simulator *simulator.Simulator
	polled    time.Duration // how often the exporter asks for metrics
}

// newDemo listens, and changes c so that the exporter polls what it serves.
func newDemo(c *config.Config) (*demo, error) {
	l, err := net.Listen("tcp", c.Demo.ListenAddress)
	if err != nil {
		return nil, fmt.Errorf("cannot serve the simulated API: %w; choose another --demo.listen-address", err)
	}
	limit, window := c.Organization.Rate()
	s := simulator.New(simulator.Config{
		Services:        c.Demo.Services,
		Seed:            c.Demo.Seed,
		RefreshInterval: config.DemoInterval,
		CreateDelay:     3 * config.DemoInterval,
		RestartDelay:    2 * config.DemoInterval,
		DeleteDelay:     2 * config.DemoInterval,
		BackupDelay:     3 * config.DemoInterval,
		ChangeDelay:     2 * config.DemoInterval,
		FillDisks:       true,
		RateLimit:       limit,
		RateWindow:      window,
	})
	s.AddKey(simulator.Key{ID: demoKeyID, Secret: demoKeySecret})
	for i, v := range s.Services() {
		if state := demoState(i); state != inventory.StateRunning {
			s.SetState(v.ID, state)
		}
	}
	d := &demo{listener: l, simulator: s, polled: c.Organization.MetricsInterval}
	c.Organization.Name = s.Config().OrganizationName
	c.Organization.Simulate(d.url(), s.Config().OrganizationID, api.StaticCredentials(demoKeyID, demoKeySecret))
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

// onDemo calls f, and serves the simulated API for that long if c asks for it.
func onDemo(c *config.Config, stderr io.Writer, f func() error) error {
	if !c.Demo.Enabled {
		return f()
	}
	logs, err := newLoggers(stderr, c.LogLevel, c.LogFormat)
	if err != nil {
		return err
	}
	d, err := newDemo(c)
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
	s, running := d.simulator.Config(), 0
	for _, v := range d.simulator.Services() {
		if v.State == inventory.StateRunning {
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

This key may make %d requests in %s, as in the cloud. The simulated values
change every %s, and the exporter, which has a key of its own, asks for them
every %s:

  curl -s %s | grep PostgresServer_CPUSeconds_Total

`, s.Services, running, d.url(), d.url(), s.KeyID, s.KeySecret, s.OrganizationID,
		s.RateLimit, s.RateWindow, config.DemoInterval, d.polled, metrics)
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
