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
	// observeInterval is how often the collector's status is recorded. It costs no
	// request, and little else.
	observeInterval = 5 * time.Second
	// A history holds maxMoments moments. At first they are observeInterval apart, so
	// that there is something to see soon; whenever the history is full it is
	// downsampled, until its moments are maxSpacing apart and cover an hour.
	maxMoments  = 90
	maxSpacing  = 8 * observeInterval
	historySpan = maxMoments * maxSpacing
	// maxTracks bounds the memory of a history, at about 1.2 kB each.
	maxTracks = 10_000
	// maxResolved bounds how many resolved problems are remembered.
	maxResolved = 20
)

// The columns of an organization's track, each the maximum since the moment before.
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

// track is what was recorded of one organization or service: a value for each moment of
// its history, NaN where there was none.
type track [trackColumns][]float32

// History is the last hour of a collector's status, as far as the status page shows it.
// Its methods are safe for concurrent use, and a nil one is empty.
type History struct {
	collector Collector

	mu       sync.Mutex
	spacing  time.Duration
	moments  []time.Time
	tracks   map[trackKey]*track
	pending  map[string][trackColumns]float32 // of organizations, maximum since the last moment
	active   []problem                        // Since is when each was first seen
	resolved []problem                        // latest first
}

// NewHistory returns a history of c that is empty until Run is called.
func NewHistory(c Collector) *History {
	return &History{
		collector: c,
		spacing:   observeInterval,
		tracks:    map[trackKey]*track{},
		pending:   map[string][trackColumns]float32{},
	}
}

// Run records the collector's status until ctx ends, then returns nil.
func (h *History) Run(ctx context.Context) error {
	ticker := time.NewTicker(observeInterval)
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
		// The clock was set back: earlier moments cannot be compared with this one.
		h.moments, h.tracks, n, h.spacing = nil, map[trackKey]*track{}, 0, observeInterval
	}
	h.observeProblems(s.Time, found)
	for i := range s.Organizations {
		o := &s.Organizations[i]
		last, ok := h.pending[o.ID]
		values := organizationValues(o)
		for i := range values {
			if ok && !(last[i] <= values[i]) && isKnown(last[i]) {
				values[i] = last[i]
			}
		}
		h.pending[o.ID] = values
	}
	// A ticker is not exact: what is due within half an interval is due.
	if n > 0 && s.Time.Sub(h.moments[n-1]) < h.spacing-observeInterval/2 {
		return
	}
	if n == maxMoments && h.spacing < maxSpacing {
		h.downsample()
		return // the latest moment is half a spacing ago
	}
	old := 0
	for old < n && (n-old == maxMoments || s.Time.Sub(h.moments[old]) > historySpan) {
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
			if len(h.tracks) >= maxTracks {
				return
			}
			t = &track{}
			h.tracks[key] = t
		}
		for i := range t {
			for len(t[i]) < before {
				t[i] = append(t[i], unknownValue())
			}
			if len(t[i]) == before { // it is longer where two services have the same id
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
		// No longer there. It is dropped together with its last value.
		if !slices.ContainsFunc(t[:], func(c []float32) bool { return slices.ContainsFunc(c, isKnown) }) {
			delete(h.tracks, key)
			continue
		}
		for i := range t {
			t[i] = append(t[i], unknownValue())
		}
	}
}

// downsample drops every other moment, but not the latest.
func (h *History) downsample() {
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
					v = t[c][i-1] // the column is a maximum
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

// observeProblems updates which problems are active and which are resolved.
func (h *History) observeProblems(now time.Time, found []problem) {
	for i := range found {
		if last := findProblem(h.active, &found[i]); last != nil {
			found[i].Since = last.Since
		} else if found[i].Since.IsZero() {
			found[i].Since = now
		}
	}
	for _, p := range h.active {
		if p.Severity == severityNotice || findProblem(found, &p) != nil {
			continue // a notice is of no interest once it is resolved
		}
		p.Until = now
		h.resolved = slices.Insert(h.resolved, 0, p)
	}
	h.active = found
	h.resolved = h.resolved[:min(len(h.resolved), maxResolved)]
	h.resolved = slices.DeleteFunc(h.resolved, func(p problem) bool { return now.Sub(p.Until) > historySpan })
}

// findProblem returns the problem of the same organization and kind, nil if there is none.
func findProblem(list []problem, p *problem) *problem {
	i := slices.IndexFunc(list, func(other problem) bool {
		return other.organizationID == p.organizationID && other.kind == p.kind
	})
	if i < 0 {
		return nil
	}
	return &list[i]
}

// problems returns the problems that were found, with the moments at which they were
// first seen, and those that were resolved in the last hour, latest first.
func (h *History) problems(found []problem) (active, resolved []problem) {
	if h == nil {
		return found, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range found {
		if last := findProblem(h.active, &found[i]); last != nil {
			found[i].Since = last.Since
		}
	}
	return found, slices.Clone(h.resolved)
}

// track returns what was recorded of an organization or service.
func (h *History) track(key trackKey) (moments []time.Time, values track) {
	if h == nil {
		return nil, values
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.tracks[key]; t != nil {
		for i := range t {
			values[i] = slices.Clone(t[i])
		}
	}
	return slices.Clone(h.moments), values
}

// unknownValue stands for a value that is not known.
func unknownValue() float32 { return float32(math.NaN()) }

func isKnown(v float32) bool { return !math.IsNaN(float64(v)) }

func organizationValues(o *collector.OrganizationStatus) [trackColumns]float32 {
	values := [trackColumns]float32{unknownValue(), unknownValue(), unknownValue()}
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
	values := [trackColumns]float32{unknownValue(), unknownValue(), unknownValue()}
	for i, v := range map[int]*float64{cpuUsed: s.CPUUsedRatio, connections: s.Connections, diskUsed: s.DiskUsedRatio} {
		if v != nil {
			values[i] = float32(*v)
		}
	}
	return values
}

// dataAges returns how old the newest and the oldest metrics are that are served, in
// seconds; false if none are.
func dataAges(o *collector.OrganizationStatus) (newest, oldest float64, ok bool) {
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
