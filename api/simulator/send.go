package simulator

import (
	"bytes"
	"compress/gzip"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const gzipFrom = 1024 // bytes; shorter answers are not worth it

// send writes an answer, changed by its fault. It may panic with http.ErrAbortHandler, on which
// net/http closes the connection.
func (s *Simulator) send(w http.ResponseWriter, c *call, a answer, active *fault) {
	var f Fault
	if active != nil {
		f = active.Fault
		if !active.delay(c) {
			panic(http.ErrAbortHandler)
		}
		if f.Reset {
			reset(w)
			panic(http.ErrAbortHandler)
		}
	}
	body, encoding := a.encode(c, &f)

	h := w.Header()
	h.Set("Date", c.now.UTC().Format(http.TimeFormat)) // by the simulator's clock, not net/http's
	if a.contentType != "" {
		h.Set("Content-Type", a.contentType)
	}
	h.Set("Content-Length", strconv.Itoa(max(len(body)+f.LengthLie, 0)))
	h.Set("Vary", "Accept-Encoding")
	if encoding != "" {
		h.Set("Content-Encoding", encoding)
	}
	for _, more := range []http.Header{a.header, f.Header} {
		for name, values := range more {
			// A header without values must be set, too, or net/http fills it in.
			h[http.CanonicalHeaderKey(name)] = slices.Clone(values)
		}
	}
	w.WriteHeader(a.status)

	if f.LengthLie < 0 {
		body = body[:max(len(body)+f.LengthLie, 0)]
	}
	cut := f.CutAfter != 0
	switch {
	case f.CutAfter < 0:
		body = nil
	case cut && f.CutAfter < len(body):
		body = body[:f.CutAfter]
	case cut:
		body = body[:len(body)/2]
	}
	if f.BytesPerSecond > 0 {
		cut = !active.writeSlowly(w, c, body) || cut
	} else {
		_, _ = w.Write(body) // an error means that the client left
	}
	if cut {
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// encode returns the body to send, and its Content-Encoding.
func (a *answer) encode(c *call, f *Fault) (body []byte, encoding string) {
	accepted := strings.Contains(c.Header.Get("Accept-Encoding"), "gzip")
	if a.gzip != nil && accepted && f.Mutate == nil && f.Encode == nil {
		return a.gzip(), "gzip"
	}
	body = a.body
	if a.render != nil {
		body = a.render()
	}
	if f.Mutate != nil {
		body = f.Mutate(body)
	}
	switch {
	case f.Encode != nil:
		return f.Encode(body)
	case accepted && len(body) >= gzipFrom:
		return compress(body), "gzip"
	}
	return body, ""
}

// delay waits as long as the fault says. It returns false if the client gets no answer.
func (f *fault) delay(c *call) bool {
	if f.Latency > 0 && !f.sleep(c, f.Latency) {
		return false
	}
	if f.Hang {
		select {
		case <-c.Context().Done():
		case <-f.cleared:
		}
		return false
	}
	return true
}

// sleep waits for d, or until the fault is cleared. It returns false if the client left.
func (f *fault) sleep(c *call, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-f.cleared:
	case <-c.Context().Done():
		return false
	}
	return true
}

// writeSlowly writes the body in up to ten parts a second. It returns false if the client left.
func (f *fault) writeSlowly(w http.ResponseWriter, c *call, body []byte) bool {
	flush := http.NewResponseController(w).Flush
	_ = flush()
	step := max(f.BytesPerSecond/10, 1)
	for chunk := range slices.Chunk(body, step) {
		if !f.sleep(c, time.Second*time.Duration(step)/time.Duration(f.BytesPerSecond)) {
			return false
		}
		if _, err := w.Write(chunk); err != nil {
			return false
		}
		_ = flush()
	}
	return true
}

// reset closes the connection so that the client sees a reset instead of an end, if the server
// allows it.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func compress(body []byte) []byte {
	var b bytes.Buffer
	// Speed matters more than size here. Neither the writer nor the level can fail.
	w, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	_, _ = w.Write(body)
	_ = w.Close()
	return b.Bytes()
}
