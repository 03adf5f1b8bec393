package exposition

import (
	"bytes"
	stdgzip "compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
)

// unzip decompresses a page with two decoders, which check sizes and checksums.
func unzip(tb testing.TB, page []byte) []byte {
	tb.Helper()
	std, err := stdgzip.NewReader(bytes.NewReader(page))
	if err != nil {
		tb.Fatal(err)
	}
	one, err := io.ReadAll(std)
	if err != nil {
		tb.Fatalf("compress/gzip: %v", err)
	}
	other, err := gzip.NewReader(bytes.NewReader(page))
	if err != nil {
		tb.Fatal(err)
	}
	two, err := io.ReadAll(other)
	if err != nil {
		tb.Fatalf("klauspost/compress/gzip: %v", err)
	}
	if !bytes.Equal(one, two) {
		tb.Fatal("decoders disagree")
	}
	return one
}

func checkGzip(tb testing.TB, docs ...*Document) Body {
	tb.Helper()
	zipped := Encode(TextUTF8, Gzip, docs...)
	got, want := unzip(tb, joined(zipped)), identity(tb, TextUTF8, docs...)
	if !bytes.Equal(got, want) {
		tb.Fatalf("got\n%.2000q\nwant\n%.2000q", got, want)
	}
	return zipped
}

// checkTemplate compresses a document by the template of another one of the same
// plan, whether or not that is what Encode would do. It reports false if matches
// are out of reach.
func checkTemplate(tb testing.TB, of, d *Document, reach int) bool {
	tb.Helper()
	t := newDeflateTemplate(of, reach)
	enc := t.compress(d)
	if enc == nil {
		if of == d {
			tb.Fatal("a template is not good for its own document")
		}
		return false
	}
	page := append([]byte(gzipHeader), enc.chunks[0]...)
	page = append(page, gzipTrailer(enc.sums)...)
	if got, want := unzip(tb, page), identity(tb, TextUTF8, d); !bytes.Equal(got, want) {
		tb.Fatalf("got\n%.2000q\nwant\n%.2000q", got, want)
	}
	if d == of && len(enc.chunks[0]) > t.size+16 {
		tb.Errorf("%d bytes, %d were expected", len(enc.chunks[0]), t.size)
	}
	return true
}

// revalue gives all samples other values. Some pages have long ones, some short
// ones, some both.
func revalue(r *rand.Rand, body string) string {
	kind := r.IntN(4)
	value := func() string {
		switch {
		case kind == 0 || kind == 2 && r.IntN(2) == 0:
			return fmt.Sprint(r.IntN(10))
		case kind == 1:
			return fmt.Sprintf("%.17g", r.Float64()*1e300)
		default:
			return []string{"NaN", "-Inf", "0.25", "1e9", "123456.789", "+Inf", "8589934592"}[r.IntN(7)]
		}
	}
	var b strings.Builder
	for l := range strings.Lines(body) {
		if at := strings.LastIndexByte(l, ' '); at > 0 && l[0] != '#' {
			l = l[:at+1] + value() + "\n"
		}
		b.WriteString(l)
	}
	return b.String()
}

// stamped gives parts timestamps: none, the same one, or different ones.
func stamped(r *rand.Rand, parts []Part) []Part {
	kind := r.IntN(3)
	for i := range parts {
		switch {
		case kind == 1:
			parts[i].Timestamp = time.UnixMilli(1712345678901)
		case kind == 2 && r.IntN(2) == 0:
			parts[i].Timestamp = time.UnixMilli(int64(r.IntN(1000)))
		}
	}
	return parts
}

func checkTemplates(t *testing.T, body string, seed uint64) {
	t.Helper()
	var (
		r      = random(seed)
		s      = NewSource()
		m      Merger
		before *Document
	)
	for step := range 5 {
		page, err := s.Decode([]byte(body), textType, rules{group: "m"})
		if err != nil {
			return
		}
		d := m.Merge(stamped(r, parts(page))...)
		checkGzip(t, d)
		checkTemplate(t, d, d, 1)
		if before != nil && before.plan == d.plan {
			checkTemplate(t, before, d, 1)
			checkTemplate(t, d, before, 1<<r.IntN(16))
		}
		before = d
		if step == 2 {
			body = mutate(r, body)
		} else {
			body = revalue(r, body)
		}
	}
}

func FuzzDeflateTemplate(f *testing.F) {
	for i, s := range textSeeds {
		f.Add(s, uint64(i))
	}
	for seed := range uint64(20) {
		f.Add(randomPage(random(seed)), seed)
	}
	f.Add(string(newFleet(3).page()), uint64(1))
	f.Fuzz(checkTemplates)
}

func TestDeflateTemplates(t *testing.T) {
	for seed := range uint64(60) {
		checkTemplates(t, randomPage(random(seed)), seed)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// What is far apart comes into reach and gets out of it, as values get shorter
// and longer.
func TestDeflateTemplateAtTheEndOfTheWindow(t *testing.T) {
	long := strings.Repeat("long", 20_000)
	pages := map[string]string{"long labels": fmt.Sprintf("a{b=%q} 1\na{b=%q,c=\"d\"} 1\nb{b=%q} 1\n", long, long, long)}
	for _, n := range []int{100, 110, 120, 125, 130} {
		var b strings.Builder
		for f := range 3 {
			for i := range n {
				id := random(uint64(i))
				fmt.Fprintf(&b, "family_%d{id=\"%016x%016x\",text=%q} 1\n", f, id.Uint64(), id.Uint64(), strings.Repeat("x", 180))
			}
		}
		pages[fmt.Sprint(n)] = b.String()
	}
	var short strings.Builder
	for f := range 2 {
		for i := range 1500 {
			fmt.Fprintf(&short, "a%d{b=\"%08x\"} 1\n", f, random(uint64(i)).Uint32())
		}
	}
	pages["short lines"] = short.String()
	noise := make([]byte, 2000)
	for i, r := 0, random(1); i < len(noise); i++ {
		noise[i] = byte('a' + r.IntN(26))
	}
	pages["noise"] = fmt.Sprintf("a{b=%q} 1\n", noise)
	outOfReach := 0
	for name, body := range pages {
		t.Run(name, func(t *testing.T) {
			s := NewSource()
			var m Merger
			docs := make([]*Document, 0, 4)
			for _, value := range []string{"1", "1.5", "1234.5678", "1.2345678901234567e+100"} {
				page, err := s.Decode([]byte(strings.ReplaceAll(body, " 1\n", " "+value+"\n")), textType, asIs{})
				if err != nil {
					t.Fatal(err)
				}
				d := m.Merge(parts(page)...)
				docs = append(docs, d)
				checkGzip(t, d)
			}
			for _, of := range docs {
				for _, d := range docs {
					if !checkTemplate(t, of, d, 1) {
						outOfReach++
					}
				}
			}
		})
	}
	if outOfReach == 0 {
		t.Error("everything was always in reach")
	}
}

// From the second page on a template is used, if it is worth while.
func TestDeflateTemplateSavesSpace(t *testing.T) {
	f, rw := newFleet(100), newBenchRewriter()
	s := NewSource()
	var (
		m     Merger
		sizes []int64
		d     *Document
	)
	for range 4 {
		d, _ = refresh(t, s, &m, f.page(), rw)
		sizes = append(sizes, checkGzip(t, d).Len)
	}
	if sizes[1] >= sizes[0] || sizes[3] >= sizes[0] {
		t.Errorf("sizes %d", sizes)
	}
	if six := int64(gzipSize(t, identity(t, Text, d))); float64(sizes[3]) > 1.1*float64(six) {
		t.Errorf("%d bytes, %d at gzip's level 6", sizes[3], six)
	}
}

// Pages that a template does not fit are compressed all the same.
func TestDeflateTemplateIsGivenUp(t *testing.T) {
	f := newFleet(50)
	s := NewSource()
	var m Merger
	for i := range 12 {
		body := string(f.page())
		if i%3 == 2 {
			body = revalue(random(uint64(i)), body)
		}
		page, err := s.Decode([]byte(body), textType, rules{group: "postgres_service"})
		if err != nil {
			t.Fatal(err)
		}
		checkGzip(t, m.Merge(stamped(random(uint64(i)), parts(page))...))
	}
}

// Where plans don't last, templates would cost more than they save.
func TestDeflateTemplateHasPatience(t *testing.T) {
	s := NewSource()
	var m Merger
	smaller := 0
	const plans = 10
	for n := range plans {
		f := newFleet(30 + n)
		var sizes []int64
		for range 3 {
			page, err := s.Decode(f.page(), textType, rules{group: "postgres_service"})
			if err != nil {
				t.Fatal(err)
			}
			sizes = append(sizes, checkGzip(t, m.Merge(parts(page)...)).Len)
		}
		if sizes[2] < sizes[0]*98/100 {
			smaller++
		}
	}
	if smaller == 0 || smaller == plans {
		t.Errorf("%d of %d short-lived plans had a template", smaller, plans)
	}
}

func TestDeflateTemplateConcurrently(t *testing.T) {
	f := newFleet(20)
	s := NewSource()
	var m Merger
	var docs []*Document
	for range 8 {
		page, err := s.Decode(f.page(), textType, rules{group: "postgres_service"})
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, m.Merge(parts(page)...))
	}
	other := document(t, "z 1\n", textType, asIs{})
	var wg sync.WaitGroup
	for range 3 {
		for _, d := range docs {
			wg.Go(func() { checkGzip(t, d, other) })
		}
	}
	wg.Wait()
}

func TestHuffmanLengths(t *testing.T) {
	for _, tc := range []struct {
		weights []uint32
		limit   int
		want    []uint8
	}{
		{[]uint32{1, 1}, 15, []uint8{1, 1}},
		{[]uint32{0, 5, 0}, 15, []uint8{1, 1, 0}},
		{[]uint32{0, 0, 0}, 15, []uint8{1, 1, 0}},
		{[]uint32{1, 1, 2, 4}, 15, []uint8{3, 3, 2, 1}},
		{[]uint32{1, 1, 2, 4}, 2, []uint8{2, 2, 2, 2}},
		{[]uint32{1, 2, 4, 8, 16}, 3, []uint8{3, 3, 3, 3, 1}},
		{[]uint32{8, 0, 1, 1, 1, 1, 8}, 7, []uint8{2, 0, 4, 4, 4, 4, 1}},
	} {
		if got := huffmanLengths(tc.weights, tc.limit); !bytes.Equal(got, tc.want) {
			t.Errorf("%d, limit %d: got %d, want %d", tc.weights, tc.limit, got, tc.want)
		}
	}
	r := random(1)
	for range 200 {
		weights := make([]uint32, 2+r.IntN(300))
		for i := range weights {
			weights[i] = 1 + r.Uint32()>>r.IntN(32)/2
		}
		room := 1 << 15 // each code of n bits takes up 2^-n of it
		for _, n := range huffmanLengths(weights, 15) {
			room -= 1 << (15 - n)
		}
		if room != 0 {
			t.Fatalf("the code of %d is not complete", weights)
		}
	}
}
