// Command clickhouse_postgres_exporter exports the metrics of ClickHouse
// Cloud's Managed Postgres services to Prometheus, each series labelled with
// what the inventory knows of its service.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	actors "github.com/oklog/run"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/common/version"

	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/command"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/config"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/web"
)

func main() {
	// A build without the linker's flags, such as go run, knows at least this.
	if info, ok := debug.ReadBuildInfo(); ok && version.Version == "" {
		version.Version = info.Main.Version
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collector.GCPercent)
	}
	os.Exit(run(context.Background(), os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr))
}

// errEnough is returned when all that was asked for is done.
var errEnough = errors.New("nothing more to do")

// run is the program: it ends when ctx does, or on a signal, and returns the
// exit code. What keeps it from starting is said in one line on stderr, what
// happens afterwards is logged there.
func run(ctx context.Context, args []string, lookup func(string) (string, bool), stdout, stderr io.Writer) int {
	c, name, err := parseFlags(args, lookup, stdout, stderr)
	var e *exporter
	if err == nil {
		switch name {
		case config.CommandHealthcheck:
			err = cmp.Or(command.Healthcheck(ctx, c), errEnough)
		case config.CommandCheck:
			err = cmp.Or(onDemo(c, stderr, func() error { return command.Check(ctx, c, stdout) }), errEnough)
		case config.CommandOnce:
			err = cmp.Or(onDemo(c, stderr, func() error { return once(ctx, c, stdout, stderr) }), errEnough)
		default:
			e, err = prepare(c, stdout, stderr) //nolint:contextcheck // nothing runs yet
		}
	}
	switch {
	case errors.Is(err, errEnough):
		return 0
	case err != nil:
		for line := range strings.Lines(err.Error()) {
			_, _ = fmt.Fprintf(stderr, "%s: error: %s\n", config.Program, strings.TrimSuffix(line, "\n"))
		}
		return 1
	}
	if err := e.run(ctx); err != nil {
		level.Error(e.logs.kit).Log("msg", "Stopped", "err", err)
		return 1
	}
	level.Info(e.logs.kit).Log("msg", "Stopped")
	return 0
}

// once prints a page, and logs if somebody wants to know more than the error.
func once(ctx context.Context, c *config.Config, stdout, stderr io.Writer) error {
	logger := log.NewNopLogger()
	if c.Given("log.level") {
		logs, err := newLoggers(stderr, c.LogLevel, c.LogFormat)
		if err != nil {
			return err
		}
		logger = logs.kit
	}
	return command.Once(ctx, c, stdout, logger)
}

// exporter is the program once all that could keep it from starting is done.
type exporter struct {
	options *config.Config
	logs    loggers
	servers *servers
	demo    *demo // nil without --demo
	polling *polling
	history *web.History
}

// prepare does all that can fail for a reason that the user can mend: it reads
// files, listens on ports, puts the parts together. Nothing runs yet, and no
// request has been sent.
func prepare(c *config.Config, stdout, stderr io.Writer) (_ *exporter, err error) {
	logs, err := newLoggers(stderr, c.LogLevel, c.LogFormat)
	if err != nil {
		return nil, err
	}
	if err := checkWebConfig(webFlags(c)); err != nil {
		return nil, err
	}
	if c.CheckOnly {
		if err := config.NewLoader(c).Validate(); err != nil {
			return nil, err
		}
		_, _ = fmt.Fprintln(stdout, "The configuration is valid.")
		return nil, errEnough
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
		Reload:            e.polling.reload,
		Name:              "ClickHouse Postgres exporter",
		Version:           version.Info(),
		History:           e.history,
		Metrics:           metrics,
		Logger:            logs.kit,
	}
	if c.DisableExporterMetrics {
		pages.ExporterMetrics = nil
	}
	handler, err := web.NewHandler(pages)
	if err != nil {
		return nil, err
	}
	e.servers.handle(handler, e.polling.collector, logs)
	if e.demo != nil {
		e.demo.introduce(stdout, e.servers.url(c.TelemetryPath))
	}
	return e, nil
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
	group.Add(e.servers.run, func(error) { e.servers.shutdown() }) //nolint:contextcheck // ctx may have ended, draining begins
	if e.demo != nil {
		server := e.demo.server(e.logs)
		group.Add(func() error { return server.Serve(e.demo.listener) }, func(error) { server.Close() })
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
