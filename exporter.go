package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-kit/log/level"
	actors "github.com/oklog/run"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/common/version"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/config"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/web"
)

// exporter is the program once all that could keep it from starting is done.
type exporter struct {
	options *config.Config
	logs    loggers
	servers *servers
	demo    *demo // nil without --demo
	polling *polling
	history *web.History
}

// prepare does all that can fail for a reason that the user can fix: it reads
// files, listens on ports, puts the parts together. Nothing runs yet, and no
// request has been sent.
func prepare(c *config.Config, stdout, stderr io.Writer) (_ *exporter, err error) {
	logs, err := newLoggers(stderr, c.LogLevel, c.LogFormat)
	if err != nil {
		return nil, err
	}
	if c.CheckOnly {
		if err := checkOnly(c); err != nil {
			return nil, err
		}
		_, _ = fmt.Fprintln(stdout, "The configuration is valid.")
		return nil, errDone
	}

	if err := checkWebConfig(webFlags(c)); err != nil {
		return nil, err
	}
	if err := c.Organization.CheckKey(); err != nil {
		return nil, err
	}

	e := &exporter{options: c, logs: logs}
	defer func() {
		if err != nil {
			e.close()
		}
	}()
	if c.Demo.Enabled {
		if e.demo, err = newDemo(c); err != nil {
			return nil, err
		}
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		versioncollector.NewCollector(config.Program),
	)
	metrics := web.NewMetrics(registry)
	if e.polling, err = newPolling(c, registry, logs.kit); err != nil {
		return nil, err
	}
	if e.servers, err = listen(webFlags(c)); err != nil {
		return nil, err
	}
	e.history = web.NewHistory(e.polling.collector)
	pages := web.Options{
		Collector:         e.polling.collector,
		ExporterMetrics:   registry,
		TelemetryPath:     c.TelemetryPath,
		PreferOpenMetrics: c.PreferOpenMetrics,
		ExternalURL:       c.ExternalURL,
		RoutePrefix:       c.Prefix(),
		Name:              "ClickHouse Postgres exporter",
		Build: map[string]string{
			"version": version.Version, "revision": version.GetRevision(), "branch": version.Branch,
			"build_user": version.BuildUser, "build_date": version.BuildDate,
			"go_version": version.GoVersion, "platform": version.GoOS + "/" + version.GoArch,
		},
		History: e.history,
		Metrics: metrics,
		Logger:  logs.kit,
	}
	if c.EnableLifecycle {
		pages.Reload = e.polling.reload
	}
	if c.DisableExporterMetrics {
		pages.ExporterMetrics = nil
	}
	handler, err := web.NewHandler(pages)
	if err != nil {
		return nil, err
	}
	e.servers.handle(handler, c.Prefix(), e.polling.collector, logs)
	if e.demo != nil {
		e.demo.introduce(stdout, e.servers.url(c.Prefix()+c.TelemetryPath))
	}
	return e, nil
}

// checkOnly says what would keep the exporter from starting; of this machine it looks at
// nothing if only the syntax is to be checked.
func checkOnly(c *config.Config) error {
	flags := webFlags(c)
	if c.SyntaxOnly {
		return errors.Join(checkWebSyntax(flags), config.NewLoader(c).Validate())
	}
	return errors.Join(checkWebConfig(flags), checkListen(flags), config.NewLoader(c).Validate())
}

// close gives back what prepare took when it could not finish.
func (e *exporter) close() {
	if e.servers != nil {
		e.servers.close()
	}
	if e.demo != nil {
		e.demo.listener.Close()
	}
}

// run polls and serves until ctx ends, a signal comes, or a part fails; only
// the last is an error.
func (e *exporter) run(ctx context.Context) error {
	logger := e.logs.kit
	level.Info(logger).Log("msg", "Starting "+config.Program, "version", version.Info())
	level.Info(logger).Log("msg", "Build context", "build_context", version.BuildContext())
	// The order is that of stopping: first no more polls, then drain scrapes,
	// which are answered from memory.
	var group actors.Group
	{
		ctx, cancel := context.WithCancel(ctx)
		group.Add(func() error { return e.polling.collector.Run(ctx) }, func(error) { cancel() })
	}
	{
		ctx, cancel := context.WithCancel(ctx)
		group.Add(func() error { return e.history.Run(ctx) }, func(error) { cancel() })
	}
	if os.Getenv("GOGC") == "" {
		ctx, cancel := context.WithCancel(ctx)
		group.Add(func() error { return collectGarbage(ctx, e.polling.collector) }, func(error) { cancel() })
	}
	group.Add(e.servers.run, func(error) { e.servers.shutdown() }) //nolint:contextcheck // ctx may have ended, draining begins
	if e.demo != nil {
		server := e.demo.server(e.logs)
		group.Add(func() error { return server.Serve(e.demo.listener) }, func(error) { server.Close() })
	}
	if interval := e.options.AutoReloadInterval; interval > 0 {
		ctx, cancel := context.WithCancel(ctx)
		group.Add(func() error { return e.polling.watch(ctx, interval) }, func(error) { cancel() })
	}
	{
		hangup := make(chan os.Signal, 1)
		ctx, cancel := context.WithCancel(ctx)
		signal.Notify(hangup, syscall.SIGHUP)
		group.Add(func() error {
			defer signal.Stop(hangup)
			for {
				select {
				case <-hangup:
					// What comes of it is logged.
					_ = e.polling.reload() //nolint:contextcheck // polls go by the context of Run
				case <-ctx.Done():
					return nil
				}
			}
		}, func(error) { cancel() })
	}
	{
		terminate := make(chan os.Signal, 1)
		ctx, cancel := context.WithCancel(ctx)
		signal.Notify(terminate, os.Interrupt, syscall.SIGTERM)
		group.Add(func() error {
			// From here on a second signal does what signals do without us:
			// it ends the process at once.
			defer signal.Stop(terminate)
			select {
			case s := <-terminate:
				level.Info(logger).Log("msg", "Stopping; a second signal quits at once", "signal", s)
			case <-ctx.Done():
			}
			return nil
		}, func(error) { cancel() })
	}
	return group.Run()
}
