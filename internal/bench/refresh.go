package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// watch asks a server for the head of its page ten times a second, so that it
// makes the page of every snapshot, until the context ends or done says so.
func watch(ctx context.Context, url string, done func() (bool, error)) error {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodHead, url, http.NoBody)
		if err != nil {
			return err
		}
		req.Header.Set("Accept-Encoding", "gzip")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// pages returns a condition that is met when a number of further pages have been
// fetched from upstream, and where it will say how many they were.
func pages(ctx context.Context, up *process, n int64) (done func() (bool, error), fetched *int64, err error) {
	var began, now counts
	if err := up.call(ctx, "/counts", nil, &began); err != nil {
		return nil, nil, err
	}
	fetched = new(int64)
	return func() (bool, error) {
		err := up.call(ctx, "/counts", nil, &now)
		*fetched = now.Pages - began.Pages
		return *fetched >= n, err
	}, fetched, nil
}

// refresh measures what it costs the exporter to fetch a page of which every
// value has changed, and to make it what is served with gzip, three rules and
// three added labels; and what others would spend on making it.
func refresh(ctx context.Context, s *settings) error {
	_, _ = fmt.Fprintf(s.out, "CPU of a refresh for 100,000 series: of the whole exporter, with all it takes to fetch pages and lists;\n"+
		"against making the page by the data model, and series by series with Prometheus's own parser.\n"+
		"Most of it is receiving, decompressing and the list; BenchmarkRefresh has the page alone.\n\n")
	t := table{left: 1}
	t.row("services", "exporter", "allocations", "allocated", "data model", "times cheaper", "by series", "times cheaper")
	for _, n := range s.services {
		if err := refreshFleet(ctx, s, n, &t); err != nil {
			return err
		}
	}
	t.print(s.out)
	return nil
}

func refreshFleet(ctx context.Context, s *settings, n int, t *table) error {
	// The interval leaves time for a refresh on a busy machine.
	interval := max(s.duration, time.Duration(n)*300*time.Microsecond)
	up, exporter, err := fleet(ctx, n, time.Millisecond, interval, 0)
	if err != nil {
		return err
	}
	defer up.stop()
	defer exporter.stop()
	url := exporter.URL + telemetryPath

	// Not the first ones: what happens once is over by then.
	done, _, err := pages(ctx, up, 2)
	if err != nil {
		return err
	}
	if err := watch(ctx, url, done); err != nil {
		return err
	}
	stop := s.profile(ctx, exporter, fmt.Sprintf("refresh-%d", n))
	before, err := exporter.usage(ctx, false)
	if err != nil {
		return err
	}
	done, fetched, err := pages(ctx, up, int64(2*s.rounds))
	if err != nil {
		return err
	}
	if err := watch(ctx, url, done); err != nil {
		return err
	}
	after, err := exporter.usage(ctx, false)
	if err != nil {
		return err
	}
	if err := stop(); err != nil {
		return err
	}
	exporter.stop()

	page, err := upstreamPage(ctx, up)
	if err != nil {
		return err
	}
	up.stop()
	var count int
	cpu := func(refresh func([]byte, *rewriter, io.Writer) (int, error)) (time.Duration, error) {
		r := newRewriter()
		before, err := ownUsage()
		if err != nil {
			return 0, err
		}
		rounds := 0
		for began := time.Now(); rounds == 0 || time.Since(began) < s.duration; rounds++ {
			if count, err = refresh(page, r, io.Discard); err != nil {
				return 0, err
			}
		}
		after, err := ownUsage()
		return (after.CPU - before.CPU) / time.Duration(rounds), err
	}
	model, err := cpu(dataModel)
	if err != nil {
		return err
	}
	bySeries, err := cpu(series)
	if err != nil {
		return err
	}
	per := func(d time.Duration) time.Duration { return time.Duration(float64(d) * 1e5 / float64(count)) }
	ours := (after.CPU - before.CPU) / time.Duration(*fetched)
	perPage := 1e5 / float64(count) / float64(*fetched)
	t.row(strconv.Itoa(n), milliseconds(per(ours)),
		fmt.Sprintf("%.0f", float64(after.Mallocs-before.Mallocs)*perPage),
		megabytes(int64(float64(after.Allocated-before.Allocated)*perPage)),
		milliseconds(per(model)), fmt.Sprintf("%.1f ×", float64(model)/float64(ours)),
		milliseconds(per(bySeries)), fmt.Sprintf("%.1f ×", float64(bySeries)/float64(ours)))
	return nil
}

func upstreamPage(ctx context.Context, up *process) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, up.Control+"/page", http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(resp.Body)
	return b.Bytes(), err
}
