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
	"runtime/debug"
	"strings"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/prometheus/common/version"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/command"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/config"
)

func main() {
	// A build without the linker's flags, such as go run, knows at least this.
	if info, ok := debug.ReadBuildInfo(); ok && version.Version == "" {
		version.Version = info.Main.Version
	}
	os.Exit(run(context.Background(), os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr))
}

// errDone is returned when all that was asked for is done.
var errDone = errors.New("nothing more to do")

// run is the program: it ends when ctx does, or on a signal, and returns the
// exit code. What keeps it from starting is said in one line on stderr, what
// happens afterwards is logged there.
func run(ctx context.Context, args []string, lookup func(string) (string, bool), stdout, stderr io.Writer) int {
	c, name, err := parseFlags(args, lookup, stdout, stderr)
	var e *exporter
	if err == nil {
		switch name {
		case config.CommandHealthcheck:
			err = cmp.Or(command.Healthcheck(ctx, c), errDone)
		case config.CommandCheck:
			err = cmp.Or(onDemo(c, stderr, func() error { return command.Check(ctx, c, stdout) }), errDone)
		case config.CommandOnce:
			err = cmp.Or(onDemo(c, stderr, func() error { return once(ctx, c, stdout, stderr) }), errDone)
		default:
			e, err = prepare(c, stdout, stderr) //nolint:contextcheck // nothing runs yet
		}
	}
	switch {
	case errors.Is(err, errDone):
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
