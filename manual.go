package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/version"
)

// asksForManual tells whether the manual page is asked for. kingpin has a flag for
// that too, but what it prints is no valid page: the version has several lines, and
// nothing is escaped.
func asksForManual(args []string) bool {
	if i := slices.Index(args, "--"); i >= 0 {
		args = args[:i]
	}
	return slices.Contains(args, "--help-man")
}

// writeManual writes the manual page, made from flags and commands, in the man
// macros of troff.
func writeManual(w io.Writer, app *kingpin.ApplicationModel) error {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line(`.TH %s 1 "" "%s %s" "User Commands"`, troffArgument(strings.ToUpper(app.Name)), troffArgument(app.Name), troffArgument(version.Version))
	line(".nh\n.ad l") // names and flags must not be broken
	line(".SH NAME")
	summary, description, _ := strings.Cut(app.Help, "\n\n")
	line(`%s \- %s`, troff(app.Name), troff(strings.TrimSuffix(summary, ".")))
	line(".SH SYNOPSIS")
	line(`.B %s`, troff(app.Name))
	line(`[\fIflags\fR] [\fIcommand\fR] [\fIflags of the command\fR]`)
	line(".SH DESCRIPTION")
	troffParagraphs(&b, description)

	line(".SH COMMANDS")
	for _, c := range app.FlattenedCommands() {
		if c.Hidden {
			continue
		}
		line(".SS %s", troff(c.FullCommand))
		troffParagraphs(&b, c.Help)
		troffFlags(&b, c.FlagGroupModel)
	}
	line(".SH OPTIONS")
	troffFlags(&b, app.FlagGroupModel)

	line(".SH ENVIRONMENT")
	for _, e := range environmentVariables() {
		line(".TP\n.B %s\n%s", troff(e.name), troff(e.meaning))
	}
	line(".SH SIGNALS")
	line(".TP\n.B SIGHUP\n%s", troff("Read the configuration file again."))
	line(".TP\n.B SIGTERM, SIGINT\n%s", troff("Stop once answers in progress are complete; a second one stops at once."))
	line(".SH EXIT STATUS")
	line(".TP\n.B 0\n%s", troff("Told to stop, or all is well."))
	line(".TP\n.B 1\n%s", troff("Something is wrong; a line on standard error says what to do. An exporter that runs does not exit because the API refuses its key, it says so in its log and metrics."))
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("cannot write the manual page: %w", err)
	}
	return nil
}

// environmentVariable is one that the program reads.
type environmentVariable struct{ name, meaning string }

func environmentVariables() []environmentVariable {
	return []environmentVariable{
		{envKeyID, "The API key's id."},
		{envKeySecret, "The API key's secret. There is no flag for it, since flags can be read by others on the same machine."},
		{envOrgID, "Organization to export, as --api.organization-id."},
		{envURL, "Base URL of the API, as --api.url."},
		{"HTTPS_PROXY, HTTP_PROXY, NO_PROXY", "The proxy through which the API is reached."},
	}
}

func troffFlags(b *bytes.Buffer, group *kingpin.FlagGroupModel) {
	for _, f := range group.Flags {
		if f.Hidden {
			continue
		}
		name := "--" + f.Name
		if !f.IsBoolFlag() {
			name += "=" + f.FormatPlaceHolder()
		}
		if f.Short != 0 {
			name = "-" + string(f.Short) + ", " + name
		}
		fmt.Fprintf(b, ".TP\n.B \"%s\"\n%s\n", troffArgument(name), troff(f.Help))
	}
}

func troffParagraphs(b *bytes.Buffer, text string) {
	for i, paragraph := range strings.Split(text, "\n\n") {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		b.WriteString(troff(paragraph) + "\n")
	}
}

// troff writes text so that nothing in it is an instruction, and so that hyphens,
// quotes and accents can be copied from the page.
func troff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "`", `\(ga`, "'", `\(aq`, "\n", " ").Replace(text)
	if strings.HasPrefix(text, ".") {
		text = `\&` + text
	}
	return text
}

// troffArgument is troff for an argument of a macro between quotes.
func troffArgument(text string) string { return strings.ReplaceAll(troff(text), `"`, `\(dq`) }
