package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

const (
	// discoveryPath serves targets for Prometheus's HTTP service discovery.
	discoveryPath = "/sd"
	// missingHeader of a response names the organizations that it leaves out.
	missingHeader = "X-Missing-Organizations"
)

// discovery serves a target for each service.
//
// Prometheus drops targets that a response leaves out, and keeps all of them on an
// error. So whatever is not known for certain is answered with 503: an outage of
// upstream, at whatever moment, deletes no target. An organization whose key is refused
// does not block the others: it is left out, and missingHeader names it.
type discovery struct {
	collector   Collector
	externalURL *url.URL // nil takes the Host of the request
	routePrefix string
	metrics     *Metrics
	logger      log.Logger

	mu      sync.Mutex
	missing string // organizations that the latest complete response left out
}

// targetGroup is one element of a response.
type targetGroup struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

func (d *discovery) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	names, services, err := parseTargetQuery(r.URL.RawQuery)
	if err != nil {
		respondText(w, http.StatusBadRequest, err.Error())
		return
	}
	base, err := d.baseURL(r)
	if err != nil {
		respondText(w, http.StatusBadRequest, err.Error())
		return
	}
	organizations, missing, code, err := d.waitForOrganizations(r, names)
	if err != nil {
		respondText(w, code, err.Error())
		return
	}
	if len(missing) > 0 {
		w.Header().Set(missingHeader, strings.Join(missing, ", "))
		d.metrics.partialDiscovery.Inc()
	}
	if names == nil {
		d.logMissing(missing)
	}

	groups := []targetGroup{} // encodes as [], not as null
	for _, o := range organizations {
		for i := range o.Services {
			if s := &o.Services[i]; isTarget(s) && services.Match(s.Listed()) {
				groups = append(groups, target(base, o.ID, s))
			}
		}
	}
	slices.SortStableFunc(groups, func(a, b targetGroup) int {
		return cmp.Compare(a.Labels["__metrics_path__"], b.Labels["__metrics_path__"])
	})
	respondJSON(w, r, groups)
}

// parseTargetQuery returns which organizations are asked for, by id or name, nil for
// all, and which services. The values of one parameter are alternatives, and so are
// those of one tag; different parameters and tags must all match. Unknown parameters
// are an error: a misspelt filter that is ignored would add unwanted targets.
func parseTargetQuery(query string) (organizations []string, services *inventory.Matcher, err error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, nil, errors.New("cannot parse the query: write it like ?state=running&tag=env:prod")
	}
	filter := inventory.Filter{Tags: map[string]string{}}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		for _, v := range values[name] {
			if v == "" {
				return nil, nil, fmt.Errorf("parameter %q is empty: give it a value or leave it out", name)
			}
			if !utf8.ValidString(v) {
				return nil, nil, fmt.Errorf("parameter %q is not valid UTF-8", name)
			}
		}
		switch name {
		case "organization":
			organizations = values[name]
		case "state":
			filter.State = inventory.OneOf(values[name]...)
		case "region":
			filter.Region = inventory.OneOf(values[name]...)
		case "tag":
			for _, text := range values[name] {
				// Keys contain no colon, values may.
				key, value, exact := strings.Cut(text, ":")
				if key == "" {
					return nil, nil, fmt.Errorf("parameter tag=%q has no key: write it as key or key:value", text)
				}
				pattern := inventory.AnyValue
				if exact {
					pattern = inventory.OneOf(value)
				}
				if other, ok := filter.Tags[key]; ok {
					pattern = other + "|" + pattern
				}
				filter.Tags[key] = pattern
			}
		default:
			return nil, nil, fmt.Errorf("unknown parameter %q: use state, region, tag or organization", name)
		}
	}
	services, err = filter.Compile()
	return organizations, services, err
}

// isTarget tells whether a service can be scraped. One that upstream's list does not
// name has been deleted or has just been created.
func isTarget(s *collector.ServiceStatus) bool {
	return s.Known && !inventory.Leaving(s.State)
}

// baseURL returns the URL that the targets' paths are relative to.
func (d *discovery) baseURL(r *http.Request) (*url.URL, error) {
	if d.externalURL != nil {
		return d.externalURL, nil
	}
	if err := checkHost(r.Host); err != nil {
		return nil, fmt.Errorf("the request's Host header has an %w: set --web.external-url", err)
	}
	u := &url.URL{Scheme: "http", Host: r.Host, Path: d.routePrefix}
	if r.TLS != nil {
		u.Scheme = "https"
	}
	return u, nil
}

// logMissing logs once which organizations are left out, and once that none is.
func (d *discovery) logMissing(missing []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := strings.Join(missing, ", ")
	if names == d.missing {
		return
	}
	d.missing = names
	if names == "" {
		level.Info(d.logger).Log("msg", "Service discovery is complete again")
		return
	}
	level.Warn(d.logger).Log("msg", "Service discovery leaves out organizations whose API key is refused", "organizations", names)
}

// waitForOrganizations returns what organizations returns, which it waits for if the
// exporter has just started.
func (d *discovery) waitForOrganizations(r *http.Request, names []string) (found []collector.OrganizationStatus, missing []string, code int, err error) {
	found, missing, code, err = d.organizations(names)
	if code != http.StatusServiceUnavailable {
		return found, missing, code, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), maxDiscoveryWait(r.Header))
	defer cancel()
	// Whether the wait succeeds or not, the response says what is known.
	_ = d.collector.WaitFirstRefresh(ctx)
	return d.organizations(names)
}

// maxDiscoveryWait returns how long a response may be delayed. Prometheus waits as long
// as its refresh interval; other clients may announce their timeout as scrapers do.
func maxDiscoveryWait(h http.Header) time.Duration {
	longest := min(maxWait(h), defaultScrapeTimeout-responseTime)
	seconds, err := strconv.ParseFloat(h.Get("X-Prometheus-Refresh-Interval-Seconds"), 64)
	if err != nil || !(seconds > 0) || seconds/2 >= longest.Seconds() { // NaN too
		return longest
	}
	return time.Duration(seconds / 2 * float64(time.Second))
}

// organizations returns the organizations of these names, nil for all, and the names of
// those that are missing because their key is refused. If the services of any other
// organization are in doubt it returns a status code and the reason.
func (d *discovery) organizations(names []string) (found []collector.OrganizationStatus, missing []string, code int, err error) {
	all := d.collector.Status().Organizations
	for _, name := range names {
		if slices.ContainsFunc(all, func(o collector.OrganizationStatus) bool { return isNamed(&o, name) }) {
			continue
		}
		for i := range all {
			if all[i].ID == "" { // it may be this one
				return nil, nil, http.StatusServiceUnavailable, errors.New(uncertainty(&all[i]))
			}
		}
		return nil, nil, http.StatusNotFound, fmt.Errorf("unknown organization %q", name)
	}
	found = make([]collector.OrganizationStatus, 0, len(all))
	for i := range all {
		o := &all[i]
		if names != nil && !slices.ContainsFunc(names, func(name string) bool { return isNamed(o, name) }) {
			continue
		}
		reason := uncertainty(o)
		switch {
		case reason == "":
			found = append(found, *o)
		case o.Discovery.KeyRefused() || o.Inventory.KeyRefused():
			missing = append(missing, cmp.Or(o.ID, o.Name, "unknown"))
			err = cmp.Or(err, errors.New(reason))
		default:
			if len(all) > 1 && names == nil {
				reason += "; ask for the other organizations with ?organization=<id>"
			}
			return nil, nil, http.StatusServiceUnavailable, errors.New(reason)
		}
	}
	if len(found) == 0 && err != nil {
		return nil, nil, http.StatusServiceUnavailable, err
	}
	return found, missing, http.StatusOK, nil
}

// isNamed tells whether this is the organization's id or name.
func isNamed(o *collector.OrganizationStatus, name string) bool {
	return o.ID == name || o.Name == name
}

// uncertainty says why the services of an organization are not certain, "" if they are.
func uncertainty(o *collector.OrganizationStatus) string {
	who := "the organization"
	if o.ID != "" || o.Name != "" {
		who = "organization " + strconv.Quote(cmp.Or(o.ID, o.Name))
	}
	switch {
	case !o.InventoryKnown:
		why := cmp.Or(o.Inventory.Error, o.Error, "waiting for the first response from ClickHouse Cloud")
		return "the services of " + who + " are not known: " + why
	// An empty response deletes every target. An upstream that has lost its data for a
	// moment looks the same, so two lists in a row must be empty.
	case len(o.Services) == 0 && (!o.Inventory.OK || !o.Inventory.LastSuccess.After(o.Inventory.Since)):
		return "ClickHouse Cloud lists no services of " + who + "; waiting for the next list to confirm this"
	}
	return ""
}

// target returns the target of a service, which works without relabelling. Prometheus
// drops all of its labels but instance after relabelling. instance is the service's id:
// the address is the same for all services and would not tell their "up" apart.
func target(base *url.URL, organization string, s *collector.ServiceStatus) targetGroup {
	l := map[string]string{
		"__scheme__": base.Scheme,
		// Not escaped: Prometheus does that.
		"__metrics_path__": base.Path + "/v1/organizations/" + organization + "/postgres/" + s.ID + "/prometheus",
		"instance":         s.ID,

		"__meta_clickhouse_postgres_primary": strconv.FormatBool(s.Primary),
	}
	for name, value := range map[string]string{
		"organization_id":  organization,
		"region":           s.Region,
		"provider":         s.Provider,
		"postgres_id":      s.ID,
		"postgres_name":    s.Name,
		"postgres_size":    s.Size,
		"postgres_state":   s.State,
		"postgres_version": s.Version,
		"postgres_ha_type": s.HAType,
	} {
		// To Prometheus, an empty label does not exist.
		if value != "" {
			l["__meta_clickhouse_"+name] = value
		}
	}
	names := tagNames(s.Tags)
	for _, tag := range s.Tags {
		name := names[tag.Key]
		if _, ok := l["__meta_clickhouse_tagpresent_"+name]; ok {
			continue // upstream's keys are unique; of two, a label can hold one
		}
		l["__meta_clickhouse_tagpresent_"+name] = "true"
		if tag.Value != "" {
			l["__meta_clickhouse_tag_"+name] = tag.Value
		}
	}
	return targetGroup{Targets: []string{base.Host}, Labels: l}
}
