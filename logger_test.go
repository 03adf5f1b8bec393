package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"github.com/go-kit/log/level"
)

func TestLoggers(t *testing.T) {
	const (
		ts     = `ts=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`
		caller = `caller=logger_test\.go:\d+`
	)
	var out bytes.Buffer
	l, err := newLoggers(&out, "info", "logfmt")
	if err != nil {
		t.Fatal(err)
	}
	level.Info(l.kit).Log("msg", "from the kit", "err", errors.New("a b"))
	l.slog.With("listener", 1).Info("from slog", "address", "127.0.0.1:1", slog.Group("tls", "http2", true))
	level.Debug(l.kit).Log("msg", "hidden")
	l.slog.Debug("hidden")
	want := regexp.MustCompile(`^` + ts + ` ` + caller + ` level=info msg="from the kit" err="a b"
` + ts + ` level=info ` + caller + ` msg="from slog" listener=1 address=127\.0\.0\.1:1 tls\.http2=true
$`)
	if !want.MatchString(out.String()) {
		t.Errorf("log:\n%s", out.String())
	}
}

func TestLoggersJSON(t *testing.T) {
	var out bytes.Buffer
	l, err := newLoggers(&out, "debug", "json")
	if err != nil {
		t.Fatal(err)
	}
	level.Debug(l.kit).Log("msg", "from the kit", "err", errors.New("a b"))
	l.slog.Debug("from slog", "http2", true)
	for line := range strings.Lines(out.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Errorf("%v in %s", err, line)
		}
		for _, key := range []string{"ts", "caller", "level", "msg"} {
			if m[key] == nil {
				t.Errorf("no %s in %s", key, line)
			}
		}
		if m["time"] != nil {
			t.Errorf("a second time in %s", line)
		}
	}
	if n := strings.Count(out.String(), "\n"); n != 2 {
		t.Errorf("%d lines:\n%s", n, out.String())
	}
}

func TestLoggersRefuse(t *testing.T) {
	for _, bad := range [][2]string{{"loud", "logfmt"}, {"info", "xml"}} {
		if _, err := newLoggers(&bytes.Buffer{}, bad[0], bad[1]); err == nil {
			t.Errorf("%v is accepted", bad)
		}
	}
}
