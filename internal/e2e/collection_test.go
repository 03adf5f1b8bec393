package e2e

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/common/model"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// missing skips the test for want of a Debian package. In CI nothing is skipped.
func missing(t *testing.T, debian string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("missing: apt-get install %s", debian)
	}
	t.Skipf("missing: apt-get install %s", debian)
}

// expected are the values of all series that upstream has, by identity.
func expected(t *testing.T, sim *simulator.Simulator) map[string]float64 {
	t.Helper()
	want := make(map[string]float64)
	for _, s := range sim.Series(time.Now()) {
		want[identity(s.Name, s.Labels)] = s.Value
	}
	if len(want) < 30 {
		t.Fatalf("the simulator expects only %d series", len(want))
	}
	return want
}

// collection gathers upstream's series as a reader of the page shows them.
type collection struct {
	values   map[string]float64
	seen     map[string]bool // every series, upstream's or not
	repeated bool            // by a reader that shows several scrapes
	problems []string
}

// add takes a series, and keeps it if it is upstream's: without the labels that the
// exporter adds and those of names that the reader added.
func (c *collection) add(name string, l map[string]string, value float64, readers ...string) {
	if c.seen == nil {
		c.seen, c.values = make(map[string]bool), make(map[string]float64)
	}
	whole := identity(name, l)
	if c.seen[whole] && !c.repeated {
		c.problems = append(c.problems, "there twice: "+whole)
	}
	c.seen[whole] = true
	if !strings.HasPrefix(name, "Postgres") {
		return
	}
	l = maps.Clone(l)
	for _, k := range []string{"postgres_region", "postgres_size", "postgres_state"} {
		if l[k] == "" {
			c.problems = append(c.problems, "without "+k+": "+whole)
		}
		delete(l, k)
	}
	for _, k := range readers {
		delete(l, k)
	}
	c.values[identity(name, l)] = value
}

// check compares the collection with what upstream has.
func (c *collection) check(t *testing.T, want map[string]float64) {
	t.Helper()
	for _, p := range c.problems {
		t.Error(p)
	}
	compare(t, c.values, want)
}

// eventually tries until it succeeds, and fails the test when the time is over.
func eventually(t *testing.T, limit time.Duration, try func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %s: %v", limit, err)
		}
	}
}

// get returns the body of a page, decompressed, and its headers.
func get(address, accept, encoding string) ([]byte, http.Header, error) {
	req, err := http.NewRequest(http.MethodGet, "http://"+address+"/metrics", http.NoBody)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("Accept-Encoding", encoding) // which also keeps Go from decompressing
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, nil, errors.New(resp.Status)
	}
	var r io.Reader = resp.Body
	switch got := resp.Header.Get("Content-Encoding"); got {
	case "":
	case "gzip":
		if r, err = gzip.NewReader(r); err != nil {
			return nil, nil, err
		}
	case "zstd":
		d, err := zstd.NewReader(r)
		if err != nil {
			return nil, nil, err
		}
		defer d.Close()
		r = d
	default:
		return nil, nil, fmt.Errorf("compressed by %q", got)
	}
	body, err := io.ReadAll(r)
	return body, resp.Header, err
}

// ask returns upstream's series from the query API that Prometheus has and others mimic.
func (c *collection) ask(address, query string) error {
	resp, err := http.Get("http://" + address + "/api/v1/query?query=" + url.QueryEscape(query))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %w", resp.Status, err)
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", resp.Status, answer.Error)
	}
	for _, r := range answer.Data.Result {
		v, err := strconv.ParseFloat(fmt.Sprint(r.Value[1]), 64)
		if err != nil {
			return err
		}
		c.add(r.Metric[model.MetricNameLabel], r.Metric, v, "job", "instance")
	}
	return nil
}
