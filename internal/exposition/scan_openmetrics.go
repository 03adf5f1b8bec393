package exposition

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"slices"
	"unicode/utf8"

	promexemplar "github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

// exemplar is one of a sample of an OpenMetrics page.
type exemplar struct {
	text  string // label text without the blank after it
	value float64
	ts    int64 // milliseconds, or noTimestamp
}

// scanOpenMetrics reads a page in the OpenMetrics text format. No exporter for
// ClickHouse Cloud needs that to be fast, so Prometheus's own parser does it;
// only the values are read once more, since they are passed on as written.
func scanOpenMetrics(body []byte, last *memory) (*scan, error) {
	s := newScan(len(body), last)
	s.metadata, s.exemplars = newMetadata(), make(map[int]exemplar)
	var (
		p     = textparse.NewOpenMetricsParser(body, labels.NewSymbolTable())
		meta  = make(map[string]*family) // by OpenMetrics name
		typed = make(map[string]bool)
		done  = 0 // everything before it has been read
	)
	// The parser hands out pieces of body; their capacities tell where they are.
	offset := func(b []byte) int { return cap(body) - cap(b) }
	declare := func(name []byte) *family {
		n := unescape(string(name), true)
		if meta[n] == nil {
			meta[n] = &family{name: n}
		}
		return meta[n]
	}
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, newParseError(body, done, err)
		}
		switch entry {
		case textparse.EntryHelp:
			name, help := p.Help()
			f := declare(name)
			if f.help == "" {
				f.help = string(help)
			} else if f.help != string(help) {
				s.metadata.conflicts++
			}
			done = nextLine(body, offset(name))
		case textparse.EntryType:
			name, t := p.Type()
			f, k := declare(name), parseKind(string(t))
			if !typed[f.name] {
				f.kind, typed[f.name] = k, true
			} else if f.kind != k {
				s.metadata.conflicts++
			}
			done = nextLine(body, offset(name))
		case textparse.EntryUnit:
			name, unit := p.Unit()
			f := declare(name)
			if f.unit == "" {
				f.unit = string(unit)
			} else if f.unit != string(unit) {
				s.metadata.conflicts++
			}
			done = nextLine(body, offset(name))
		case textparse.EntrySeries:
			series, stamp, _ := p.Series()
			from := offset(series)
			value := body[from+len(series)+1:]
			if end := bytes.IndexAny(value, " \n"); end >= 0 {
				value = value[:end]
			} // else the page breaks off, or so it seems to the parser, which refuses it next
			ts := int64(noTimestamp)
			if stamp != nil {
				ts = *stamp
			}
			s.add(body, span{uint32(from), uint32(len(series))}, value, last, ts)
			var e promexemplar.Exemplar
			if p.Exemplar(&e) {
				if x, ok := newExemplar(e); ok {
					s.exemplars[len(s.ends)-1] = x
				}
			}
			done = nextLine(body, offset(value))
		}
	}
	s.end(last)
	for _, name := range slices.Sorted(maps.Keys(meta)) {
		s.metadata.addOpenMetrics(meta[name])
	}
	return s, nil
}

func nextLine(body []byte, from int) int {
	if n := bytes.IndexByte(body[from:], '\n'); n >= 0 {
		return from + n + 1
	}
	return len(body)
}

func newExemplar(e promexemplar.Exemplar) (exemplar, bool) {
	x := exemplar{value: e.Value, ts: noTimestamp}
	if e.HasTs {
		x.ts = e.Ts
	}
	// The parser leaves escapes in.
	b := labels.NewScratchBuilder(e.Labels.Len())
	valid := true
	e.Labels.Range(func(l labels.Label) {
		name := unescape(l.Name, true)
		valid = valid && name != "" && utf8.ValidString(name)
		b.Add(name, unescape(l.Value, true))
	})
	b.Sort()
	lset := b.Labels()
	if _, duplicate := lset.HasDuplicateLabelNames(); duplicate || !valid {
		return x, false
	}
	x.text = exemplarText(lset)
	return x, true
}

// addOpenMetrics takes in a family whose samples may bear other names than its
// own: what OpenMetrics calls the counter a, with the sample a_total, is the
// counter a_total here. That sample names stay what they are goes without
// saying.
func (m *metadata) addOpenMetrics(f *family) {
	own := *f
	created := &family{name: f.name + "_created", kind: kindGauge, help: f.help}
	switch f.kind {
	case kindCounter:
		own.name += "_total"
		m.addUnlessTaken(created)
	case kindInfo:
		own.name += "_info"
	case kindHistogram, kindSummary:
		m.addUnlessTaken(created)
	}
	m.families[own.name] = &own
}

// addUnlessTaken lets a family of the page's own go before a derived one.
func (m *metadata) addUnlessTaken(f *family) {
	if m.families[f.name] == nil {
		m.families[f.name] = f
	}
}
