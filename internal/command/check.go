package command

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/config"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/schedule"
)

// maxSkew is by how much clocks may differ. The API tells its own to a second.
const maxSkew = 5 * time.Second

// announceAfter is how long a check may take without saying so first.
const announceAfter = 5 * time.Second

// maxRequests is how many requests a check makes if none of them is refused.
const maxRequests = 5

// Check makes each request that the exporter makes once, within what exporters leave of
// the rate limit, and prints what came of it. The error holds a line for each
// organization that can't be exported.
func Check(ctx context.Context, c *config.Config, stdout io.Writer) error {
	organizations, exporters, err := load(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Check.Timeout)
	defer cancel()
	report := checkReport{OK: true, Organizations: make([]*organizationReport, len(organizations))}
	var wg sync.WaitGroup
	var expected time.Duration
	for i, organization := range organizations {
		x := &examination{
			timeout:      c.Check.Timeout,
			organization: organization,
			exporter:     exporters[i],
			report: &organizationReport{
				ID: organization.ID, Name: organization.Name, URL: organization.API.BaseURL, Proxy: proxy(organization.API.BaseURL),
				MissingPermissions: []string{}, Requests: []*requestReport{}, Errors: []string{}, Warnings: []string{},
			},
		}
		expected = max(expected, maxRequests*organization.API.Budget.Spacing())
		report.Organizations[i] = x.report
		wg.Go(func() { x.run(ctx) })
	}
	if expected > announceAfter && !c.Check.JSON {
		// Should it fail, so does the report.
		_, _ = fmt.Fprintf(stdout, "This takes about %s, since a running exporter keeps its part of the rate limit.\n\n", expected.Round(time.Second))
	}
	wg.Wait()

	var failed []error
	for _, r := range report.Organizations {
		r.OK = len(r.Errors) == 0
		if r.OK {
			continue
		}
		report.OK = false
		sentence := r.Errors[0]
		if len(report.Organizations) > 1 {
			sentence = fmt.Sprintf("organization %q: %s", cmp.Or(r.Name, r.ID), sentence)
		}
		failed = append(failed, errors.New(sentence))
	}
	var text []byte
	if c.Check.JSON {
		if text, err = json.MarshalIndent(report, "", "  "); err != nil {
			return fmt.Errorf("check: %w", err)
		}
		text = append(text, '\n')
	} else {
		text = report.human()
	}
	if _, err := stdout.Write(text); err != nil {
		return fmt.Errorf("cannot write the report: %w", err)
	}
	return errors.Join(failed...)
}

// examination is a check of one organization under way.
type examination struct {
	timeout      time.Duration
	organization collector.Organization
	exporter     *api.Budget
	client       *api.Client
	report       *organizationReport

	aborted  bool // every further request would fail
	refusals int  // for now, by the rate limit

	mu   sync.Mutex
	took time.Duration // the last attempt
}

func (x *examination) run(ctx context.Context) {
	budget := x.exporter.Usage()
	x.report.Budget = budgetReport{Requests: budget.Limit, WindowSeconds: budget.Window.Seconds()}
	x.organization.API.Hooks.RequestDone = func(_ api.Endpoint, _ int, _ error, d time.Duration) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.took = d
	}
	client, err := api.New(x.organization.API)
	if err != nil {
		x.fail(err)
		return
	}
	defer client.Close()
	x.client = client

	if x.findOrganization(ctx) {
		if services, ok := x.listServices(ctx); ok {
			x.readMetrics(ctx, services)
		}
	}
	if !x.aborted {
		x.nameKey(ctx)
	}
	x.report.MissingPermissions = missingPermissions(x.report.Requests)
	if x.refusals > 0 && !x.aborted {
		x.warn(fmt.Sprintf("%s refused, since other programs use up the rate limit of the key: lower %s, or give them a key of their own",
			count(x.refusals, "request was", "requests were"), x.organization.Names.RateUse))
	}
}

func (x *examination) fail(err error)   { x.report.Errors = append(x.report.Errors, err.Error()) }
func (x *examination) warn(text string) { x.report.Warnings = append(x.report.Warnings, text) }

// ask makes one request, and makes it again if the rate limit allows none now.
func (x *examination) ask(ctx context.Context, endpoint api.Endpoint, request func(context.Context) error) (*requestReport, error) {
	r := &requestReport{Endpoint: endpoint}
	x.report.Requests = append(x.report.Requests, r)
	err := request(ctx)
	for x.refused(ctx, err) {
		err = request(ctx) // waits, by way of the budget, for as long as the refusal said
	}
	var e *api.Error
	switch errors.As(err, &e); {
	case err == nil:
	case e != nil && e.Kind == api.KindRateLimited:
		err = fmt.Errorf("%w; --timeout=%s ends before that", err, x.timeout)
	case ctx.Err() != nil:
		err = fmt.Errorf("%s did not answer within --timeout=%s: check the network, or raise --timeout", endpointNames()[endpoint], x.timeout)
	}
	x.mu.Lock()
	r.Seconds = x.took.Round(time.Millisecond).Seconds()
	x.mu.Unlock()
	r.OK = err == nil
	if err != nil {
		r.Error, r.Reason = err.Error(), "other"
		var parse *exposition.ParseError
		switch {
		case e != nil:
			r.Reason = string(e.Kind)
		case errors.As(err, &parse):
			r.Reason = "parse"
		}
		x.aborted = x.aborted || fatal(ctx, e)
	}
	return r, err
}

// refused tells whether a request was refused for now, and can be made again in time.
func (x *examination) refused(ctx context.Context, err error) bool {
	var e *api.Error
	if !errors.As(err, &e) || e.Kind != api.KindRateLimited {
		return false
	}
	x.refusals++
	deadline, _ := ctx.Deadline()
	return time.Now().Add(e.RetryAfter).Before(deadline)
}

// fatal tells whether every further request would end as one did with e, nil for an
// error of another kind.
func fatal(ctx context.Context, e *api.Error) bool {
	if ctx.Err() != nil || e == nil {
		return ctx.Err() != nil
	}
	switch e.Kind {
	case api.KindUnauthorized, api.KindCredentials, api.KindRateLimited,
		api.KindTimeout, api.KindDNS, api.KindConnect, api.KindTLS, api.KindRedirect:
		return true
	}
	return false
}

// missingPermissions returns those of refused requests, unless another request that
// needs the same was not refused: then the key is for some services only.
func missingPermissions(requests []*requestReport) []string {
	missing := []string{}
	for _, r := range requests {
		p := r.Endpoint.Permission()
		granted := slices.ContainsFunc(requests, func(other *requestReport) bool { return other.OK && other.Endpoint.Permission() == p })
		if r.Reason == string(api.KindForbidden) && p != "" && !granted && !slices.Contains(missing, p) {
			missing = append(missing, p)
		}
	}
	return missing
}

// nameKey finds out what users call the key, where upstream tells.
func (x *examination) nameKey(ctx context.Context) {
	var key api.Key
	_, err := x.ask(ctx, api.EndpointWhoami, func(ctx context.Context) (err error) {
		key, err = x.client.Whoami(ctx)
		return err
	})
	var e *api.Error
	switch {
	case err == nil:
		x.report.Key = &keyReport{ID: key.ID, Name: key.Name}
	case errors.As(err, &e) && e.NotOffered():
		// No need to say so: nothing depends on it.
		x.report.Requests = slices.Delete(x.report.Requests, len(x.report.Requests)-1, len(x.report.Requests))
	default:
		x.warn("the key's name is not known: " + err.Error())
	}
}

// findOrganization finds out which organization the key belongs to, and tells
// whether it is known.
func (x *examination) findOrganization(ctx context.Context) bool {
	var list []api.Organization
	_, err := x.ask(ctx, api.EndpointOrganizations, func(ctx context.Context) (err error) {
		list, err = x.client.Organizations(ctx)
		return err
	})
	if err != nil {
		if x.report.ID == "" || x.aborted {
			x.fail(err)
			return false
		}
		x.warn("the organization's name is not known: " + err.Error())
		return true // the id is all it takes
	}
	seen := make([]string, 0, len(list))
	for _, o := range list {
		seen = append(seen, fmt.Sprintf("%s (%q)", o.ID, o.Name))
		if strings.EqualFold(o.ID, x.report.ID) || x.report.ID == "" && len(list) == 1 {
			x.report.ID = o.ID
			x.report.Name = cmp.Or(x.report.Name, o.Name)
			return true
		}
	}
	remedy := x.organization.Names.OrganizationID
	switch {
	case len(seen) == 0:
		x.fail(errors.New("the API key sees no organization: give it access to one in the ClickHouse Cloud console"))
	case x.report.ID == "":
		x.fail(fmt.Errorf("the API key sees %d organizations: set %s to one of %s", len(seen), remedy, strings.Join(seen, ", ")))
	default:
		x.fail(fmt.Errorf("the API key does not see organization %s: set %s to %s, or use a key of that organization",
			x.report.ID, remedy, strings.Join(seen, " or ")))
	}
	return false
}

// listServices returns the services that the exporter would export, and whether it
// makes sense to go on.
func (x *examination) listServices(ctx context.Context) (selected []api.Service, ok bool) {
	var all []api.Service
	_, err := x.ask(ctx, api.EndpointServices, func(ctx context.Context) (err error) {
		all, err = x.client.Services(ctx, x.report.ID)
		return err
	})
	if err != nil {
		ids, named := x.organization.Selection.OnlyIDs()
		if !named || x.aborted {
			x.fail(err)
			return nil, !x.aborted
		}
		x.warn("the services named in the configuration are exported without labels from the list of services: " + err.Error())
		for _, id := range ids {
			selected = append(selected, api.Service{ID: id, State: inventory.StateRunning})
		}
		return selected, true
	}
	r := &servicesReport{Total: len(all), ByState: make(map[string]int)}
	x.report.Services = r
	for _, s := range all {
		r.ByState[cmp.Or(s.State, inventory.StateUnknown)]++
		if s.State == "" {
			x.warn(fmt.Sprintf("the list of services gives no state for %q (%s): its metrics are exported without a postgres_state", s.Name, s.ID))
		}
		if x.organization.Selection.Match(s) && x.organization.Shard.Owns(s.ID) {
			selected = append(selected, s)
		}
	}
	if r.Selected = len(selected); r.Selected == 0 && r.Total > 0 {
		x.warn("the configuration selects none of the services: see services in --config.file, and --shard.count")
	}
	return selected, true
}

// readMetrics reads the organization's page and that of a service, one of which the
// exporter needs.
func (x *examination) readMetrics(ctx context.Context, services []api.Service) {
	var failures []error
	works := false
	page := func(endpoint api.Endpoint, request func(context.Context) (*api.Page, error)) *requestReport {
		var answer *api.Page
		var stats pageStats
		r, err := x.ask(ctx, endpoint, func(ctx context.Context) (err error) {
			if answer, err = request(ctx); err == nil {
				stats, err = readPage(answer)
			}
			return err
		})
		r.Series, r.Services = stats.series, stats.services
		if answer != nil {
			x.clock(answer)
		}
		if err != nil {
			failures = append(failures, err)
		} else {
			works = true
		}
		return r
	}

	// The key may be allowed to read no more than the services that are named.
	_, named := x.organization.Selection.OnlyIDs()
	covered := 0
	if !named {
		covered = page(api.EndpointOrganizationMetrics, func(ctx context.Context) (*api.Page, error) {
			return x.client.OrganizationMetrics(ctx, x.report.ID)
		}).Services
	}
	i := slices.IndexFunc(services, func(s api.Service) bool { return s.State == inventory.StateRunning })
	if i < 0 && len(services) > 0 {
		i = 0
	}
	if i >= 0 && !x.aborted {
		r := page(api.EndpointServiceMetrics, func(ctx context.Context) (*api.Page, error) {
			return x.client.ServiceMetrics(ctx, x.report.ID, services[i].ID)
		})
		r.Service = services[i].ID
	}
	for _, err := range failures {
		if works {
			x.warn(err.Error())
		} else {
			x.fail(err)
		}
	}
	if works && !named {
		x.judgeCoverage(services, covered)
	}
}

// judgeCoverage tells what it means that the organization's metrics cover no more than
// so many services.
func (x *examination) judgeCoverage(selected []api.Service, covered int) {
	if x.report.Services == nil || covered >= x.report.Services.ByState[inventory.StateRunning] {
		return
	}
	all := x.report.Services.ByState[inventory.StateRunning]
	uncovered := make([]schedule.Service, 0, len(selected))
	for _, s := range selected {
		if s.State == inventory.StateRunning && len(uncovered) < all-covered {
			uncovered = append(uncovered, schedule.Service{ID: s.ID})
		}
	}
	now := time.Now()
	plan := schedule.New(schedule.Config{
		Spacing:               x.exporter.Spacing(),
		MetricsInterval:       x.organization.MetricsInterval,
		InventoryInterval:     x.organization.InventoryInterval,
		NoOrganizationMetrics: covered == 0,
		Details:               x.organization.Details(),
	}, now)
	plan.SetServices(now, uncovered, len(uncovered))
	period := plan.Summary().Period.Round(time.Second)
	if covered == 0 {
		x.warn(fmt.Sprintf("without the organization's metrics, the exporter reads those of services one by one, each about every %s", period))
		return
	}
	x.warn(fmt.Sprintf("the organization's metrics cover %d of %d running services: the exporter reads the others one by one, each about every %s", covered, all, period))
}

// clock compares this machine's clock with the API's.
func (x *examination) clock(p *api.Page) {
	if p.Date.IsZero() || x.report.ClockSkewSeconds != nil {
		return
	}
	// The header cuts off fractions of a second: on average, half of one.
	skew := p.ReceivedAt.Round(0).Sub(p.Date.Add(500 * time.Millisecond))
	seconds := math.Round(skew.Seconds()) + 0 // not -0
	x.report.ClockSkewSeconds = &seconds
	if skew.Abs() > maxSkew {
		x.warn("this machine's clock is " + skewed(seconds) + " the API's: set it by NTP, or the ages and times in the metrics are wrong")
	}
}

// pageStats is what is on a page of metrics.
type pageStats struct{ series, services int }

func readPage(p *api.Page) (pageStats, error) {
	page, err := exposition.NewParser(inventory.ServiceLabel).Parse(p.Body, p.ContentType)
	if err != nil {
		return pageStats{}, fmt.Errorf("metrics not as documented: %w", err)
	}
	var stats pageStats
	for id, metrics := range page.Groups {
		stats.series += metrics.Series()
		if id != "" {
			stats.services++
		}
	}
	return stats, nil
}

// proxy returns through which proxy a URL is reached, "" for none, without its password.
func proxy(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	via, err := http.ProxyFromEnvironment(&http.Request{URL: u})
	if err != nil || via == nil {
		return ""
	}
	return via.Scheme + "://" + via.Host
}
