package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// memory measures the peak of resident memory and the CPU time, for each value of GOGC, while eight
// scrapers scrape and values change. Above 100 services, the others are read one by one, as they
// are not on the organization's page, much faster than upstream allows.
func memory(ctx context.Context, b *bench, n int) error {
	most := map[int]int64{100: 40, 1000: 120, 10_000: 700}[n]
	for gogc := range strings.SplitSeq(b.gogc, ",") {
		peak, perRefresh, scrapes, err := b.peak(ctx, n, gogc)
		if err != nil {
			return err
		}
		limit := ""
		if most > 0 {
			limit = fmt.Sprintf("%d MB", most)
			if peak > most*1e6 {
				limit += " MISSED"
			}
		}
		b.print("memory", strconv.Itoa(n), megabytes(peak), "", "", limit,
			fmt.Sprintf("GOGC=%s, %s of CPU per refresh and %d scrapes", gogc, milliseconds(perRefresh), scrapes))
	}
	return nil
}

func (b *bench) peak(ctx context.Context, n int, gogc string) (peak int64, perRefresh time.Duration, scrapes int, err error) {
	const limit, scrapers = 100, 8
	// Enough time for a whole refresh on a busy machine, so that each has the same work to do.
	interval := max(500*time.Millisecond, time.Duration(n)*2*time.Millisecond)
	up, err := startUpstream(ctx, n, limit, interval/2)
	if err != nil {
		return 0, 0, 0, err
	}
	defer up.stop()
	exporter, err := b.exporter(ctx, up, interval, "GOGC="+gogc)
	if err != nil {
		return 0, 0, 0, err
	}
	defer exporter.stop()
	s := newScraper()
	defer s.close()

	// read waits until the whole fleet has been read so many times.
	read := func(ctx context.Context, times int64) error {
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		organization, single, err := up.pages(ctx)
		for err == nil {
			var o, s int64
			if o, s, err = up.pages(ctx); err == nil && o-organization >= times && s-single >= times*int64(max(n-limit, 0)) {
				return nil
			}
			if err == nil {
				err = wait(ctx, ticker.C)
			}
		}
		return err
	}
	if err := read(ctx, 1); err != nil {
		return 0, 0, 0, err
	}
	before, err := exporter.cpu()
	if err != nil {
		return 0, 0, 0, err
	}
	var (
		refreshes = max(b.rounds/2, 1)
		wg        sync.WaitGroup
		scraped   atomic.Int64
	)
	scraping, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	for range scrapers {
		wg.Go(func() {
			ticker := time.NewTicker(interval / 8)
			defer ticker.Stop()
			for wait(scraping, ticker.C) == nil {
				if err := s.get(ctx, exporter.URL, io.Discard); err != nil {
					stop(err)
					return
				}
				scraped.Add(1)
			}
		})
	}
	if err := read(scraping, int64(refreshes)); err != nil {
		return 0, 0, 0, cmp.Or(context.Cause(scraping), err)
	}
	stop(nil)
	wg.Wait()
	after, err := exporter.cpu()
	if err != nil {
		return 0, 0, 0, err
	}
	peak, err = exporter.peakMemory()
	return peak, (after - before) / time.Duration(refreshes), int(scraped.Load()) / refreshes, err
}
