package exposition

import (
	"bytes"
	"encoding/binary"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// compressor is one that writes into memory, which does not fail.
type compressor struct {
	write func(b []byte)
	// close completes what was written, and lets the compressor be used again.
	close func()
}

// tools keeps what encoding needs for a while, which is more memory than many
// a page, from one document to the next. It is safe for concurrent use.
type tools struct {
	deflaters, zstdEncoders, pieces sync.Pool

	crcOnce   sync.Once
	crcShared *crcTables
}

// piece returns an empty buffer.
func (t *tools) piece() []byte {
	if p, ok := t.pieces.Get().(*[]byte); ok {
		return (*p)[:0]
	}
	return make([]byte, 0, largePiece)
}

func (t *tools) putPiece(p []byte) {
	if cap(p) <= 2*largePiece {
		t.pieces.Put(&p)
	}
}

// crcs returns the tables of short checksums.
func (t *tools) crcs() *crcTables {
	t.crcOnce.Do(func() { t.crcShared = newCRCTables() })
	return t.crcShared
}

// A gzip page is one member, since curl and others stop after the first. So
// that the documents of a page can be compressed apart from each other, each is
// a series of deflate blocks that begins and ends at a byte boundary and refers
// to nothing before it. Putting the page together is then a matter of a header,
// the blocks and a trailer, whose checksum is combined from the documents'.

// gzipHeader has no name and no time, so that equal pages are equal.
const gzipHeader = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

// gzipTrailer ends the deflate blocks with an empty final one.
func gzipTrailer(s sums) []byte {
	b := append(make([]byte, 0, 10), 3, 0)
	b = binary.LittleEndian.AppendUint32(b, s.crc)
	return binary.LittleEndian.AppendUint32(b, uint32(s.size))
}

// gzipLevel is the compressor's own, which has little to do with the levels of
// the standard library. See BenchmarkGzipLevels.
const gzipLevel = 1

// deflate returns a compressor that ends at a byte boundary.
func (t *tools) deflate(out *bytes.Buffer) compressor {
	w, ok := t.deflaters.Get().(*flate.Writer)
	if ok {
		w.Reset(out)
	} else {
		var err error
		if w, err = flate.NewWriter(out, gzipLevel); err != nil {
			panic(err) // the level is a constant
		}
	}
	return compressor{
		write: func(b []byte) { _, _ = w.Write(b) },
		close: func() {
			_ = w.Flush()
			w.Reset(nil) // or it would keep the page
			t.deflaters.Put(w)
		},
	}
}

// storedBlock is a deflate block that holds up to 65,535 bytes as they are.
func storedBlock(b string) []byte {
	n := uint16(len(b))
	return append([]byte{0, byte(n), byte(n >> 8), byte(^n), byte(^n >> 8)}, b...)
}

// zstdWindow is how far back the compressor looks.
const zstdWindow = 1 << 20

// zstd returns a compressor that runs in the caller's goroutine.
func (t *tools) zstd(out *bytes.Buffer) compressor {
	w, ok := t.zstdEncoders.Get().(*zstd.Encoder)
	if ok {
		w.Reset(out)
	} else {
		var err error
		w, err = zstd.NewWriter(out,
			zstd.WithEncoderConcurrency(1),
			zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithLowerEncoderMem(true),
			zstd.WithZeroFrames(true),
			zstd.WithWindowSize(zstdWindow))
		if err != nil {
			panic(err) // the options are constants
		}
	}
	return compressor{
		write: func(b []byte) { _, _ = w.Write(b) },
		close: func() {
			_ = w.Close()
			w.Reset(nil) // or it would keep the page
			t.zstdEncoders.Put(w)
		},
	}
}

// storedFrame is a zstd frame that holds up to 255 bytes as they are.
func storedFrame(b string) []byte {
	const (
		magic         = "\x28\xb5\x2f\xfd"
		singleSegment = 1 << 5 // followed by the content's size in one byte
		lastRawBlock  = 1
	)
	f := append([]byte(magic), singleSegment, byte(len(b)))
	head := uint32(len(b))<<3 | lastRawBlock
	f = append(f, byte(head), byte(head>>8), byte(head>>16))
	return append(f, b...)
}
