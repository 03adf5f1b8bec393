package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// client is a scraper's: it keeps its connections and undoes no compression.
func client(connections int) *http.Client {
	return &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: connections,
		DisableCompression:  true,
		ReadBufferSize:      64 << 10,
	}}
}

// accept is what Prometheus sends.
const accept = "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1"

// get scrapes once. Without a body to read into the page is thrown away.
func get(ctx context.Context, c *http.Client, url, encoding string, into io.Writer) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("Accept-Encoding", encoding)
	req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "10")
	resp, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(into, resp.Body)
	got := resp.Header.Get("Content-Encoding")
	switch {
	case err != nil:
		return n, err
	case resp.StatusCode != http.StatusOK:
		return n, fmt.Errorf("%s answered %s", url, resp.Status)
	case encoding != "identity" && got != encoding || encoding == "identity" && got != "":
		return n, fmt.Errorf("%s answered in encoding %q instead of %s", url, got, encoding)
	}
	return n, nil
}

// load is what some scrapers saw of a server, and what it cost the server.
type load struct {
	scrapes   int
	bytes     int64
	elapsed   time.Duration
	cpu       time.Duration
	latencies []time.Duration
}

func (l *load) add(o load) {
	l.scrapes += o.scrapes
	l.bytes += o.bytes
	l.elapsed += o.elapsed
	l.cpu += o.cpu
	l.latencies = append(l.latencies, o.latencies...)
}

func (l *load) perScrape() time.Duration { return l.cpu / time.Duration(max(l.scrapes, 1)) }

func (l *load) quantile(q float64) time.Duration {
	if len(l.latencies) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(l.latencies))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func (l *load) rate() float64 { return float64(l.scrapes) / l.elapsed.Seconds() }

// apply scrapes a process for a while with some scrapers at once, each at least
// as often as asked.
func apply(ctx context.Context, p *process, c *http.Client, url, encoding string, scrapers, atLeast int, d time.Duration) (load, error) {
	before, err := p.usage(ctx, false)
	if err != nil {
		return load{}, err
	}
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		total  load
		failed atomic.Pointer[error]
		began  = time.Now()
	)
	for range scrapers {
		wg.Go(func() {
			var own load
			buffer := discard{make([]byte, 256<<10)}
			for failed.Load() == nil && (own.scrapes < atLeast || time.Since(began) < d) {
				start := time.Now()
				n, err := get(ctx, c, url, encoding, buffer)
				if err != nil {
					failed.Store(&err)
					return
				}
				own.latencies = append(own.latencies, time.Since(start))
				own.scrapes++
				own.bytes += n
			}
			mu.Lock()
			defer mu.Unlock()
			total.add(own)
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return load{}, fmt.Errorf("%s: %w", p.name, *err)
	}
	total.elapsed = time.Since(began)
	after, err := p.usage(ctx, false)
	total.cpu = after.CPU - before.CPU
	return total, err
}

// discard throws away what it is sent, and reads it in large pieces.
type discard struct{ buf []byte }

func (d discard) Write(p []byte) (int, error) { return len(p), nil }

// ReadFrom implements [io.ReaderFrom].
func (d discard) ReadFrom(r io.Reader) (total int64, err error) {
	for {
		n, err := r.Read(d.buf)
		total += int64(n)
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// table prints rows in columns. Columns are separated by two blanks; all but the
// first few are aligned to the right.
type table struct {
	rows [][]string
	left int
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) print(w io.Writer) {
	var widths []int
	for _, r := range t.rows {
		for i, c := range r {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], len([]rune(c)))
		}
	}
	for _, r := range t.rows {
		var line strings.Builder
		for i, c := range r {
			pad := strings.Repeat(" ", widths[i]-len([]rune(c)))
			if i < t.left {
				line.WriteString(c + pad + "  ")
			} else {
				line.WriteString(pad + c + "  ")
			}
		}
		_, _ = fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
	t.rows = nil
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.3g ms", d.Seconds()*1000) }

func megabytes(n int64) string { return fmt.Sprintf("%.4g MB", float64(n)/1e6) }
