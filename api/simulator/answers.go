package simulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator/internal/seeded"
)

const jsonContentType = "application/json; charset=utf-8"

// answer is what is sent unless a fault changes it.
type answer struct {
	status      int
	contentType string
	header      http.Header
	body        []byte
	// render returns the body, and gzip the compressed body, if many answers share them.
	render, gzip func() []byte
}

// A refusal is an answer in the form of an error. Clients get its text.
type refusal struct {
	status  int
	message string
	header  http.Header
}

func (r *refusal) Error() string { return r.message }

func badRequest(format string, args ...any) error {
	return &refusal{status: http.StatusBadRequest, message: "BAD_REQUEST: " + fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) error {
	return &refusal{status: http.StatusNotFound, message: "NOT_FOUND: " + fmt.Sprintf(format, args...)}
}

func envelope(c *call, result any) answer {
	return jsonAnswer(http.StatusOK, nil, struct {
		Result    any    `json:"result,omitempty"`
		RequestID string `json:"requestId"`
		Status    int    `json:"status"`
	}{result, c.requestID, http.StatusOK})
}

func errorAnswer(c *call, err error) answer {
	status, header := http.StatusInternalServerError, http.Header(nil)
	var r *refusal
	if errors.As(err, &r) {
		status, header = r.status, r.header
	}
	return jsonAnswer(status, header, struct {
		Error     string `json:"error"`
		RequestID string `json:"requestId"`
		Status    int    `json:"status"`
	}{err.Error(), c.requestID, status})
}

func jsonAnswer(status int, header http.Header, v any) answer {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	// This package's structs of strings and numbers always encode.
	_ = enc.Encode(v)
	return answer{status: status, contentType: jsonContentType, header: header, body: b.Bytes()}
}

// requestID returns a UUID of version 4, as the API does.
func requestID(h uint64) string {
	id := []byte(seeded.UUID(h))
	id[14] = '4'
	return string(id)
}
