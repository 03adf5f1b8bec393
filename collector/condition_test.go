package collector

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/go-kit/log"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

func TestConditionChanges(t *testing.T) {
	dns := &api.Error{Kind: api.KindDNS}
	timeout := fmt.Errorf("wrapped: %w", &api.Error{Kind: api.KindTimeout})
	const begun, trouble, relief = "begun", "trouble", "relief"
	p, logs := &poller{}, &logs{}
	p.logger = log.NewLogfmtLogger(logs)
	var c condition
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i, step := range []struct {
		err  error
		want []string // words of the line that is logged, if one is
	}{
		{dns, []string{trouble, "reason=dns"}},
		{&api.Error{Kind: api.KindDNS, Message: "another text"}, nil},
		{timeout, []string{trouble, "reason=timeout"}},
		{nil, []string{relief, "after=3m0s"}},
		{nil, nil},
		{&exposition.ParseError{Line: 1}, []string{trouble, "reason=parse"}},
		{nil, []string{relief, "after=1m0s"}},
	} {
		before := len(logs.lines())
		p.note(&c, now, step.err, api.EndpointServices, begun, trouble, relief)
		if lines := logs.lines(step.want...); len(logs.lines()) != before+min(len(step.want), 1) || len(lines) == 0 {
			t.Errorf("step %d: %q, want a line with %q", i, logs.lines()[before:], step.want)
		}
		if c.ok() != (step.err == nil) {
			t.Errorf("step %d: ok = %t", i, c.ok())
		}
		now = now.Add(time.Minute)
	}
	c = condition{}
	p.note(&c, now, nil, api.EndpointServices, begun, trouble, relief)
	if lines := logs.lines(begun); len(lines) != 1 {
		t.Errorf("first success: %q", lines)
	}
}

func TestResult(t *testing.T) {
	const ok, failed, refused = schedule.ResultOK, schedule.ResultFailed, schedule.ResultRefused
	unlisted := &poller{state: &state{}}
	listed := &poller{state: &state{facts: facts{list: condition{tried: true}}}}
	for _, tt := range []struct {
		err          error
		of           schedule.Result // a list or a service's page
		page, detail schedule.Result // the organization's page where the list works, and a detail
	}{
		{nil, ok, ok, ok},
		{&api.Error{Kind: api.KindBadRequest, StatusCode: 400}, refused, refused, refused},
		{fmt.Errorf("wrapped: %w", &api.Error{StatusCode: 404}), refused, refused, refused},
		{&api.Error{StatusCode: 401}, failed, failed, failed},
		{&api.Error{StatusCode: 403}, failed, refused, refused},
		{&api.Error{StatusCode: 408}, failed, failed, failed},
		{&api.Error{StatusCode: 429}, failed, failed, failed},
		{&api.Error{StatusCode: 500}, failed, failed, failed},
		{&api.Error{StatusCode: 501}, failed, failed, refused},
		{&api.Error{StatusCode: 200, Kind: api.KindDecode}, failed, failed, failed},
		{errors.New("x"), failed, failed, failed},
	} {
		if forbidden := status(tt.err) == 403; forbidden && unlisted.result("backups", tt.err) != failed {
			t.Error("a detail is refused to a key that is refused everything")
		}
		got := [...]schedule.Result{
			listed.result(schedule.List, tt.err), listed.result(schedule.ServicePage, tt.err), unlisted.result(schedule.OrganizationPage, tt.err),
			listed.result(schedule.OrganizationPage, tt.err), listed.result("backups", tt.err),
		}
		if want := [...]schedule.Result{tt.of, tt.of, tt.of, tt.page, tt.detail}; got != want {
			t.Errorf("%v: %v, want %v", tt.err, got, want)
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
