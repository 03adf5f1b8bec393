package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-kit/log"

	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/config"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
)

// Once polls until everything has been read for the first time, and prints it: the
// page of metrics without the exporter's own, which would tell nothing. It prints a
// complete page or none. Its error is one sentence.
func Once(ctx context.Context, c *config.Config, stdout io.Writer, logger log.Logger) error {
	organizations, err := load(c)
	if err != nil {
		return err
	}
	polling, err := collector.New(collector.Options{Organizations: organizations, Logger: logger}) //nolint:contextcheck // nothing runs yet
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Once.Timeout)
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = polling.Run(ctx) // returns when told to, without an error
	}()
	err = complete(ctx, polling, c.Once.Timeout)
	var page []*exposition.Document
	if err == nil {
		page, err = polling.Page("", "")
	}
	cancel()
	<-stopped
	if err != nil {
		return err
	}

	format := exposition.Text
	if c.Once.Format == "openmetrics" {
		format = exposition.OpenMetrics
	}
	var encoder exposition.Encoder
	for _, chunk := range encoder.Encode(format, exposition.Identity, page...).Chunks {
		if _, err := stdout.Write(chunk); err != nil {
			return fmt.Errorf("cannot write the page: %w", err)
		}
	}
	return nil
}

// complete waits until all has been read, or can't be.
func complete(ctx context.Context, c *collector.Collector, timeout time.Duration) error {
	err := c.WaitFirstRefresh(ctx)
	// What the organizations' pages leave out is read service by service, of which
	// only the status tells.
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		organizations := c.Status().Organizations
		waiting := ""
		for _, o := range organizations {
			missing, broken := incomplete(o)
			if broken != nil {
				if len(organizations) > 1 {
					return fmt.Errorf("organization %q: %w", cmp.Or(o.Name, o.ID), broken)
				}
				return broken
			}
			waiting = cmp.Or(waiting, missing)
		}
		if err == nil && waiting == "" {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("not done within --timeout=%s, still waiting for %s: raise --timeout, or see what is slow with --log.level=debug",
				timeout, cmp.Or(waiting, "the API"))
		}
	}
}

// incomplete returns what is still waited for of an organization, "" for nothing,
// or why it can't be had. A single service in trouble does not keep the others from
// being printed: its clickhouse_postgres_service_up says so.
func incomplete(o collector.OrganizationStatus) (missing string, broken error) {
	switch {
	case o.Error != "" && !o.Up:
		return "", errors.New(o.Error)
	case !o.InventoryKnown:
		return "the list of services", nil
	}
	running, slow, pending, failed := 0, 0, 0, 0
	var failure error
	for _, s := range o.Services {
		if !s.Known || s.State != "running" {
			continue
		}
		running++
		if s.LastSuccess.IsZero() && s.Error == "" {
			slow++
		}
		switch {
		case s.DetailsPending:
			pending++
		case s.DetailsError != nil:
			failed++
			failure = s.DetailsError
		}
	}
	switch {
	case slow > 0:
		return fmt.Sprintf("the metrics of %d services", slow), nil
	case !o.Up:
		return "metrics", nil
	case pending > 0:
		return fmt.Sprintf("the settings or hostnames of %d services, each of which takes a request", pending), nil
	case failed > 0 && failed == running:
		return "", failure
	}
	return "", nil
}
