package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
)

// bad holds, for every file of testdata/bad, the whole error; each line of it is
// prefixed with the file's path.
var bad = map[string]string{
	// The file.
	"empty":             `: the file is empty: if no configuration is wanted, write {} into it, or start without it`,
	"blank":             `: the file is empty: if no configuration is wanted, write {} into it, or start without it`,
	"syntax":            `:3: not valid YAML: found unexpected end of stream (look at this line and those next to it)`,
	"syntax_later":      `:1: not valid YAML: did not find expected <document start> (look at this line and those next to it)`,
	"tab":               `:2: not valid YAML: found character that cannot start any token (look at this line and those next to it)`,
	"unknown_anchor":    `: not valid YAML: unknown anchor 'none' referenced`,
	"two_documents":     `:4: a second YAML document starts here: join them into one`,
	"root_is_a_list":    `:1: must be a mapping of keys to values, not a list`,
	"root_is_text":      `:1: must be a mapping of keys to values, not text`,
	"key_is_a_list":     `:1: a key must be plain text`,
	"aliases":           `:4: services.include[199].ids: the aliases up to here expand to more than 200000 values: write fewer`,
	"cyclic_alias":      `:1: metric_relabel_configs[0]: must be a mapping of keys to values, not a list`,
	"duplicate_key":     `:4: organizations[0].max_age: given twice, first in line 3: remove one`,
	"duplicate_rules":   `:4: metric_relabel_configs: given twice, first in line 1: remove one`,
	"no_value":          `:3: organizations[0].api_url: has no value: give it one or remove the key`,
	"no_item":           `:2: metric_relabel_configs[0]: is empty: complete it or remove it`,
	"too_many_mistakes": tooMany(),
	"merge_key": `:4: organizations[1].<<: merge keys are not understood: repeat the keys that are meant
:4: organizations[1]: neither this organization nor organizations[0] has key_id_file and key_secret_file: only one can use the key of flags and environment`,
	"several": `:2: organizations[0].id: not an id: copy it from the console, it looks like ee2fef9f-b443-8ad0-8c9b-724390cdb826
:3: organizations[0].rate_limit: must be a whole number such as 10, not text
:4: organizations[0].color: unknown key: known here are api_url, ca_file, enrich_labels, id, inventory_interval, key_id_file, key_secret_file, max_age, metric_relabel_configs, metrics_interval, name, rate_limit, rate_use, rate_window, replicas, services
:5: services: chooses nothing: give include or exclude, or remove the key to export every service`,

	// Keys.
	"unknown_key":                 `:2: metric_relabel_config: unknown key: known here are metric_relabel_configs, organizations, services`,
	"unknown_key_in_organization": `:3: organizations[0].scrape_interval: unknown key: known here are api_url, ca_file, enrich_labels, id, inventory_interval, key_id_file, key_secret_file, max_age, metric_relabel_configs, metrics_interval, name, rate_limit, rate_use, rate_window, replicas, services`,
	"unknown_key_in_services":     `:2: services.only: unknown key: known here are exclude, include`,
	"unknown_key_in_filter":       `:4: services.include[1].provider: unknown key: known here are ids, name, region, state, tags`,
	"unknown_key_in_rule":         `:3: metric_relabel_configs[0].source_label: unknown key: known here are action, modulus, regex, replacement, separator, source_labels, target_label`,

	// Secrets.
	"secret_at_top":   `:1: api_secret: no key and no secret is read from this file: put them into files of their own and name these by key_id_file and key_secret_file`,
	"secret_as_value": `:2: organizations[0]: must be a mapping of keys to values, not text`,
	"secret_in_url":   `:3: organizations[0].api_url: must not carry user or password: name their files by key_id_file and key_secret_file`,
	"secret_inline": `:3: organizations[0].key_id: no key and no secret is read from this file: put them into files of their own and name these by key_id_file and key_secret_file
:4: organizations[0].key_secret: no key and no secret is read from this file: put them into files of their own and name these by key_id_file and key_secret_file`,

	// Organizations.
	"organizations_empty":           `:1: organizations: the list is empty: remove the key to poll the one organization of flags and environment`,
	"organizations_mapping":         `:2: organizations: must be a list, not a mapping`,
	"organization_empty":            `:2: organizations[0]: the organization is empty: give it at least an id, a name or its key files`,
	"organization_id":               `:2: organizations[0].id: not an id: copy it from the console, it looks like ee2fef9f-b443-8ad0-8c9b-724390cdb826`,
	"organization_id_blank":         `:2: organizations[0].id: has white space around it or control characters in it: remove them`,
	"organization_same_id":          `:5: organizations[1].id: the same as in organizations[0]: list an organization once`,
	"organization_same_name":        `:5: organizations[1].name: the same as in organizations[0]: give each organization a name of its own`,
	"two_organizations_without_key": `:3: organizations[1]: neither this organization nor organizations[0] has key_id_file and key_secret_file: only one can use the key of flags and environment`,
	"key_without_secret":            `:3: organizations[0].key_id_file: key_secret_file is missing: name the file that holds the key's secret`,
	"secret_without_key":            `:3: organizations[0].key_secret_file: key_id_file is missing: name the file that holds the key's id`,
	"api_url":                       `:3: organizations[0].api_url: must be an http or https URL such as https://api.clickhouse.cloud`,
	"api_url_query":                 `:3: organizations[0].api_url: must end before any ? or #`,
	"organization_same_key": `:6: organizations[1].key_id_file: the same as in organizations[0]: a key belongs to one organization, so give each its own
:7: organizations[1].key_secret_file: the same as in organizations[0]: a key belongs to one organization, so give each its own`,

	// Values.
	"empty_text":            `:2: organizations[0].name: is empty: give it a value or remove the key`,
	"text_is_a_list":        `:2: organizations[0].name: must be text, not a list`,
	"count_is_text":         `:3: organizations[0].rate_limit: must be a whole number such as 10, not text`,
	"count_is_quoted":       `:3: organizations[0].rate_limit: must be a whole number such as 10, not text`,
	"count_is_a_fraction":   `:3: organizations[0].rate_limit: must be a whole number such as 10, not a fraction or a number too large`,
	"count_overflows":       `:3: organizations[0].rate_limit: must be a whole number such as 10, not a fraction or a number too large`,
	"count_is_zero":         `:3: organizations[0].replicas: must be from 1 to 1000000, not 0`,
	"count_is_absurd":       `:3: organizations[0].rate_limit: must be from 1 to 1000000, not 10000000`,
	"rate_use":              `:3: organizations[0].rate_use: 11 is more than rate_limit (10): use at most that many`,
	"duration_without_unit": `:3: organizations[0].metrics_interval: not a duration: write a number with a unit such as 30s, 5m or 1h30m`,
	"duration_too_short":    `:3: organizations[0].rate_window: must be at least 1s: write a number with a unit such as 30s, 5m or 1h30m`,
	"duration_zero":         `:3: organizations[0].inventory_interval: must be at least 1s: write a number with a unit such as 30s, 5m or 1h30m`,
	"duration_is_a_mapping": `:3: organizations[0].inventory_interval: must be text, not a mapping`,
	"max_age":               `:3: organizations[0].max_age: 10s is shorter than metrics_interval (30s), so that data would expire between two polls: raise it`,
	"enrich_labels":         `:3: organizations[0].enrich_labels: must be a list, not text`,

	// Services.
	"services_empty":     `:1: services: chooses nothing: give include or exclude, or remove the key to export every service`,
	"include_empty":      `:2: services.include: the list is empty: remove the key to set no such condition`,
	"filter_empty":       `:3: services.exclude[0]: matches every service: give at least one of ids, name, region, state, tags`,
	"filter_is_text":     `:3: services.exclude[0]: must be a mapping of keys to values, not text`,
	"ids_empty":          `:3: services.include[0].ids: the list is empty: remove the key to match any id`,
	"id_is_a_pattern":    `:3: services.include[0].ids[1]: not an id: copy it from the console, it looks like ee2fef9f-b443-8ad0-8c9b-724390cdb826`,
	"name_pattern":       `:3: services.include[0].name: not a regular expression in RE2 syntax: missing closing ): ` + "`prod-(`",
	"name_empty":         `:3: services.include[0].name: is empty and matches nothing: give a regular expression or remove the key`,
	"pattern_unbalanced": `:3: services.exclude[0].region: not a regular expression in RE2 syntax: unexpected ): ` + "`us)(eu`",
	"tags_empty":         `:3: services.include[0].tags: the mapping is empty: name a tag or remove the key`,
	"tags_list":          `:3: services.include[0].tags: must be a mapping of tag keys to regular expressions, not a list`,
	"tag_key":            `:3: services.include[0].tags.my tag: no tag can have this key: keys are 1 to 128 letters, digits, dots, underscores and hyphens`,
	"tag_value":          `:4: services.include[0].tags.Environment: has no value: write ".*" for any value, "" for a tag without one`,

	// Relabelling.
	"rule_is_text":          `:2: metric_relabel_configs[0]: must be a mapping of keys to values, not text`,
	"rule_action":           `:2: metric_relabel_configs[0].action: unknown relabel action "delete" (relabel_config in Prometheus's documentation says what is allowed)`,
	"rule_regex":            `:3: metric_relabel_configs[0].regex: not a regular expression in RE2 syntax: missing argument to repetition operator: ` + "`*`",
	"rule_regex_is_a_list":  `:4: metric_relabel_configs[0].regex: must be text, not a list`,
	"rule_modulus":          `:5: metric_relabel_configs[0].modulus: must be a whole number such as 8, not text`,
	"rule_modulus_negative": `:5: metric_relabel_configs[0].modulus: must be a whole number such as 8, not a number`,
	"rule_no_modulus":       `:5: metric_relabel_configs[1]: relabel configuration for hashmod requires non-zero modulus (relabel_config in Prometheus's documentation says what is allowed)`,
	"rule_source_labels":    `:2: metric_relabel_configs[0].source_labels: must be a list, not text`,
	"rule_label_name":       `:3: metric_relabel_configs[0].source_labels: "" is not a valid label name (relabel_config in Prometheus's documentation says what is allowed)`,
	"rule_no_target":        `:2: metric_relabel_configs[0]: relabel configuration for replace action requires 'target_label' value (relabel_config in Prometheus's documentation says what is allowed)`,
	"rule_labeldrop":        `:4: organizations[0].metric_relabel_configs[0]: labeldrop action requires only 'regex', and no other fields (relabel_config in Prometheus's documentation says what is allowed)`,
}

func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yml")
		seen[name] = true
		t.Run(name, func(t *testing.T) {
			want, ok := bad[name]
			if !ok {
				t.Fatal("no error is expected of this file: add it to the table")
			}
			want = file + strings.ReplaceAll(want, "\n", "\n"+file)
			c, err := Load(file)
			if c != nil || err == nil {
				t.Fatalf("Load() = %v, %v, want an error", c, err)
			}
			got := err.Error()
			if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if strings.Contains(got, "INLINE") {
				t.Error("the error repeats a secret")
			}
			var one *Error
			if !errors.As(err, &one) || one.File != file {
				t.Errorf("error is not an *Error with its file: %#v", one)
			}
		})
	}
	for name := range bad {
		if !seen[name] {
			t.Errorf("testdata/bad/%s.yml is missing", name)
		}
	}
}

// tooMany is the first maxErrors errors of more.
func tooMany() string {
	lines := make([]string, maxErrors)
	for i := range lines {
		lines[i] = fmt.Sprintf(":1: services.include[0].ids[%d]: not an id: copy it from the console, it looks like ee2fef9f-b443-8ad0-8c9b-724390cdb826", i)
	}
	return strings.Join(lines, "\n")
}

func TestGoodFile(t *testing.T) {
	got, err := Load("testdata/good/full.yml")
	if err != nil {
		t.Fatal(err)
	}
	services := &Services{
		Include: []Filter{
			{Region: "us-.*", Tags: map[string]string{"Environment": "prod|staging"}},
			{IDs: []string{"ee2fef9f-b443-8ad0-8c9b-724390cdb826", "67b4bc12-8582-45d0-8806-fe9b2e5a54e6"}},
		},
		Exclude: []Filter{
			{Name: "tmp-.*"},
			{State: "stopped", Tags: map[string]string{"ephemeral": ""}},
		},
	}
	want := &Config{
		Services: services,
		Organizations: []*Organization{
			{
				ID: "2b7f2d6c-1111-4c1b-9a55-0d8f0a1b2c3d", Name: "production", APIURL: "https://api.clickhouse.cloud",
				KeyIDFile: "testdata/good/keys/production-id", KeySecretFile: "/run/secrets/production-secret", CAFile: "testdata/good/ca.pem",
				RateLimit: 100, RateWindow: 10 * time.Second, RateUse: 80, Replicas: 2,
				MetricsInterval: 30 * time.Second, InventoryInterval: time.Minute, MaxAge: 5*time.Minute + 30*time.Second,
				EnrichLabels: []string{"region", "tag:Environment"},
				Services:     &Services{Include: []Filter{{State: "running"}}},
			},
			{
				KeyIDFile: "testdata/other/id", KeySecretFile: "testdata/other/secret",
				EnrichLabels: []string{}, Services: services,
			},
		},
	}
	if diff := cmp.Diff(want, got,
		cmpopts.IgnoreUnexported(Config{}, Organization{}),
		cmpopts.IgnoreFields(Config{}, "MetricRelabelConfigs"),
		cmpopts.IgnoreFields(Organization{}, "MetricRelabelConfigs")); diff != "" {
		t.Errorf("Load() (-want +got):\n%s", diff)
	}

	actions := func(rules []*relabel.Config) (names []string) {
		for _, r := range rules {
			names = append(names, string(r.Action)+" "+r.Regex.String())
		}
		return names
	}
	common := []string{"drop template[01]", "labeldrop postgres_is_primary"}
	for _, tt := range []struct {
		what  string
		rules []*relabel.Config
		want  []string
	}{
		{"for all", got.MetricRelabelConfigs, common},
		{"first", got.Organizations[0].MetricRelabelConfigs, append(slices.Clone(common), "drop template[01]", "replace Postgres(.*);.*")},
		{"second", got.Organizations[1].MetricRelabelConfigs, common},
	} {
		if diff := cmp.Diff(tt.want, actions(tt.rules)); diff != "" {
			t.Errorf("rules %s (-want +got):\n%s", tt.what, diff)
		}
	}

	// The rules are ready to be applied: validated, defaults filled in.
	b := labels.NewBuilder(labels.FromStrings("__name__", "PostgresServer_Load", "postgres_is_primary", "true"))
	if !relabel.ProcessBuilder(b, got.Organizations[0].MetricRelabelConfigs...) {
		t.Error("the series was dropped")
	}
	if got, want := b.Labels().String(), `{__name__="pg_Server_Load"}`; got != want {
		t.Errorf("relabelled to %s, want %s", got, want)
	}
}

func TestNothingConfigured(t *testing.T) {
	for _, file := range []string{"comments", "braces", "marker"} {
		c, err := Load("testdata/good/" + file + ".yml")
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if c.Services != nil || len(c.MetricRelabelConfigs) != 0 || len(c.Organizations) != 0 {
			t.Errorf("%s: %+v, want an empty configuration", file, c)
		}
		if err := c.CheckFiles(); err != nil {
			t.Errorf("%s: CheckFiles() = %v", file, err)
		}
	}
}

func TestOrganizationsDoNotShareRules(t *testing.T) {
	const file = `
metric_relabel_configs: [{regex: a, action: labeldrop}, {regex: b, action: labeldrop}, {regex: c, action: labeldrop}]
organizations:
  - {name: x, metric_relabel_configs: [{regex: x, action: labeldrop}]}
  - {name: y, key_id_file: i, key_secret_file: s, metric_relabel_configs: [{regex: y, action: labeldrop}]}
`
	c, err := Parse([]byte(file), "")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"x", "y"} {
		rules := c.Organizations[i].MetricRelabelConfigs
		if got := rules[len(rules)-1].Regex.String(); len(rules) != 4 || got != want {
			t.Errorf("organization %d: last of %d rules is %s, want %s", i, len(rules), got, want)
		}
	}
}

func TestFileNotReadable(t *testing.T) {
	large := filepath.Join(t.TempDir(), "large.yml")
	if err := os.WriteFile(large, []byte(strings.Repeat("# filler\n", maxFileBytes/9+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"testdata/missing.yml": "configuration file: open testdata/missing.yml: no such file or directory",
		"testdata":             "configuration file: read testdata: is a directory",
		large:                  "configuration file " + large + " is larger than 1048576 bytes: is it the right file?",
	} {
		if _, err := Load(path); err == nil || err.Error() != want {
			t.Errorf("Load(%s) = %v, want %s", path, err, want)
		}
	}
}

func TestCheckFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.yml")
	const file = `organizations:
  - name: a
    key_id_file: id
    key_secret_file: 4b1d-SECRET-pasted-here
    ca_file: .
`
	for name, content := range map[string]string{"config.yml": file, "id": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := path + ":4: organizations[0].key_secret_file: the file cannot be read: no such file or directory\n" +
		path + ":5: organizations[0].ca_file: the file cannot be read: it is a directory"
	if err := c.CheckFiles(); err == nil || err.Error() != want {
		t.Errorf("CheckFiles() = %v, want %s", err, want)
	}
}

func TestReject(t *testing.T) {
	c, err := Parse([]byte("organizations:\n  - name: a\n    enrich_labels: [colour]\n"), "")
	if err != nil {
		t.Fatal(err)
	}
	problem := errors.New("no such label")
	for key, want := range map[string]string{
		"enrich_labels": "line 3: organizations[0].enrich_labels: no such label",
		"rate_use":      "line 2: organizations[0].rate_use: no such label",
	} {
		if got := c.Organizations[0].Reject(key, problem).Error(); got != want {
			t.Errorf("Reject(%s) = %s, want %s", key, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.yml", "testdata/bad/*.yml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	series := labels.FromStrings("__name__", "PostgresServer_Load", "mode", "user", "datname", "a")
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data, "dir")
		if err != nil {
			var errs Errors
			if c != nil || !errors.As(err, &errs) || len(errs) == 0 {
				t.Fatalf("Parse() = %v, %#v, want Errors alone", c, err)
			}
			for _, e := range errs {
				if e.Problem == "" || e.Line < 0 {
					t.Errorf("error without substance: %#v", e)
				}
			}
			return
		}
		if err := c.Services.check(); err != nil {
			t.Error(err)
		}
		rules := [][]*relabel.Config{c.MetricRelabelConfigs}
		for _, o := range c.Organizations {
			rules = append(rules, o.MetricRelabelConfigs)
			if (o.KeyIDFile == "") != (o.KeySecretFile == "") || o.RateLimit < 0 || o.MaxAge < 0 {
				t.Errorf("accepted: %+v", o)
			}
			if err := o.Services.check(); err != nil {
				t.Error(err)
			}
		}
		for _, r := range rules {
			relabel.ProcessBuilder(labels.NewBuilder(series), r...) // must not panic
		}
	})
}

// check reports a choice that Parse should not have let pass.
func (s *Services) check() error {
	if s == nil {
		return nil
	}
	for _, f := range append(slices.Clone(s.Include), s.Exclude...) {
		if len(f.IDs) == 0 && f.Name == "" && f.Region == "" && f.State == "" && len(f.Tags) == 0 {
			return errors.New("a filter that matches everything was accepted")
		}
	}
	return nil
}
