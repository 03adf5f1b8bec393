package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
)

// memory measures the peak of resident memory while eight scrapers scrape and values
// change, and what that takes of processor time, for each value of GOGC. Of more than
// 100 services upstream's page does not hold all, as it is: the others are read one by
// one, too fast by far for what upstream allows.
func memory(ctx context.Context, b *bench, n int) error {
	most := map[int]int64{100: 40, 1000: 120, 10_000: 700}[n]
	for gogc := range strings.SplitSeq(b.gogc, ",") {
		peak, perRefresh, err := b.peak(ctx, n, gogc)
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
			fmt.Sprintf("GOGC=%s, %s of CPU per refresh and 64 scrapes", gogc, milliseconds(perRefresh)))
	}
	return nil
}

func (b *bench) peak(ctx context.Context, n int, gogc string) (peak int64, perRefresh time.Duration, err error) {
	const limit, scrapers, scrapes = 100, 8, 8
	// Time for all of a refresh on a busy machine, so that there is as much to do for
	// each.
	interval := max(500*time.Millisecond, time.Duration(n)*2*time.Millisecond)
	up, err := startUpstream(ctx, n, limit, interval/2)
	if err != nil {
		return 0, 0, err
	}
	defer up.stop()
	exporter, err := b.exporter(ctx, up, interval, "GOGC="+gogc)
	if err != nil {
		return 0, 0, err
	}
	defer exporter.stop()
	s := newScraper()
	defer s.close()

	before, err := exporter.cpu()
	if err != nil {
		return 0, 0, err
	}
	began, beganOne, err := up.pages(ctx)
	if err != nil {
		return 0, 0, err
	}
	refreshes := max(b.rounds/2, 3)
	var (
		wg     sync.WaitGroup
		failed = make(chan error, scrapers)
	)
	for i := range scrapers {
		wg.Go(func() {
			ticker := time.NewTicker(interval / scrapes)
			defer ticker.Stop()
			for range scrapes * refreshes {
				err := wait(ctx, ticker.C)
				if err == nil {
					err = s.get(ctx, exporter.URL, io.Discard)
				}
				if err != nil {
					failed <- fmt.Errorf("scraper %d: %w", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		return 0, 0, err
	default:
	}
	after, err := exporter.cpu()
	if err != nil {
		return 0, 0, err
	}
	ended, endedOne, err := up.pages(ctx)
	if err != nil {
		return 0, 0, err
	}
	done := float64(ended - began)
	if n > limit {
		done = float64(endedOne-beganOne) / float64(n-limit)
	}
	if done == 0 {
		return 0, 0, fmt.Errorf("the exporter has refreshed nothing in %d intervals of %s", refreshes, interval)
	}
	peak, err = exporter.peakMemory()
	return peak, time.Duration(float64(after-before) / done), err
}
