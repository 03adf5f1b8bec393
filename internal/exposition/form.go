package exposition

import (
	"bytes"
	"hash"
	"hash/crc32"
	"io"
	"slices"
	"sync"

	"github.com/cespare/xxhash/v2"
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

// form is a document in one syntax.
type form struct {
	mu sync.Mutex
	// sums is known once the document has been written.
	sums  *sums
	plain [][]byte
	gzip  []byte // deflate blocks, the last one not final
	zstd  []byte // one frame
}

// sums are what a form is known by.
type sums struct {
	size int64
	crc  uint32
	hash uint64
}

// get returns the form in one encoding, and its sums.
func (f *form) get(e Encoding, write func(*writer)) ([][]byte, *sums) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch e {
	case Gzip:
		if f.gzip == nil {
			f.gzip = f.compress(write, deflate)
		}
		return [][]byte{f.gzip}, f.sums
	case Zstd:
		if f.zstd == nil {
			f.zstd = f.compress(write, zstdFrame)
		}
		return [][]byte{f.zstd}, f.sums
	default:
		if f.plain == nil {
			f.render(write)
		}
		return f.plain, f.sums
	}
}

// Sizes of the pieces that pages are written in.
const (
	firstPiece = 4 << 10
	largePiece = 512 << 10
)

// render makes the uncompressed form.
func (f *form) render(write func(*writer)) {
	m := newMeter()
	size := firstPiece
	f.plain = [][]byte{}
	keep := func(b []byte) {
		if len(b) == 0 {
			return
		}
		m.add(b)
		if len(b) < cap(b)-cap(b)/8 {
			b = bytes.Clone(b)
		}
		f.plain = append(f.plain, slices.Clip(b))
	}
	w := writer{flush: func(b []byte, n int) []byte {
		keep(b)
		size = min(2*size, largePiece)
		return make([]byte, 0, max(size, n))
	}}
	write(&w)
	keep(w.buf)
	f.sums = m.sums()
}

// compress makes a compressed form. Unless the uncompressed form is there
// already it passes through in pieces and is forgotten.
func (f *form) compress(write func(*writer), to func(out *bytes.Buffer, size int64) io.WriteCloser) []byte {
	var out bytes.Buffer
	switch {
	case f.plain != nil:
		c := to(&out, f.sums.size)
		for _, b := range f.plain {
			_, _ = c.Write(b) // a bytes.Buffer takes everything
		}
		_ = c.Close()
	default:
		var (
			m = newMeter()
			c io.WriteCloser
		)
		w := writer{flush: func(b []byte, n int) []byte {
			if cap(b) < largePiece {
				// Grow as long as the page might be a small one.
				return slices.Grow(b, max(2*cap(b), firstPiece, n))
			}
			if c == nil {
				c = to(&out, unknownSize)
			}
			m.add(b)
			_, _ = c.Write(b)
			return slices.Grow(b[:0], n)
		}}
		write(&w)
		m.add(w.buf)
		if c == nil {
			c = to(&out, int64(len(w.buf)))
		}
		_, _ = c.Write(w.buf)
		_ = c.Close()
		f.sums = m.sums()
	}
	if b := out.Bytes(); len(b) > cap(b)-cap(b)/8 {
		return slices.Clip(b)
	}
	return bytes.Clone(out.Bytes())
}

// unknownSize is that of a page of more than largePiece bytes.
const unknownSize = -1

// meter sums up a form as it is written.
type meter struct {
	size int64
	crc  uint32
	hash hash.Hash64
}

func newMeter() *meter { return &meter{hash: xxhash.New()} }

func (m *meter) add(b []byte) {
	m.size += int64(len(b))
	m.crc = crc32.Update(m.crc, crc32.IEEETable, b)
	_, _ = m.hash.Write(b)
}

func (m *meter) sums() *sums { return &sums{m.size, m.crc, m.hash.Sum64()} }
