package collector

import "errors"

// ErrNotFound is returned by [Collector.Page] for an organization or a service
// that is not known.
var ErrNotFound = errors.New("unknown organization or service")

// UnavailableError is returned by [Collector.Page] for something that is known,
// but of which there is no data: not yet, or not any more.
type UnavailableError struct {
	Reason string // one plain sentence, fit for the body of a 503
}

func (e *UnavailableError) Error() string { return e.Reason }
