package exposition

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// Of one format and encoding, equal tags mean equal bytes and the other way round,
// whatever the compressor did before.
func TestETag(t *testing.T) {
	type answer struct{ about, body string }
	var (
		encoder Encoder
		tags    = make(map[string]answer)
		bodies  = make(map[string]string)
	)
	for round := range 20 {
		for seed := range uint64(30) {
			page := randomPage(random(seed))
			if _, err := NewParser("").Parse([]byte(page), textContent); err != nil {
				continue
			}
			for ending, f := range formats {
				for _, enc := range []Encoding{Identity, Gzip, Zstd} {
					if round > 0 && ending != "text" {
						continue
					}
					body := encoder.Encode(f, enc, document(t, page, textContent))
					if !strings.HasPrefix(body.ETag, `"`) || !strings.HasSuffix(body.ETag, `"`) || len(body.ETag) < 3 {
						t.Fatalf("not a strong tag: %s", body.ETag)
					}
					a := answer{fmt.Sprint(f, enc), string(joined(body))}
					if other, ok := tags[body.ETag]; ok && other != a {
						t.Errorf("%s, seed %d: other bytes have the same tag", a.about, seed)
					}
					tags[body.ETag] = a
					if other, ok := bodies[a.about+a.body]; ok && other != body.ETag {
						t.Errorf("%s, seed %d: the same bytes have another tag", a.about, seed)
					}
					bodies[a.about+a.body] = body.ETag
					if other, ok := bodies[a.about+page]; ok && other != body.ETag {
						t.Errorf("%s, seed %d, round %d: the same page has another tag", a.about, seed, round)
					}
					bodies[a.about+page] = body.ETag
				}
			}
		}
	}
	fresh := new(Encoder)
	page := document(t, "a 1\n", textContent)
	for _, enc := range []Encoding{Identity, Gzip, Zstd} {
		a, b := encoder.Encode(Text, enc, document(t, "a 1\n", textContent)), fresh.Encode(Text, enc, page)
		if a.ETag != b.ETag || !bytes.Equal(joined(a), joined(b)) {
			t.Errorf("%s: another process has another page", enc)
		}
	}
}
