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
)

// maxSkew is by how much clocks may differ. The API tells its own to a second.
const maxSkew = 5 * time.Second

// Check makes each request that the exporter makes once, within the same budget, and
// prints what came of it. The error holds a line for each organization that can't be
// exported.
func Check(ctx context.Context, c *config.Config, stdout io.Writer) error {
	organizations, err := load(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Check.Timeout)
	defer cancel()
	report := checkReport{OK: true, Organizations: make([]*organizationReport, len(organizations))}
	var wg sync.WaitGroup
	for i, organization := range organizations {
		x := &examination{
			timeout:      c.Check.Timeout,
			organization: organization,
			report: &organizationReport{
				ID: organization.ID, Name: organization.Name, URL: organization.API.BaseURL,
				Proxy: proxy(organization.API.BaseURL), Requests: []*requestReport{}, Errors: []string{}, Warnings: []string{},
			},
		}
		report.Organizations[i] = x.report
		wg.Go(func() { x.run(ctx) })
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
	client       *api.Client
	report       *organizationReport

	mu   sync.Mutex
	took time.Duration // the last attempt
}

func (x *examination) run(ctx context.Context) {
	budget := x.organization.API.Budget.Usage()
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

	if !x.findOrganization(ctx) {
		return
	}
	services, ok := x.listServices(ctx)
	if !ok {
		return
	}
	x.readMetrics(ctx, services)
}

func (x *examination) fail(err error)   { x.report.Errors = append(x.report.Errors, err.Error()) }
func (x *examination) warn(text string) { x.report.Warnings = append(x.report.Warnings, text) }

// ask makes one request.
func (x *examination) ask(ctx context.Context, endpoint api.Endpoint, request func(context.Context) error) (*requestReport, error) {
	r := &requestReport{Endpoint: endpoint}
	x.report.Requests = append(x.report.Requests, r)
	err := request(ctx)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%s did not answer within --timeout=%s: check the network, or raise --timeout", endpointNames()[endpoint], x.timeout)
	}
	x.mu.Lock()
	r.Seconds = x.took.Round(time.Millisecond).Seconds()
	x.mu.Unlock()
	r.OK = err == nil
	if err != nil {
		r.Error, r.Reason = err.Error(), "other"
		var e *api.Error
		var parse *exposition.ParseError
		switch {
		case errors.As(err, &e):
			r.Reason = string(e.Kind)
		case errors.As(err, &parse):
			r.Reason = "parse"
		case ctx.Err() != nil:
			r.Reason = string(api.KindTimeout)
		}
	}
	return r, err
}

// hopeless tells whether every further request would end as err did.
func hopeless(ctx context.Context, err error) bool {
	var e *api.Error
	if ctx.Err() != nil {
		return true
	}
	if !errors.As(err, &e) {
		return false
	}
	switch e.Kind {
	case api.KindUnauthorized, api.KindCredentials, api.KindRateLimited,
		api.KindTimeout, api.KindDNS, api.KindConnect, api.KindTLS, api.KindRedirect:
		return true
	}
	return false
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
		if x.report.ID == "" || hopeless(ctx, err) {
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
		if !named || hopeless(ctx, err) {
			x.fail(err)
			return nil, !hopeless(ctx, err)
		}
		x.warn("the services named in the configuration are exported without labels from the list of services: " + err.Error())
		for _, id := range ids {
			selected = append(selected, api.Service{ID: id, State: "running"})
		}
		return selected, true
	}
	r := &servicesReport{Total: len(all), ByState: make(map[string]int)}
	x.report.Services = r
	for _, s := range all {
		r.ByState[cmp.Or(s.State, "unknown")]++
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
	if _, named := x.organization.Selection.OnlyIDs(); !named {
		r := page(api.EndpointOrganizationMetrics, func(ctx context.Context) (*api.Page, error) {
			return x.client.OrganizationMetrics(ctx, x.report.ID)
		})
		if running := x.running(); r.OK && r.Services < running {
			x.warn(fmt.Sprintf("the organization's metrics cover %d of %d running services: the exporter reads the others one by one", r.Services, running))
		}
	}
	i := slices.IndexFunc(services, func(s api.Service) bool { return s.State == "running" })
	if i < 0 && len(services) > 0 {
		i = 0
	}
	if i >= 0 && (len(failures) == 0 || !hopeless(ctx, failures[0])) {
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
}

// running returns how many services run, as far as known.
func (x *examination) running() int {
	if x.report.Services == nil {
		return 0
	}
	return x.report.Services.ByState["running"]
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
