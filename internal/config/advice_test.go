package config

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
)

// TestAdvice names settings as the user set them: by a key in the file, a variable, or
// a flag.
func TestAdvice(t *testing.T) {
	const file = `organizations:
- id: mine
  api_url: https://api.example.com
  key_id_file: /id
  key_secret_file: /secret
  ca_file: ca.pem
  rate_limit: 20
  rate_use: 4
  max_age: 10m
`
	inFile := flags(t, file, nil, nil)
	if err := os.WriteFile(filepath.Join(filepath.Dir(inFile.File), "ca.pem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	key := map[string]string{EnvKeyID: "id", EnvKeySecret: "hush"}
	byVariable := flags(t, "", map[string]string{EnvKeyID: "id", EnvKeySecret: "hush", EnvURL: "https://api.example.com", EnvOrgID: "mine"}, nil)
	byFlag := flags(t, "", key, map[string]string{"api.url": "https://api.example.com"})

	load := func(c *Config) api.Adviser {
		orgs, err := NewLoader(c).Load()
		if err != nil {
			t.Fatal(err)
		}
		return orgs[0].API.Adviser
	}
	unknown := fmt.Errorf("tls: %w", x509.UnknownAuthorityError{})
	for _, tt := range []struct {
		err                      api.Error
		inFile, variable, byFlag string
	}{
		{api.Error{Kind: api.KindConnect}, "check api_url (FILE:3), the network and the proxy settings", "check CLICKHOUSE_API_URL, the network and the proxy settings", "check --api.url, the network and the proxy settings"},
		{api.Error{Kind: api.KindUnauthorized}, "check the key id and secret (key_id_file and key_secret_file (FILE:5))", "check the key id and secret (CLICKHOUSE_CLOUD_API_KEY and CLICKHOUSE_CLOUD_API_SECRET)", "check the key id and secret (CLICKHOUSE_CLOUD_API_KEY and CLICKHOUSE_CLOUD_API_SECRET)"},
		{api.Error{Kind: api.KindNotFound, Endpoint: api.EndpointServices}, "check id (FILE:2)", "check CLICKHOUSE_ORG_ID", "check --api.organization-id or CLICKHOUSE_ORG_ID"},
		{api.Error{Kind: api.KindNotFound, Endpoint: api.EndpointOrganizations}, "check api_url (FILE:3)", "check CLICKHOUSE_API_URL", "check --api.url"},
		{api.Error{Kind: api.KindTLS, Err: unknown}, "name the authority's PEM file with ca_file (FILE:6)", "name the authority's PEM file with --api.ca-file", "name the authority's PEM file with --api.ca-file"},
		{api.Error{Kind: api.KindTLS, Err: x509.CertificateInvalidError{Reason: x509.Expired}}, "check the clock of this machine", "check the clock of this machine", "check the clock of this machine"},
		{api.Error{Kind: api.KindRateLimited}, "lower rate_use (FILE:8) if other programs share the key", "lower --api.rate-use if other programs share the key", "lower --api.rate-use if other programs share the key"},
		{api.Error{Kind: api.KindServerError}, "", "", ""},
	} {
		for _, got := range []struct{ got, want string }{
			{strings.ReplaceAll(load(inFile).Advise(&tt.err), inFile.File, "FILE"), tt.inFile},
			{load(byVariable).Advise(&tt.err), tt.variable},
			{load(byFlag).Advise(&tt.err), tt.byFlag},
		} {
			if got.got != got.want {
				t.Errorf("%s: %q, not %q", tt.err.Kind, got.got, got.want)
			}
		}
	}

	orgs, err := NewLoader(inFile).Load()
	if err != nil {
		t.Fatal(err)
	}
	if names := fmt.Sprint(orgs[0].Names); strings.Contains(names, "--") {
		t.Errorf("settings of the file are called %s", names)
	}
}
