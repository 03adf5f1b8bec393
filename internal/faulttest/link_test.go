//go:build linux

package faulttest

import (
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// link is a TCP connection to upstream that can fail. Safe for concurrent use.
type link struct {
	t       *testing.T
	address string
	target  atomic.Pointer[string]

	mu       sync.Mutex
	listener net.Listener // nil while connections are refused
	conns    map[net.Conn]struct{}
	hangUps  int

	silent atomic.Bool  // nothing passes, nothing ends
	cut    atomic.Int64 // bytes of an answer after which the connection is reset, 0 for never
}

// newLink makes a link on its own loopback address: on a shared address, a port that is closed for
// a while may be reused by another process.
func newLink(t *testing.T, target string) *link {
	t.Helper()
	own := net.IPv4(127, byte(1+rand.IntN(254)), byte(rand.IntN(256)), byte(1+rand.IntN(254))) //nolint:gosec // not a secret
	l := &link{t: t, address: net.JoinHostPort(own.String(), "0"), conns: map[net.Conn]struct{}{}}
	l.target.Store(&target)
	l.listen()
	t.Cleanup(l.refuse)
	return l
}

func (l *link) url() string { return "http://" + l.address }

func (l *link) host() string { return strings.Split(l.address, ":")[0] }

func (l *link) listen() {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listener != nil {
		return
	}
	listener, err := net.Listen("tcp", l.address)
	if err != nil {
		l.t.Fatal(err)
	}
	l.listener, l.address = listener, listener.Addr().String()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go l.serve(c)
		}
	}()
}

// hangUp closes all connections, including those being established.
func (l *link) hangUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hangUps++
	for c := range l.conns {
		_ = c.Close()
	}
}

// refuse closes upstream's port.
func (l *link) refuse() {
	l.mu.Lock()
	if l.listener != nil {
		_ = l.listener.Close()
		l.listener = nil
	}
	l.mu.Unlock()
	l.hangUp()
}

// restore ends every fault.
func (l *link) restore() {
	l.silent.Store(false)
	l.cut.Store(0)
	l.hangUp()
	l.listen()
}

// reset cuts every answer after n bytes.
func (l *link) reset(n int64) {
	l.cut.Store(n)
	l.hangUp()
}

// redirect connects to another target from now on.
func (l *link) redirect(target string) {
	l.target.Store(&target)
	l.hangUp()
}

// register adds connections that were established after so many calls of hangUp.
func (l *link) register(hangUps int, conns ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	late := l.listener == nil || l.hangUps != hangUps
	for _, c := range conns {
		if late {
			_ = c.Close()
			continue
		}
		l.conns[c] = struct{}{}
	}
	return !late
}

func (l *link) serve(client net.Conn) {
	l.mu.Lock()
	hangUps := l.hangUps
	l.mu.Unlock()
	server, err := net.Dial("tcp", *l.target.Load())
	if err != nil {
		_ = client.Close()
		return
	}
	if !l.register(hangUps, client, server) {
		return
	}
	done := make(chan struct{}, 2)
	go func() { l.pump(server, client, 0); done <- struct{}{} }()
	go func() { l.pump(client, server, l.cut.Load()); done <- struct{}{} }()
	<-done
	_ = client.Close()
	_ = server.Close()
	<-done
	l.mu.Lock()
	delete(l.conns, client)
	delete(l.conns, server)
	l.mu.Unlock()
}

// pump copies until one side ends. If limit is not 0, it resets the connection after that many
// bytes.
func (l *link) pump(to, from net.Conn, limit int64) {
	buf := make([]byte, 4096)
	for sum := int64(0); ; {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if l.silent.Load() {
			continue
		}
		if sum += int64(n); limit > 0 && sum >= limit {
			_, _ = to.Write(buf[:n-int(sum-limit)])
			_ = to.(*net.TCPConn).SetLinger(0)
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
