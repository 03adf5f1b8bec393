package config

import (
	"sort"
	"strconv"
	"strings"
)

// Error is one thing that is wrong in a configuration file.
type Error struct {
	File    string // "" if the configuration did not come from a file
	Line    int    // 0 if it concerns the file as a whole
	Key     string // such as organizations[0].api_url, "" likewise
	Problem string // what is wrong, and what to do
}

func (e *Error) Error() string {
	text := e.Problem
	if e.Key != "" {
		text = e.Key + ": " + text
	}
	if at := place(e.File, e.Line); at != "" {
		text = at + ": " + text
	}
	return text
}

// place returns where a line is.
func place(file string, line int) string {
	switch {
	case file != "" && line > 0:
		return file + ":" + strconv.Itoa(line)
	case line > 0:
		return "line " + strconv.Itoa(line)
	}
	return file
}

// Errors is everything that is wrong in a configuration file, by line.
type Errors []*Error

// Error returns one line for each error.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap makes the single errors visible to [errors.As].
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, err := range e {
		errs[i] = err
	}
	return errs
}

// orNil sorts the errors; it avoids an error interface that holds an empty list.
func (e Errors) orNil() error {
	if len(e) == 0 {
		return nil
	}
	sort.SliceStable(e, func(i, j int) bool { return e[i].Line < e[j].Line })
	return e
}
