package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process is a child process. It ends with stop, or when this process does.
type process struct {
	URL  string // where it serves
	cmd  *exec.Cmd
	stop func()
}

// cpu returns the CPU time that the process has used.
func (p *process) cpu() (time.Duration, error) {
	// The id of a process's CPU clock in the kernel.
	return cpuTime(int32(^p.cmd.Process.Pid<<3 | 2))
}

func ownCPU() (time.Duration, error) { return cpuTime(unix.CLOCK_PROCESS_CPUTIME_ID) }

func cpuTime(clock int32) (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("read a process's CPU time: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

// peakMemory returns the peak of the process's resident memory, in bytes.
func (p *process) peakMemory() (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("the kernel does not tell the peak of resident memory")
}

// build builds the exporter's binary if a row needs it and none was given.
func (b *bench) build(ctx context.Context, chosen []row) (remove func(), err error) {
	needed := false
	for _, r := range chosen {
		needed = needed || r.processes
	}
	if !needed || b.binary != "" {
		return func() {}, nil
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	b.binary = filepath.Join(dir, "exporter")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", b.binary, "github.com/ClickHouse/clickhouse_postgres_exporter")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("build the exporter: %w\n%s", err, out), os.RemoveAll(dir))
	}
	return func() { _ = os.RemoveAll(dir) }, nil
}

var listening = regexp.MustCompile(`Listening on.* address=(\S+)`)

// exporter starts the exporter as users do.
func (b *bench) exporter(ctx context.Context, up *upstream, interval time.Duration, environment ...string) (*process, error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, b.binary,
		"--api.url="+up.URL, "--api.organization-id="+up.Organization,
		"--api.rate-limit=20000", "--api.rate-use=20000", "--api.max-response-size=1GB",
		"--metrics.interval="+interval.String(), "--inventory.interval="+interval.String(), "--metrics.max-age=24h",
		"--web.listen-address=127.0.0.1:0", "--log.level=info")
	cmd.Env = append(os.Environ(), "CLICKHOUSE_CLOUD_API_KEY="+up.KeyID, "CLICKHOUSE_CLOUD_API_SECRET="+up.Secret)
	// At this rate limit they would all be read at once, and not one each 12.5 s.
	cmd.Env = append(cmd.Env, "CLICKHOUSE_POSTGRES_EXPORTER_COLLECTOR_BACKUPS=false", "CLICKHOUSE_POSTGRES_EXPORTER_COLLECTOR_QUOTAS=false")
	cmd.Env = append(cmd.Env, environment...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, err
	}
	p := &process{cmd: cmd, stop: func() { cancel(); _ = cmd.Wait() }}
	lines := bufio.NewScanner(stderr)
	var log strings.Builder
	for p.URL == "" && lines.Scan() {
		log.WriteString(lines.Text() + "\n")
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			p.URL = "http://" + m[1]
		}
	}
	if p.URL == "" {
		p.stop()
		return nil, fmt.Errorf("the exporter does not serve:\n%s", log.String())
	}
	go func() { _, _ = io.Copy(io.Discard, stderr) }()
	if err := p.ready(ctx); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// ready waits until the exporter has data.
func (p *process) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Minute, errors.New("the exporter gets no data"))
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		resp, err := http.Get(p.URL + "/-/ready") //nolint:noctx // answered at once
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
		if err := wait(ctx, ticker.C); err != nil {
			return err
		}
	}
}

func wait(ctx context.Context, tick <-chan time.Time) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-tick:
		return nil
	}
}

// roleVariable makes the program a server in that role instead of measuring.
const roleVariable = "CLICKHOUSE_POSTGRES_EXPORTER_BENCH_ROLE"

// start starts this program as a server in a role. The server gets its arguments on standard input
// and prints its URL on standard output.
func start(ctx context.Context, role string, arguments, answer any) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
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
	p := &process{cmd: cmd, stop: func() { _ = stdin.Close(); _ = cmd.Wait() }}
	err = json.NewEncoder(stdin).Encode(arguments)
	out := json.NewDecoder(stdout)
	if err == nil {
		err = out.Decode(&p.URL)
	}
	if err == nil && answer != nil {
		err = out.Decode(answer)
	}
	if err != nil {
		p.stop()
		return nil, fmt.Errorf("start the server %s: %w", role, err)
	}
	return p, nil
}

// child plays a role until stdin is closed.
func child(role string, stdin io.Reader, stdout, stderr io.Writer) int {
	in, out := json.NewDecoder(stdin), json.NewEncoder(stdout)
	err := func() error {
		handler, answer, err := play(role, in)
		if err != nil {
			return err
		}
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
		if err != nil {
			return err
		}
		server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
		go func() { _ = server.Serve(l) }()
		if err := out.Encode("http://" + l.Addr().String()); err != nil {
			return err
		}
		return out.Encode(answer)
	}()
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "bench:", role+":", err)
		return 1
	}
	_, _ = io.Copy(io.Discard, stdin) // until the parent closes it or ends
	return 0
}
