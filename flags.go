package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/alecthomas/units"
	"github.com/prometheus/common/version"
	toolkit "github.com/prometheus/exporter-toolkit/web"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/web"
)

// program is the name that users, logs and, as a prefix, the program's own
// metrics know this by.
const program = "clickhouse_postgres_exporter"

// The environment that ClickHouse Cloud's own clients read.
const (
	envKeyID     = "CLICKHOUSE_CLOUD_API_KEY"
	envKeySecret = "CLICKHOUSE_CLOUD_API_SECRET"
	envOrgID     = "CLICKHOUSE_ORG_ID"
	envURL       = "CLICKHOUSE_API_URL"
)

// options is the command line and the environment, checked and joined.
type options struct {
	command string
	health  health // for healthcheck
	check   check  // for check
	once    once   // for once

	configFile  string
	configCheck bool

	apiURL         string
	organizationID string

	organizationIDFlag bool // given as a flag, not by the environment

	credentials     api.CredentialsSource // nil when none were given
	timeout         time.Duration
	caFile          string
	maxResponseSize units.Base2Bytes
	rate            rate

	metricsInterval   time.Duration
	maxAge            time.Duration
	inventoryInterval time.Duration
	enrichLabels      []inventory.EnrichLabel
	timestamps        bool
	collectConfig     bool
	configInterval    time.Duration
	shard             inventory.Shard

	telemetryPath          string
	externalURL            *url.URL // nil: whatever Host clients ask for
	disableExporterMetrics bool
	preferOpenMetrics      bool
	web                    *toolkit.FlagConfig

	logLevel, logFormat string
	logLevelSet         bool

	demo              bool
	demoServices      int
	demoSeed          uint64
	demoListenAddress string
}

// The commands. The first is what is done when none is named.
const (
	commandServe       = "serve"
	commandCheck       = "check"
	commandOnce        = "once"
	commandHealthcheck = "healthcheck"
)

// errEnough is returned when the command line has been answered, such as
// --help, and there is nothing more to do.
var errEnough = errors.New("nothing more to do")

// flags is the command line as it was written.
type flags struct {
	options // what needs no more than a check

	url, organizationFlag    string
	keyIDFile, keySecretFile string
	enrich                   string
	external                 string

	urlSet, caSet                        bool
	metricsIntervalSet, inventorySet     bool
	shardIndexSet                        bool
	demoServicesSet, seedSet, addressSet bool
}

// parseFlags reads the command line and, through lookup, the environment.
// Its errors are sentences for the user.
func parseFlags(args []string, lookup func(string) (string, bool), stdout, stderr io.Writer) (*options, error) {
	var f flags
	// With a default, kingpin completes that one's arguments, but no commands.
	completing := len(args) > 0 && args[0] == "--completion-bash"
	app := newApplication(&f, !completing)
	app.UsageWriter(stdout).ErrorWriter(stderr)
	enough := false // --help, --version or the like
	app.Terminate(func(int) { enough = true })
	if asksForManual(args) {
		return nil, cmp.Or(writeManual(stdout, app.Model()), errEnough)
	}

	command, err := app.Parse(args)
	switch {
	case enough:
		return nil, errEnough
	case err != nil:
		return nil, fmt.Errorf("%w, try --help", err)
	}
	f.command = command
	if command != commandHealthcheck {
		if err := f.finish(lookup); err != nil {
			return nil, err
		}
	}
	return &f.options, nil
}

// newApplication returns the command line that fills f, with or without a command
// that is meant when none is named.
func newApplication(f *flags, defaultCommand bool) *kingpin.Application {
	app := kingpin.New(program, "Prometheus exporter for the Managed Postgres services of ClickHouse Cloud.\n\n"+
		"Give it an API key in $"+envKeyID+" and $"+envKeySecret+", or try --demo, which needs none. "+
		"The command check tells whether the key works.\n\n"+
		"Completion for the shell: eval \"$("+program+" --completion-script-bash)\", or -zsh. Manual page: --help-man.")
	app.Version(version.Print(program))
	app.HelpFlag.Short('h')
	serve := f.define(app)
	if defaultCommand {
		serve.Default()
	}
	return app
}

// define declares flags and commands, and returns the first command.
func (f *flags) define(app *kingpin.Application) *kingpin.CmdClause {
	logLevels := []string{"debug", "info", "warn", "error"}
	logFormats := []string{"logfmt", "json"}

	app.Flag("config.file", "Configuration file with metric_relabel_configs (YAML). Re-read on SIGHUP and POST /-/reload.").
		PlaceHolder("<file>").StringVar(&f.configFile)
	app.Flag("config.check", "Check flags, --config.file and --web.config.file, say what is wrong, and exit.").
		BoolVar(&f.configCheck)

	app.Flag("api.url", "Base URL of the ClickHouse Cloud API. ($"+envURL+", "+api.DefaultURL+")").
		PlaceHolder("<url>").IsSetByUser(&f.urlSet).StringVar(&f.url)
	app.Flag("api.organization-id", "Organization to export. Found out from the key when not given. ($"+envOrgID+")").
		PlaceHolder("<id>").IsSetByUser(&f.organizationIDFlag).StringVar(&f.organizationFlag)
	app.Flag("api.key-id-file", "File that holds the API key id, instead of $"+envKeyID+". Re-read when it changes.").
		PlaceHolder("<file>").StringVar(&f.keyIDFile)
	app.Flag("api.key-secret-file", "File that holds the API key secret, instead of $"+envKeySecret+". Re-read when it changes.").
		PlaceHolder("<file>").StringVar(&f.keySecretFile)
	app.Flag("api.timeout", "How long one request to the API may take.").
		Default("30s").DurationVar(&f.timeout)
	app.Flag("api.ca-file", "CA certificates (PEM) to trust for the API beside the system's. Re-read on SIGHUP and POST /-/reload.").
		PlaceHolder("<file>").IsSetByUser(&f.caSet).StringVar(&f.caFile)
	app.Flag("api.max-response-size", "Largest answer of the API to accept, after decompression.").
		Default("64MiB").BytesVar(&f.maxResponseSize)
	app.Flag("api.rate-limit", "Requests that the API allows one key per --api.rate-window.").
		Default("10").IntVar(&f.rate.limit)
	app.Flag("api.rate-window", "Window of --api.rate-limit.").
		Default("10s").DurationVar(&f.rate.window)
	app.Flag("api.rate-use", "Requests out of --api.rate-limit to use at most. The rest is for others that share the key.").
		Default("8").IntVar(&f.rate.use)
	app.Flag("api.replicas", "Exporters that share the key; each uses its part of --api.rate-use.").
		Default("1").IntVar(&f.rate.replicas)

	app.Flag("metrics.interval", "How often to fetch metrics. Upstream's values change about once a minute.").
		Default("30s").IsSetByUser(&f.metricsIntervalSet).DurationVar(&f.metricsInterval)
	app.Flag("metrics.max-age", "How long the last good metrics are served when no new ones come, but at least 2.5 refresh periods: those are a minute, or twice --metrics.interval if that is less, or what the rate allows.").
		Default("5m").DurationVar(&f.maxAge)
	app.Flag("inventory.interval", "How often to fetch the list of services.").
		Default("60s").IsSetByUser(&f.inventorySet).DurationVar(&f.inventoryInterval)
	app.Flag("enrich.labels", "What every series of a service is labelled with, separated by commas: name, region, size, state, provider, version, ha-type, is-primary, hostname, tag:<key>. Empty for nothing.").
		Default("region,size,state").StringVar(&f.enrich)

	app.Flag("metrics.timestamps", "Stamp samples with the moment at which the exporter first saw them. Prometheus needs track_timestamps_staleness with it.").
		BoolVar(&f.timestamps)
	app.Flag("collector.config", "Export the numeric settings of every service, such as max_connections, and its hostname. Takes up to a tenth of the requests.").
		BoolVar(&f.collectConfig)
	app.Flag("collector.config.interval", "How often to fetch the settings of a service, if the rate allows it.").
		Default("1h").DurationVar(&f.configInterval)
	app.Flag("shard.count", "Exporters among which the services are divided, by their ids.").
		Default("1").IntVar(&f.shard.Count)
	app.Flag("shard.index", "Which of them this one is, from 0. By default the number that ends the host name, as in a Kubernetes StatefulSet.").
		PlaceHolder("<n>").IsSetByUser(&f.shardIndexSet).IntVar(&f.shard.Index)

	app.Flag("web.telemetry-path", "Path under which to expose metrics.").
		Default("/metrics").StringVar(&f.telemetryPath)
	app.Flag("web.disable-exporter-metrics", "Exclude metrics about the exporter itself.").
		BoolVar(&f.disableExporterMetrics)
	app.Flag("web.prefer-openmetrics", "Answer in OpenMetrics to those who accept it beside other formats. It cannot say that a name ending in _Total is a counter.").
		BoolVar(&f.preferOpenMetrics)
	app.Flag("web.external-url", "URL under which Prometheus reaches the exporter, for the targets at /sd. By default what it asked for there.").
		PlaceHolder("<url>").StringVar(&f.external)
	f.web = kingpinflag.AddFlags(app, ":9924")

	app.Flag("log.level", "Only log messages with the given severity or above. One of: ["+strings.Join(logLevels, ", ")+"]").
		Default("info").IsSetByUser(&f.logLevelSet).EnumVar(&f.logLevel, logLevels...)
	app.Flag("log.format", "Output format of log messages. One of: ["+strings.Join(logFormats, ", ")+"]").
		Default("logfmt").EnumVar(&f.logFormat, logFormats...)

	app.Flag("demo", "Export a simulated organization, served on this machine by the exporter itself. Needs no API key.").
		BoolVar(&f.demo)
	app.Flag("demo.services", "Postgres services to simulate.").
		Default("12").IsSetByUser(&f.demoServicesSet).IntVar(&f.demoServices)
	app.Flag("demo.seed", "Another number makes other simulated services.").
		Default("1").IsSetByUser(&f.seedSet).Uint64Var(&f.demoSeed)
	app.Flag("demo.listen-address", "Address on which to serve the simulated API.").
		Default("127.0.0.1:0").IsSetByUser(&f.addressSet).StringVar(&f.demoListenAddress)

	serve := app.Command(commandServe, "Export metrics. This is what is done without a command.")

	try := app.Command(commandCheck, "Try the API key and say what it can see: organization, services, metrics, budget, clock. Exits 0 if the exporter would work.")
	try.Flag("json", "Say it in JSON.").
		BoolVar(&f.check.json)
	try.Flag("timeout", "How long all of it may take.").
		Default("1m").DurationVar(&f.check.timeout)

	page := app.Command(commandOnce, "Print the metrics of every service once, complete, or nothing if they cannot be had: for a look, or for a textfile collector.")
	page.Flag("format", "Format to print. One of: ["+strings.Join(pageFormats(), ", ")+"]").
		Default(pageFormats()[0]).EnumVar(&f.once.format, pageFormats()...)
	page.Flag("timeout", "How long all of it may take.").
		Default("1m").DurationVar(&f.once.timeout)

	health := app.Command(commandHealthcheck, "Ask the exporter that runs on this machine with the same --web.* flags how it is, for containers without a shell. Exits 0 if it is well.")
	health.Flag("ready", "Ask whether it has data to serve, not only whether it is alive.").
		BoolVar(&f.health.ready)
	health.Flag("client-cert-file", "Certificate (PEM) to present where --web.config.file asks for one. Without it, mutual TLS tells life but not readiness.").
		PlaceHolder("<file>").StringVar(&f.health.certFile)
	health.Flag("client-key-file", "Key (PEM) of --client-cert-file.").
		PlaceHolder("<file>").StringVar(&f.health.keyFile)
	health.Flag("timeout", "How long to wait for the answer.").
		Default("3s").DurationVar(&f.health.timeout)
	return serve
}

// finish checks the flags, also together, and joins them with the
// environment.
func (f *flags) finish(lookup func(string) (string, bool)) (err error) {
	if !f.demo && (f.demoServicesSet || f.seedSet || f.addressSet) {
		return errors.New("--demo.services, --demo.seed and --demo.listen-address need --demo")
	}
	if f.demo {
		// The environment may hold a real key; the demo leaves it alone.
		lookup = func(string) (string, bool) { return "", false }
		if f.urlSet || f.organizationIDFlag || f.caSet || f.keyIDFile != "" || f.keySecretFile != "" {
			return errors.New("--demo simulates the API and brings its own key: leave out --api.url, --api.organization-id, --api.ca-file and the --api.key-*-file flags, or leave out --demo")
		}
		if !f.metricsIntervalSet {
			f.metricsInterval = demoInterval
		}
		if !f.inventorySet {
			f.inventoryInterval = demoInterval
		}
	}
	if err := f.checkNumbers(); err != nil {
		return err
	}
	if err := web.CheckTelemetryPath(f.telemetryPath); err != nil {
		return fmt.Errorf("--web.telemetry-path: %w", err)
	}
	if f.externalURL, err = web.ParseExternalURL(f.external); err != nil {
		return fmt.Errorf("--web.external-url is %w", err)
	}
	if f.enrichLabels, err = inventory.ParseEnrichLabels(tokens(f.enrich)); err != nil {
		return fmt.Errorf("--enrich.labels: %w", err)
	}
	if f.shard.Count > 1 && !f.shardIndexSet {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("--shard.index is needed: %w", err)
		}
		if f.shard.Index, err = inventory.OrdinalFromHostname(host); err != nil {
			return fmt.Errorf("--shard.index is needed: %w", err)
		}
	}
	if err := f.shard.Validate(); err != nil {
		return fmt.Errorf("--shard.index and --shard.count: %w", err)
	}
	if f.apiURL, err = apiURL(f.url, lookup); err != nil {
		return err
	}
	f.organizationID = f.organizationFlag
	if f.organizationID == "" {
		f.organizationID, _ = lookup(envOrgID)
	}
	f.credentials, err = credentials(f.keyIDFile, f.keySecretFile, lookup)
	return err
}

// checkNumbers holds the flags against what makes sense, also together.
func (o *options) checkNumbers() error {
	for _, f := range []struct {
		flag string
		bad  bool
	}{
		{"--api.timeout", o.timeout <= 0},
		{"--api.max-response-size", o.maxResponseSize <= 0},
		{"--api.rate-limit", o.rate.limit <= 0},
		{"--api.rate-window", o.rate.window <= 0},
		{"--api.rate-use", o.rate.use <= 0},
		{"--api.replicas", o.rate.replicas <= 0},
		{"--metrics.interval", o.metricsInterval <= 0},
		{"--metrics.max-age", o.maxAge <= 0},
		{"--inventory.interval", o.inventoryInterval <= 0},
		{"--collector.config.interval", o.configInterval <= 0},
		{"--shard.count", o.shard.Count <= 0},
		{"--demo.services", o.demoServices <= 0},
		{"--timeout", o.command == commandCheck && o.check.timeout <= 0 || o.command == commandOnce && o.once.timeout <= 0},
	} {
		if f.bad {
			return fmt.Errorf("%s must be more than 0", f.flag)
		}
	}
	if err := o.rate.check("--api.rate-limit", "--api.rate-use", "--api.replicas"); err != nil {
		return err
	}
	return checkAge(o.maxAge, o.metricsInterval, "--metrics.max-age", "--metrics.interval")
}

// checkAge says why data of at most maxAge and a poll per interval do not go
// together. The names are those that the user knows the settings by.
func checkAge(maxAge, interval time.Duration, maxAgeName, intervalName string) error {
	if maxAge < interval {
		return fmt.Errorf("%s=%s is shorter than %s=%s, so that metrics would vanish between two fetches: raise the first or lower the second",
			maxAgeName, maxAge, intervalName, interval)
	}
	return nil
}

// rate is what upstream allows a key, and what of it is for us.
type rate struct {
	limit    int // requests per window
	window   time.Duration
	use      int // of limit
	replicas int // processes that share use
}

// check says why the numbers do not go together. The names are those that
// the user knows them by.
func (r rate) check(limit, use, replicas string) error {
	switch {
	case r.use > r.limit:
		return fmt.Errorf("%s=%d is more than %s=%d: lower the first, or raise the second if your key is allowed more", use, r.use, limit, r.limit)
	case r.replicas > r.use:
		return fmt.Errorf("%s=%d is more than %s=%d, which leaves no request for some: run fewer replicas of one key, or give each its own key", replicas, r.replicas, use, r.use)
	}
	return nil
}

// budget is what this process may spend.
func (r rate) budget() api.BudgetConfig {
	return api.BudgetConfig{Requests: r.use / r.replicas, Window: r.window}
}

// plaintextAPI tells whether the key leaves this machine unencrypted.
func (o *options) plaintextAPI() bool {
	u, err := url.Parse(o.apiURL)
	if err != nil || u.Scheme == "https" || u.Hostname() == "localhost" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return ip == nil || !ip.IsLoopback()
}

// apiURL returns the flag's URL, else the environment's, else the default.
func apiURL(flag string, lookup func(string) (string, bool)) (string, error) {
	raw, from := flag, "--api.url"
	if raw == "" {
		raw, _ = lookup(envURL)
		from = envURL
	}
	if raw == "" {
		return api.DefaultURL, nil
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil, u.Scheme != "https" && u.Scheme != "http", u.Host == "":
		// The text is not repeated: it may hold what was meant for elsewhere.
		return "", fmt.Errorf("%s is not a URL: it must look like %s", from, api.DefaultURL)
	case u.User != nil:
		return "", fmt.Errorf("%s must not hold a key: set %s and %s instead", from, envKeyID, envKeySecret)
	case u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("%s must not hold a query or fragment: it must look like %s", from, api.DefaultURL)
	}
	return strings.TrimRight(raw, "/"), nil
}

// credentials returns where the key comes from, nil when none was given.
func credentials(keyIDFile, keySecretFile string, lookup func(string) (string, bool)) (api.CredentialsSource, error) {
	keyID, _ := lookup(envKeyID)
	keySecret, _ := lookup(envKeySecret)
	switch {
	case keyIDFile != "" && keySecretFile == "":
		return nil, errors.New("--api.key-id-file needs --api.key-secret-file beside it")
	case keyIDFile == "" && keySecretFile != "":
		return nil, errors.New("--api.key-secret-file needs --api.key-id-file beside it")
	case keyIDFile != "" && (keyID != "" || keySecret != ""):
		return nil, fmt.Errorf("two API keys given, one in files and one in the environment: leave out --api.key-id-file and --api.key-secret-file, or unset %s and %s", envKeyID, envKeySecret)
	case keyIDFile != "":
		return api.FileCredentials(keyIDFile, keySecretFile), nil
	case keyID != "" && keySecret == "":
		return nil, fmt.Errorf("%s is set but %s is not: set both", envKeyID, envKeySecret)
	case keyID == "" && keySecret != "":
		return nil, fmt.Errorf("%s is set but %s is not: set both", envKeySecret, envKeyID)
	case keyID != "":
		return api.StaticCredentials(strings.TrimSpace(keyID), strings.TrimSpace(keySecret)), nil
	}
	return nil, nil
}

// checkKey says why the key of the command line or the environment cannot be one,
// such as a file that is not there. Whether upstream takes it is another matter: a
// key may begin to work, and be replaced, while the program runs.
func (o *options) checkKey() error {
	if o.credentials == nil {
		return nil
	}
	_, err := o.credentials.Credentials()
	return err
}

// errNoCredentials is what a newcomer meets first.
var errNoCredentials = fmt.Errorf("no API key: set %s and %s (made in the ClickHouse Cloud console under API keys), or name files with --api.key-id-file and --api.key-secret-file, or try --demo", envKeyID, envKeySecret)

// tokens splits a list at its commas; empty elements are left out.
func tokens(list string) []string {
	var out []string
	for t := range strings.SplitSeq(list, ",") {
		if t = strings.TrimSpace(t); t != "" {
			out = append(out, t)
		}
	}
	return out
}
