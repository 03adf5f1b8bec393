package simulator_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// raw sends a request whose answer may be invalid. It does not follow redirects.
func (l *lab) raw(path string, header ...string) (reply, error) {
	l.Helper()
	req := l.request("GET", path, "")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := l.client.Transport.RoundTrip(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, body}, err
}

func parses(page []byte) error {
	p := textparse.NewPromParser(page, labels.NewSymbolTable(), false)
	for {
		if _, err := p.Next(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// What a client sees of each fault, over real HTTP.
func TestFaults(t *testing.T) {
	type seen struct {
		reply
		err  error
		good []byte // the page without the fault
	}
	status := func(want int, header, value string) func(seen) bool {
		return func(s seen) bool {
			return s.err == nil && s.status == want && s.header.Get(header) == value &&
				strings.Contains(string(s.body), `","requestId":"`) && s.header.Get("Content-Type") == "application/json; charset=utf-8"
		}
	}
	prefix := func(body string) func(seen) bool {
		return func(s seen) bool { return s.err == nil && s.status == 200 && strings.HasPrefix(string(s.body), body) }
	}
	// added checks mutations that only insert lines.
	inserted := func(n int, valid bool, text string) func(seen) bool {
		return func(s seen) bool {
			return s.err == nil && bytes.Count(s.body, []byte("\n")) == bytes.Count(s.good, []byte("\n"))+n &&
				strings.Contains(string(s.body), text) && (parses(s.body) == nil) == valid
		}
	}
	checks := map[string]func(seen) bool{
		"slow body":                nil, // see TestSlowFaults
		"latency":                  nil,
		"hang":                     nil,
		"cut body":                 func(s seen) bool { return errors.Is(s.err, io.ErrUnexpectedEOF) && bytes.Equal(s.body, s.good[:1000]) },
		"cut after header":         func(s seen) bool { return errors.Is(s.err, io.ErrUnexpectedEOF) && s.status == 200 && len(s.body) == 0 },
		"reset":                    func(s seen) bool { return errors.Is(s.err, syscall.ECONNRESET) },
		"Content-Length too long":  func(s seen) bool { return errors.Is(s.err, io.ErrUnexpectedEOF) && bytes.Equal(s.body, s.good) },
		"Content-Length too short": func(s seen) bool { return s.err == nil && bytes.Equal(s.body, s.good[:len(s.good)-100]) },
		"redirect": func(s seen) bool {
			return s.status == 307 && strings.HasPrefix(s.header.Get("Location"), "http://elsewhere.invalid/v1/organizations/")
		},
		"HTML": func(s seen) bool {
			return prefix("<!DOCTYPE html>")(s) && s.header.Get("Content-Type") == "text/html; charset=utf-8"
		},
		"JSON": func(s seen) bool {
			return prefix(`{"ok":true}`)(s) && s.header.Get("Content-Type") == "application/json"
		},
		"empty body": func(s seen) bool { return s.status == 200 && len(s.body) == 0 && s.err == nil },
		"empty list": func(s seen) bool { return s.status == 200 && bytes.Equal(s.body, s.good) }, // not for metrics
		"wrong Content-Type": func(s seen) bool {
			return s.header.Get("Content-Type") == "application/octet-stream" && bytes.Equal(s.body, s.good)
		},
		"truncated gzip":       func(s seen) bool { _, err := unzip(s.body); return errors.Is(err, io.ErrUnexpectedEOF) },
		"gzip bomb":            func(s seen) bool { n, err := unzip(s.body); return err == nil && n == 256<<20 && len(s.body) < 8<<20 },
		"oversized body":       func(s seen) bool { return len(s.body) > 64<<20 && bytes.HasPrefix(s.body, s.good) },
		"malformed line":       inserted(1, false, "\nPostgresServer_CPUCores{clickhouse_org=\"br\n"),
		"duplicate series":     inserted(1, true, `"} 7`),
		"second type":          inserted(2, true, "\n# TYPE PostgresServiceInfo counter\n"),
		"interleaved families": func(s seen) bool { return len(s.body) > len(s.good)/2 && interleaved(s.body) && !interleaved(s.good) },
		"invalid UTF-8":        func(s seen) bool { return len(s.body) == len(s.good)+2 && !utf8.Valid(s.body) && utf8.Valid(s.good) },
		"huge label":           func(s seen) bool { return len(s.body) > 10<<20 && parses(s.body) == nil },
		"many series": func(s seen) bool {
			return bytes.Count(s.body, []byte("\nPostgresServer_Many{postgres_service=")) == 1_000_000
		},
		"reserved families":            inserted(20, true, "\n# TYPE up gauge\nup{clickhouse_org=\""),
		"label clash":                  inserted(0, true, `",postgres_region="upstream",`),
		"future families":              inserted(35, true, "\nPostgresServer_QuerySeconds_bucket{clickhouse_org="),
		"status 401":                   status(401, "", ""),
		"status 403":                   status(403, "", ""),
		"status 404":                   status(404, "", ""),
		"status 500":                   status(500, "", ""),
		"status 502":                   status(502, "", ""),
		"status 503":                   status(503, "", ""),
		"status 504":                   status(504, "", ""),
		"status 429, reset":            status(429, "X-RateLimit-Reset", ""),
		"status 429, reset 0":          status(429, "X-RateLimit-Reset", "0"),
		"status 429, reset 0.2":        status(429, "X-RateLimit-Reset", "0.2"),
		"status 429, reset 1000000000": status(429, "X-RateLimit-Reset", "1000000000"),
		"status 429, reset soon":       status(429, "X-RateLimit-Reset", "soon"),
		"status 429, retry after 3":    status(429, "Retry-After", "3"),
	}
	l := newLab(t, simulator.Config{Services: 3})
	catalogue := simulator.Catalogue()
	if len(catalogue) != len(checks) {
		t.Errorf("%d faults in the catalogue, %d checks", len(catalogue), len(checks))
	}
	for _, f := range catalogue {
		t.Run(f.Name, func(t *testing.T) {
			check, ok := checks[f.Name]
			if !ok {
				t.Fatal("no check for this fault")
			}
			if check == nil {
				return
			}
			good, err := l.raw(l.org("/prometheus"))
			if err != nil || parses(good.body) != nil {
				t.Fatalf("without fault: %v", err)
			}
			end := l.SetFault(f)
			s := seen{good: good.body}
			s.reply, s.err = l.raw(l.org("/prometheus"))
			if !check(s) {
				t.Errorf("%d %v %v\n%.3000s", s.status, s.header, s.err, s.body)
			}
			log := l.Requests()
			if last := log[len(log)-1]; len(f.Endpoints) == 0 && last.Fault != f.Name {
				t.Errorf("logged as %+v", last)
			}
			end()
			if again, err := l.raw(l.org("/prometheus")); err != nil || !bytes.Equal(again.body, good.body) {
				t.Errorf("after the fault: %v", err)
			}
		})
	}
}

func unzip(body []byte) (int64, error) {
	r, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	return io.Copy(io.Discard, io.LimitReader(r, 256<<20))
}

// interleaved reports whether the samples of a family are not together.
func interleaved(page []byte) bool {
	seen, last := map[string]bool{}, ""
	for line := range strings.SplitSeq(string(page), "\n") {
		name, _, isSample := strings.Cut(line, "{")
		if !isSample || name == last {
			continue
		}
		if seen[name] {
			return true
		}
		seen[name], last = true, name
	}
	return false
}

// Latency, slow bodies and hanging, in virtual time and without a network.
func TestSlowFaults(t *testing.T) {
	serve := func(s *simulator.Simulator, ctx context.Context) (r *httptest.ResponseRecorder, took time.Duration, aborted bool) {
		c := s.Config()
		req := httptest.NewRequestWithContext(ctx, "GET", "/v1/organizations/"+c.OrganizationID+"/postgres/prometheus", nil)
		req.SetBasicAuth(c.KeyID, c.KeySecret)
		r = httptest.NewRecorder()
		begin := time.Now()
		defer func() {
			took = time.Since(begin)
			if err := recover(); err != nil {
				aborted = err == http.ErrAbortHandler //nolint:errorlint // net/http compares it just so
			}
		}()
		s.ServeHTTP(r, req)
		return r, 0, false
	}
	synctest.Test(t, func(t *testing.T) {
		s := simulator.New(simulator.Config{Services: 1})
		good, took, _ := serve(s, t.Context())
		if good.Code != 200 || took != 0 {
			t.Fatalf("without fault: %d after %v", good.Code, took)
		}

		end := s.SetFault(simulator.Fault{Latency: 2 * time.Second})
		if r, took, _ := serve(s, t.Context()); took != 2*time.Second || r.Code != 200 {
			t.Errorf("latency: %d after %v", r.Code, took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if _, took, aborted := serve(s, ctx); took != time.Second || !aborted {
			t.Errorf("client that leaves: after %v, aborted: %v", took, aborted)
		}
		cancel()
		end()

		s.Refresh()
		size := good.Body.Len()
		end = s.SetFault(simulator.Fault{BytesPerSecond: 1000})
		if r, took, _ := serve(s, t.Context()); took != time.Duration((size+99)/100)*100*time.Millisecond || !bytes.Equal(r.Body.Bytes(), good.Body.Bytes()) {
			t.Errorf("slow body: %d bytes after %v", r.Body.Len(), took)
		}
		end()

		end = s.SetFault(simulator.Fault{Hang: true})
		ctx, cancel = context.WithTimeout(t.Context(), time.Hour)
		if _, took, aborted := serve(s, ctx); took != time.Hour || !aborted {
			t.Errorf("hang: after %v, aborted: %v", took, aborted)
		}
		cancel()
		done := make(chan bool)
		go func() {
			_, _, aborted := serve(s, t.Context())
			done <- aborted
		}()
		synctest.Wait()
		end()
		if !<-done {
			t.Error("hang: answered after all")
		}
		log := s.Requests()
		if last := log[len(log)-1]; last.Status != 0 {
			t.Errorf("logged as %+v", last)
		}
	})
}

// Which requests a fault applies to.
func TestFaultTargets(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 2, RateLimit: 1000})
	one, two := l.Services()[0].ID, l.Services()[1].ID
	get := func(path string) int {
		r, err := l.raw(path)
		if err != nil {
			t.Fatal(err)
		}
		return r.status
	}
	statuses := func(path string, n int) (all []int) {
		for range n {
			all = append(all, get(path))
		}
		return all
	}
	end := l.SetFault(simulator.Fault{Endpoints: []string{"services", "service_metrics"}, Status: 503, Skip: 1, Count: 2})
	if got := statuses("/v1/organizations", 2); got[0] != 200 || got[1] != 200 {
		t.Errorf("other endpoint: %v", got)
	}
	if got := statuses(l.org(""), 4); got[0] != 200 || got[1] != 503 || got[2] != 503 || got[3] != 200 {
		t.Errorf("skip and count: %v", got)
	}
	end()

	l.SetFault(simulator.Fault{ServiceIDs: []string{two}, Status: 500})
	if get(l.org("/"+one)) != 200 || get(l.org("/"+two)) != 500 || get(l.org("/"+two+"/prometheus")) != 500 || get(l.org("/prometheus")) != 200 {
		t.Error("services")
	}
	// The fault set first applies, and when it ends, the next one does.
	l.SetFault(simulator.Fault{Status: 502})
	if get(l.org("/"+two)) != 500 || get(l.org("/"+one)) != 502 {
		t.Error("order")
	}
	l.ClearFaults()
	if get(l.org("/"+two)) != 200 {
		t.Error("not cleared")
	}

	l.SetFault(simulator.Fault{Probability: 0.3, Status: 500})
	var struck int
	for _, status := range statuses(l.org(""), 300) {
		if status == 500 {
			struck++
		}
	}
	if struck < 60 || struck > 120 {
		t.Errorf("struck %d of 300, at 30 %%", struck)
	}
	l.ClearFaults()

	// A redirect may have any target and status, and a mutation may change a list.
	l.SetFault(simulator.Fault{Redirect: "http://elsewhere.invalid/base/", Status: 301, Count: 1})
	if r, err := l.raw("/v1/organizations?a=b"); err != nil || r.status != 301 || r.header.Get("Location") != "http://elsewhere.invalid/base/v1/organizations?a=b" {
		t.Errorf("redirect: %v %+v", err, r)
	}
	l.SetFault(simulator.EmptyList())
	if r := l.want(200, "GET", l.org(""), ""); len(r.list(t)) != 0 {
		t.Errorf("empty list: %s", r.body)
	}
	l.ClearFaults()
	// A request that is refused anyway stays refused, and does not count for a fault.
	l.SetFault(simulator.Fault{Status: 500, Count: 1})
	if r, err := l.raw(l.org(""), "Authorization", "Basic bm86bm8="); err != nil || r.status != 401 {
		t.Errorf("wrong key: %v %d", err, r.status)
	}
	if got := get(l.org("")); got != 500 {
		t.Errorf("fault was used up: %d", got)
	}
	// A header without values is removed.
	l.SetFault(simulator.Fault{Header: http.Header{"Content-Type": nil, "X-Extra": {"1"}}})
	if r, err := l.raw(l.org("")); err != nil || r.header.Get("Content-Type") != "" || r.header.Get("X-Extra") != "1" {
		t.Errorf("header: %v %v", err, r.header)
	}
}

// A fault that only slows an answer down does not change it.
func TestFaultsOnCompressedAnswers(t *testing.T) {
	l := newLab(t, simulator.Config{Services: 3})
	l.SetFault(simulator.Fault{Mutate: simulator.LabelClash, BytesPerSecond: 1 << 20})
	r, err := l.raw(l.org("/prometheus"), "Accept-Encoding", "gzip")
	if err != nil || r.header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("%v %v", err, r.header)
	}
	if n, err := unzip(r.body); err != nil || n < 10_000 {
		t.Errorf("%d bytes, %v", n, err)
	}
}
