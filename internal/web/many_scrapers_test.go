package web

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/go-kit/log"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
)

func TestScrapesAddNoLogLine(t *testing.T) {
	var logged lines
	h := handler(t, Options{Collector: withData(), ExporterMetrics: gatherer(exporterPage), Logger: log.NewLogfmtLogger(&logged)})
	for range 1000 {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/metrics", nil))
	}
	if logged.String() != "" {
		t.Errorf("log:\n%s", logged.String())
	}
}

func TestManyScrapers(t *testing.T) {
	url := serve(t, Options{Collector: withData(), ExporterMetrics: gatherer(exporterPage)})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			encoding := []string{"", "gzip", "zstd"}[i%3]
			for range 5 {
				a := do(t, "GET", url+"/metrics", http.Header{"Accept-Encoding": {encoding}})
				if n := len(series(t, a)); n != 7 {
					t.Errorf("%d entries on the page", n)
				}
			}
		})
	}
	wg.Wait()
}

// publisher is a collector with a large page that is replaced now and then.
type publisher struct {
	fake
	current atomic.Pointer[exposition.Document]
	past    []weak.Pointer[exposition.Document] // all that there have been
	size    int                                 // of a page
}

func (p *publisher) Page(string, string) ([]*exposition.Document, error) {
	return []*exposition.Document{p.current.Load()}, nil
}

// publish makes a page of its own, which says which one it is.
func (p *publisher) publish(t *testing.T) {
	t.Helper()
	var b bytes.Buffer
	const series = 4000
	for i := range series {
		fmt.Fprintf(&b, "things{service=\"%04d\",filler=%q} %d\n", i, strings.Repeat("x", 100), len(p.past))
	}
	page, err := exposition.NewParser("").Parse(b.Bytes(), "text/plain")
	if err != nil {
		t.Fatal(err)
	}
	doc := exposition.Merge(nil, exposition.Part{Block: exposition.Expose(page.Groups[""], nil, &exposition.Rules{}, nil)})
	var encoder exposition.Encoder
	p.size = int(encoder.Encode(exposition.Text, exposition.Identity, doc).Len)
	p.past = append(p.past, weak.Make(doc))
	p.current.Store(doc)
}

// alive returns how many documents are in memory.
func (p *publisher) alive() int {
	for range 3 {
		runtime.GC()
	}
	n := 0
	for _, w := range p.past {
		if w.Value() != nil {
			n++
		}
	}
	return n
}

func heap() int {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// 200 scrapers scrape at once, over minutes in which the page is replaced again
// and again. Some read a byte a second, some cut the connection. That costs no
// memory to speak of, old pages are let go of, and the others get all of theirs.
func TestScrapersOfAllKinds(t *testing.T) {
	const (
		steady, slow, cutting = 140, 30, 30
		refreshes             = 10
		refreshEvery          = 30 * time.Second
	)
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{fake: fake{ready: true}}
		p.publish(t)
		dial := servePipes(t, Options{Collector: p})
		stop := make(chan struct{})
		var (
			wg       sync.WaitGroup
			complete atomic.Int64
			wait     = func(d time.Duration) bool {
				select {
				case <-time.After(d):
					return true
				case <-stop:
					return false
				}
			}
			connections sync.Mutex // t.Cleanup and the listener take one at a time
			connect     = func() net.Conn {
				connections.Lock()
				defer connections.Unlock()
				c, _ := dial()
				return c
			}
			ask = func(c net.Conn) {
				_, _ = io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n")
			}
		)
		// Each kind begins at moments of its own, so that they hold on to
		// different pages.
		for i := range steady {
			wg.Go(func() {
				if !wait(time.Duration(i) * 100 * time.Millisecond) {
					return
				}
				c := connect()
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					ask(c)
					resp, err := http.ReadResponse(r, nil)
					if err != nil {
						t.Errorf("scraper %d: %v", i, err)
						return
					}
					n, err := io.Copy(io.Discard, resp.Body)
					if err != nil || int(n) != p.size || resp.StatusCode != http.StatusOK {
						t.Errorf("scraper %d: status %d, %d bytes instead of %d, %v", i, resp.StatusCode, n, p.size, err)
						return
					}
					complete.Add(1)
					if !wait(15 * time.Second) {
						return
					}
				}
			})
		}
		for i := range slow {
			wg.Go(func() {
				for wait(time.Duration(i+1) * time.Second) {
					c := connect()
					ask(c)
					one := make([]byte, 1)
					for {
						if _, err := c.Read(one); err != nil || !wait(time.Second) {
							break // the server has had enough of it
						}
					}
					c.Close()
				}
			})
		}
		for i := range cutting {
			wg.Go(func() {
				for wait(time.Duration(i+1) * time.Second) {
					c := connect()
					ask(c)
					_, _ = io.CopyN(io.Discard, c, int64(1000*i))
					c.Close()
				}
			})
		}

		// Once all are under way, see that it stays as it is.
		var began int
		for i := range refreshes {
			time.Sleep(refreshEvery) //nolint:forbidigo // in a bubble, where time is what it is about
			synctest.Wait()
			if i == refreshes/2 {
				began = heap()
			}
			// A scraper may hold a page for as long as the server lets it write.
			if n, most := p.alive(), int(writeTimeout/refreshEvery)+2; n > most {
				t.Errorf("after %d refreshes %d pages are in memory, want at most %d", i, n, most)
			}
			p.publish(t)
		}
		synctest.Wait()
		// A copy for each of the slow ones would be several times that.
		if grown := heap() - began; grown > slow*p.size/2 {
			t.Errorf("memory has grown by %d bytes, the page has %d", grown, p.size)
		}
		if want := int64(steady * (refreshes*30/15 - 2)); complete.Load() < want {
			t.Errorf("%d scrapes were complete, want at least %d", complete.Load(), want)
		}

		close(stop)
		wg.Wait()
		time.Sleep(2 * writeTimeout) //nolint:forbidigo // see above
		synctest.Wait()
		if n := p.alive(); n != 1 {
			t.Errorf("%d pages are still in memory", n)
		}
		runtime.KeepAlive(p)
	})
}
