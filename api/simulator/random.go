package simulator

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// hash mixes a number and a name into a number that shares no pattern with either: FNV-1a,
// finished as in SplitMix64.
func hash(seed uint64, name string) uint64 {
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

// unit maps a hash into [0,1).
func unit(h uint64) float64 { return float64(h>>11) / (1 << 53) }

// choose returns one of some words that commas separate.
func choose(words string, h uint64) string {
	of := strings.Split(words, ",")
	return of[h%uint64(len(of))]
}

// uuid returns a well-formed UUID of the custom version 8, as the API's service ids are.
func uuid(key uint64) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], hash(key, "id"))
	binary.BigEndian.PutUint64(b[8:], hash(key, "id, second half"))
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func base36(h uint64, n int) string { return letters("0123456789abcdefghijklmnopqrstuvwxyz", h, n) }

func base62(h uint64, n int) string {
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

// newPassword returns a password that satisfies the API's own rules.
func newPassword(h uint64) string { return "v" + base62(h, 18) + "Z7" }
