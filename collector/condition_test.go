package collector

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

func TestConditionChanges(t *testing.T) {
	dns := &api.Error{Kind: api.KindDNS}
	timeout := fmt.Errorf("wrapped: %w", &api.Error{Kind: api.KindTimeout})
	var c condition
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i, step := range []struct {
		err    error
		want   string
		lasted time.Duration
	}{
		{dns, nowFailing, 0},
		{&api.Error{Kind: api.KindDNS, Message: "another text"}, noChange, time.Minute},
		{timeout, nowFailing, 2 * time.Minute},
		{nil, recovered, 3 * time.Minute},
		{nil, noChange, time.Minute},
		{&exposition.ParseError{Line: 1}, nowFailing, 2 * time.Minute},
		{nil, recovered, time.Minute},
	} {
		next, got, lasted := c.observe(now, step.err)
		if got != step.want || lasted != step.lasted {
			t.Errorf("step %d: %v after %s, want %v after %s", i, got, lasted, step.want, step.lasted)
		}
		if next.ok() != (step.err == nil) {
			t.Errorf("step %d: ok = %t", i, next.ok())
		}
		c = next
		now = now.Add(time.Minute)
	}
	if _, first, _ := (condition{}).observe(now, nil); first != firstSuccess {
		t.Errorf("first success: %v", first)
	}
}

func TestResult(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want schedule.Result
	}{
		{nil, schedule.ResultOK},
		{&api.Error{Kind: api.KindBadRequest, StatusCode: 400}, schedule.ResultRefused},
		{fmt.Errorf("wrapped: %w", &api.Error{StatusCode: 404}), schedule.ResultRefused},
		{&api.Error{StatusCode: 401}, schedule.ResultFailed},
		{&api.Error{StatusCode: 403}, schedule.ResultFailed},
		{&api.Error{StatusCode: 408}, schedule.ResultFailed},
		{&api.Error{StatusCode: 429}, schedule.ResultFailed},
		{&api.Error{StatusCode: 500}, schedule.ResultFailed},
		{&api.Error{StatusCode: 200, Kind: api.KindDecode}, schedule.ResultFailed},
		{errors.New("x"), schedule.ResultFailed},
	} {
		if got := (&poller{}).result(api.EndpointServices, tt.err); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.err, got, tt.want)
		}
	}
}

func TestAge(t *testing.T) {
	now := time.Now()
	if got := age(now, now.Add(-time.Minute)); got != time.Minute {
		t.Errorf("a minute ago: %s", got)
	}
	if got := age(now, now.Add(time.Hour)); got != 0 {
		t.Errorf("a moment from before the clock was set back: %s", got)
	}
	// Without monotonic readings only the wall clock is left, as after a suspension.
	if !reached(now, now.Round(0).Add(-time.Second)) || reached(now, now.Add(time.Second)) {
		t.Error("reached is wrong")
	}
}
