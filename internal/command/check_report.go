package command

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
)

// checkReport is what check found out. Its JSON is for scripts: fields are added,
// not changed.
type checkReport struct {
	OK            bool                  `json:"ok"`
	Organizations []*organizationReport `json:"organizations"`
}

// organizationReport is about one organization, or one API key whose organization
// could not be found.
type organizationReport struct {
	OK       bool             `json:"ok"` // it can be exported
	ID       string           `json:"id"` // "" if not found
	Name     string           `json:"name"`
	URL      string           `json:"url"`
	Proxy    string           `json:"proxy,omitempty"` // through which URL is reached
	Key      *keyReport       `json:"key"`             // null if the API does not tell
	Services *servicesReport  `json:"services"`        // null if they can't be listed
	Requests []*requestReport `json:"endpoints"`       // in the order in which they were tried
	Budget   budgetReport     `json:"budget"`
	// ClockSkewSeconds is by how much this machine's clock is ahead of the API's,
	// to a second; null if not known.
	ClockSkewSeconds   *float64 `json:"clock_skew_seconds"`
	MissingPermissions []string `json:"missing_permissions"` // by what was refused
	Errors             []string `json:"errors"`              // what keeps it from being exported
	Warnings           []string `json:"warnings"`            // what does not
}

// keyReport is what users of the API's console know the key by.
type keyReport struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

type servicesReport struct {
	Total    int            `json:"total"`
	Selected int            `json:"selected"` // by the configuration, and this shard
	ByState  map[string]int `json:"by_state"` // of all
}

// requestReport is about one of the API's endpoints.
type requestReport struct {
	Endpoint api.Endpoint `json:"endpoint"`
	OK       bool         `json:"ok"`
	Error    string       `json:"error,omitempty"`
	Reason   string       `json:"reason,omitempty"` // kind of Error, as in the exporter's metrics
	Seconds  float64      `json:"seconds"`          // the last attempt took, without waiting for the budget
	// Of metrics.
	Series   int    `json:"series,omitempty"`
	Services int    `json:"services,omitempty"` // that the series are of
	Service  string `json:"service,omitempty"`  // id of the one that was asked for
}

// budgetReport is what an exporter uses of the rate limit.
type budgetReport struct {
	Requests      int     `json:"requests"`
	WindowSeconds float64 `json:"window_seconds"`
}

// skewed says by how much a clock is ahead of another.
func skewed(seconds float64) string {
	d := time.Duration(math.Abs(seconds)) * time.Second
	if seconds < 0 {
		return d.String() + " behind"
	}
	return d.String() + " ahead of"
}

// endpointNames are what people call the endpoints that are tried, in the words of
// the report.
func endpointNames() map[api.Endpoint]string {
	return map[api.Endpoint]string{
		api.EndpointOrganizations:       "list of organizations",
		api.EndpointWhoami:              "key's name",
		api.EndpointServices:            "list of services",
		api.EndpointOrganizationMetrics: "organization's metrics",
		api.EndpointServiceMetrics:      "a service's metrics",
	}
}

// human returns the report as people read it.
func (r checkReport) human() []byte {
	var b bytes.Buffer
	for i, o := range r.Organizations {
		if i > 0 {
			b.WriteByte('\n')
		}
		o.human(&b)
	}
	return b.Bytes()
}

func (o *organizationReport) human(b *bytes.Buffer) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(b, "  %-22s  %s\n", name, fmt.Sprintf(format, args...))
	}
	switch {
	case o.ID == "":
		fmt.Fprintf(b, "Unknown organization at %s\n", o.URL)
	case o.Name == "":
		fmt.Fprintf(b, "Organization %s at %s\n", o.ID, o.URL)
	default:
		fmt.Fprintf(b, "Organization %s (%q) at %s\n", o.ID, o.Name, o.URL)
	}
	if o.Proxy != "" {
		line("proxy", "%s", o.Proxy)
	}
	if o.Key != nil {
		line("API key", "%s (%s)", o.Key.Name, o.Key.ID)
	}
	if len(o.MissingPermissions) > 0 {
		line("missing permissions", "%s", strings.Join(o.MissingPermissions, ", "))
	}
	for _, r := range o.Requests {
		name := endpointNames()[r.Endpoint]
		switch {
		case r.Endpoint == api.EndpointWhoami: // is a line of its own
		case !r.OK:
			line(name, "failed (%s)", r.Reason)
		case r.Endpoint == api.EndpointOrganizationMetrics:
			line(name, "ok, %s of %s", count(r.Series, "series", "series"), count(r.Services, "service", "services"))
		case r.Endpoint == api.EndpointServiceMetrics:
			line(name, "ok, %s of %s", count(r.Series, "series", "series"), r.Service)
		default:
			line(name, "ok")
		}
	}
	if s := o.Services; s != nil {
		text := strconv.Itoa(s.Total)
		if len(s.ByState) > 0 {
			states := make([]string, 0, len(s.ByState))
			for _, state := range slices.Sorted(maps.Keys(s.ByState)) {
				states = append(states, fmt.Sprintf("%d %s", s.ByState[state], state))
			}
			text += ": " + strings.Join(states, ", ")
		}
		if s.Selected != s.Total {
			text += fmt.Sprintf("; %d selected", s.Selected)
		}
		line("services", "%s", text)
	}
	window := time.Duration(o.Budget.WindowSeconds * float64(time.Second))
	if o.Budget.Requests > 0 {
		line("budget", "%s in %s, one every %s", count(o.Budget.Requests, "request", "requests"), window, window/time.Duration(o.Budget.Requests))
	}
	if skew := o.ClockSkewSeconds; skew != nil {
		if math.Abs(*skew) <= maxSkew.Seconds() {
			line("clock", "ok")
		} else {
			line("clock", "%s the API's", skewed(*skew))
		}
	}
	for _, w := range o.Warnings {
		fmt.Fprintf(b, "  warning: %s\n", w)
	}
	// The first error is what the program ends with.
	for _, e := range o.Errors[min(1, len(o.Errors)):] {
		fmt.Fprintf(b, "  error: %s\n", e)
	}
	if len(o.Errors) == 0 {
		b.WriteString("The exporter works with this API key.\n")
	}
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}
