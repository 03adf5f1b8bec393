package exposition

import (
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// Body is an encoded page.
type Body struct {
	// Chunks are the bytes, in order. They are shared and must not be changed.
	Chunks [][]byte
	// Len is their length.
	Len int64
	// ETag is an entity tag, quotes included. It is the same for documents of the
	// same parts, and no others, in every process. It is of the page, not of how
	// it is compressed, which may differ.
	ETag string
}

// endOfOpenMetrics is the last line of a page in OpenMetrics.
const endOfOpenMetrics = "# EOF\n"

// Encode joins documents into one page. Each document is encoded once for each
// format and encoding, however often it is part of a page, so that a large
// document that seldom changes can be joined with a small one that always does.
// That goes for documents of different families; if families, or names that
// they reserve in the format, are in several documents, the documents are
// merged first, at full cost.
//
// A gzip page is one gzip member; a zstd page has a frame for each document.
func Encode(f Format, e Encoding, docs ...*Document) Body {
	ds := make([]*Document, 0, len(docs))
	for _, d := range docs {
		if d != nil {
			ds = append(ds, d.forFormat(f))
		}
	}
	if !disjoint(f.syntax(), ds) {
		ds = []*Document{mergeDocuments(docs).forFormat(f)}
	}

	var (
		b     = Body{Chunks: make([][]byte, 0, len(ds)+2)}
		total sums
		tag   = make([]byte, 0, 64)
	)
	add := func(chunks ...[]byte) {
		for _, c := range chunks {
			if len(c) > 0 {
				b.Chunks = append(b.Chunks, c)
				b.Len += int64(len(c))
			}
		}
	}
	if e == Gzip {
		add([]byte(gzipHeader))
	}
	for _, d := range ds {
		enc := d.encoded(f.syntax(), e)
		add(enc.chunks...)
		total.crc = combineCRC(total.crc, enc.sums.crc, enc.sums.size)
		total.size += enc.sums.size
		tag = binary.BigEndian.AppendUint64(tag, d.fingerprint())
	}
	if f.syntax() == syntaxOpenMetrics {
		const end = endOfOpenMetrics
		switch e {
		case Gzip:
			add(storedBlock(end))
		case Zstd:
			add(storedFrame(end))
		default:
			add([]byte(end))
		}
		total.crc = combineCRC(total.crc, crc32.ChecksumIEEE([]byte(end)), int64(len(end)))
		total.size += int64(len(end))
	}
	if e == Gzip {
		add(gzipTrailer(total))
	}
	b.ETag = entityTag(xxhash.Sum64(tag), f, e)
	return b
}

func entityTag(content uint64, f Format, e Encoding) string {
	b := append(make([]byte, 0, 64), '"')
	b = hex.AppendEncode(b, binary.BigEndian.AppendUint64(nil, content))
	b = append(append(b, '-'), f...)
	b = append(append(b, '-'), e...)
	return string(append(b, '"'))
}

// disjoint tells whether no name is in two of the documents.
func disjoint(s syntax, docs []*Document) bool {
	for i, d := range docs {
		for _, other := range docs[:i] {
			few, many := d.names(s), other.names(s)
			if len(few) > len(many) {
				few, many = many, few
			}
			for _, n := range few {
				if _, ok := slices.BinarySearch(many, n); ok {
					return false
				}
			}
		}
	}
	return true
}

func mergeDocuments(docs []*Document) *Document {
	var parts []Part
	for _, d := range docs {
		if d != nil {
			parts = append(parts, d.parts...)
		}
	}
	return Merge(parts...)
}
