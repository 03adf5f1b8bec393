package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// What a scrape should cost, see the table that scrape prints.
const (
	mostTimesFile = 1.5
	// Times cheaper than const metrics, with gzip, at 100 and 1,000 services.
	leastTimesConst100  = 100
	leastTimesConst1000 = 250
)

const telemetryPath = "/metrics"

// scrape measures what a scrape costs the exporter and what it costs others.
func scrape(ctx context.Context, s *settings) error {
	_, _ = fmt.Fprintf(s.out, "CPU of the server for each scrape; in brackets p50 and CPU as multiples of the file's, which should be at most %g.\n"+
		"const: promhttp over a collector of const metrics; cached: promhttp over cached families.\n\n", mostTimesFile)
	t := table{left: 4}
	for _, n := range s.services {
		t.row("services", "encoding", "scrapers", "server", "page", "scrapes/s", "p50", "", "p99", "CPU/scrape", "", "peak RSS", "exporter is cheaper by")
		if err := scrapeFleet(ctx, s, n, &t); err != nil {
			return err
		}
		t.row()
		t.print(s.out)
	}
	return nil
}

// fleet is an upstream and an exporter of it.
func fleet(ctx context.Context, n int, refreshed, polled time.Duration, memoryLimit int64) (up, exporter *process, err error) {
	up, err = start(ctx, "upstream", order{Services: n, Interval: refreshed})
	if err != nil {
		return nil, nil, err
	}
	exporter, err = start(ctx, "exporter", order{
		Upstream: up.URL, Org: up.Org, KeyID: up.KeyID, Secret: up.Secret, Interval: polled, MemoryLimit: memoryLimit,
	})
	if err != nil {
		up.stop()
		return nil, nil, err
	}
	return up, exporter, nil
}

func scrapeFleet(ctx context.Context, s *settings, n int, t *table) error {
	up, exporter, err := fleet(ctx, n, time.Hour, time.Hour, 0)
	if err != nil {
		return err
	}
	defer exporter.stop()
	up.stop() // polls are an hour apart
	file, err := start(ctx, "file", order{})
	if err != nil {
		return err
	}
	defer file.stop()
	c := client(64)
	defer c.CloseIdleConnections()
	url := exporter.URL + telemetryPath

	var identity []byte
	for _, e := range append([]string{"identity"}, s.encodings...) {
		var page bytes.Buffer
		if _, err := get(ctx, c, url, e, &page); err != nil {
			return err
		}
		if e == "identity" {
			identity = page.Bytes()
		}
		if err := file.call(ctx, "/load?encoding="+e, page.Bytes(), nil); err != nil {
			return err
		}
	}

	// The exporter and the file take turns, so that both have the same of
	// whatever else the machine is doing.
	ours := map[string]load{}
	for _, e := range s.encodings {
		for _, scrapers := range s.scrapers {
			var ourLoad, fileLoad load
			stop := s.profile(ctx, exporter, fmt.Sprintf("scrape-%d-%s-%d", n, e, scrapers))
			for range s.rounds {
				d := s.duration / time.Duration(s.rounds)
				l, err := apply(ctx, exporter, c, url, e, scrapers, 1, d)
				if err != nil {
					return err
				}
				ourLoad.add(l)
				if l, err = apply(ctx, file, c, file.URL, e, scrapers, 1, d); err != nil {
					return err
				}
				fileLoad.add(l)
			}
			if err := stop(); err != nil {
				return err
			}
			ours[fmt.Sprint(e, scrapers)] = ourLoad
			if err := t.load(ctx, n, e, scrapers, exporter, ourLoad, &fileLoad, nil); err != nil {
				return err
			}
			if err := t.load(ctx, n, e, scrapers, file, fileLoad, nil, nil); err != nil {
				return err
			}
		}
	}

	for _, name := range []string{"cached", "const"} {
		if err := scrapePromhttp(ctx, s, n, name, identity, c, ours, t); err != nil {
			return err
		}
	}
	return nil
}

// scrapePromhttp measures one of the servers that make the page at every scrape:
// each encoding with one scraper, gzip with all numbers of scrapers. Of large
// fleets there is only one scrape of each.
func scrapePromhttp(ctx context.Context, s *settings, n int, name string, page []byte, c *http.Client, ours map[string]load, t *table) error {
	p, err := start(ctx, name, order{})
	if err != nil {
		return err
	}
	defer p.stop()
	if err := p.call(ctx, "/load", page, nil); err != nil {
		return err
	}
	for _, e := range s.encodings {
		for i, scrapers := range s.scrapers {
			d, atLeast := s.duration, 2
			if n > s.slow {
				d, atLeast = 0, 1
			}
			if i > 0 && (e != "gzip" || n > s.slow) {
				continue
			}
			l, err := apply(ctx, p, c, p.URL, e, scrapers, atLeast, d)
			if err != nil {
				return err
			}
			our := ours[fmt.Sprint(e, scrapers)]
			if err := t.load(ctx, n, e, scrapers, p, l, nil, &our); err != nil {
				return err
			}
		}
	}
	return nil
}

// load adds a row, with multiples of the file's load, or with how much cheaper
// the exporter is.
func (t *table) load(ctx context.Context, n int, encoding string, scrapers int, p *process, l load, file, ours *load) error {
	u, err := p.usage(ctx, false)
	if err != nil {
		return err
	}
	var p50, cpu, cheaper string
	if file != nil {
		p50 = fmt.Sprintf("(%.2f)", float64(l.quantile(.5))/float64(file.quantile(.5)))
		cpu = fmt.Sprintf("(%.2f)", float64(l.perScrape())/float64(file.perScrape()))
	}
	if ours != nil {
		cheaper = fmt.Sprintf("%.0f ×", float64(l.perScrape())/float64(max(ours.perScrape(), 1)))
		if p.name == "const" && encoding == "gzip" && scrapers == 1 {
			switch n {
			case 100:
				cheaper += fmt.Sprintf(" (should be %d)", leastTimesConst100)
			case 1000:
				cheaper += fmt.Sprintf(" (should be %d)", leastTimesConst1000)
			}
		}
	}
	t.row(strconv.Itoa(n), encoding, strconv.Itoa(scrapers), p.name,
		megabytes(l.bytes/int64(max(l.scrapes, 1))), fmt.Sprintf("%.4g", l.rate()),
		milliseconds(l.quantile(.5)), p50, milliseconds(l.quantile(.99)),
		milliseconds(l.perScrape()), cpu, megabytes(u.PeakRSS), cheaper)
	return nil
}

// profile takes a CPU profile of a process for as long as a measurement should
// take, if profiles are wanted. The function it returns waits for it.
func (s *settings) profile(ctx context.Context, p *process, name string) (wait func() error) {
	if s.profiles == "" {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() {
		done <- func() error {
			seconds := max(int(2*s.duration.Seconds()), 1)
			req, err := http.NewRequestWithContext(ctx, http.MethodGet,
				fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", p.Control, seconds), http.NoBody)
			if err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			f, err := os.Create(filepath.Join(s.profiles, name+".pprof"))
			if err != nil {
				return err
			}
			_, err = io.Copy(f, resp.Body)
			return errors.Join(err, f.Close())
		}()
	}()
	return func() error { return <-done }
}
