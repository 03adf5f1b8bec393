package config

import (
	"crypto/x509"
	"errors"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/collector"
)

// advice names settings as the user set them.
type advice struct {
	url, organization, key, caFile, timeout, maxResponseSize, rateUse string
}

// name makes the settings of the organization known by name to whoever gives advice.
func (o *Organization) name() {
	at := func(id string) string { return o.source(id).String() }
	organization := at("api.organization-id")
	if !o.given("api.organization-id") {
		organization += " or " + EnvOrgID
	}
	key := EnvKeyID + " and " + EnvKeySecret
	if o.keyIDFile != "" {
		key = o.source("api.key-id-file").name + " and " + at("api.key-secret-file")
	}
	o.API.Adviser = advice{
		url: at("api.url"), organization: organization, key: key, caFile: at("api.ca-file"),
		timeout: at("api.timeout"), maxResponseSize: at("api.max-response-size"), rateUse: at("api.rate-use"),
	}
	o.Names = collector.SettingNames{
		OrganizationID: organization, MaxAge: at("metrics.max-age"), RateLimit: at("api.rate-limit"), RateUse: at("api.rate-use"),
	}
}

// Advise says what the user can do about an error of the API, if a setting has to do
// with it.
func (a advice) Advise(e *api.Error) string {
	var unknown x509.UnknownAuthorityError
	var noRoots x509.SystemRootsError
	var invalid x509.CertificateInvalidError
	switch e.Kind {
	case api.KindUnauthorized:
		return "check the key id and secret (" + a.key + ")"
	case api.KindNotFound:
		switch e.Endpoint {
		case api.EndpointOrganizations, api.EndpointWhoami:
			return "check " + a.url
		case api.EndpointServices, api.EndpointOrganizationMetrics, api.EndpointQuotas:
			return "check " + a.organization
		}
		return "check " + a.organization + ", and whether the service still exists"
	case api.KindRateLimited:
		return "lower " + a.rateUse + " if other programs share the key"
	case api.KindRedirect:
		return "check " + a.url + ", and set it to the address of the redirect if you trust that"
	case api.KindUnexpectedStatus, api.KindContentType:
		return "check " + a.url + " and any proxy between"
	case api.KindTooLarge:
		return "raise " + a.maxResponseSize
	case api.KindTimeout:
		return "check the network, or raise " + a.timeout
	case api.KindDNS:
		return "check " + a.url + ", any proxy setting and the DNS of this machine"
	case api.KindConnect:
		return "check " + a.url + ", the network and the proxy settings"
	case api.KindTLS:
		switch {
		case errors.As(e.Err, &unknown), errors.As(e.Err, &noRoots):
			return "name the authority's PEM file with " + a.caFile
		case errors.As(e.Err, &invalid) && invalid.Reason == x509.Expired:
			return "check the clock of this machine"
		}
		return "check " + a.url + " and any proxy between"
	}
	return ""
}
