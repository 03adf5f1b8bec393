package simulator

import (
	"math"
	"regexp"
	"time"
)

const (
	defaultPatterns = 20
	maxPatterns     = 500
)

// withMilliseconds is the form of dates that the API demands here. It refuses others of RFC 3339.
var withMilliseconds = regexp.MustCompile(`^[0-9-]{10}T[0-9:]{8}\.[0-9]{3}Z$`)

// slowQueries answers with an empty list: the simulated services have no slow queries. Invalid
// requests are still refused.
func (s *Simulator) slowQueries(c *call) (any, error) {
	if err := s.checkPatterns(c); err != nil {
		return nil, err
	}
	if _, err := c.number("limit", defaultPatterns, 1, maxPatterns); err != nil {
		return nil, err
	}
	if _, err := c.number("offset", 0, 0, math.MaxInt); err != nil {
		return nil, err
	}
	return []struct{}{}, nil
}

// slowQuery answers that there is no such pattern.
func (s *Simulator) slowQuery(c *call) (any, error) {
	if err := s.checkPatterns(c); err != nil {
		return nil, err
	}
	for _, name := range []string{"db_name", "db_user", "db_operation"} {
		if !c.URL.Query().Has(name) {
			return nil, badRequest("%s is required", name)
		}
	}
	return nil, notFound("no such slow query pattern")
}

// checkPatterns checks the service and the window of a request about slow queries.
func (s *Simulator) checkPatterns(c *call) error {
	if _, err := s.service(c); err != nil {
		return err
	}
	var window []time.Time
	for _, name := range []string{"from_date", "to_date"} {
		if !c.URL.Query().Has(name) {
			return badRequest("%s is required", name)
		}
		date := c.URL.Query().Get(name)
		at, err := time.Parse(time.RFC3339, date)
		if err != nil || !withMilliseconds.MatchString(date) {
			return badRequest("'%.100s'", date)
		}
		window = append(window, at)
	}
	if !window[1].After(window[0]) {
		return badRequest("to_date must be after from_date")
	}
	return nil
}
