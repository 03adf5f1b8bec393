package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	sloggokit "github.com/tjhop/slog-gokit"
)

// loggers are two faces of one log: exporter-toolkit speaks slog, all else
// go-kit/log. Both are safe for concurrent use.
type loggers struct {
	kit  log.Logger
	slog *slog.Logger
}

// newLoggers returns loggers that write whole lines to w, with the keys ts,
// caller and level.
func newLoggers(w io.Writer, minimum, format string) (loggers, error) {
	var (
		out log.Logger
		l   loggers
	)
	switch w = log.NewSyncWriter(w); format {
	case "logfmt":
		out = log.NewLogfmtLogger(w)
	case "json":
		out = log.NewJSONLogger(w)
	default:
		return l, fmt.Errorf("unknown log format %q", format)
	}
	lowest, err := level.Parse(minimum)
	if err != nil {
		return l, fmt.Errorf("unknown log level %q", minimum)
	}
	var slogLowest slog.Level
	if err := slogLowest.UnmarshalText([]byte(minimum)); err != nil {
		return l, fmt.Errorf("unknown log level %q", minimum)
	}
	now := func() time.Time { return time.Now().UTC() }
	out = log.With(out, "ts", log.TimestampFormat(now, "2006-01-02T15:04:05.000Z07:00"))
	// Caller counts the frames of go-kit's own wrappers: the filter and the
	// level's context are two more than its default expects.
	l.kit = level.NewFilter(log.With(out, "caller", log.Caller(5)), level.Allow(lowest))
	l.slog = slog.New(withoutTime{sloggokit.NewGoKitHandler(out, slogLowest)})
	return l, nil
}

// withoutTime takes the time off slog's records: the logger behind has its
// own, under the key that Prometheus's tools use.
type withoutTime struct{ slog.Handler }

func (h withoutTime) Handle(ctx context.Context, r slog.Record) error {
	r.Time = time.Time{}
	return h.Handler.Handle(ctx, r)
}

func (h withoutTime) WithAttrs(a []slog.Attr) slog.Handler {
	return withoutTime{h.Handler.WithAttrs(a)}
}

func (h withoutTime) WithGroup(name string) slog.Handler {
	return withoutTime{h.Handler.WithGroup(name)}
}
