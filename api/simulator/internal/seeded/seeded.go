// Package seeded makes numbers, words and ids that depend on nothing but a seed and a name.
package seeded

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// Hash mixes a number and a name into a number that shows no pattern of either: FNV-1a,
// finished as in SplitMix64.
func Hash(seed uint64, name string) uint64 {
	h := seed ^ 0xcbf29ce484222325
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 0x100000001b3
	}
	return mix(h)
}

func mix(h uint64) uint64 {
	h += 0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// Unit maps a hash into [0,1).
func Unit(h uint64) float64 { return float64(h>>11) / (1 << 53) }

// Choose returns one of several words, which are separated by commas.
func Choose(words string, h uint64) string {
	of := strings.Split(words, ",")
	return of[h%uint64(len(of))]
}

// UUID returns a well-formed UUID of the custom version 8, as the API's service ids are.
func UUID(key uint64) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], Hash(key, "id"))
	binary.BigEndian.PutUint64(b[8:], Hash(key, "id, second half"))
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Base36 returns n digits and lowercase letters.
func Base36(h uint64, n int) string { return letters("0123456789abcdefghijklmnopqrstuvwxyz", h, n) }

// Base62 returns n digits and letters.
func Base62(h uint64, n int) string {
	return letters("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", h, n)
}

func letters(of string, h uint64, n int) string {
	b := make([]byte, n)
	for i := range b {
		h = mix(h)
		b[i] = of[h%uint64(len(of))]
	}
	return string(b)
}
