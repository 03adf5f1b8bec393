package exposition

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

// combineCRC returns the CRC-32 of two pieces of data, one after the other,
// from those of each and the length of the second: appending n zero bits is a
// multiplication with x^n, modulo the polynomial.
func combineCRC(first, second uint32, n int64) uint32 {
	return mulCRC(powerCRC(n), first) ^ second
}

// powerCRC returns x to the power of the bits of n bytes. The bits of
// polynomials are reversed.
func powerCRC(n int64) uint32 {
	power := uint32(1 << 31)        // x^0
	square := uint32(1 << (31 - 8)) // x^8, a byte's worth
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			power = mulCRC(power, square)
		}
		square = mulCRC(square, square)
	}
	return power
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

// crcShift does what combineCRC does with the first checksum, for a certain
// length of the second piece: it is linear, so it is put together from what
// becomes of each half-byte.
type crcShift [8][16]uint32

func newCRCShift(n int) crcShift {
	var s crcShift
	power := powerCRC(int64(n))
	for i := range s {
		for v := range s[i] {
			s[i][v] = mulCRC(power, uint32(v)<<(4*i))
		}
	}
	return s
}

func (s *crcShift) apply(c uint32) uint32 {
	return s[0][c&15] ^ s[1][c>>4&15] ^ s[2][c>>8&15] ^ s[3][c>>12&15] ^
		s[4][c>>16&15] ^ s[5][c>>20&15] ^ s[6][c>>24&15] ^ s[7][c>>28]
}

// crcTables are for checksums of a few bytes. Those of package hash/crc32 take
// them one by one.
type crcTables [8][256]uint32

func newCRCTables() *crcTables {
	t := &crcTables{*crc32.IEEETable}
	for i := 1; i < len(t); i++ {
		for v, c := range t[i-1] {
			t[i][v] = c>>8 ^ t[0][byte(c)]
		}
	}
	return t
}

func (t *crcTables) update(crc uint32, b []byte) uint32 {
	crc = ^crc
	for ; len(b) >= 8; b = b[8:] {
		x := binary.LittleEndian.Uint64(b) ^ uint64(crc)
		crc = t[7][byte(x)] ^ t[6][byte(x>>8)] ^ t[5][byte(x>>16)] ^ t[4][byte(x>>24)] ^
			t[3][byte(x>>32)] ^ t[2][byte(x>>40)] ^ t[1][byte(x>>48)] ^ t[0][x>>56]
	}
	if len(b) >= 4 {
		x := binary.LittleEndian.Uint32(b) ^ crc
		crc = t[3][byte(x)] ^ t[2][byte(x>>8)] ^ t[1][byte(x>>16)] ^ t[0][x>>24]
		b = b[4:]
	}
	for _, c := range b {
		crc = t[0][byte(crc)^c] ^ crc>>8
	}
	return ^crc
}
