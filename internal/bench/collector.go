package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// gate is an upstream in memory that answers when the measurement allows it.
type gate struct {
	*recording
	stay  bool // values do not change
	asked chan struct{}
}

// RoundTrip implements [http.RoundTripper].
func (g *gate) RoundTrip(r *http.Request) (*http.Response, error) {
	body, kind := g.list, "application/json"
	if strings.HasSuffix(r.URL.Path, "/prometheus") {
		asked := g.asked
		if !strings.HasSuffix(r.URL.Path, "/postgres/prometheus") {
			asked = nil // a service's own page is never answered
		}
		select {
		case asked <- struct{}{}:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
		body, kind = g.pages[0], "text/plain; charset=utf-8"
		if !g.stay {
			body = g.page()
		}
	}
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header:        http.Header{"Content-Type": {kind}},
		Body:          io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)),
	}, nil
}

// poll returns a function that makes a collector poll once and encodes the page of everything. stop
// stops the collector.
func (g *gate) poll(ctx context.Context, encoder *exposition.Encoder) (poll, stop func() error, err error) {
	enrich, err := inventory.ParseEnrichLabels([]string{"region", "size", "state"})
	if err != nil {
		return nil, nil, err
	}
	c, err := collector.New(collector.Options{Organizations: []collector.Organization{{ //nolint:contextcheck // its polling begins with Run
		ID: g.organization,
		API: api.Config{
			BaseURL:          "http://upstream.test",
			Credentials:      api.StaticCredentials(g.keyID, g.secret),
			Budget:           api.NewBudget(api.BudgetConfig{Requests: 1_000_000, Window: time.Second}),
			Timeout:          time.Hour,
			MaxResponseBytes: math.MaxInt32,
			Transport:        g,
		},
		MetricsInterval:   time.Millisecond,
		InventoryInterval: time.Hour,
		MaxAge:            time.Hour,
		EnrichLabels:      enrich,
		CollectInventory:  true, CollectState: true, CollectTags: true, CollectServiceHealth: true,
		Rules: rules(),
	}}})
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	<-g.asked
	return func() error {
			<-g.asked // for the next page: the previous one is complete
			docs, err := c.Page("", "")
			if err != nil {
				return err
			}
			encoder.Encode(exposition.Text, exposition.Gzip, docs...)
			return nil
		}, func() error {
			cancel()
			return <-done
		}, nil
}

// collectorRefresh measures everything in the exporter except the network and HTTP.
func collectorRefresh(ctx context.Context, b *bench, n int) error {
	return b.polls(ctx, n, false)
}

// unchangedPoll measures a poll that brings the same values as before: only the health of services
// is encoded again, because it has the time of the poll.
func unchangedPoll(ctx context.Context, b *bench, n int) error {
	return b.polls(ctx, n, true)
}

func (b *bench) polls(ctx context.Context, n int, unchanged bool) error {
	r, err := record(ctx, n)
	if err != nil {
		return err
	}
	var encoder exposition.Encoder
	g := &gate{recording: r, stay: unchanged, asked: make(chan struct{})}
	poll, stop, err := g.poll(ctx, &encoder)
	if err != nil {
		return err
	}
	polls, encoded := int64(0), encoder.Encoded()
	baseline := newRewriter()
	costs, err := b.compare(
		task{calls: 3 * moments, call: func() error {
			if polls++; polls == 3 {
				encoded = encoder.Encoded()
			}
			return poll()
		}},
		task{calls: 1, call: func() error { return dataModel(r.pages[0], baseline, io.Discard) }},
	)
	if err == nil {
		err = stop()
	}
	if err != nil {
		return err
	}
	name, most := "collector", 0.0
	if unchanged {
		name = "unchanged"
	}
	b.result(name, n, costs[0].cpu, costs[1].cpu, most,
		fmt.Sprintf("%.3g documents encoded per poll; %s", float64(encoder.Encoded()-encoded)/float64(polls-2), allocated(costs)))
	return nil
}
