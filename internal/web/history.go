package web

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
)

const (
	// observeEvery is how often the collector's status is looked at. It costs
	// no request, and little else.
	observeEvery = 5 * time.Second
	// A history holds mostMoments moments. They are observeEvery apart in the
	// beginning, so that there is something to see soon; whenever there is no
	// room for another, every other one is given up, until they are
	// widestSpacing apart and together are an hour.
	mostMoments   = 90
	widestSpacing = 8 * observeEvery
	historySpan   = mostMoments * widestSpacing
	// mostTracks bounds the memory of a history, at 1.2 kB each, about.
	mostTracks = 10_000
	// mostEnded bounds how many problems that are over are remembered.
	mostEnded = 20
)

// The columns of an organization's track, each the greatest value since the
// moment before.
const (
	pollSeconds = iota // of the latest request for metrics
	ageSeconds         // of the oldest data
	budgetUsed         // share of the request budget
	trackColumns
)

// The columns of a service's track.
const (
	cpuUsed     = iota // share
	connections        // number
	diskUsed           // share
)

// trackKey names an organization or, in it, a service.
type trackKey struct{ organization, service string }

// track is what was observed of one organization or service: a value for each
// moment of its history, NaN where there was none.
type track [trackColumns][]float32

// History remembers the last hour of what a collector's status said, as far as
// the status page shows it. Its methods are safe for concurrent use.
type History struct {
	collector Collector

	mu      sync.Mutex
	spacing time.Duration
	moments []time.Time
	tracks  map[trackKey]*track
	pending map[string][trackColumns]float32 // of organizations, greatest since the last moment
	present map[problemKey]problem           // with the moment at which it was first seen
	ended   []problem                        // latest first
}

// NewHistory returns a history of c that is empty until Run is called.
func NewHistory(c Collector) *History {
	return &History{
		collector: c,
		spacing:   observeEvery,
		tracks:    map[trackKey]*track{},
		pending:   map[string][trackColumns]float32{},
		present:   map[problemKey]problem{},
	}
}

// Run observes the collector until ctx ends, then returns nil.
func (h *History) Run(ctx context.Context) error {
	ticker := time.NewTicker(observeEvery)
	defer ticker.Stop()
	for {
		h.observe(h.collector.Status())
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// observe takes in one status.
func (h *History) observe(s collector.Status) {
	found := findProblems(s)
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.moments)
	if n > 0 && s.Time.Before(h.moments[n-1]) {
		// The clock was set back: what was is not comparable with what is.
		h.moments, h.tracks, n, h.spacing = nil, map[trackKey]*track{}, 0, observeEvery
	}
	h.remember(s.Time, found)
	for _, o := range s.Organizations {
		last, ok := h.pending[o.ID]
		values := organizationValues(o)
		for i := range values {
			if ok && !(last[i] <= values[i]) && !math.IsNaN(float64(last[i])) {
				values[i] = last[i]
			}
		}
		h.pending[o.ID] = values
	}
	// A ticker is not exact: what is due within half a turn is due.
	if n > 0 && s.Time.Sub(h.moments[n-1]) < h.spacing-observeEvery/2 {
		return
	}
	if n == mostMoments && h.spacing < widestSpacing {
		h.thin()
		return // the latest moment is half a spacing ago
	}
	old := 0
	for old < n && (n-old == mostMoments || s.Time.Sub(h.moments[old]) > historySpan) {
		old++
	}
	h.record(s, old)
}

// record adds a moment and drops the oldest ones.
func (h *History) record(s collector.Status, old int) {
	before := len(h.moments) - old
	h.moments = append(slices.Delete(h.moments, 0, old), s.Time)
	for _, t := range h.tracks {
		for i := range t {
			t[i] = slices.Delete(t[i], 0, old)
		}
	}
	add := func(key trackKey, values [trackColumns]float32) {
		t := h.tracks[key]
		if t == nil {
			if len(h.tracks) >= mostTracks {
				return
			}
			t = &track{}
			h.tracks[key] = t
		}
		for i := range t {
			for len(t[i]) < before {
				t[i] = append(t[i], nothing())
			}
			if len(t[i]) == before { // or two services have one id
				t[i] = append(t[i], values[i])
			}
		}
	}
	for _, o := range s.Organizations {
		add(trackKey{o.ID, ""}, h.pending[o.ID])
	}
	clear(h.pending)
	for _, o := range s.Organizations {
		for i := range o.Services {
			add(trackKey{o.ID, o.Services[i].ID}, serviceValues(&o.Services[i]))
		}
	}
	for key, t := range h.tracks {
		if len(t[0]) > before {
			continue
		}
		// No longer there. It is forgotten with its last value.
		if !slices.ContainsFunc(t[:], func(c []float32) bool { return slices.ContainsFunc(c, isSomething) }) {
			delete(h.tracks, key)
			continue
		}
		for i := range t {
			t[i] = append(t[i], nothing())
		}
	}
}

// thin gives up every other moment, but not the latest.
func (h *History) thin() {
	h.spacing *= 2
	keep := func(i int) bool { return (len(h.moments)-1-i)%2 == 0 }
	for key, t := range h.tracks {
		for c := range t {
			kept := t[c][:0]
			for i, v := range t[c] {
				if !keep(i) {
					continue
				}
				if key.service == "" && i > 0 && t[c][i-1] > v {
					v = t[c][i-1] // the greatest, as ever
				}
				kept = append(kept, v)
			}
			t[c] = kept
		}
	}
	kept := h.moments[:0]
	for i, m := range h.moments {
		if keep(i) {
			kept = append(kept, m)
		}
	}
	h.moments = kept
}

// remember notes which problems began and which are over.
func (h *History) remember(now time.Time, found []problem) {
	still := make(map[problemKey]bool, len(found))
	for _, p := range found {
		still[p.key] = true
		if was, ok := h.present[p.key]; ok {
			p.Since = was.Since
		} else if p.Since.IsZero() {
			p.Since = now
		}
		h.present[p.key] = p
	}
	for key, p := range h.present {
		if still[key] {
			continue
		}
		delete(h.present, key)
		if p.Severity == notice {
			continue // of no interest once it is over
		}
		p.Until = now
		h.ended = slices.Insert(h.ended, 0, p)
	}
	h.ended = h.ended[:min(len(h.ended), mostEnded)]
	h.ended = slices.DeleteFunc(h.ended, func(p problem) bool { return now.Sub(p.Until) > historySpan })
}

// since completes problems by the moments at which they were first seen.
func (h *History) since(found []problem) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, p := range found {
		if was, ok := h.present[p.key]; ok {
			found[i].Since = was.Since
		}
	}
}

// over returns the problems of the last hour that are none any more, latest
// first.
func (h *History) over() []problem {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.ended)
}

// pastHour is a part of a history.
type pastHour struct {
	moments []time.Time
	tracks  map[trackKey]track
}

// pick returns what was observed of some organizations and services.
func (h *History) pick(keys []trackKey) pastHour {
	h.mu.Lock()
	defer h.mu.Unlock()
	past := pastHour{slices.Clone(h.moments), make(map[trackKey]track, len(keys))}
	for _, key := range keys {
		if t := h.tracks[key]; t != nil {
			var c track
			for i := range t {
				c[i] = slices.Clone(t[i])
			}
			past.tracks[key] = c
		}
	}
	return past
}

// nothing is the value of what is not known.
func nothing() float32 { return float32(math.NaN()) }

func isSomething(v float32) bool { return !math.IsNaN(float64(v)) }

func organizationValues(o collector.OrganizationStatus) [trackColumns]float32 {
	values := [trackColumns]float32{nothing(), nothing(), nothing()}
	if o.PollSeconds > 0 {
		values[pollSeconds] = float32(o.PollSeconds)
	}
	if _, oldest, ok := dataAges(o); ok {
		values[ageSeconds] = float32(oldest)
	}
	if o.Budget.Limit > 0 {
		values[budgetUsed] = float32(o.Budget.Used) / float32(o.Budget.Limit)
	}
	return values
}

func serviceValues(s *collector.ServiceStatus) [trackColumns]float32 {
	values := [trackColumns]float32{nothing(), nothing(), nothing()}
	for i, v := range map[int]*float64{cpuUsed: s.CPUUsedRatio, connections: s.Connections, diskUsed: s.DiskUsedRatio} {
		if v != nil {
			values[i] = float32(*v)
		}
	}
	return values
}

// dataAges returns, in seconds, how old the newest and the oldest of the
// metrics are that are served; false if none are.
func dataAges(o collector.OrganizationStatus) (newest, oldest float64, ok bool) {
	for i := range o.Services {
		if s := &o.Services[i]; s.Series > 0 {
			if !ok || s.DataAgeSeconds < newest {
				newest = s.DataAgeSeconds
			}
			oldest, ok = max(oldest, s.DataAgeSeconds), true
		}
	}
	return newest, oldest, ok
}
