package api

import (
	"bytes"
	"context"
	"errors"
	"io"
)

var errTooLarge = errors.New("body too large")

// gate lets one body at a time be a large one: requests under way are many, and an
// upstream that sends too much to all of them must not fill the memory.
type gate struct {
	io.Reader
	ctx  context.Context //nolint:containedctx // of the request
	slot chan struct{}   // of the client, with room for one
	n    int64           // bytes read
	held bool
}

// Read waits for its turn before it goes beyond what is small.
func (g *gate) Read(p []byte) (int, error) {
	if g.n >= largeBodySize && !g.held {
		select {
		case g.slot <- struct{}{}:
			g.held = true
		case <-g.ctx.Done():
			return 0, g.ctx.Err()
		}
	}
	n, err := g.Reader.Read(p)
	g.n += int64(n)
	return n, err
}

func (g *gate) close() {
	if g.held {
		<-g.slot
	}
}

// expectedSize returns which size a body will have if it is like the latest one of
// the endpoint, less than 0 if there was none. stated is what its header says, which
// is less than 0 if the body comes in chunks or compressed.
func (c *Client) expectedSize(endpoint Endpoint, stated int64) int64 {
	if stated >= 0 {
		return stated
	}
	if last, ok := c.sizes.Load(endpoint); ok {
		const room = 32 // numbers grow longer, and services come
		n, _ := last.(int64)
		return n + n/room
	}
	return -1
}

// readAtMost returns the body, or errTooLarge when it is longer than limit, or what
// came before an error. expected is about how long it will be, or less than 0; should
// that be wrong, it costs some copying.
func readAtMost(r io.Reader, expected, limit int64) ([]byte, error) {
	// A buffer that grows by doubling would be twice the size in the end, and leave as
	// much behind: pieces are joined once. So that there are not two of a large body
	// at that moment, it is read into one buffer if its size is known; but not before
	// enough has come to believe it, and the gate has been passed.
	var pieces [][]byte
	sum := int64(0)
	piece := make([]byte, 0, min(max(expected+1, minPiece), maxPiece))
	for {
		if len(piece) == cap(piece) {
			pieces = append(pieces, piece)
			if sum > largeBodySize && sum < expected {
				whole := make([]byte, 0, min(expected, limit)+1)
				for _, p := range pieces {
					whole = append(whole, p...)
				}
				pieces, piece = nil, whole
			} else {
				piece = make([]byte, 0, min(2*cap(piece), maxPiece))
			}
		}
		n, err := r.Read(piece[len(piece):cap(piece)])
		piece = piece[:len(piece)+n]
		if sum += int64(n); sum > limit {
			return nil, errTooLarge
		}
		if err != nil {
			if err == io.EOF {
				err = nil
			}
			if spare := cap(piece) - len(piece); len(pieces) == 0 && spare <= len(piece)/8 {
				return piece, err
			}
			return bytes.Join(append(pieces, piece), nil), err
		}
	}
}
