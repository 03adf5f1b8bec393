package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// maxTextBytes bounds responses that may quote the request.
const maxTextBytes = 500

// respond writes a whole body. Of a response to HEAD the server drops it.
func respond(w http.ResponseWriter, code int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	_, _ = w.Write(body)
}

// respondText responds with one line of text, whatever the message contains.
func respondText(w http.ResponseWriter, code int, message string) {
	if len(message) > maxTextBytes {
		message = message[:maxTextBytes] + "…"
	}
	message = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(message, "\uFFFD"))
	w.Header().Set("Cache-Control", "no-store")
	respond(w, code, "text/plain; charset=utf-8", []byte(message+"\n"))
}

// respondJSON responds with v, or with 304 to a client that has it already.
func respondJSON(w http.ResponseWriter, r *http.Request, v any) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		respondText(w, http.StatusInternalServerError, "encode JSON: "+err.Error())
		return
	}
	w.Header().Set("Cache-Control", "no-cache")
	if !notModified(w, r, entityTag(body.Bytes())) {
		respond(w, http.StatusOK, "application/json", body.Bytes())
	}
}

// entityTag returns a strong entity tag of a body.
func entityTag(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

// notModified sets ETag, and responds with 304 if the request names it.
func notModified(w http.ResponseWriter, r *http.Request, tag string) bool {
	w.Header().Set("ETag", tag)
	if !matchesTag(r.Header.Values("If-None-Match"), tag) {
		return false
	}
	w.WriteHeader(http.StatusNotModified)
	return true
}

// matchesTag tells whether If-None-Match names the tag. The comparison is weak, as
// RFC 9110 has it.
func matchesTag(header []string, tag string) bool {
	tag = strings.TrimPrefix(tag, "W/")
	for _, line := range header {
		// None of our tags contains a comma, so splitting at commas is safe.
		for candidate := range strings.SplitSeq(line, ",") {
			candidate = strings.TrimSpace(candidate)
			if candidate == "*" || strings.TrimPrefix(candidate, "W/") == tag {
				return true
			}
		}
	}
	return false
}
