package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// progress tells people at a terminal what they are waiting for. Elsewhere, such as
// in a file or a pipe, it says nothing.
type progress struct{ terminal io.Writer } // nil for none

// newProgress returns progress on w if that is a terminal which can rewrite a line.
func newProgress(w io.Writer, lookup func(string) (string, bool)) progress {
	f, ok := w.(*os.File)
	if term, _ := lookup("TERM"); !ok || term == "" || term == "dumb" {
		return progress{}
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return progress{}
	}
	return progress{f}
}

// patience is what people wait for without wondering.
const patience = time.Second

// during calls f, and shows what as long as that takes, from patience on. what is
// called concurrently with f.
func (p progress) during(what func() string, f func()) {
	if p.terminal == nil {
		f()
		return
	}
	const wipe = "\r\x1b[K"
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		begin := time.Now()
		ticker := time.NewTicker(patience)
		defer ticker.Stop()
		shown := false
		for {
			select {
			case <-ticker.C:
				// A terminal that has gone is no reason to stop.
				_, _ = fmt.Fprintf(p.terminal, "%s%s … %s", wipe, what(), time.Since(begin).Round(time.Second))
				shown = true
			case <-stop:
				if shown {
					_, _ = io.WriteString(p.terminal, wipe)
				}
				return
			}
		}
	}()
	defer func() {
		close(stop)
		<-stopped
	}()
	f()
}
