package config

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/web"
)

// The environment that ClickHouse Cloud's own clients read.
const (
	EnvKeyID     = "CLICKHOUSE_CLOUD_API_KEY"
	EnvKeySecret = "CLICKHOUSE_CLOUD_API_SECRET"
	EnvOrgID     = "CLICKHOUSE_ORG_ID"
	EnvURL       = "CLICKHOUSE_API_URL"
)

// The commands. The first is what is done when none is named.
const (
	CommandServe       = "serve"
	CommandCheck       = "check"
	CommandOnce        = "once"
	CommandHealthcheck = "healthcheck"
)

// Command is something that the program does.
type Command struct{ Name, Help string }

// Commands returns what the program does.
func Commands() []Command {
	return []Command{
		{CommandServe, "Export metrics. This is what is done without a command."},
		{CommandCheck, "Try the API key and say what it can see: organization, services, metrics, budget, clock. Exits 0 if the exporter would work."},
		{CommandOnce, "Print the metrics of every service once, complete, or nothing if they cannot be had: for a look, or for a textfile collector."},
		{CommandHealthcheck, "Ask the exporter that runs on this machine with the same --web.* flags how it is, for containers without a shell. Exits 0 if it is well."},
	}
}

// Setting is the one definition of a setting.
type Setting struct {
	Flag        string // without dashes; "" if no flag sets it
	Command     string // that has the flag; "" for all
	Key         string // of an organization in the file; "" if that has none
	Env         string // a variable of its own, besides the one named after the flag
	Default     string
	Placeholder string // of a value without a default
	Help        string
	Options     []string // values that may be given; nil for any
	Value       Value

	List bool // of texts in the file, joined by commas in flags
	File bool // the name of a file, in the file relative to that

	demo bool // left alone by the demo, which brings its own
}

// ID tells settings apart.
func (s Setting) ID() string { return cmp.Or(s.Flag, s.Key, s.Env) }

// IsBool tells whether the flag takes no argument.
func (s Setting) IsBool() bool {
	_, ok := s.Value.(boolean)
	return ok
}

// IsRepeated tells whether the flag can be repeated.
func (s Setting) IsRepeated() bool {
	switch s.Value.(type) {
	case repeated, *assumed:
		return true
	}
	return false
}

// Variables returns the environment variables that set it, the first that is set
// before the others.
func (s Setting) Variables() []string {
	var names []string
	if s.Flag != "" {
		name := Program + "_" + s.Flag
		if s.Command != "" {
			name = Program + "_" + s.Command + "_" + s.Flag
		}
		names = append(names, strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(name)))
	}
	if s.Env != "" {
		names = append(names, s.Env)
	}
	return names
}

// settings are those that each organization may have its own of.
func (o *Organization) settings() []Setting {
	return []Setting{
		{
			Key: "name", Value: textTo(&o.Name),
			Help: "What logs and the status page call the organization.",
		},
		{
			Flag: "api.url", Key: "api_url", Env: EnvURL, Default: api.DefaultURL, Value: baseURLTo(&o.API.BaseURL), demo: true,
			Help: "Base URL of the ClickHouse Cloud API.",
		},
		{
			Flag: "api.organization-id", Key: "id", Env: EnvOrgID, Placeholder: "<id>", Value: idTo(&o.ID), demo: true,
			Help: "Organization to export. Found out from the key if not given.",
		},
		{Env: EnvKeyID, Value: textTo(&o.keyID), demo: true, Help: "The API key's id."},
		{
			Env: EnvKeySecret, Value: textTo(&o.keySecret), demo: true,
			Help: "The API key's secret. There is no flag for it, since anyone on the machine can read a process's flags.",
		},
		{
			Flag: "api.key-id-file", Key: "key_id_file", Placeholder: "<file>", Value: fileTo(&o.keyIDFile), File: true, demo: true,
			Help: "File that holds the API key's id, instead of $" + EnvKeyID + ". Read again when it changes.",
		},
		{
			Flag: "api.key-secret-file", Key: "key_secret_file", Placeholder: "<file>", Value: fileTo(&o.keySecretFile), File: true, demo: true,
			Help: "File that holds the API key's secret, instead of $" + EnvKeySecret + ". Read again when it changes.",
		},
		{
			Flag: "api.timeout", Default: "30s", Value: durationTo(&o.API.Timeout),
			Help: "How long one request to the API may take.",
		},
		{
			Flag: "api.ca-file", Key: "ca_file", Placeholder: "<file>", Value: fileTo(&o.API.CAFile), File: true, demo: true,
			Help: "CA certificates (PEM) to trust for the API besides the system's. Read again on a reload.",
		},
		{
			Flag: "api.max-response-size", Default: "64MiB", Value: bytesTo(&o.API.MaxResponseBytes),
			Help: "Largest response of the API to accept, after decompression.",
		},
		{
			Flag: "api.rate-limit", Key: "rate_limit", Default: "10", Value: countTo(&o.rate.limit, 1),
			Help: "Requests that the API allows one key per --api.rate-window.",
		},
		{
			Flag: "api.rate-window", Key: "rate_window", Default: "10s", Value: durationTo(&o.rate.window),
			Help: "Window of --api.rate-limit.",
		},
		{
			Flag: "api.rate-use", Key: "rate_use", Default: "8", Value: countTo(&o.rate.use, 1),
			Help: "How many of the --api.rate-limit requests to use at most. The rest is for others that share the key, and for the commands check and once, which take no more than that.",
		},
		{
			Flag: "api.replicas", Key: "replicas", Default: "1", Value: countTo(&o.rate.replicas, 1),
			Help: "Exporters that share the key; each uses its part of --api.rate-use.",
		},
		{
			Flag: "metrics.interval", Key: "metrics_interval", Default: "30s", Value: durationTo(&o.MetricsInterval),
			Help: "How often to fetch metrics. Upstream's values change about once a minute.",
		},
		{
			Flag: "metrics.max-age", Key: "max_age", Default: "5m", Value: durationTo(&o.MaxAge),
			Help: "How long the last good metrics are served when no new ones come, but at least 2.5 refresh periods. A refresh period is one minute, or twice --metrics.interval if that is less, or longer where the rate limit requires it.",
		},
		{
			Flag: "inventory.interval", Key: "inventory_interval", Default: "1m", Value: durationTo(&o.InventoryInterval),
			Help: "How often to fetch the list of services.",
		},
		{
			Flag: "enrich.labels", Key: "enrich_labels", Default: "region,size,state", Value: labelsTo(&o.EnrichLabels), List: true,
			Help: "Labels to add to every series of a service, separated by commas: name, region, size, state, provider, version, ha-type, is-primary, hostname, tag:<key>. Empty for none.",
		},
		{
			Flag: "inventory.tags", Key: "inventory_tags", Default: "all", Value: tagKeysTo(&o.Tags), List: true,
			Help: "Keys of the tags to export as clickhouse_postgres_service_tag, separated by commas, or one of: all, none.",
		},
		{
			Flag: "metrics.timestamps", Value: boolTo(&o.Timestamps),
			Help: "Give samples the time at which the exporter first saw their values. Prometheus then needs track_timestamps_staleness. The command once never does, since node_exporter's textfile collector skips a file with timestamps.",
		},
		{
			Flag: "collector.inventory", Key: "collector_inventory", Default: "true", Value: boolTo(&o.CollectInventory),
			Help: "Export clickhouse_postgres_service_info and what else the list of services says of each.",
		},
		{
			Flag: "collector.state", Key: "collector_state", Default: "true", Value: boolTo(&o.CollectState),
			Help: "Export the state of every service.",
		},
		{
			Flag: "collector.tags", Key: "collector_tags", Default: "true", Value: boolTo(&o.CollectTags),
			Help: "Export the tags of every service, see --inventory.tags.",
		},
		{
			Flag: "collector.service-health", Key: "collector_service_health", Default: "true", Value: boolTo(&o.CollectServiceHealth),
			Help: "Export whether the metrics of every service could be read, and when.",
		},
		{
			Flag: "collector.backups", Key: "collector_backups", Default: "true", Value: boolTo(&o.CollectBackups),
			Help: "Export when each service was last backed up. Takes one request per service and hour.",
		},
		{
			Flag: "collector.quotas", Key: "collector_quotas", Default: "true", Value: boolTo(&o.CollectQuotas),
			Help: "Export the organization's quotas. Takes one request per hour.",
		},
		{
			Flag: "collector.settings", Key: "collector_settings", Value: boolTo(&o.CollectSettings),
			Help: "Export the numeric settings of every service, such as max_connections, and its hostname. Takes up to a tenth of the requests.",
		},
		{
			Flag: "collector.settings.interval", Default: "1h", Value: durationTo(&o.SettingsInterval),
			Help: "How often to fetch the settings of a service, if the rate limit allows it.",
		},
		{
			Flag: "settings.assume", Key: "settings_assume", Placeholder: "<name>=<value>", Value: &assumed{to: &o.AssumedSettings}, List: true,
			Help: "Export this setting of services on which nobody has set it, such as max_connections=100: upstream does not tell defaults. Needs --collector.settings. Can be repeated.",
		},
		{
			Flag: "shard.count", Default: "1", Value: countTo(&o.Shard.Count, 1),
			Help: "Exporters among which the services are divided, by their ids.",
		},
		{
			Flag: "shard.index", Placeholder: "<n>", Value: countTo(&o.Shard.Index, 0),
			Help: "Which of them this one is, counted from 0. By default the number at the end of the host name, as in a Kubernetes StatefulSet.",
		},
	}
}

// Settings returns those of the program, whichever command it is given.
func (c *Config) Settings() []Setting {
	settings := []Setting{
		{
			Flag: "config.file", Placeholder: "<file>", Value: fileTo(&c.File),
			Help: "Configuration file (YAML) with relabelling rules, a choice of services and several organizations. Read again on SIGHUP and POST /-/reload.",
		},
		{
			Flag: "config.auto-reload-interval", Placeholder: "<duration>", Value: durationTo(&c.AutoReloadInterval),
			Help: "How often to look whether the contents of --config.file and of CA files have changed, and to reload them if so. Off by default.",
		},
		{
			Flag: "config.check", Value: boolTo(&c.CheckOnly),
			Help: "Check flags, --config.file and --web.config.file, say what is wrong, and exit.",
		},
		{
			Flag: "config.syntax-only", Value: boolTo(&c.SyntaxOnly),
			Help: "Let --config.check look only at --config.file and --web.config.file, and not at files that these and flags name: for machines that do not have the secrets.",
		},
	}
	last := []Setting{
		{
			Flag: "web.listen-address", Default: ":9924", Value: repeated{&c.ListenAddresses, checkListenAddress},
			Help: "Address to listen on, such as :9924, [::1]:9924 or vsock://:9924. Can be repeated.",
		},
		{
			Flag: "web.systemd-socket", Value: boolTo(&c.SystemdSocket),
			Help: "Use the sockets that systemd passes instead of --web.listen-address (Linux only).",
		},
		{
			Flag: "web.config.file", Placeholder: "<file>", Value: fileTo(&c.WebConfigFile),
			Help: "File (YAML) that switches on TLS or authentication, see https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md.",
		},
		{
			Flag: "web.telemetry-path", Default: "/metrics",
			Value: parsed[string]{&c.TelemetryPath, func(text string) (string, error) { return text, web.CheckTelemetryPath(text) }},
			Help:  "Path under which to expose metrics. Metrics about the exporter alone are below it, at /exporter.",
		},
		{
			Flag: "web.disable-exporter-metrics", Value: boolTo(&c.DisableExporterMetrics),
			Help: "Leave out metrics about the exporter itself.",
		},
		{
			Flag: "web.prefer-openmetrics", Value: boolTo(&c.PreferOpenMetrics),
			Help: "Answer in OpenMetrics to clients that accept it along with other formats. OpenMetrics cannot say that a name ending in _Total is a counter.",
		},
		{
			Flag: "web.external-url", Placeholder: "<url>", Value: parsed[*url.URL]{&c.ExternalURL, web.ParseExternalURL},
			Help: "URL under which Prometheus reaches the exporter, for example behind a reverse proxy. Targets at /sd have it. By default what the request was sent to.",
		},
		{
			Flag: "web.route-prefix", Placeholder: "<path>", Value: parsed[string]{&c.RoutePrefix, web.ParseRoutePrefix},
			Help: "Prefix of the paths of all pages. By default the path of --web.external-url; set it to / if the proxy strips that.",
		},
		{
			Flag: "web.enable-lifecycle", Default: "true", Value: boolTo(&c.EnableLifecycle),
			Help: "Reload the configuration on POST and PUT to /-/reload.",
		},
		{
			Flag: "log.level", Default: "info", Options: []string{"debug", "info", "warn", "error"},
			Value: oneOf(&c.LogLevel, "debug", "info", "warn", "error"),
			Help:  "Log messages of this severity and above. One of: [debug, info, warn, error]",
		},
		{
			Flag: "log.format", Default: "logfmt", Options: []string{"logfmt", "json"}, Value: oneOf(&c.LogFormat, "logfmt", "json"),
			Help: "Format of log messages. One of: [logfmt, json]",
		},
		{
			Flag: "demo", Value: boolTo(&c.Demo.Enabled),
			Help: "Export a simulated organization, which the exporter itself serves on this machine. Needs no API key.",
		},
		{
			Flag: "demo.services", Default: "12", Value: countTo(&c.Demo.Services, 1),
			Help: "Postgres services to simulate.",
		},
		{
			Flag: "demo.seed", Default: "1", Value: seedTo(&c.Demo.Seed),
			Help: "Another number makes other simulated services.",
		},
		{
			Flag: "demo.listen-address", Default: "127.0.0.1:0", Value: addressTo(&c.Demo.ListenAddress),
			Help: "Address on which to serve the simulated API.",
		},
	}
	return slices.Concat(settings, c.Organization.settings(), last)
}

// PageFormats are what the command once can print, the default first.
func PageFormats() []string { return []string{"text", "openmetrics"} }

// CommandSettings returns those of one command.
func (c *Config) CommandSettings(command string) []Setting {
	settings := map[string][]Setting{
		CommandCheck: {
			{Flag: "json", Value: boolTo(&c.Check.JSON), Help: "Print the report as JSON."},
			{Flag: "timeout", Default: "1m", Value: durationTo(&c.Check.Timeout), Help: "How long all of it may take."},
		},
		CommandOnce: {
			{
				Flag: "format", Default: PageFormats()[0], Options: PageFormats(), Value: oneOf(&c.Once.Format, PageFormats()...),
				Help: fmt.Sprintf("Format to print. One of: [%s]", strings.Join(PageFormats(), ", ")),
			},
			{
				Flag: "output", Placeholder: "<file>", Value: fileTo(&c.Once.Output),
				Help: "Write to this file instead, whole or not at all. It can be read by everybody.",
			},
			{Flag: "timeout", Default: "5m", Value: durationTo(&c.Once.Timeout), Help: "How long all of it may take."},
		},
		CommandHealthcheck: {
			{Flag: "ready", Value: boolTo(&c.Healthcheck.Ready), Help: "Ask whether it has data to serve, not only whether it is alive."},
			{
				Flag: "client-cert-file", Placeholder: "<file>", Value: fileTo(&c.Healthcheck.CertFile),
				Help: "Certificate (PEM) to present where --web.config.file asks for one. Under mutual TLS, --ready needs it.",
			},
			{
				Flag: "client-key-file", Placeholder: "<file>", Value: fileTo(&c.Healthcheck.KeyFile),
				Help: "Key (PEM) of --client-cert-file.",
			},
			{Flag: "timeout", Default: "3s", Value: durationTo(&c.Healthcheck.Timeout), Help: "How long to wait for the answer."},
		},
	}[command]
	for i := range settings {
		settings[i].Command = command
	}
	return settings
}
