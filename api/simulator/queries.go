package simulator

import (
	"net/http"
)

func (s *Simulator) slowQueries(*call) (any, error) {
	return nil, &refusal{status: http.StatusNotImplemented, message: "NOT_IMPLEMENTED: slow query patterns are not simulated"}
}
