package web

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// discoveryPath is where Prometheus finds a target for each service.
const discoveryPath = "/sd"

// ParseExternalURL reads the URL under which clients reach the exporter, such as
// https://proxy.example.com/postgres; an empty text is nil. The path is a prefix
// that a proxy takes off.
func ParseExternalURL(text string) (*url.URL, error) {
	if text == "" {
		return nil, nil
	}
	const example = "it must look like https://exporter.example.com:9924"
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return nil, errors.New("not a URL: " + example)
	case u.User != nil:
		return nil, errors.New("a URL with a user: " + example + ", and the password belongs in the scrape configuration")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("a URL with a query or fragment: " + example)
	}
	if err := checkHost(u.Host); err != nil {
		return nil, fmt.Errorf("a URL whose %w: %s", err, example)
	}
	prefix := ""
	if u.Path != "" {
		prefix = strings.TrimRight(path.Clean("/"+u.Path), "/")
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: prefix}, nil
}

// checkHost says why a host, with or without a port, cannot be the address of a
// target. It is strict: the host comes from whoever sends a request, and goes to
// Prometheus as an address to scrape.
func checkHost(host string) error {
	name := host
	bracketed := strings.HasPrefix(host, "[")
	if i := strings.LastIndexByte(host, ':'); i >= 0 && (!bracketed || i > strings.LastIndexByte(host, ']')) {
		var port string
		name, port = host[:i], host[i+1:]
		// ParseUint would take a sign or nothing for what it is: no port.
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("port %q is none", port)
		}
	}
	if bracketed {
		ip, err := netip.ParseAddr(strings.TrimSuffix(name[1:], "]"))
		if err != nil || !strings.HasSuffix(name, "]") || !ip.Is6() || ip.Zone() != "" {
			return fmt.Errorf("host %q is no address", name)
		}
		return nil
	}
	const usual = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"
	if name == "" || len(name) > 253 || strings.Trim(name, usual) != "" {
		return fmt.Errorf("host %q is no name or address", name)
	}
	return nil
}

// discovery serves the targets of Prometheus's http_sd, one for each service.
//
// Prometheus forgets targets that an answer leaves out, and keeps all of them on
// an error. So what is not known for certain is answered with 503: upstream being
// down, at whatever moment, deletes no target. An organization whose key is refused
// does not stand in the way of others: it is left out, and missingHeader names it.
type discovery struct {
	collector Collector
	external  *url.URL // nil: by the request's Host
	metrics   *Metrics
	logger    log.Logger

	mu      sync.Mutex
	missing string // of the latest answer to one who filtered no organization
}

// missingHeader of an answer names the organizations that it leaves out.
const missingHeader = "X-Missing-Organizations"

// targetGroup is the unit of http_sd's answer.
type targetGroup struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

func (d *discovery) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	wanted, err := parseFilter(r.URL.RawQuery)
	if err != nil {
		plain(w, http.StatusBadRequest, err.Error())
		return
	}
	base, err := d.base(r)
	if err != nil {
		plain(w, http.StatusBadRequest, err.Error())
		return
	}
	organizations, missing, code, err := d.known(r, wanted)
	if err != nil {
		plain(w, code, err.Error())
		return
	}
	if len(missing) > 0 {
		w.Header().Set(missingHeader, strings.Join(missing, ", "))
		d.metrics.partialDiscovery.Inc()
	}
	if wanted.organizations == nil {
		d.report(missing)
	}

	groups := []targetGroup{} // empty is [], not null
	for _, o := range organizations {
		for i := range o.Services {
			if s := &o.Services[i]; wanted.matches(s) {
				groups = append(groups, target(base, o.ID, s))
			}
		}
	}
	sort.SliceStable(groups, func(i, j int) bool {
		return groups[i].Labels["__metrics_path__"] < groups[j].Labels["__metrics_path__"]
	})
	answerJSON(w, r, groups)
}

// base returns the URL that the targets' paths are relative to.
func (d *discovery) base(r *http.Request) (*url.URL, error) {
	if d.external != nil {
		return d.external, nil
	}
	if err := checkHost(r.Host); err != nil {
		return nil, fmt.Errorf("the Host header cannot be a target's address, its %w: set --web.external-url", err)
	}
	u := &url.URL{Scheme: "http", Host: r.Host}
	if r.TLS != nil {
		u.Scheme = "https"
	}
	return u, nil
}

// report tells once which organizations are left out, and once that none is.
func (d *discovery) report(missing []string) {
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

// known returns the organizations that are wanted and names those that are left out,
// or a status and a reason if the services of others are not known. After a start it
// waits for them for a while.
func (d *discovery) known(r *http.Request, wanted *filter) (organizations []collector.OrganizationStatus, missing []string, code int, err error) {
	organizations, missing, code, err = d.certain(wanted)
	if code != http.StatusServiceUnavailable {
		return organizations, missing, code, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), discoveryPatience(r.Header))
	defer cancel()
	// Whatever comes of it, there is something to say.
	_ = d.collector.WaitFirstRefresh(ctx)
	return d.certain(wanted)
}

// discoveryPatience returns for how long an answer may be put off. Prometheus waits
// for one as long as until it would ask again; others may say how long they wait as
// they do for a page.
func discoveryPatience(h http.Header) time.Duration {
	most := min(patience(h), defaultAnnounced-answerTime)
	seconds, err := strconv.ParseFloat(h.Get("X-Prometheus-Refresh-Interval-Seconds"), 64)
	if err != nil || !(seconds > 0) || seconds/2 >= most.Seconds() { // NaN too
		return most
	}
	return time.Duration(seconds / 2 * float64(time.Second))
}

// certain returns the organizations that are wanted as long as there is no doubt
// about the services of any of them but those whose key is refused, which are missing.
func (d *discovery) certain(wanted *filter) (organizations []collector.OrganizationStatus, missing []string, code int, err error) {
	all := d.collector.Status().Organizations
	for _, name := range wanted.organizations {
		if slices.ContainsFunc(all, func(o collector.OrganizationStatus) bool { return called(o, name) }) {
			continue
		}
		for _, o := range all {
			if o.ID == "" { // it may be the one
				return nil, nil, http.StatusServiceUnavailable, errors.New(doubt(o))
			}
		}
		return nil, nil, http.StatusNotFound, fmt.Errorf("unknown organization %q", name)
	}
	organizations = make([]collector.OrganizationStatus, 0, len(all))
	for _, o := range all {
		if wanted.organizations != nil && !slices.ContainsFunc(wanted.organizations, func(name string) bool { return called(o, name) }) {
			continue
		}
		reason := doubt(o)
		switch {
		case reason == "":
			organizations = append(organizations, o)
		case keyRefused(o):
			missing = append(missing, cmp.Or(o.ID, o.Name, "unknown"))
			err = cmp.Or(err, errors.New(reason))
		default:
			if len(all) > 1 && wanted.organizations == nil {
				reason += "; ask for the other organizations with ?organization=<id>"
			}
			return nil, nil, http.StatusServiceUnavailable, errors.New(reason)
		}
	}
	if len(organizations) == 0 && err != nil {
		return nil, nil, http.StatusServiceUnavailable, err
	}
	return organizations, missing, http.StatusOK, nil
}

// keyRefused tells whether nothing will be known of an organization until somebody
// sees to its key.
func keyRefused(o collector.OrganizationStatus) bool {
	switch api.ErrorKind(cmp.Or(o.Discovery.Reason, o.Inventory.Reason)) {
	case api.KindUnauthorized, api.KindForbidden, api.KindCredentials:
		return true
	}
	return false
}

// called tells whether an organization is meant by its id or its name.
func called(o collector.OrganizationStatus, name string) bool { return o.ID == name || o.Name == name }

// doubt says why the services of an organization are not certain, "" if they are.
func doubt(o collector.OrganizationStatus) string {
	who := "the organization"
	if o.ID != "" || o.Name != "" {
		who = "organization " + strconv.Quote(cmp.Or(o.ID, o.Name))
	}
	switch {
	case !o.InventoryKnown:
		why := cmp.Or(o.Inventory.Error, o.Error, "the first request has not been answered yet")
		return "the services of " + who + " are not known: " + why
	// An empty list deletes every target. An upstream that has lost its data for a
	// moment looks the same, so that it must have said so twice in a row.
	case len(o.Services) == 0 && (!o.Inventory.OK || !o.Inventory.LastSuccess.After(o.Inventory.Since)):
		return "upstream lists no services of " + who + ", which the next list has to confirm"
	}
	return ""
}

// target returns the target of a service: complete, so that nothing needs to be
// relabelled. All but instance are labels that Prometheus takes off after
// relabelling. instance is the service's id, because the address is the same for
// all and their "up" could not be told apart.
func target(base *url.URL, organization string, s *collector.ServiceStatus) targetGroup {
	l := map[string]string{
		"__scheme__": base.Scheme,
		// Prometheus escapes it.
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
		// To Prometheus, an empty label is none.
		if value != "" {
			l["__meta_clickhouse_"+name] = value
		}
	}
	names := inventory.TagNames(s.Tags)
	for _, tag := range s.Tags {
		name := names[tag.Key]
		if _, twice := l["__meta_clickhouse_tagpresent_"+name]; twice {
			continue // keys are unique upstream; one of two is all a label can hold
		}
		l["__meta_clickhouse_tagpresent_"+name] = "true"
		if tag.Value != "" {
			l["__meta_clickhouse_tag_"+name] = tag.Value
		}
	}
	return targetGroup{Targets: []string{base.Host}, Labels: l}
}

// filter is what the query parameters ask for. The values of one parameter are
// alternatives, and so are those of one tag; different ones must all hold.
type filter struct {
	organizations, states, regions []string

	tags map[string][]tagValue // by key
}

// tagValue is a value that a tag may have; any means every value.
type tagValue struct {
	value string
	any   bool
}

// parseFilter refuses what it does not know: a misspelt filter that is ignored
// would add targets that nobody wanted.
func parseFilter(query string) (*filter, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, errors.New("the query cannot be read: write it like ?state=running&tag=env:prod")
	}
	f := &filter{tags: make(map[string][]tagValue)}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if slices.Contains(values[name], "") {
			return nil, fmt.Errorf("parameter %q is empty: give it a value or leave it out", name)
		}
		switch name {
		case "organization":
			f.organizations = values[name]
		case "state":
			f.states = values[name]
		case "region":
			f.regions = values[name]
		case "tag":
			for _, text := range values[name] {
				// Keys hold no colon, values may.
				key, value, exact := strings.Cut(text, ":")
				if key == "" {
					return nil, fmt.Errorf("parameter tag=%q names no key: write it as key or key:value", text)
				}
				f.tags[key] = append(f.tags[key], tagValue{value, !exact})
			}
		default:
			return nil, fmt.Errorf("unknown parameter %q: use state, region, tag or organization", name)
		}
	}
	return f, nil
}

// matches tells whether the service is wanted. One that upstream's list does not
// name is deleted, or about to be, or has just been made: it is none yet.
func (f *filter) matches(s *collector.ServiceStatus) bool {
	if !s.Known || s.State == "deleting" || s.State == "deleted" {
		return false
	}
	if f.states != nil && !slices.Contains(f.states, s.State) || f.regions != nil && !slices.Contains(f.regions, s.Region) {
		return false
	}
	for key, alternatives := range f.tags {
		found := false
		for _, tag := range s.Tags {
			found = found || tag.Key == key && slices.ContainsFunc(alternatives, func(v tagValue) bool { return v.any || v.value == tag.Value })
		}
		if !found {
			return false
		}
	}
	return true
}

// answerJSON answers v, or 304 to one who has it already.
func answerJSON(w http.ResponseWriter, r *http.Request, v any) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		plain(w, http.StatusInternalServerError, err.Error())
		return
	}
	sum := sha256.Sum256(body.Bytes())
	tag := `"` + hex.EncodeToString(sum[:12]) + `"`
	h := w.Header()
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", tag)
	if matches(r.Header.Values("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	// The server drops the body of an answer to HEAD.
	_, _ = w.Write(body.Bytes())
}
