package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-kit/log"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/config"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// Once polls until everything has been read for the first time, and prints it: the
// page of metrics without the exporter's own, which would tell nothing. It prints a
// complete page or none. Its error is one sentence.
func Once(ctx context.Context, c *config.Config, stdout io.Writer, logger log.Logger) error {
	organizations, _, err := load(c)
	if err != nil {
		return err
	}
	for i := range organizations {
		// node_exporter's textfile collector skips a file with timestamps.
		organizations[i].Timestamps = false
		// A request per service, of which a budget allows few, is worth waiting for only
		// where somebody asks for it.
		organizations[i].CollectBackups = c.Given("collector.backups") && organizations[i].CollectBackups
		organizations[i].CollectQuotas = c.Given("collector.quotas") && organizations[i].CollectQuotas
	}
	if c.Once.Output != "" {
		if err := writable(c.Once.Output); err != nil {
			return err
		}
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
	chunks := encoder.Encode(format, exposition.Identity, page...).Chunks
	if c.Once.Output != "" {
		return writeFile(c.Once.Output, chunks)
	}
	for _, chunk := range chunks {
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
			return fmt.Errorf("not done within --timeout=%s, still waiting for %s: raise --timeout, see what is slow with --log.level=debug, or lower --api.rate-use if no exporter runs with this key",
				timeout, cmp.Or(waiting, "the API"))
		}
	}
}

// incomplete returns what is still waited for of an organization, "" for nothing,
// or why it can't be had. A single service in trouble does not keep the others from
// being printed: its clickhouse_postgres_service_up says so.
func incomplete(o collector.OrganizationStatus) (missing string, broken error) {
	switch {
	case o.Error != "" && !o.Up && !passing(o):
		return "", errors.New(o.Error)
	case !o.InventoryKnown:
		return "the list of services", nil
	}
	running, slow, pending, failed := 0, 0, 0, 0
	var failure error
	for _, s := range o.Services {
		if !s.Known || s.State != inventory.StateRunning {
			continue
		}
		running++
		if s.LastSuccess.IsZero() && (s.Error == "" || rateLimited(s.Reason)) {
			slow++
		}
		var refused *api.Error
		switch {
		case s.DetailsPending, errors.As(s.DetailsError, &refused) && refused.Kind == api.KindRateLimited:
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
		return fmt.Sprintf("the backups, settings or hostnames of %d services, each of which takes a request", pending), nil
	case o.DetailsPending:
		return "the quotas or the name of the organization, each of which takes a request", nil
	case failed > 0 && failed == running:
		return "", failure
	}
	return "", nil
}

// passing tells whether the trouble of an organization ends by itself: the rate limit is
// used up for now, or the organization's page is refused and the services' own are next.
func passing(o collector.OrganizationStatus) bool {
	for _, call := range []collector.CallStatus{o.Discovery, o.Inventory, o.Metrics, o.Sweep} {
		if rateLimited(call.Reason) {
			return true
		}
	}
	refused := o.Metrics.Reason == string(api.KindBadRequest) || o.Metrics.Reason == string(api.KindNotFound)
	return refused && o.Inventory.OK && !o.Sweep.Tried
}

func rateLimited(reason string) bool { return reason == string(api.KindRateLimited) }
