package simulator

import (
	"bytes"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Status returns a fault that answers with a status code.
func Status(code int) Fault {
	return Fault{Name: "status " + strconv.Itoa(code), Status: code}
}

// TooManyRequests returns a fault that answers 429 with the given X-RateLimit-Reset and
// Retry-After, each left out when empty.
func TooManyRequests(reset, retryAfter string) Fault {
	f := Status(http.StatusTooManyRequests)
	f.Header = http.Header{}
	if reset != "" {
		f.Header.Set("X-RateLimit-Reset", reset)
	}
	if retryAfter != "" {
		f.Header.Set("Retry-After", retryAfter)
	}
	return f
}

// HTML returns a fault that answers 200 with a web page, as a gateway or a captive portal does.
func HTML() Fault {
	return Fault{Name: "HTML", Header: contentType("text/html; charset=utf-8"), Mutate: replaceBy(
		"<!DOCTYPE html>\n<html><head><title>Be right back</title></head><body><h1>Maintenance</h1></body></html>\n",
	)}
}

// JSON returns a fault that answers 200 with JSON that is not the API's envelope.
func JSON() Fault {
	return Fault{Name: "JSON", Header: contentType("application/json"), Mutate: replaceBy(`{"ok":true}` + "\n")}
}

// EmptyBody returns a fault that answers 200 with an empty body.
func EmptyBody() Fault { return Fault{Name: "empty body", Mutate: replaceBy("")} }

// EmptyList returns a fault that empties lists, in answers that are otherwise valid.
func EmptyList() Fault {
	return Fault{
		Name: "empty list", Endpoints: []string{endpointServices, endpointOrganizations},
		Mutate: func(body []byte) []byte { return resultPattern.ReplaceAll(body, []byte(`{"result":[],"requestId"`)) },
	}
}

var resultPattern = regexp.MustCompile(`(?s)^\{"result":\[.*\],"requestId"`)

// WrongContentType returns a fault that changes the Content-Type only.
func WrongContentType(mediaType string) Fault {
	return Fault{Name: "wrong Content-Type", Header: contentType(mediaType)}
}

// TruncatedGzip returns a fault that cuts a compressed body in half, without an error from the
// connection.
func TruncatedGzip() Fault {
	return Fault{Name: "truncated gzip", Encode: func(body []byte) ([]byte, string) {
		b := compress(body)
		return b[:len(b)/2], "gzip"
	}}
}

// GzipBomb returns a fault whose body is small on the wire and has size bytes, rounded up to a
// MiB, when decompressed. It is a valid page of comments.
func GzipBomb(size int) Fault {
	return Fault{Name: "gzip bomb", Encode: func([]byte) ([]byte, string) {
		const block = 1 << 20
		member := compress(bytes.Repeat([]byte("#\n"), block/2))
		return bytes.Repeat(member, (size+block-1)/block), "gzip"
	}}
}

func contentType(v string) http.Header { return http.Header{"Content-Type": {v}} }

func replaceBy(body string) func([]byte) []byte {
	return func([]byte) []byte { return []byte(body) }
}

// Catalogue returns one fault of each kind, each with its own name, for tests that try them all.
// They are meant for metrics pages, except those that name other endpoints.
func Catalogue() []Fault {
	mutation := func(name string, mutate func([]byte) []byte) Fault { return Fault{Name: name, Mutate: mutate} }
	all := []Fault{
		{Name: "latency", Latency: 2 * time.Second},
		{Name: "slow body", BytesPerSecond: 1},
		{Name: "cut body", CutAfter: 1000},
		{Name: "cut after header", CutAfter: -1},
		{Name: "reset", Reset: true},
		{Name: "hang", Hang: true},
		{Name: "Content-Length too long", LengthLie: 100},
		{Name: "Content-Length too short", LengthLie: -100},
		{Name: "redirect", Redirect: "http://elsewhere.invalid"},
		HTML(),
		JSON(),
		EmptyBody(),
		EmptyList(),
		WrongContentType("application/octet-stream"),
		TruncatedGzip(),
		GzipBomb(1 << 30),
		mutation("oversized body", func(page []byte) []byte {
			return append(slices.Clone(page), bytes.Repeat([]byte("# Nothing to see here.\n"), 3<<20)...)
		}),
		mutation("malformed line", MalformedLine),
		mutation("duplicate series", DuplicateSeries),
		mutation("second type", SecondType),
		mutation("interleaved families", InterleavedFamilies),
		mutation("invalid UTF-8", InvalidUTF8),
		mutation("huge label", HugeLabel(10<<20)),
		mutation("many series", ManySeries(1_000_000)),
		mutation("reserved families", ReservedFamilies),
		mutation("label clash", LabelClash),
		mutation("future families", FutureFamilies),
	}
	for _, code := range []int{401, 403, 404, 500, 502, 503, 504} {
		all = append(all, Status(code))
	}
	for _, reset := range []string{"", "0", "0.2", "1000000000", "soon"} {
		f := TooManyRequests(reset, "")
		f.Name = strings.TrimSpace("status 429, reset " + reset)
		all = append(all, f)
	}
	f := TooManyRequests("", "3")
	f.Name = "status 429, retry after 3"
	return append(all, f)
}
