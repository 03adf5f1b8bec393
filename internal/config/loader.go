package config

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
)

// maxFileBytes bounds what is read. It is far more than a thousand organizations with
// rules of their own need.
const maxFileBytes = 1 << 20

// Loader reads the configuration file, again and again. It keeps what belongs to an
// API key and must outlive a reload: its budget, since upstream goes on counting, and
// where it is read from. It is not safe for concurrent use.
type Loader struct {
	config  *Config
	keys    map[keyFiles]api.CredentialsSource
	budgets map[keyBudget]*api.Budget
}

type keyFiles struct{ id, secret string }

type keyBudget struct {
	key    api.CredentialsSource
	budget api.BudgetConfig
}

// NewLoader returns a loader for a configuration that is complete.
func NewLoader(c *Config) *Loader {
	return &Loader{config: c, keys: map[keyFiles]api.CredentialsSource{}, budgets: map[keyBudget]*api.Budget{}}
}

// Load returns what is to be polled: the organizations that the file lists, or else
// the one of flags and environment. An error about the content of the file is of type
// [Errors].
func (l *Loader) Load() ([]collector.Organization, error) {
	orgs, err := l.load()
	if err != nil {
		return nil, err
	}
	out := make([]collector.Organization, len(orgs))
	for i, o := range orgs {
		out[i] = o.Organization
	}
	return out, nil
}

// LoadBeside returns the same for a command, beside which an exporter may be running
// with the same keys: each budget is what exporters leave of the rate limit, though one
// request per window at least. exporters has the budgets that Load gives.
func (l *Loader) LoadBeside() (out []collector.Organization, exporters []*api.Budget, err error) {
	orgs, err := l.load()
	if err != nil {
		return nil, nil, err
	}
	for _, o := range orgs {
		exporters = append(exporters, o.API.Budget)
		if !l.config.Demo.Enabled { // which has nobody beside it
			o.API.Budget = api.NewBudget(api.BudgetConfig{Requests: o.rate.limit - o.rate.use, Window: o.rate.window})
		}
		out = append(out, o.Organization)
	}
	return out, exporters, nil
}

func (l *Loader) load() ([]*Organization, error) {
	orgs, err := l.config.organizations()
	if err != nil {
		return nil, err
	}
	for _, o := range orgs {
		if o.API.Credentials == nil && o.keyIDFile != "" {
			o.API.Credentials = l.key(keyFiles{o.keyIDFile, o.keySecretFile})
		}
		switch {
		case o.API.Credentials != nil:
		case o.place.line == 0:
			return nil, errNoCredentials()
		default:
			return nil, Errors{{o.place.file, o.place.line, o.place.name, fmt.Sprintf(
				"no API key for this organization: name key_id_file and key_secret_file, or set %s and %s", EnvKeyID, EnvKeySecret,
			)}}
		}
		o.API.Budget = l.budget(keyBudget{o.API.Credentials, o.rate.budget()})
		if o.API.CAFile != "" {
			// So that a reload finds out whether it was replaced.
			if o.API.CACertificates, err = os.ReadFile(o.API.CAFile); err != nil {
				return nil, fmt.Errorf("%s: %w", o.source("api.ca-file"), err)
			}
		}
		o.name()
	}
	return orgs, nil
}

func (l *Loader) key(files keyFiles) api.CredentialsSource {
	if l.keys[files] == nil {
		l.keys[files] = api.FileCredentials(files.id, files.secret)
	}
	return l.keys[files]
}

func (l *Loader) budget(b keyBudget) *api.Budget {
	if l.budgets[b] == nil {
		l.budgets[b] = api.NewBudget(b.budget)
	}
	return l.budgets[b]
}

// organizations reads the file, if there is one.
func (c *Config) organizations() ([]*Organization, error) {
	if c.File == "" {
		return []*Organization{c.Organization.copy()}, nil
	}
	data, err := read(c.File)
	if err != nil {
		return nil, err
	}
	orgs, err := parse(data, filepath.Dir(c.File), c.File, &c.Organization)
	switch id := c.Organization.source("api.organization-id"); {
	case err != nil:
		return nil, err
	case orgs[0].place.line == 0:
	case c.Demo.Enabled:
		return nil, errors.New("--demo simulates one organization: leave out organizations in --config.file, or leave out --demo")
	case id.name == "--api.organization-id" && c.Organization.given("api.organization-id"):
		return nil, errors.New("--api.organization-id and organizations in --config.file are both given: leave out one of them")
	}
	return orgs, nil
}

func read(path string) ([]byte, error) {
	// Opening a pipe would block for as long as nobody writes to it.
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("configuration file %s is not a regular file: check the path", path)
	}
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

// Validate says what would keep the configuration from being used, the files that it
// names included. That there is no key does not: configurations are checked where keys
// are not.
func (l *Loader) Validate() error {
	orgs, err := l.config.organizations()
	if err != nil {
		return err
	}
	if !l.config.SyntaxOnly {
		var errs Errors
		for _, o := range orgs {
			errs = append(errs, o.checkFiles()...)
		}
		if err := errs.orNil(); err != nil {
			return err
		}
	}
	polled := make([]collector.Organization, 0, len(orgs))
	for _, o := range orgs {
		o.API.Credentials = cmp.Or(o.API.Credentials, api.StaticCredentials("none", "none"))
		o.API.Budget = api.NewBudget(o.rate.budget())
		if l.config.SyntaxOnly {
			o.API.CAFile = ""
		}
		polled = append(polled, o.Organization)
	}
	_, err = collector.New(collector.Options{Organizations: polled})
	return err
}

// checkFiles says what is wrong with the files that are named, and with a key that is not
// in files.
func (o *Organization) checkFiles() (errs Errors) {
	note := func(id, problem string) {
		at := o.source(id)
		errs = append(errs, &Error{at.file, at.line, strings.TrimPrefix(o.place.name+"."+at.name, "."), problem})
	}
	for _, s := range o.settings() {
		if path := s.Value.String(); s.File && path != "" {
			if err := readable(path); err != nil {
				// Not the path itself: a secret pasted in place of a file name would
				// end up in the log.
				note(s.ID(), "the file cannot be read: "+err.Error())
			}
		}
	}
	if len(errs) > 0 {
		return errs
	}
	if o.API.CAFile != "" {
		pem, err := os.ReadFile(o.API.CAFile)
		if err = cmp.Or(err, checkCertificates(pem)); err != nil {
			note("api.ca-file", err.Error())
		}
	}
	if o.API.Credentials == nil && o.keyIDFile != "" {
		o.API.Credentials = api.FileCredentials(o.keyIDFile, o.keySecretFile)
	}
	if err := o.CheckKey(); err != nil {
		at := o.source("api.key-id-file")
		errs = append(errs, &Error{at.file, at.line, o.place.name, err.Error()}) // says which half it is
	}
	return errs
}

func checkCertificates(pem []byte) error {
	if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		return errors.New("the file has no certificate in PEM format: name another one")
	}
	return nil
}

// readable returns an error without the path.
func readable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return errors.New("it is a directory")
	case err == nil && !info.Mode().IsRegular():
		return errors.New("it is not a regular file")
	case err == nil:
		var f *os.File
		if f, err = os.Open(path); err == nil {
			return f.Close()
		}
	}
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}
