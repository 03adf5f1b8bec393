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

type route struct {
	endpoint string
	pattern  []string // segments; {org}, {id}, {query} and {quota} match anything
	// methods are the handlers. A handler is called under the lock, for a call that is authorized,
	// within the rate limit, and about this organization. It returns a result for the envelope,
	// nil for none, or an answer of its own.
	methods map[string]func(*Simulator, *call) (any, error)
}

func newRoutes() []route {
	const (
		organizations = "v1/organizations"
		organization  = organizations + "/{org}"
		postgres      = organization + "/postgres"
		id            = postgres + "/{id}"
	)
	type handlers = map[string]func(*Simulator, *call) (any, error)
	var all []route
	add := func(path, endpoint string, methods handlers) {
		all = append(all, route{endpoint, strings.Split(path, "/"), methods})
	}
	add(organizations, endpointOrganizations, handlers{"GET": (*Simulator).listOrganizations})
	add(organization, endpointOrganization, handlers{"GET": (*Simulator).getOrganization})
	add(organization+"/quotas", endpointQuotas, handlers{"GET": (*Simulator).quotas})
	add(organization+"/quotas/{quota}", endpointQuotas, handlers{"GET": (*Simulator).quotas})
	add("v1/whoami", endpointWhoami, handlers{"GET": (*Simulator).whoami})
	add(postgres, endpointServices, handlers{"GET": (*Simulator).listServices, "POST": (*Simulator).createService})
	add(postgres+"/prometheus", endpointOrganizationMetrics, handlers{"GET": (*Simulator).organizationMetrics})
	add(id, endpointService, handlers{"GET": (*Simulator).getService, "PATCH": (*Simulator).patchService, "DELETE": (*Simulator).deleteService})
	add(id+"/prometheus", endpointServiceMetrics, handlers{"GET": (*Simulator).serviceMetrics})
	add(id+"/config", endpointConfig, handlers{"GET": (*Simulator).getConfig, "POST": (*Simulator).replaceConfig, "PATCH": (*Simulator).patchConfig})
	add(id+"/backups", endpointBackups, handlers{"GET": (*Simulator).listBackups})
	add(id+"/state", endpointState, handlers{"PATCH": (*Simulator).commandState})
	add(id+"/password", endpointPassword, handlers{"PATCH": (*Simulator).setPassword})
	add(id+"/readReplica", endpointReplica, handlers{"POST": (*Simulator).createReplica})
	add(id+"/restoredService", endpointRestore, handlers{"POST": (*Simulator).restoreService})
	add(id+"/caCertificates", endpointCertificates, handlers{"GET": (*Simulator).getCertificates})
	add(id+"/metrics", endpointTimeSeries, handlers{"GET": (*Simulator).timeSeries})
	add(id+"/slowQueryPatterns", endpointSlowQueries, handlers{"GET": (*Simulator).slowQueries})
	add(id+"/slowQueryPatterns/{query}", endpointSlowQueries, handlers{"GET": (*Simulator).slowQuery})
	return all
}

// match returns the route of the call's path, and sets what the path contains.
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
