// Package config reads the configuration file: what flags and environment
// variables cannot say, such as relabelling rules, a choice of services and
// several organizations.
//
// It is strict, because a key that is ignored is a rule that its author believes
// to be at work. Every error names the file, the line, the key and what to do,
// and all errors of a file are reported together. The file never holds a secret,
// only names of files that do; no error repeats the text of a value that could
// be one by mistake.
//
// The YAML is read as a tree of nodes and walked by this package, instead of
// being decoded into structs: a decoder knows the line of a wrong type, but not
// that of a wrong value.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/relabel"
)

// maxFileBytes bounds what is read. It is far more than a thousand
// organizations with rules of their own need.
const maxFileBytes = 1 << 20

// Config is a configuration file. It is immutable after [Load] or [Parse].
type Config struct {
	// MetricRelabelConfigs are the rules for every organization. They are
	// validated and ready for [relabel.ProcessBuilder].
	MetricRelabelConfigs []*relabel.Config
	// Services chooses among the services of every organization that does not
	// choose for itself; nil chooses all.
	Services *Services
	// Organizations is empty if the file lists none: then there is one, made of
	// flags and environment.
	Organizations []*Organization

	origin *origin
}

// Organization is one organization to poll. A zero value stands for "not given":
// the flag of that name decides. No zero value can be written in the file.
type Organization struct {
	ID            string // to be discovered, if not given
	Name          string // for logs and status only
	APIURL        string
	KeyIDFile     string // absolute, or relative to the working directory
	KeySecretFile string // given if and only if KeyIDFile is
	CAFile        string

	RateLimit  int           // requests per RateWindow that upstream grants the key
	RateWindow time.Duration // at least 1 s, as every duration here
	RateUse    int           // how many of RateLimit this process and its replicas use
	Replicas   int           // processes that share the key

	MetricsInterval   time.Duration
	InventoryInterval time.Duration
	MaxAge            time.Duration

	// EnrichLabels is nil if not given, and empty if no label is wanted. The
	// tokens are not validated here.
	EnrichLabels []string
	// Services is the organization's own choice, or else the one for all.
	Services *Services
	// MetricRelabelConfigs are the rules for all, followed by the organization's own.
	MetricRelabelConfigs []*relabel.Config

	key    string // where it is in the file, such as organizations[0]
	origin *origin
}

// Services chooses services: those that match any of Include (or all, if that is
// empty) and none of Exclude.
type Services struct {
	Include []Filter
	Exclude []Filter
}

// Filter matches the services for which every given criterion holds. It holds at
// least one.
type Filter struct {
	IDs    []string          // any of these
	Name   string            // regular expression that the whole name matches, "" = not given
	Region string            // likewise
	State  string            // likewise
	Tags   map[string]string // key of a tag that the service has → regular expression of its value
}

// Load reads and checks the file at path. The error, if any, is of type [Errors],
// or says that the file could not be read.
//
// The files that it names are not opened, see [Config.CheckFiles].
func Load(path string) (*Config, error) {
	data, err := read(path)
	if err != nil {
		return nil, err
	}
	c, err := parse(data, filepath.Dir(path), path)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	defer f.Close()
	// A byte more than allowed tells a file that is too large from one that just fits.
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("configuration file %s is larger than %d bytes: is it the right file?", path, maxFileBytes)
	}
	return data, nil
}

// Parse checks data as if it were a file in the directory dir, which may be "".
// The error, if any, is of type [Errors].
func Parse(data []byte, dir string) (*Config, error) {
	return parse(data, dir, "")
}

// CheckFiles reports whether the files named by the configuration can be read, in
// an error of type [Errors]. It is for checking a configuration before it is
// used: while running, a file that is missing for a moment is no reason to stop.
func (c *Config) CheckFiles() error {
	var errs Errors
	for _, f := range c.origin.files {
		if err := readable(f.path); err != nil {
			// Not the path itself: a secret pasted in place of a file name would
			// end up in the log.
			errs = append(errs, c.origin.problem(f.key, "the file cannot be read: "+err.Error()))
		}
	}
	return errs.orNil()
}

// readable returns an error without the path.
func readable(path string) error {
	f, err := os.Open(path)
	if err == nil {
		defer f.Close()
		var info fs.FileInfo
		if info, err = f.Stat(); err == nil && info.IsDir() {
			return errors.New("it is a directory")
		}
	}
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// Reject turns err into an error of type [Errors] that names file, line and key, for
// a value that only the caller can judge. The key is one of the organization,
// such as "enrich_labels"; if it is not in the file, the error points at the
// organization.
func (o *Organization) Reject(key string, err error) error {
	return Errors{o.origin.problem(o.key+"."+key, err.Error())}
}

// origin remembers where things were in the file.
type origin struct {
	file  string
	lines map[string]int // by key path
	files []fileRef
}

type fileRef struct{ key, path string }

func (o *origin) problem(key, problem string) *Error {
	line, known := o.lines[key]
	for parent := key; !known && parent != ""; {
		parent = parent[:max(strings.LastIndexByte(parent, '.'), 0)]
		line, known = o.lines[parent]
	}
	return &Error{File: o.file, Line: line, Key: key, Problem: problem}
}

// Error is one thing that is wrong in a configuration file.
type Error struct {
	File    string // "" if the configuration did not come from a file
	Line    int    // 0 if it concerns the file as a whole
	Key     string // such as organizations[0].api_url, "" likewise
	Problem string // what is wrong, and what to do
}

func (e *Error) Error() string {
	var b strings.Builder
	switch {
	case e.File != "" && e.Line > 0:
		b.WriteString(e.File + ":" + strconv.Itoa(e.Line) + ": ")
	case e.File != "":
		b.WriteString(e.File + ": ")
	case e.Line > 0:
		b.WriteString("line " + strconv.Itoa(e.Line) + ": ")
	}
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	b.WriteString(e.Problem)
	return b.String()
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
