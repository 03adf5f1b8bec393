package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

// scraper scrapes with gzip over persistent connections, as Prometheus does.
type scraper struct{ client *http.Client }

func newScraper() *scraper {
	return &scraper{&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}}}
}

func (s *scraper) close() { s.client.CloseIdleConnections() }

func (s *scraper) get(ctx context.Context, url string, to io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1")
	req.Header.Set("Accept-Encoding", "gzip")
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(to, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Encoding") != "gzip" {
		return fmt.Errorf("%s answered %s, encoded as %q", url, resp.Status, resp.Header.Get("Content-Encoding"))
	}
	return nil
}

// spacing is longer than the exporter caches its own metrics.
const spacing = 1100 * time.Millisecond

// spaced measures scrapes with the pauses of real scrapers, during which other programs use the CPU
// caches, and including garbage collection. The CPU time of idle processes is measured separately
// and subtracted.
func spaced(ctx context.Context, b *bench, n int) error {
	up, err := startUpstream(ctx, n, -1, never)
	if err != nil {
		return err
	}
	defer up.stop()
	exporter, err := b.exporter(ctx, up, time.Hour)
	if err != nil {
		return err
	}
	defer exporter.stop()
	plain, err := start(ctx, "plain", nil, nil)
	if err != nil {
		return err
	}
	defer plain.stop()
	s := newScraper()
	defer s.close()

	processes := []*process{exporter, plain}
	ticker := time.NewTicker(spacing)
	defer ticker.Stop()
	// phase returns what each process uses on average per interval.
	phase := func(spaces int, scrape bool) (used [2]time.Duration, err error) {
		for i := -2; i < spaces; i++ {
			if i == 0 { // everything before was a warm-up
				for j, p := range processes {
					if used[j], err = p.cpu(); err != nil {
						return used, err
					}
				}
			}
			for _, p := range processes {
				if !scrape {
					continue
				}
				if err := s.get(ctx, p.URL, io.Discard); err != nil {
					return used, err
				}
			}
			if err := wait(ctx, ticker.C); err != nil {
				return used, err
			}
		}
		for j, p := range processes {
			now, err := p.cpu()
			if err != nil {
				return used, err
			}
			used[j] = (now - used[j]) / time.Duration(spaces)
		}
		return used, nil
	}
	idle, err := phase(b.rounds, false)
	if err != nil {
		return err
	}
	scraped, err := phase(3*b.rounds, true)
	if err != nil {
		return err
	}
	perSecond := func(d time.Duration) string { return milliseconds(time.Duration(float64(d) / spacing.Seconds())) }
	b.result("spaced", n, scraped[0]-idle[0], scraped[1]-idle[1], 1,
		fmt.Sprintf("idle, per second: %s; baseline %s", perSecond(idle[0]), perSecond(idle[1])))
	return nil
}

// backToBack measures scrapes without a pause, over one connection.
func backToBack(ctx context.Context, b *bench, n int) error {
	up, err := startUpstream(ctx, n, -1, never)
	if err != nil {
		return err
	}
	defer up.stop()
	exporter, err := b.exporter(ctx, up, time.Hour)
	if err != nil {
		return err
	}
	defer exporter.stop()
	s := newScraper()
	defer s.close()
	var page bytes.Buffer
	if err := s.get(ctx, exporter.URL, &page); err != nil {
		return err
	}
	prebuilt, err := start(ctx, "bytes", page.Bytes(), nil)
	if err != nil {
		return err
	}
	defer prebuilt.stop()

	const duration = 300 * time.Millisecond // of each round
	once := func(p *process) (time.Duration, error) {
		before, err := p.cpu()
		if err != nil {
			return 0, err
		}
		scrapes := 0
		for began := time.Now(); time.Since(began) < duration; scrapes++ {
			if err := s.get(ctx, p.URL, io.Discard); err != nil {
				return 0, err
			}
		}
		after, err := p.cpu()
		return (after - before) / time.Duration(scrapes), err
	}
	var ours, theirs []time.Duration
	for range b.rounds + 1 {
		for p, costs := range map[*process]*[]time.Duration{exporter: &ours, prebuilt: &theirs} {
			cost, err := once(p)
			if err != nil {
				return err
			}
			*costs = append(*costs, cost)
		}
	}
	b.result("back-to-back", n, median(ours[1:]), median(theirs[1:]), 1.5, fmt.Sprintf("%d bytes", page.Len()))
	return nil
}

func median(of []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[len(sorted)/2]
}
