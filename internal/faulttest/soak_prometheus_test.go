//go:build soak && linux

package faulttest

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// The jobs of the Prometheus server, and how it scrapes.
const (
	everything = "everything" // one target, with the exporter's own metrics
	perService = "services"   // a target for each service, by discovery

	soakScrapeInterval = 5 * time.Second // and timeout, generous for a race detector on a busy machine
	soakDiscovery      = 5 * time.Second // refresh interval
	soakScrapeGap      = 4 * soakScrapeInterval
)

// monitor is a real Prometheus that scrapes the exporter.
type monitor struct {
	address string
	log     *output
	ended   chan struct{}
}

// startMonitor starts the installed Prometheus, which scrapes the exporter until the test ends. It
// returns nil if there is none, except in CI.
func startMonitor(t *testing.T, e *exporter) *monitor {
	t.Helper()
	program, err := exec.LookPath("prometheus")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("missing: apt-get install prometheus")
		}
		t.Log("missing: apt-get install prometheus; without it only the test's own scraper reads")
		return nil
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	writeFile(t, config, fmt.Sprintf(`
global: {scrape_interval: %[1]s, scrape_timeout: %[1]s}
scrape_configs:
  - job_name: %[2]s
    honor_labels: true
    static_configs: [{targets: [%[3]q]}]
  - job_name: %[4]s
    honor_labels: true
    http_sd_configs: [{url: "http://%[3]s/sd", refresh_interval: %[5]s}]
`, soakScrapeInterval, everything, e.address, perService, soakDiscovery))
	m := &monitor{log: &output{}, ended: make(chan struct{})}
	cmd := exec.Command(program, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0")
	cmd.Stdout, cmd.Stderr = m.log, m.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait()
		close(m.ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-m.ended:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			<-m.ended
		}
	})
	await(t, "Prometheus to listen", func() bool {
		for _, line := range m.log.lines(`msg="Listening on"`) {
			_, m.address, _ = strings.Cut(line, "address=")
		}
		return m.address != ""
	}, m.log.String)
	return m
}

func (m *monitor) get(path string) (*http.Response, error) {
	client := http.Client{Timeout: patience}
	return client.Get("http://" + m.address + path)
}

// stored is a series with the samples that a query returned.
type stored struct {
	series
	samples []sample
}

type sample struct {
	at    time.Time
	value float64
}

// query evaluates an expression that returns series, or ranges of them.
func (m *monitor) query(expression string, at time.Time) ([]stored, error) {
	resp, err := m.get("/api/v1/query?" + url.Values{
		"query": {expression}, "time": {strconv.FormatFloat(float64(at.UnixMilli())/1000, 'f', 3, 64)},
	}.Encode())
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Metric map[string]string
				Value  *model.SamplePair
				Values []model.SamplePair
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("%s: %w", resp.Status, err)
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("%s: %s", resp.Status, answer.Error)
	}
	var found []stored
	for _, r := range answer.Data.Result {
		s := stored{series: series{labels: labels.FromMap(r.Metric)}}
		if r.Value != nil {
			r.Values = append(r.Values, *r.Value)
		}
		for _, v := range r.Values {
			s.samples = append(s.samples, sample{v.Timestamp.Time(), float64(v.Value)})
		}
		found = append(found, s)
	}
	return found, nil
}

// scrapeKey identifies a scrape by Prometheus: all samples of a scrape have the same time.
type scrapeKey struct {
	job, instance string
	at            time.Time
}

// scraped is what Prometheus stored of a scrape.
type scraped struct {
	glimpse
	succeeded      float64 // its "up", -1 if there is none
	duration       time.Duration
	announced, own float64 // samples, before and after relabelling
	found          float64 // samples
}

// follow checks what Prometheus stores until stop, and then once more.
func (w *walk) follow(stop <-chan struct{}) {
	const settled = 2 * soakScrapeInterval // for a scrape to be stored
	last := map[[2]string]time.Time{}      // scrape of a target
	from := time.Now()
	ticker := time.NewTicker(20 * time.Second)
	defer ticker.Stop()
	for done := false; !done; {
		select {
		case <-w.e.ended:
			return
		case <-w.monitor.ended:
			w.problem(time.Now(), "Prometheus has ended:\n%s", tail(w.monitor.log.String()))
			return
		case <-stop:
			done = true
		case <-ticker.C:
		}
		to := time.Now().Add(-settled)
		scrapes, err := w.scrapes(from, to)
		if err != nil {
			w.problem(to, "no answer of Prometheus: %v", err)
			continue
		}
		from = to
		keys := make([]scrapeKey, 0, len(scrapes))
		for k := range scrapes {
			keys = append(keys, k)
		}
		slices.SortFunc(keys, func(a, b scrapeKey) int { return a.at.Compare(b.at) })
		for _, k := range keys {
			w.judgeScrape(k, scrapes[k])
			target := [2]string{k.job, k.instance}
			if previous, ok := last[target]; ok && k.at.Sub(previous) > soakScrapeGap && w.continuous(k, previous) {
				w.problem(k.at, "%s %s: no scrape for %s", k.job, k.instance, k.at.Sub(previous))
			}
			last[target] = k.at
		}
	}
	for _, id := range w.stable {
		if last[[2]string{perService, id}].Before(from.Add(-soakScrapeGap)) && !w.emptied(from) {
			w.problem(from, "service %s is no target at the end", id)
		}
	}
}

// continuous reports whether a target must have existed ever since a moment.
func (w *walk) continuous(k scrapeKey, since time.Time) bool {
	if k.job == everything {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.stable, k.instance) && !w.touched(since.Add(-soakBelief), k.at, "empty list")
}

// scrapes returns what Prometheus stored after one moment and up to another.
func (w *walk) scrapes(from, to time.Time) (map[scrapeKey]*scraped, error) {
	found, err := w.monitor.query(
		fmt.Sprintf(`{job=~"%s|%s"}[%ds]`, everything, perService, int(math.Ceil(to.Sub(from).Seconds()))+1), to,
	)
	if err != nil {
		return nil, err
	}
	scrapes := map[scrapeKey]*scraped{}
	for _, s := range found {
		key := scrapeKey{job: s.labels.Get("job"), instance: s.labels.Get("instance")}
		// Prometheus's own series of a scrape have exactly these labels. Upstream may have series
		// with the same names.
		report := s.labels.Len() == 3
		bare := series{labels: labels.NewBuilder(s.labels).Del("job", "instance").Labels()}
		for _, x := range s.samples {
			if !x.at.After(from) {
				continue
			}
			key.at = x.at
			at := scrapes[key]
			if at == nil {
				at = &scraped{succeeded: -1}
				scrapes[key] = at
			}
			bare.value = x.value
			name := s.name()
			switch {
			case report && name == "up":
				at.succeeded = x.value
			case report && name == "scrape_duration_seconds":
				at.duration = time.Duration(x.value * float64(time.Second))
			case report && name == "scrape_samples_scraped":
				at.announced = x.value
			case report && name == "scrape_samples_post_metric_relabeling":
				at.own = x.value
			case report && strings.HasPrefix(name, "scrape_"):
			default:
				at.found++
				if name == "clickhouse_postgres_up" && x.value == 1 {
					at.up = true
				}
				at.add(w, bare)
			}
		}
	}
	return scrapes, nil
}

// judgeScrape compares what Prometheus stored of a scrape with what upstream served, and with
// Prometheus's own series of the scrape.
func (w *walk) judgeScrape(k scrapeKey, s *scraped) {
	reader := "Prometheus, " + k.job
	w.mu.Lock()
	stamped := w.touched(k.at.Add(-soakExpiry-soakSlack), k.at, "future families")
	w.mu.Unlock()
	if s.succeeded < 0 {
		// Some samples of a fault have timestamps.
		if s.services != nil || !stamped {
			w.problem(k.at, "%s %s: %v samples outside of any scrape", reader, k.instance, s.found)
		}
		return
	}
	w.tally(reader, func(t *tally) {
		t.scrapes++
		t.slowest = max(t.slowest, s.duration)
		if s.succeeded != 1 {
			t.failed++
		}
	})
	if s.duration > soakScrapeInterval-100*time.Millisecond {
		w.problem(k.at, "%s %s: a scrape took %s", reader, k.instance, s.duration)
	}
	missing := s.announced - s.found
	if stamped && missing == 1 {
		missing = 0
	}
	if s.own != s.announced || missing != 0 {
		w.problem(k.at, "%s %s: %v samples scraped, %v after relabelling, %v stored", reader, k.instance, s.announced, s.own, s.found)
	}
	s.reader, s.target, s.at = reader, k.instance, k.at
	switch {
	case k.job == everything:
		if s.succeeded != 1 {
			w.problem(k.at, "%s: the scrape failed", reader)
		}
		s.expected, s.complete = w.stable, true
	case slices.Contains(w.stable, k.instance):
		// The page of a service must fail once its data has expired.
		s.expected = []string{k.instance}
		s.up = true // not on this page
	default:
		s.up = true
	}
	w.check(s.glimpse)
}

// troubles are Prometheus's counters of samples that it refused and of its own failures.
var troubles = regexp.MustCompile(`^prometheus_target_(scrape|sync)\w*(duplicate|out_of|exceeded|failed)\w*_total$|^prometheus_tsdb_\w*(failed|corruptions|out_of_order|out_of_bound)\w*_total$`)

// examine checks Prometheus's own failures.
func (w *walk) examine() {
	resp, err := w.monitor.get("/metrics")
	if err != nil {
		w.t.Error(err)
		return
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Error(err)
		return
	}
	p, err := parse(string(content))
	if err != nil {
		w.t.Error(err)
		return
	}
	counters := 0
	for _, s := range p {
		if !troubles.MatchString(s.name()) {
			continue
		}
		counters++
		if s.value != 0 {
			w.t.Errorf("Prometheus: %s %v", s.labels, s.value)
		}
	}
	w.leftovers()
	if counters < 10 {
		w.t.Errorf("Prometheus has only %d counters of troubles: are they called otherwise?", counters)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	refused := 0
	for _, line := range slices.Concat(w.monitor.log.lines("level=warn"), w.monitor.log.lines("level=error")) {
		if strings.Contains(line, "503 Service Unavailable") && strings.Contains(line, "Unable to refresh target groups") && w.listedNothing(line) {
			refused++
			continue
		}
		w.t.Errorf("Prometheus: %s", line)
	}
	w.t.Logf("Prometheus: %d counters of troubles, %d discoveries refused while the list was empty", counters, refused)
}

// leftovers checks that Prometheus sees exactly upstream's services at the end: a series that
// disappeared without being marked stale would be seen for five minutes.
func (w *walk) leftovers() {
	now := time.Now()
	want := map[string]bool{}
	for _, s := range w.u.Series(now) {
		want[s.Labels["postgres_service"]] = true
	}
	found, err := w.monitor.query(`count by (postgres_service) ({__name__=~"Postgres.*",postgres_service!=""})`, now)
	if err != nil {
		w.t.Errorf("Prometheus: %v", err)
		return
	}
	for _, s := range found {
		id := s.labels.Get("postgres_service")
		if !want[id] {
			w.t.Errorf("Prometheus still sees %v series of service %s, which is gone", s.samples[0].value, id)
		}
		delete(want, id)
	}
	for id := range want {
		w.t.Errorf("Prometheus does not see service %s", id)
	}
}

// listedNothing reports whether the list of services was empty when a line was logged. The caller
// locks.
func (w *walk) listedNothing(line string) bool {
	_, after, _ := strings.Cut(line, "ts=")
	stamp, _, _ := strings.Cut(after, " ")
	at, err := time.Parse(time.RFC3339Nano, stamp)
	return err == nil && w.touched(at.Add(-soakBelief), at, "empty list")
}
