package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the exporter built once for all tests, with the race detector.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "exporter")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "clickhouse_postgres_exporter")
		build := exec.Command("go", "build", "-race", "-o", binary, ".")
		build.Dir = filepath.Join("..", "..")
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "build the exporter:", err)
			return 1
		}
		return m.Run()
	}())
}

// syncBuffer collects output of a process or logger while others read it.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *syncBuffer) tail(n int) string {
	s := b.String()
	return s[max(0, len(s)-n):]
}

// exporter is a running exporter process.
type exporter struct {
	address string
	log     *syncBuffer
}

var listening = regexp.MustCompile(`msg="Listening on" address=(\S+)`)

// startExporter runs the binary on a port of its own choosing until the test
// ends, and fails the test if it does not stop cleanly or reports a race.
func startExporter(t *testing.T, environment []string, args ...string) *exporter {
	t.Helper()
	e := &exporter{log: &syncBuffer{}}
	found := make(chan string, 1)
	cmd := exec.Command(binary, append([]string{"--web.listen-address=127.0.0.1:0"}, args...)...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, environment...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		lines := bufio.NewScanner(stderr)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			fmt.Fprintln(e.log, lines.Text())
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				select {
				case found <- m[1]:
				default:
				}
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-drained
		if err := cmd.Wait(); err != nil {
			t.Errorf("exporter did not stop cleanly: %v\n%s", err, e.log.tail(4000))
		}
		if bytes.Contains([]byte(e.log.String()), []byte("DATA RACE")) {
			t.Errorf("data race in the exporter:\n%s", e.log)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	select {
	case e.address = <-found:
	case <-drained:
		t.Fatalf("exporter ended before it listened:\n%s", e.log)
	case <-ctx.Done():
		t.Fatalf("exporter does not listen:\n%s", e.log)
	}
	return e
}
