package api

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/iotest"
)

func TestReadAtMost(t *testing.T) {
	broken := errors.New("broken")
	for _, size := range []int{0, 1, minPiece - 1, minPiece, minPiece + 1, maxPiece, maxPiece + 1, largeBodySize, largeBodySize + maxPiece + 1, 3 * largeBodySize} {
		body := bytes.Repeat([]byte("0123456789abcde"), size/15+1)[:size]
		n := int64(size)
		for _, expected := range []int64{-1, 0, n / 2, n - 1, n, n + 1, n + n/32, 100 * n} {
			for _, limit := range []int64{n, n + 1, 100*n + 1} {
				got, err := readAtMost(bytes.NewReader(body), expected, limit)
				if err != nil || !bytes.Equal(got, body) {
					t.Errorf("%d bytes, %d expected, %d allowed: got %d and %v", size, expected, limit, len(got), err)
				}
				if spare := cap(got) - len(got); spare > size/8+minPiece {
					t.Errorf("%d bytes, %d expected: %d more are kept", size, expected, spare)
				}
			}
			if _, err := readAtMost(bytes.NewReader(body), expected, n-1); !errors.Is(err, errTooLarge) {
				t.Errorf("%d bytes, %d expected, one too many: got %v", size, expected, err)
			}
			got, err := readAtMost(io.MultiReader(bytes.NewReader(body), iotest.ErrReader(broken)), expected, n)
			if !errors.Is(err, broken) || !bytes.Equal(got, body) {
				t.Errorf("%d bytes, %d expected, then an error: got %d and %v", size, expected, len(got), err)
			}
		}
	}
}

// What a header says costs no memory before a good part of it has come, and what the
// latest body had is enough for the next.
func TestReadAtMostAllocates(t *testing.T) {
	const size = 8 * largeBodySize
	for _, tt := range []struct {
		name           string
		size, expected int64
		most           uint64
	}{
		{"much is promised, little comes", 100, size, 2 * maxPiece},
		{"much is promised, some comes", largeBodySize, size, 3 * largeBodySize},
		{"as expected", size, size + size/32, size + size/32 + 2*largeBodySize},
		{"unknown", size, -1, 2*size + 2*largeBodySize},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := make([]byte, tt.size)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := readAtMost(bytes.NewReader(body), tt.expected, 2*size); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > tt.most {
				t.Errorf("allocated %d bytes, want at most %d", n, tt.most)
			}
		})
	}
}
