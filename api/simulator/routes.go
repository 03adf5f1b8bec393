package simulator

import (
	"slices"
	"strings"
)

// Names of endpoints, in Request, Fault and Key.
const (
	endpointOrganizations       = "organizations"
	endpointOrganization        = "organization"
	endpointQuotas              = "quotas"
	endpointWhoami              = "whoami"
	endpointServices            = "services"
	endpointService             = "service"
	endpointConfig              = "service_config"
	endpointBackups             = "service_backups"
	endpointOrganizationMetrics = "organization_metrics"
	endpointServiceMetrics      = "service_metrics"
	endpointState               = "service_state"
	endpointPassword            = "service_password"
	endpointReplica             = "service_replica"
	endpointRestore             = "service_restore"
	endpointCertificates        = "service_certificates"
	endpointTimeSeries          = "service_timeseries"
	endpointSlowQueries         = "service_slow_queries"
	endpointUnknown             = "unknown"
)

// handler answers a call that is authorized, within the rate limit, and about this
// organization. Under the lock, it returns a result for the envelope, nil for none, or an
// answer of its own.
type handler func(*Simulator, *call) (any, error)

type route struct {
	endpoint string
	pattern  []string // segments; {org}, {id}, {query} and {quota} match any
	methods  map[string]handler
}

func newRoutes() []route {
	const (
		organizations = "v1/organizations"
		organization  = organizations + "/{org}"
		postgres      = organization + "/postgres"
		id            = postgres + "/{id}"
	)
	var all []route
	add := func(path, endpoint string, methods map[string]handler) {
		all = append(all, route{endpoint, strings.Split(path, "/"), methods})
	}
	add(organizations, endpointOrganizations, map[string]handler{"GET": (*Simulator).listOrganizations})
	add(organization, endpointOrganization, map[string]handler{"GET": (*Simulator).getOrganization})
	add(organization+"/quotas", endpointQuotas, map[string]handler{"GET": (*Simulator).listQuotas})
	add(organization+"/quotas/{quota}", endpointQuotas, map[string]handler{"GET": (*Simulator).getQuota})
	add("v1/whoami", endpointWhoami, map[string]handler{"GET": (*Simulator).whoami})
	add(postgres, endpointServices, map[string]handler{"GET": (*Simulator).listServices, "POST": (*Simulator).createService})
	add(postgres+"/prometheus", endpointOrganizationMetrics, map[string]handler{"GET": (*Simulator).organizationMetrics})
	add(id, endpointService, map[string]handler{"GET": (*Simulator).getService, "PATCH": (*Simulator).patchService, "DELETE": (*Simulator).deleteService})
	add(id+"/prometheus", endpointServiceMetrics, map[string]handler{"GET": (*Simulator).serviceMetrics})
	add(id+"/config", endpointConfig, map[string]handler{"GET": (*Simulator).getConfig, "POST": (*Simulator).replaceConfig, "PATCH": (*Simulator).patchConfig})
	add(id+"/backups", endpointBackups, map[string]handler{"GET": (*Simulator).listBackups})
	add(id+"/state", endpointState, map[string]handler{"PATCH": (*Simulator).commandState})
	add(id+"/password", endpointPassword, map[string]handler{"PATCH": (*Simulator).setPassword})
	add(id+"/readReplica", endpointReplica, map[string]handler{"POST": (*Simulator).createReplica})
	add(id+"/restoredService", endpointRestore, map[string]handler{"POST": (*Simulator).restoreService})
	add(id+"/caCertificates", endpointCertificates, map[string]handler{"GET": (*Simulator).getCertificates})
	add(id+"/metrics", endpointTimeSeries, map[string]handler{"GET": (*Simulator).timeSeries})
	add(id+"/slowQueryPatterns", endpointSlowQueries, map[string]handler{"GET": (*Simulator).slowQueries})
	add(id+"/slowQueryPatterns/{query}", endpointSlowQueries, map[string]handler{"GET": (*Simulator).slowQuery})
	return all
}

// match finds the route of a path, and fills what the path names.
func (s *Simulator) match(c *call) *route {
	segments := strings.Split(strings.TrimPrefix(c.URL.Path, "/"), "/")
	for i := range s.routes {
		r := &s.routes[i]
		if len(r.pattern) != len(segments) {
			continue
		}
		var org, id, quota string
		if slices.EqualFunc(r.pattern, segments, func(pattern, segment string) bool {
			switch pattern {
			case "{org}":
				org = segment
			case "{id}":
				id = segment
			case "{quota}":
				quota = segment
			case "{query}":
			default:
				return pattern == segment
			}
			return segment != ""
		}) {
			c.org, c.id, c.quota = org, id, quota
			return r
		}
	}
	return &route{endpoint: endpointUnknown}
}
