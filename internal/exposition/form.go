package exposition

import (
	"bytes"
	"hash/crc32"
	"slices"
	"sync"
	"sync/atomic"
)

// writer collects what is written to it in pieces of memory of moderate size:
// a page may be large.
type writer struct {
	buf []byte
	// flush takes in what buf has and returns an empty buffer with at least
	// size bytes of room.
	flush func(buf []byte, size int) []byte
}

// room returns the buffer with room for n more bytes. The caller appends to it
// and puts it back.
func (w *writer) room(n int) []byte {
	if cap(w.buf)-len(w.buf) < n {
		w.buf = w.flush(w.buf, n)
	}
	return w.buf
}

// form is a document in one syntax. What has been made already is handed out
// without waiting for what is being made.
type form struct {
	mu   sync.Mutex // held while something is made
	made [encodings]atomic.Pointer[encoded]
}

// encoded is a form in one encoding: plain, deflate blocks of which the last
// one is not final, or a zstd frame.
type encoded struct {
	chunks [][]byte
	sums   sums
}

// sums are what the plain form is known by.
type sums struct {
	size int64
	crc  uint32
}

// add takes in the next piece.
func (s *sums) add(b []byte) {
	s.size += int64(len(b))
	s.crc = crc32.Update(s.crc, crc32.IEEETable, b)
}

// get returns the form in one encoding, which is made if it was not yet.
func (f *form) get(e Encoding, encode func() *encoded) *encoded {
	made := &f.made[e.number()]
	if enc := made.Load(); enc != nil {
		return enc
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	enc := made.Load()
	if enc == nil {
		enc = encode()
		made.Store(enc)
	}
	return enc
}

// Sizes of the pieces that pages are written in.
const (
	firstPiece = 4 << 10
	largePiece = 512 << 10
)

// render makes the plain form.
func render(write func(*writer)) *encoded {
	var (
		enc  encoded
		size = firstPiece
	)
	keep := func(b []byte) {
		if len(b) > 0 {
			enc.sums.add(b)
			enc.chunks = append(enc.chunks, fit(b))
		}
	}
	w := writer{flush: func(b []byte, n int) []byte {
		keep(b)
		size = min(2*size, largePiece)
		return make([]byte, 0, max(size, n))
	}}
	write(&w)
	keep(w.buf)
	return &enc
}

// compress makes a compressed form. Unless the plain form is there already it
// passes through in pieces and is forgotten.
func (f *form) compress(write func(*writer), tools *tools, by func(*bytes.Buffer) compressor) *encoded {
	var (
		enc encoded
		out bytes.Buffer
		c   = by(&out)
	)
	if plain := f.made[Identity.number()].Load(); plain != nil {
		for _, b := range plain.chunks {
			c.write(b)
		}
		enc.sums = plain.sums
	} else {
		pass := func(b []byte) {
			enc.sums.add(b)
			c.write(b)
		}
		w := writer{buf: tools.piece(), flush: func(b []byte, n int) []byte {
			pass(b)
			return slices.Grow(b[:0], n)
		}}
		write(&w)
		pass(w.buf)
		tools.putPiece(w.buf)
	}
	c.close()
	enc.chunks = [][]byte{fit(out.Bytes())}
	return &enc
}

// fit returns b without much memory to spare.
func fit(b []byte) []byte {
	if len(b) < cap(b)-cap(b)/8 {
		b = bytes.Clone(b)
	}
	return slices.Clip(b)
}
