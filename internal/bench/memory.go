package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// What memory should be enough, see what memory prints.
const (
	mostPagesRetained = 2.5
	mostPeakMB        = 400
	memoryLimit       = 340 << 20 // GOMEMLIMIT, with which that is to be had
	churnPercent      = 5
	churnServices     = 200
)

// memory measures what the largest fleet needs after refreshes, and at its peak
// while it is scraped during them; and whether that grows with time when
// services come and go.
func memory(ctx context.Context, s *settings) error {
	n := slices.Max(s.services)
	_, _ = fmt.Fprintf(s.out, "%d services\n", n)
	page, err := retained(ctx, s, n)
	if err != nil {
		return err
	}
	for _, e := range s.encodings {
		for _, limit := range []int64{0, memoryLimit} {
			if err := peak(ctx, s, n, e, page, limit); err != nil {
				return err
			}
		}
	}
	return churn(ctx, s)
}

// pollInterval is between polls of a fleet of that size.
func pollInterval(n int) time.Duration {
	return max(time.Duration(n)*300*time.Microsecond, 100*time.Millisecond)
}

func retained(ctx context.Context, s *settings, n int) (page int64, err error) {
	// Long enough that nothing is under way after a third of it.
	interval := 4 * pollInterval(n)
	up, exporter, err := fleet(ctx, n, time.Millisecond, interval, 0)
	if err != nil {
		return 0, err
	}
	defer up.stop()
	defer exporter.stop()
	url := exporter.URL + telemetryPath
	done, _, err := pages(ctx, up, 2)
	if err != nil {
		return 0, err
	}
	if err := watch(ctx, url, done); err != nil {
		return 0, err
	}
	quiet := time.Now().Add(interval / 3)
	if err := watch(ctx, url, func() (bool, error) { return time.Now().After(quiet), nil }); err != nil {
		return 0, err
	}
	compressed, err := exporter.usage(ctx, true)
	if err != nil {
		return 0, err
	}
	c := client(1)
	defer c.CloseIdleConnections()
	if page, err = get(ctx, c, url, "identity", discard{make([]byte, 256<<10)}); err != nil {
		return 0, err
	}
	both, err := exporter.usage(ctx, true)
	if err != nil {
		return 0, err
	}
	pages := func(u usage) string {
		return fmt.Sprintf("%s, %.2f identity pages", megabytes(u.Heap), float64(u.Heap)/float64(page))
	}
	_, _ = fmt.Fprintf(s.out, "  identity page                       %s\n", megabytes(page))
	_, _ = fmt.Fprintf(s.out, "  retained, scraped with gzip         %s (should be at most %g)\n", pages(compressed), mostPagesRetained)
	_, _ = fmt.Fprintf(s.out, "  retained, scraped with identity too %s (should be at most %g)\n", pages(both), mostPagesRetained)
	return page, nil
}

// peak scrapes without a pause while every poll brings new values, of an exporter with
// a GOMEMLIMIT unless that is 0.
func peak(ctx context.Context, s *settings, n int, encoding string, page, limit int64) error {
	up, exporter, err := fleet(ctx, n, time.Millisecond, pollInterval(n), limit)
	if err != nil {
		return err
	}
	defer up.stop()
	defer exporter.stop()
	const scrapers = 8
	c := client(scrapers)
	defer c.CloseIdleConnections()
	done, fetched, err := pages(ctx, up, 6)
	if err != nil {
		return err
	}
	scrapes := 0
	for {
		l, err := apply(ctx, exporter, c, exporter.URL+telemetryPath, encoding, scrapers, 1, s.duration)
		if err != nil {
			return err
		}
		scrapes += l.scrapes
		if ok, err := done(); err != nil {
			return err
		} else if ok {
			break
		}
	}
	u, err := exporter.usage(ctx, false)
	if err != nil {
		return err
	}
	should, limited := "", "no GOMEMLIMIT"
	if encoding == "gzip" {
		should = fmt.Sprintf(" (should be at most %d MB)", mostPeakMB)
	}
	if limit > 0 {
		limited = fmt.Sprintf("GOMEMLIMIT=%dMiB", limit>>20)
	}
	_, _ = fmt.Fprintf(s.out, "  peak RSS, %d scrapers, %-8s  %-17s %s, %.2f identity pages%s, %d scrapes during %d refreshes\n",
		scrapers, encoding, limited, megabytes(u.PeakRSS), float64(u.PeakRSS)/float64(page), should, scrapes, *fetched)
	return nil
}

// churn replaces some services before every refresh.
func churn(ctx context.Context, s *settings) error {
	_, _ = fmt.Fprintf(s.out, "%d services, %d %% replaced at each of %d refreshes\n", churnServices, churnPercent, s.refreshes)
	up, exporter, err := fleet(ctx, churnServices, 24*time.Hour, 20*time.Millisecond, 0)
	if err != nil {
		return err
	}
	defer up.stop()
	defer exporter.stop()
	c := client(1)
	defer c.CloseIdleConnections()
	var heaps []int64
	step := max(s.refreshes/10, 1)
	for i := range s.refreshes {
		if err := up.call(ctx, fmt.Sprintf("/churn?percent=%d", churnPercent), nil, nil); err != nil {
			return err
		}
		if err := seen(ctx, up); err != nil {
			return err
		}
		var page bytes.Buffer
		if _, err := get(ctx, c, exporter.URL+telemetryPath, "gzip", &page); err != nil {
			return err
		}
		if (i+1)%step != 0 {
			continue
		}
		u, err := exporter.usage(ctx, true)
		if err != nil {
			return err
		}
		heaps = append(heaps, u.Heap)
		_, _ = fmt.Fprintf(s.out, "  after %4d refreshes: retained %s, peak RSS %s\n", i+1, megabytes(u.Heap), megabytes(u.PeakRSS))
	}
	// Each moment finds more or less under way; the least says what there is to keep.
	half := len(heaps) / 2
	if half == 0 {
		return nil
	}
	// Services that have gone are remembered for a few minutes, by name. To keep all of
	// them would be many times the fleet.
	if early, late := slices.Min(heaps[:half]), slices.Min(heaps[half:]); late > early+early/2 {
		return fmt.Errorf("memory grows: from %s to %s", megabytes(early), megabytes(late))
	}
	return nil
}

// seen waits until the exporter has fetched both list and page once more, begun
// after now.
func seen(ctx context.Context, up *process) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("the exporter does not poll"))
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	var began, now counts
	if err := up.call(ctx, "/counts", nil, &began); err != nil {
		return err
	}
	for {
		if err := up.call(ctx, "/counts", nil, &now); err != nil {
			return err
		}
		// One of each may have been under way already.
		if now.Lists >= began.Lists+2 && now.Pages >= began.Pages+2 {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}
