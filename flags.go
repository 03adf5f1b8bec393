package main

import (
	"fmt"
	"io"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/version"
	toolkit "github.com/prometheus/exporter-toolkit/web"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/config"
)

// parseFlags reads the command line and, through lookup, the environment. It returns
// also the command to run. Its errors are sentences for the user.
func parseFlags(args []string, lookup func(string) (string, bool), stdout, stderr io.Writer) (*config.Config, string, error) {
	c := config.New()
	app := newApplication(c)
	app.UsageWriter(stdout).ErrorWriter(stderr)
	done := false // --help, --version or the like
	app.Terminate(func(int) {
		done = true
		app.UsageWriter(io.Discard) // kingpin goes on, and prints it once more
	})

	// kingpin overlooks a flag without its value when one of the commands is the
	// default, so none is, and the first is put in where none is named.
	if parsed, err := app.ParseContext(args); err == nil && parsed.SelectedCommand == nil && !asksForHelp(app, parsed) {
		args = append([]string{config.CommandServe}, args...)
	}
	command, err := app.Parse(args)
	switch {
	case done:
		return nil, "", errDone
	case err != nil:
		return nil, "", fmt.Errorf("%w, try --help", err)
	}
	if err := c.Environment(command, lookup); err != nil {
		return nil, "", err
	}
	if command != config.CommandHealthcheck {
		if err := c.Complete(); err != nil {
			return nil, "", err
		}
		if err := config.CheckProxies(lookup); err != nil && !c.Demo.Enabled {
			return nil, "", err
		}
	}
	return c, command, nil
}

// asksForHelp tells whether a flag is given for which no command runs.
func asksForHelp(app *kingpin.Application, parsed *kingpin.ParseContext) bool {
	for _, e := range parsed.Elements {
		if f, ok := e.Clause.(*kingpin.FlagClause); ok && (f == app.HelpFlag || f == app.VersionFlag || f.Model().Hidden) {
			return true
		}
	}
	return false
}

// newApplication returns the command line that fills c.
func newApplication(c *config.Config) *kingpin.Application {
	app := kingpin.New(config.Program, "Prometheus exporter for the Managed Postgres services of ClickHouse Cloud.\n\n"+
		"Give it an API key in $"+config.EnvKeyID+" and $"+config.EnvKeySecret+", or try --demo, which needs none. "+
		"The command check tells whether the key works.\n\n"+
		"Every flag can also be set by an environment variable: --api.timeout by $CLICKHOUSE_POSTGRES_EXPORTER_API_TIMEOUT, and so on.\n\n"+
		"Completion for the shell: eval \"$("+config.Program+" --completion-script-bash)\", or -zsh.")
	app.Version(version.Print(config.Program))
	app.HelpFlag.Short('h')
	for _, s := range c.Settings() {
		define(c, app, s)
	}
	for _, command := range config.Commands() {
		clause := app.Command(command.Name, command.Help)
		for _, s := range c.CommandSettings(command.Name) {
			define(c, clause, s)
		}
	}
	return app
}

// define declares the flag of a setting, if it has one.
func define(c *config.Config, flags interface {
	Flag(name, help string) *kingpin.FlagClause
}, s config.Setting,
) {
	if s.Flag == "" {
		return
	}
	help := s.Help
	if s.Env != "" {
		help += " ($" + s.Env + ")"
	}
	f := flags.Flag(s.Flag, help).PlaceHolder(s.Placeholder).HintOptions(s.Options...)
	if s.Default != "" {
		f.Default(s.Default)
	}
	f.PreAction(func(*kingpin.ParseContext) error {
		c.Flag(s)
		return nil
	})
	f.SetValue(kingpinValue(s))
}

// namedValue is a value whose errors name the flag.
type namedValue struct {
	config.Value
	flag string
}

// Set sets the value.
func (v namedValue) Set(text string) error {
	if err := v.Value.Set(text); err != nil {
		return fmt.Errorf("--%s: %w", v.flag, err)
	}
	return nil
}

// namedBool and namedList say of a value what kingpin asks it.
type (
	namedBool struct{ namedValue }
	namedList struct{ namedValue }
)

// IsBoolFlag says that the flag takes no argument.
func (namedBool) IsBoolFlag() bool { return true }

// IsCumulative says that the flag can be repeated.
func (namedList) IsCumulative() bool { return true }

func kingpinValue(s config.Setting) kingpin.Value {
	v := namedValue{s.Value, s.Flag}
	switch {
	case s.IsBool():
		return namedBool{v}
	case s.IsRepeated():
		return namedList{v}
	}
	return v
}

// webFlags returns what exporter-toolkit is told.
func webFlags(c *config.Config) *toolkit.FlagConfig {
	return &toolkit.FlagConfig{
		WebListenAddresses: &c.ListenAddresses,
		WebSystemdSocket:   &c.SystemdSocket,
		WebConfigFile:      &c.WebConfigFile,
	}
}
