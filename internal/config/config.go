// Package config is the one definition of every setting: its flag, its environment
// variable, its key in the configuration file, its default, its help and its check.
// The tables are [Config.Settings] and [Config.CommandSettings]; flags, environment,
// file and documentation are made from them.
//
// Flags and environment fill a [Config]. The file, which [Loader] reads again for
// every reload, lists organizations, each of which starts as a copy of what flags and
// environment say. The file never holds a secret, only names of files that do, and no
// error repeats the text of a value, which could be a secret by mistake.
//
// Every setting knows where it was set. Whatever gives advice about it, here or by
// way of [api.Adviser] and [collector.SettingNames], names it as the user did.
package config

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/version"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// Program is the name that users, logs and, as a prefix, the program's own metrics
// know the program by.
const Program = "clickhouse_postgres_exporter"

// DemoInterval is how often the demo polls unless it is told otherwise, and how often
// its simulated values change: fast enough to watch.
const DemoInterval = 5 * time.Second

// Config is what flags and environment say.
type Config struct {
	File       string // "" for none
	CheckOnly  bool
	SyntaxOnly bool // when checking, do not look at files that are named

	AutoReloadInterval time.Duration // 0 for never

	// Organization is the one to export, unless the file lists organizations, which
	// start from it.
	Organization Organization

	ListenAddresses        []string
	SystemdSocket          bool
	WebConfigFile          string
	TelemetryPath          string
	ExternalURL            *url.URL // nil: whatever Host clients ask for
	RoutePrefix            string   // "": the path of ExternalURL
	EnableLifecycle        bool
	DisableExporterMetrics bool
	PreferOpenMetrics      bool

	LogLevel, LogFormat string

	Demo struct {
		Enabled       bool
		Services      int
		Seed          uint64
		ListenAddress string
	}

	// What the commands of these names are told.
	Check struct {
		JSON    bool
		Timeout time.Duration
	}
	Once struct {
		Format  string
		Output  string // file, "" for stdout
		Timeout time.Duration
	}
	Healthcheck struct {
		Ready             bool
		CertFile, KeyFile string // presented to a server that asks for a certificate
		Timeout           time.Duration
	}
}

// New returns a configuration that flags are to fill.
func New() *Config {
	c := &Config{}
	c.Organization.sources = map[string]source{}
	c.Organization.API.UserAgent = version.ComponentUserAgent(Program)
	return c
}

// Organization is one to poll: what the collector is told, and what that is made of.
type Organization struct {
	collector.Organization

	rate                     rate
	keyID, keySecret         string // of the environment
	keyIDFile, keySecretFile string

	sources map[string]source // where settings were set, by their [Setting.ID]
	place   source            // of one in the file
}

// source is where a setting was set.
type source struct {
	name string // such as --api.url, CLICKHOUSE_API_URL or api_url
	file string // and line, of a key in the file
	line int
}

// String returns what the user looks for to find the setting.
func (s source) String() string {
	if s.line == 0 {
		return s.name
	}
	return fmt.Sprintf("%s (%s)", s.name, place(s.file, s.line))
}

// source returns where a setting was set, or could be.
func (o *Organization) source(id string) source {
	if s, ok := o.sources[id]; ok {
		return s
	}
	return source{name: "--" + id}
}

// given tells whether the user set a setting.
func (o *Organization) given(id string) bool {
	_, ok := o.sources[id]
	return ok
}

// Prefix returns the path below which all pages are served, "" for none.
func (c *Config) Prefix() string {
	if c.RoutePrefix == "" && c.ExternalURL != nil {
		return c.ExternalURL.Path
	}
	return strings.TrimSuffix(c.RoutePrefix, "/")
}

// Given tells whether the user set a setting by a flag or the environment.
func (c *Config) Given(flag string) bool { return c.Organization.given(flag) }

// copy returns a copy to change.
func (o *Organization) copy() *Organization {
	another := *o
	another.sources = maps.Clone(o.sources)
	return &another
}

// rate is what upstream allows a key, and what of it is for this process.
type rate struct {
	limit    int // requests per window
	window   time.Duration
	use      int // of limit
	replicas int // processes that share use
}

// budget is what this process may spend.
func (r rate) budget() api.BudgetConfig {
	return api.BudgetConfig{Requests: r.use / r.replicas, Window: r.window}
}

// check says which settings do not go together. Its id is the one to point at.
func (o *Organization) check() (id string, err error) {
	differ := func(a, format string, x any, b string, y any) (string, error) {
		return a, fmt.Errorf("%s=%v is "+format, o.source(a).name, x, o.source(b).name, y)
	}
	switch r := o.rate; {
	case r.use > r.limit:
		return differ("api.rate-use", "more than %s=%v: lower the first, or raise the second if your key is allowed more", r.use, "api.rate-limit", r.limit)
	case r.replicas > r.use:
		return differ("api.replicas", "more than %s=%v, which leaves no request for some: run fewer replicas of one key, or give each its own key", r.replicas, "api.rate-use", r.use)
	case len(o.AssumedSettings) > 0 && !o.CollectSettings:
		return "settings.assume", fmt.Errorf("%s needs %s: only what is collected tells which services have the setting", o.source("settings.assume").name, o.source("collector.settings").name)
	case o.MaxAge < o.MetricsInterval:
		return differ("metrics.max-age", "shorter than %s=%v, so that metrics would vanish between two fetches: raise the first or lower the second",
			model.Duration(o.MaxAge), "metrics.interval", model.Duration(o.MetricsInterval))
	}
	return "", nil
}

// Complete checks what flags and environment say of an organization, also together.
// Nothing else may be changed afterwards.
func (c *Config) Complete() error {
	o := &c.Organization
	if c.Demo.Enabled {
		for id, to := range map[string]*time.Duration{"metrics.interval": &o.MetricsInterval, "inventory.interval": &o.InventoryInterval} {
			if !o.given(id) {
				*to = DemoInterval
			}
		}
	} else if o.given("demo.services") || o.given("demo.seed") || o.given("demo.listen-address") {
		return errors.New("--demo.services, --demo.seed and --demo.listen-address need --demo")
	}
	if c.SyntaxOnly && !c.CheckOnly {
		return errors.New("--config.syntax-only needs --config.check")
	}
	for i, address := range c.ListenAddresses {
		if slices.Contains(c.ListenAddresses[:i], address) && !strings.HasSuffix(address, ":0") {
			return fmt.Errorf("%s has %s twice: give it once", o.source("web.listen-address"), address)
		}
	}
	if o.Shard.Count > 1 && !o.given("shard.index") {
		host, err := os.Hostname()
		if err == nil {
			o.Shard.Index, err = inventory.OrdinalFromHostname(host)
		}
		if err != nil {
			return fmt.Errorf("--shard.index is needed: %w", err)
		}
	}
	if err := o.Shard.Validate(); err != nil {
		return fmt.Errorf("%s and %s: %w", o.source("shard.index"), o.source("shard.count"), err)
	}
	if _, err := o.check(); err != nil {
		return err
	}
	return o.chooseKey()
}

// chooseKey makes the key that flags and environment name that of the organization,
// if there is one.
func (o *Organization) chooseKey() error {
	switch {
	case o.keyIDFile != "" && o.keySecretFile == "":
		return fmt.Errorf("%s needs --api.key-secret-file beside it", o.source("api.key-id-file"))
	case o.keyIDFile == "" && o.keySecretFile != "":
		return fmt.Errorf("%s needs --api.key-id-file beside it", o.source("api.key-secret-file"))
	case o.keyIDFile != "" && (o.keyID != "" || o.keySecret != ""):
		return fmt.Errorf("two API keys given, one in files and one in the environment: leave out --api.key-id-file and --api.key-secret-file, or unset %s and %s", EnvKeyID, EnvKeySecret)
	case o.keyID != "" && o.keySecret == "":
		return fmt.Errorf("%s is set but %s is not: set both", EnvKeyID, EnvKeySecret)
	case o.keyID == "" && o.keySecret != "":
		return fmt.Errorf("%s is set but %s is not: set both", EnvKeySecret, EnvKeyID)
	case o.keyID != "":
		o.API.Credentials = api.StaticCredentials(o.keyID, o.keySecret)
	case o.keyIDFile != "":
		o.API.Credentials = api.FileCredentials(o.keyIDFile, o.keySecretFile)
	}
	return nil
}

// Simulate makes the organization the one that is simulated at url.
func (o *Organization) Simulate(url, id string, key api.CredentialsSource) {
	o.API.BaseURL, o.ID, o.API.Credentials = url, id, key
}

// Rate returns how many requests upstream allows a key, in which time.
func (o *Organization) Rate() (requests int, window time.Duration) {
	return o.rate.limit, o.rate.window
}

// CheckKey says why the key of flags or environment cannot be one, such as a file
// that is not there. Whether upstream takes it is another matter: a key may begin to
// work, and be replaced, while the program runs.
func (o *Organization) CheckKey() error {
	if o.API.Credentials == nil {
		return nil
	}
	_, err := o.API.Credentials.Credentials()
	if err != nil && o.keyID != "" {
		return fmt.Errorf("%s and %s: %w", EnvKeyID, EnvKeySecret, err)
	}
	return err
}

// errNoCredentials is what a newcomer meets first.
func errNoCredentials() error {
	return fmt.Errorf("no API key: set %s and %s (made in the ClickHouse Cloud console under API keys), or name files with --api.key-id-file and --api.key-secret-file, or try --demo", EnvKeyID, EnvKeySecret)
}
