package config

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// flags returns a configuration of flags and environment, in which file is the
// configuration file, "" for none.
func flags(t *testing.T, file string, env, given map[string]string) *Config {
	t.Helper()
	c := New()
	for _, s := range c.Settings() {
		text := s.Default
		if v, ok := given[s.Flag]; ok {
			text = v
			c.Flag(s)
		}
		if text != "" {
			if err := s.Value.Set(text); err != nil {
				t.Fatalf("%s: %v", s.Flag, err)
			}
		}
	}
	if file != "" {
		c.File = filepath.Join(t.TempDir(), "config.yml")
		if err := os.WriteFile(c.File, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Environment(CommandServe, func(name string) (string, bool) { v, ok := env[name]; return v, ok }); err != nil {
		t.Fatal(err)
	}
	if err := c.Complete(); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestLoad joins flags and environment with what the file says.
func TestLoad(t *testing.T) {
	pem := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(pem, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{EnvKeyID: "id", EnvKeySecret: "hush"}
	given := map[string]string{"api.url": "https://flag.example.com/", "api.ca-file": pem, "api.replicas": "2"}
	c := flags(t, "", map[string]string{EnvKeyID: "id", EnvKeySecret: "hush", EnvOrgID: "mine"}, given)
	one, err := NewLoader(c).Load()
	if err != nil || len(one) != 1 {
		t.Fatalf("%v, %v", one, err)
	}
	if o := one[0]; o.ID != "mine" || o.API.BaseURL != "https://flag.example.com" || o.API.CAFile != pem || o.API.Credentials == nil {
		t.Errorf("by flags alone: %+v", o)
	}
	if got, want := one[0].API.Budget.Usage().Limit, 4; got != want {
		t.Errorf("one of two replicas may use %d requests, not %d", got, want)
	}

	c = flags(t, `
organizations:
- name: mine
- id: other
  api_url: https://file.example.com
  ca_file: config.yml
  key_id_file: /id
  key_secret_file: /secret
  metrics_interval: 1m
  max_age: 10m
  rate_use: 4
  services: {include: [{region: eu-.*}]}
`, env, given)
	loader := NewLoader(c)
	orgs, err := loader.Load()
	if err != nil || len(orgs) != 2 {
		t.Fatalf("%v, %v", orgs, err)
	}
	mine, other := orgs[0], orgs[1]
	if mine.Name != "mine" || mine.ID != "" || mine.API.Credentials != c.Organization.API.Credentials || mine.API.BaseURL != "https://flag.example.com" || mine.API.CAFile != pem {
		t.Errorf("the first: %+v", mine)
	}
	if other.API.BaseURL != "https://file.example.com" || other.API.CAFile != c.File || other.MetricsInterval != time.Minute ||
		other.MaxAge != 10*time.Minute || other.InventoryInterval != time.Minute || other.Selection == nil {
		t.Errorf("the second: %+v", other)
	}
	if other.API.Budget == mine.API.Budget || other.API.Credentials == mine.API.Credentials || other.API.Budget.Usage().Limit != 2 {
		t.Error("the second organization's key has no budget of its own")
	}
	again, err := loader.Load()
	if err != nil {
		t.Fatal(err)
	}
	for i := range orgs {
		if again[i].API.Budget != orgs[i].API.Budget || again[i].API.Credentials != orgs[i].API.Credentials {
			t.Errorf("organization %d has another budget or key after a reload of the same file", i)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	for name, test := range map[string]struct{ file, want string }{
		"no key":        {"organizations: [{id: a}]", "no API key for this organization: name key_id_file and key_secret_file, or set CLICKHOUSE_CLOUD_API_KEY and CLICKHOUSE_CLOUD_API_SECRET"},
		"rate by flags": {"organizations: [{id: a, key_id_file: /i, key_secret_file: /s, rate_limit: 5}]", "--api.rate-use=8 is more than rate_limit=5: lower the first, or raise the second if your key is allowed more"},
		"age by flags":  {"organizations: [{id: a, key_id_file: /i, key_secret_file: /s, metrics_interval: 6m}]", "--metrics.max-age=5m is shorter than metrics_interval=6m, so that metrics would vanish between two fetches: raise the first or lower the second"},
	} {
		t.Run(name, func(t *testing.T) {
			c := flags(t, test.file, nil, nil)
			_, err := NewLoader(c).Load()
			if want := c.File + ":1: organizations[0]: " + test.want; err == nil || err.Error() != want {
				t.Errorf("%v\nnot %s", err, want)
			}
		})
	}
	if _, err := NewLoader(flags(t, "", nil, nil)).Load(); err == nil || err.Error() != errNoCredentials().Error() {
		t.Errorf("without any key: %v", err)
	}
}

func TestUnreadableFile(t *testing.T) {
	large := filepath.Join(t.TempDir(), "large.yml")
	if err := os.WriteFile(large, []byte(strings.Repeat("# filler\n", maxFileBytes/9+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe") // to which nobody writes
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"testdata/missing.yml": "configuration file: stat testdata/missing.yml: no such file or directory",
		"testdata":             "configuration file testdata is not a regular file: check the path",
		pipe:                   "configuration file " + pipe + " is not a regular file: check the path",
		large:                  "configuration file " + large + " is larger than 1048576 bytes: is it the right file?",
	} {
		c := flags(t, "", nil, nil)
		c.File = path
		if _, err := NewLoader(c).Load(); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}

func TestValidateOpensFiles(t *testing.T) {
	c := flags(t, `organizations:
  - name: a
    key_id_file: config.yml
    key_secret_file: 4b1d-SECRET-pasted-here
    ca_file: .
`, nil, nil)
	want := c.File + ":4: organizations[0].key_secret_file: the file cannot be read: no such file or directory\n" +
		c.File + ":5: organizations[0].ca_file: the file cannot be read: it is a directory"
	if err := NewLoader(c).Validate(); err == nil || err.Error() != want {
		t.Errorf("%v\nnot %s", err, want)
	}
}

// TestKeyOfFiles: they are read when they are needed.
func TestKeyOfFiles(t *testing.T) {
	c := flags(t, "", nil, map[string]string{"api.key-id-file": "nowhere", "api.key-secret-file": "nowhere"})
	orgs, err := NewLoader(c).Load()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := orgs[0].API.Credentials.Credentials(); err == nil {
		t.Error("there is a key")
	}
}

// TestVersionInURL: other programs are given the URL with the version.
func TestVersionInURL(t *testing.T) {
	for text, want := range map[string]string{
		"https://api.clickhouse.cloud":                             "https://api.clickhouse.cloud",
		"https://api.clickhouse.cloud/":                            "https://api.clickhouse.cloud",
		"https://api.clickhouse.cloud/v1":                          "https://api.clickhouse.cloud",
		"https://api.clickhouse.cloud/v1/":                         "https://api.clickhouse.cloud",
		"https://proxy.example.com/clickhouse/v1":                  "https://proxy.example.com/clickhouse",
		"https://api.clickhouse.cloud/v1/organizations":            "must end before /v1/organizations: write it like https://api.clickhouse.cloud",
		"https://api.clickhouse.cloud/v1/organizations/x/postgres": "must end before /v1/organizations: write it like https://api.clickhouse.cloud",
	} {
		var got string
		if err := baseURLTo(&got).Set(text); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %s, not %s", text, got, want)
		}
	}
}
