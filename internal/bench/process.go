package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// roleVariable makes the program a server of that role rather than the one that
// measures.
const roleVariable = "CLICKHOUSE_POSTGRES_EXPORTER_BENCH_ROLE"

// order is what a child is told, in one line on its standard input. The child
// ends when that is closed, so that none outlives its parent.
type order struct {
	Services int           // of upstream
	Interval time.Duration // between refreshes of upstream, and polls of the exporter
	Upstream string        // URL
	Org      string
	KeyID    string
	Secret   string

	MemoryLimit int64 // as by GOMEMLIMIT, 0 for none
}

// offer is what a child answers, in one line: where it serves.
type offer struct {
	URL     string // of what is measured
	Control string // of what is not
	Error   string

	Org, KeyID, Secret string // of upstream
}

// usage is what a process has used so far.
type usage struct {
	CPU     time.Duration // user and system
	PeakRSS int64         // bytes, since the process began
	Heap    int64         // bytes that are in use; garbage, too, unless it was collected just before

	Mallocs, Allocated uint64 // objects and bytes allocated so far
}

// role is a kind of child. It returns the handler to measure, and further
// handlers for the control port.
type role func(ctx context.Context, o *order, answer *offer) (serve http.Handler, control map[string]http.HandlerFunc, err error)

// child plays a role until stdin is closed.
func child(name string, stdin io.Reader, stdout, stderr io.Writer) int {
	roles := map[string]role{
		"upstream": upstream, "exporter": exporter, "file": file, "const": constMetrics, "cached": cachedFamilies,
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var (
		o      order
		answer offer
		in     = bufio.NewReader(stdin)
	)
	err := func() error {
		play, ok := roles[name]
		if !ok {
			return fmt.Errorf("no role %q", name)
		}
		line, err := in.ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, &o)
		}
		if err != nil {
			return fmt.Errorf("read the order: %w", err)
		}
		handler, control, err := play(ctx, &o, &answer)
		if err != nil {
			return err
		}
		mux := http.NewServeMux()
		mux.HandleFunc("/usage", serveUsage)
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		for path, h := range control {
			mux.HandleFunc(path, h)
		}
		if answer.URL, err = listen(ctx, handler); err != nil {
			return err
		}
		answer.Control, err = listen(ctx, mux)
		return err
	}()
	if err != nil {
		answer.Error = err.Error()
	}
	if err := json.NewEncoder(stdout).Encode(answer); err != nil {
		_, _ = fmt.Fprintln(stderr, "bench:", name+":", err)
		return 1
	}
	_, _ = io.Copy(io.Discard, in)
	return 0
}

// listen serves on a free port until the process ends.
func listen(ctx context.Context, h http.Handler) (url string, err error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go func() { _ = s.Serve(l) }()
	return "http://" + l.Addr().String(), nil
}

// serveUsage answers with the process's own usage. With ?collect garbage is
// collected first.
func serveUsage(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Has("collect") {
		for range 3 { // finalizers and pools take more than one
			runtime.GC()
		}
	}
	u, err := ownUsage()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_ = json.NewEncoder(w).Encode(u)
}

func ownUsage() (usage, error) {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return usage{}, err
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u := usage{
		CPU:  time.Duration(ru.Utime.Nano() + ru.Stime.Nano()),
		Heap: int64(m.HeapAlloc), Mallocs: m.Mallocs, Allocated: m.TotalAlloc,
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return usage{}, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				return usage{}, err
			}
			u.PeakRSS = kb << 10
		}
	}
	return u, nil
}

// process is a child as its parent sees it.
type process struct {
	offer
	name  string
	cmd   *exec.Cmd
	stdin io.Closer
	ended bool
}

// start starts a child and waits until it serves. It ends with stop, or when
// this process does.
func start(ctx context.Context, name string, o order) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), roleVariable+"="+name)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{name: name, cmd: cmd, stdin: stdin}
	err = json.NewEncoder(stdin).Encode(o)
	if err == nil {
		err = json.NewDecoder(stdout).Decode(&p.offer)
	}
	if err == nil && p.Error != "" {
		err = errors.New(p.Error)
	}
	if err != nil {
		p.stop()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// stop ends the child, if it has not ended already.
func (p *process) stop() {
	if p.ended {
		return
	}
	p.ended = true
	_ = p.stdin.Close()
	_ = p.cmd.Wait()
}

// call asks the control port for something; into may be nil.
func (p *process) call(ctx context.Context, path string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.Control+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(cmp.Or(strings.TrimSpace(string(answer)), resp.Status))
	}
	if err == nil && into != nil {
		err = json.Unmarshal(answer, into)
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w", p.name, path, err)
	}
	return nil
}

func (p *process) usage(ctx context.Context, collected bool) (u usage, err error) {
	path := "/usage"
	if collected {
		path += "?collect"
	}
	err = p.call(ctx, path, nil, &u)
	return u, err
}
