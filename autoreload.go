package main

import (
	"context"
	"crypto/sha256"
	"os"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
)

// content tells apart what the files of a configuration hold.
type content [sha256.Size]byte

// watch reloads the configuration whenever its files hold something else, until ctx
// ends. Their times would not do: Kubernetes replaces files by swapping symbolic links.
func (p *polling) watch(ctx context.Context, interval time.Duration) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if p.changed() {
				// What comes of it is logged. If it failed, it is tried again when the
				// files change again.
				_ = p.reload() //nolint:contextcheck // polls go by the context of Run
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// changed tells whether the files hold something else than at the latest attempt to
// load them.
func (p *polling) changed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return read(p.files) != p.content
}

// load reads the configuration, and remembers from what.
func (p *polling) load() ([]collector.Organization, error) {
	p.content = read(p.files) // first: what changes in the meantime is read again
	organizations, err := p.loader.Load()
	if err != nil {
		return nil, err
	}
	files := []string{p.file}
	for _, o := range organizations {
		files = append(files, o.API.CAFile)
	}
	if !slices.Equal(files, p.files) {
		p.files, p.content = files, read(files)
	}
	return organizations, nil
}

// read returns what files hold, "" being none.
func read(files []string) content {
	sum := sha256.New()
	for _, name := range files {
		if name == "" {
			continue
		}
		var data []byte
		info, err := os.Stat(name)
		if err == nil && info.Mode().IsRegular() { // opening a pipe would block
			data, err = os.ReadFile(name)
		}
		if err != nil {
			data = []byte(err.Error())
		}
		of := sha256.Sum256(data)
		sum.Write(of[:])
	}
	return content(sum.Sum(nil))
}
