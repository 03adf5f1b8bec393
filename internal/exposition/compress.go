package exposition

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// A gzip page is one member, since curl and others stop after the first. So that the
// documents of a page can be compressed apart from each other, each is a series of
// deflate blocks that begins and ends at a byte boundary and refers to nothing before
// it. Putting the page together is then a matter of a header, the blocks and a
// trailer, whose checksum is combined from the documents'.

// gzipHeader has no name and no time, so that equal pages are equal.
const gzipHeader = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

// gzipTrailer ends the deflate blocks with an empty final one.
func gzipTrailer(crc uint32, size int64) []byte {
	b := append(make([]byte, 0, 10), 3, 0)
	b = binary.LittleEndian.AppendUint32(b, crc)
	return binary.LittleEndian.AppendUint32(b, uint32(size))
}

// mostIdle is how many compressors of a kind are kept for the next page: more are in use
// only where many scrapers ask at once for pages that have just changed. Those of a
// [sync.Pool] would be gone by the next scrape, many seconds later.
const mostIdle = 2

// takeIdle returns one that is not in use, or else a new one.
func takeIdle[T any](e *Encoder, idle *[]*T, newT func() *T) *T {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := len(*idle) - 1; n >= 0 {
		c := (*idle)[n]
		*idle = (*idle)[:n]
		return c
	}
	return newT()
}

// giveBack keeps one that is not in use any more.
func giveBack[T any](e *Encoder, idle *[]*T, c *T) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(*idle) < mostIdle {
		*idle = append(*idle, c)
	}
}

// newDeflater returns a compressor that makes pages that are about a tenth larger than
// those of the standard library's level 6, in a tenth of the time.
func newDeflater() *flate.Writer {
	w, err := flate.NewWriter(nil, flate.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant
	}
	return w
}

// newZstd returns a compressor that runs in the caller's goroutine.
func newZstd() *zstd.Encoder {
	w, err := zstd.NewWriter(nil,
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithLowerEncoderMem(true),
		zstd.WithZeroFrames(true),
		zstd.WithWindowSize(1<<20))
	if err != nil {
		panic(err) // the options are constants
	}
	return w
}

// combineCRC returns the CRC-32 of two pieces of data, one after the other, from
// those of each and the length of the second: appending n zero bits is a
// multiplication with x^n, modulo the polynomial.
func combineCRC(first, second uint32, n int64) uint32 {
	power := uint32(1 << 31)        // x^0; the bits of polynomials are reversed
	square := uint32(1 << (31 - 8)) // x^8, a byte's worth
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			power = mulCRC(power, square)
		}
		square = mulCRC(square, square)
	}
	return mulCRC(power, first) ^ second
}

// mulCRC multiplies two polynomials modulo that of CRC-32.
func mulCRC(a, b uint32) uint32 {
	var p uint32
	for ; a != 0; a <<= 1 {
		if bits.LeadingZeros32(a) == 0 {
			p ^= b
		}
		if b&1 != 0 {
			b = b>>1 ^ crc32.IEEE
		} else {
			b >>= 1
		}
	}
	return p
}
