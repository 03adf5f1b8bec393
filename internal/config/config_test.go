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
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
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
	"key_is_a_list":     `:1: must be text, not a list`,
	"aliases":           `: not valid YAML: document contains excessive aliasing`,
	"cyclic_alias":      `:1: must be a mapping of keys to values, not a list`,
	"alias_same":        `:6: organizations[1].id: the same as in organizations[0]: list an organization once`,
	"duplicate_key":     `:4: key "max_age" already defined at line 3: remove one`,
	"duplicate_rules":   `:4: key "metric_relabel_configs" already defined at line 1: remove one`,
	"no_value":          `:3: organizations[0].api_url: has no value: give it one or remove it`,
	"no_item":           `:2: metric_relabel_configs[0]: has no value: give it one or remove it`,
	"too_many_mistakes": tooMany(),
	"merge_key":         `:4: organizations[1]: neither this organization nor organizations[0] has key_id_file and key_secret_file: only one can use the key of flags and environment`,
	"several": `:2: organizations[0].id: not an id: copy it from the console, it looks like ee2fef9f-b443-8ad0-8c9b-724390cdb826
:3: organizations[0].rate_limit: must be a whole number such as 10
:4: organizations[0].color: unknown key: known here are api_url, ca_file, collector_backups, collector_inventory, collector_quotas, collector_service_health, collector_settings, collector_state, collector_tags, enrich_labels, id, inventory_interval, inventory_tags, key_id_file, key_secret_file, max_age, metric_relabel_configs, metrics_interval, name, rate_limit, rate_use, rate_window, replicas, services, settings_assume
:5: services: the mapping is empty: fill it or remove it`,

	// Keys.
	"unknown_key":                 `:2: unknown key metric_relabel_config: known here are metric_relabel_configs, organizations, services`,
	"unknown_key_in_organization": `:3: organizations[0].scrape_interval: unknown key: known here are api_url, ca_file, collector_backups, collector_inventory, collector_quotas, collector_service_health, collector_settings, collector_state, collector_tags, enrich_labels, id, inventory_interval, inventory_tags, key_id_file, key_secret_file, max_age, metric_relabel_configs, metrics_interval, name, rate_limit, rate_use, rate_window, replicas, services, settings_assume`,
	"unknown_key_in_services":     `:2: unknown key only: known here are exclude, include`,
	"unknown_key_in_filter":       `:4: unknown key provider: known here are ids, name, region, state, tags`,
	"unknown_key_in_rule":         `:3: unknown key source_label: known here are action, modulus, regex, replacement, separator, source_labels, target_label`,

	// Secrets.
	"secret_at_top":   `:1: api_secret: no key and no secret is read from this file: put them into files of their own and name these by key_id_file and key_secret_file`,
	"secret_as_value": `:2: must be a mapping of keys to values, not text`,
	"secret_in_url":   `:3: organizations[0].api_url: must not contain a user name or password, since the API key has settings of its own: write it like https://api.clickhouse.cloud`,
	"secret_inline": `:3: organizations[0].key_id: no key and no secret is read from this file: put them into files of their own and name these by key_id_file and key_secret_file
:4: organizations[0].key_secret: no key and no secret is read from this file: put them into files of their own and name these by key_id_file and key_secret_file`,

	// Organizations.
	"organizations_empty":           `:1: organizations: the list is empty: fill it or remove the key`,
	"organizations_mapping":         `:2: must be a list, not a mapping`,
	"organization_empty":            `:2: organizations[0]: the mapping is empty: fill it or remove it`,
	"organization_id":               `:2: organizations[0].id: not an id: copy it from the console, it looks like ee2fef9f-b443-8ad0-8c9b-724390cdb826`,
	"organization_id_blank":         `:2: organizations[0].id: has white space around it or control characters in it: remove them`,
	"organization_same_id":          `:5: organizations[1].id: the same as in organizations[0]: list an organization once`,
	"organization_same_name":        `:5: organizations[1].name: the same as in organizations[0]: give each organization a name of its own`,
	"two_organizations_without_key": `:3: organizations[1]: neither this organization nor organizations[0] has key_id_file and key_secret_file: only one can use the key of flags and environment`,
	"key_without_secret":            `:3: organizations[0].key_id_file: key_secret_file is missing: name the file that holds the key's secret`,
	"secret_without_key":            `:3: organizations[0].key_secret_file: key_id_file is missing: name the file that holds the key's id`,
	"api_url":                       `:3: organizations[0].api_url: must be an http or https URL: write it like https://api.clickhouse.cloud`,
	"api_url_query":                 `:3: organizations[0].api_url: must end before any ? or #: write it like https://api.clickhouse.cloud`,
	"organization_same_key": `:6: organizations[1].key_id_file: the same as in organizations[0]: a key belongs to one organization, so give each its own
:7: organizations[1].key_secret_file: the same as in organizations[0]: a key belongs to one organization, so give each its own`,

	// Values.
	"empty_text":            `:2: organizations[0].name: is empty: give it a value or remove the key`,
	"text_is_a_list":        `:2: organizations[0].name: must be text, not a list`,
	"count_is_text":         `:3: organizations[0].rate_limit: must be a whole number such as 10`,
	"count_is_a_fraction":   `:3: organizations[0].rate_limit: must be a whole number such as 10`,
	"count_overflows":       `:3: organizations[0].rate_limit: must be from 1 to 1000000, not 99999999999999999999`,
	"count_is_zero":         `:3: organizations[0].replicas: must be from 1 to 1000000, not 0`,
	"count_is_absurd":       `:3: organizations[0].rate_limit: must be from 1 to 1000000, not 10000000`,
	"rate_use":              `:3: organizations[0]: rate_use=11 is more than rate_limit=10: lower the first, or raise the second if your key is allowed more`,
	"duration_without_unit": `:3: organizations[0].metrics_interval: not a duration: write a number with a unit such as 30s, 5m or 1h30m`,
	"duration_negative":     `:3: organizations[0].rate_window: not a duration: write a number with a unit such as 30s, 5m or 1h30m`,
	"duration_zero":         `:3: organizations[0].inventory_interval: must be more than 0: write a number with a unit such as 30s, 5m or 1h30m`,
	"duration_is_a_mapping": `:3: must be text, not a mapping`,
	"max_age":               `:3: organizations[0]: max_age=10s is shorter than metrics_interval=30s, so that metrics would vanish between two fetches: raise the first or lower the second`,

	// Services.
	"services_empty":     `:1: services: the mapping is empty: fill it or remove it`,
	"include_empty":      `:2: services.include: the list is empty: fill it or remove the key`,
	"filter_empty":       `:3: services.exclude[0]: the mapping is empty: fill it or remove it`,
	"filter_is_text":     `:3: must be a mapping of keys to values, not text`,
	"ids_empty":          `:3: services.include[0].ids: the list is empty: fill it or remove the key`,
	"id_is_a_pattern":    `:3: services.include[0].ids[1]: not an id: copy it from the console, it looks like ee2fef9f-b443-8ad0-8c9b-724390cdb826`,
	"name_pattern":       `:3: services.include[0].name: not a regular expression in RE2 syntax: missing closing ): ` + "`prod-(`",
	"name_empty":         `:3: services.include[0].name: is empty: give it a value or remove the key`,
	"pattern_unbalanced": `:3: services.exclude[0].region: not a regular expression in RE2 syntax: unexpected ): ` + "`us)(eu`",
	"tags_empty":         `:3: services.include[0].tags: the mapping is empty: fill it or remove it`,
	"tags_list":          `:3: must be a mapping of keys to values, not a list`,
	"tag_key":            `:3: services.include[0].tags.my tag: no tag can have this key: keys are 1 to 128 letters, digits, dots, underscores and hyphens`,
	"tag_value":          `:4: services.include[0].tags.Environment: has no value: give it one or remove it`,

	// Relabelling.
	"rule_is_text":          `:2: must be a mapping of keys to values, not text`,
	"rule_action":           `:2: metric_relabel_configs[0].action: unknown relabel action "delete" (relabel_config in Prometheus's documentation says what is allowed)`,
	"rule_regex":            `:3: metric_relabel_configs[0].regex: not a regular expression in RE2 syntax: missing argument to repetition operator: ` + "`*`",
	"rule_regex_is_a_list":  `:4: must be text, not a list`,
	"rule_modulus":          `:5: must be a whole number such as 8, not text`,
	"rule_modulus_negative": `:5: must be a whole number such as 8, not a number`,
	"rule_no_modulus":       `:5: metric_relabel_configs[1]: relabel configuration for hashmod requires non-zero modulus (relabel_config in Prometheus's documentation says what is allowed)`,
	"rule_source_labels":    `:2: must be a list, not text`,
	"rule_label_name":       `:2: metric_relabel_configs[0].source_labels: "" is not a valid label name (relabel_config in Prometheus's documentation says what is allowed)`,
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
			c, err := load(t, file)
			if c != nil || err == nil {
				t.Fatalf("%v, %v, want an error", c, err)
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
		lines[i] = fmt.Sprintf(":%d: services.include[0].ids[%d]: not an id: copy it from the console, it looks like ee2fef9f-b443-8ad0-8c9b-724390cdb826", i+4, i)
	}
	return strings.Join(lines, "\n")
}

// parseFile reads a file over what the defaults are.
func parseFile(t *testing.T, data []byte, dir, file string) ([]*Organization, error) {
	t.Helper()
	return parse(data, dir, file, &flags(t, "", nil, nil).Organization)
}

func load(t *testing.T, path string) ([]*Organization, error) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return parseFile(t, data, filepath.Dir(path), path)
}

func TestGoodFile(t *testing.T) {
	got, err := load(t, "testdata/good/full.yml")
	if err != nil {
		t.Fatal(err)
	}
	first, second := got[0], got[1]
	wanted, err := inventory.ParseEnrichLabels([]string{"region", "tag:Environment"})
	if err != nil {
		t.Fatal(err)
	}
	for what, values := range map[string][2]any{
		"id":                  {first.ID, "2b7f2d6c-1111-4c1b-9a55-0d8f0a1b2c3d"},
		"name":                {first.Name, "production"},
		"api_url":             {first.API.BaseURL, "https://api.clickhouse.cloud"},
		"key_id_file":         {first.keyIDFile, "testdata/good/keys/production-id"},
		"key_secret_file":     {first.keySecretFile, "/run/secrets/production-secret"},
		"ca_file":             {first.API.CAFile, "testdata/good/ca.pem"},
		"rate":                {first.rate, rate{limit: 100, window: 10 * time.Second, use: 80, replicas: 2}},
		"metrics_interval":    {first.MetricsInterval, 30 * time.Second},
		"inventory_interval":  {first.InventoryInterval, time.Minute},
		"max_age":             {first.MaxAge, 5*time.Minute + 30*time.Second},
		"enrich_labels":       {fmt.Sprint(first.EnrichLabels), fmt.Sprint(wanted)},
		"inventory_tags":      {fmt.Sprint(first.Tags), "[Environment team]"},
		"collectors":          {[5]bool{first.CollectInventory, first.CollectState, first.CollectTags, first.CollectServiceHealth, first.CollectSettings}, [5]bool{true, false, true, false, true}},
		"collectors by flags": {[5]bool{second.CollectInventory, second.CollectState, second.CollectTags, second.CollectServiceHealth, second.CollectSettings}, [5]bool{true, true, true, true, false}},
		"requests":            {[2]bool{first.CollectBackups, first.CollectQuotas}, [2]bool{false, true}},
		"settings_assume":     {fmt.Sprint(first.AssumedSettings), "[{max_connections 100} {pgbouncer.default_pool_size 20}]"},
		"no tags":             {second.Tags != nil && len(second.Tags) == 0, true},
		"second file":         {second.keyIDFile, "testdata/other/id"},
		"no labels":           {len(second.EnrichLabels), 0},
		"rate by flags":       {second.rate, rate{limit: 10, window: 10 * time.Second, use: 8, replicas: 1}},
	} {
		if values[0] != values[1] {
			t.Errorf("%s: %v, not %v", what, values[0], values[1])
		}
	}
	for _, tt := range []struct {
		service       api.Service
		first, second bool
	}{
		{api.Service{ID: "a", Name: "n", State: "running", Region: "us-east-1", Tags: []api.Tag{{Key: "Environment", Value: "prod"}}}, true, true},
		{api.Service{ID: "a", Name: "n", State: "stopped", Region: "us-east-1", Tags: []api.Tag{{Key: "Environment", Value: "prod"}}}, false, true},
		{api.Service{ID: "67b4bc12-8582-45d0-8806-fe9b2e5a54e6", Name: "n", State: "running"}, true, true},
		{api.Service{ID: "67b4bc12-8582-45d0-8806-fe9b2e5a54e6", Name: "tmp-1", State: "running"}, true, false},
		{api.Service{ID: "a", Name: "n", State: "running"}, true, false},
	} {
		if a, b := first.Selection.Match(tt.service), second.Selection.Match(tt.service); a != tt.first || b != tt.second {
			t.Errorf("%+v is selected: %v, %v", tt.service, a, b)
		}
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
		{"first", first.Rules, append(slices.Clone(common), "drop template[01]", "replace Postgres(.*);.*")},
		{"second", second.Rules, common},
	} {
		if diff := cmp.Diff(tt.want, actions(tt.rules)); diff != "" {
			t.Errorf("rules %s (-want +got):\n%s", tt.what, diff)
		}
	}

	// The rules are ready to be applied: validated, defaults filled in.
	b := labels.NewBuilder(labels.FromStrings("__name__", "PostgresServer_Load", "postgres_is_primary", "true"))
	if !relabel.ProcessBuilder(b, first.Rules...) {
		t.Error("the series was dropped")
	}
	if got, want := b.Labels().String(), `{__name__="pg_Server_Load"}`; got != want {
		t.Errorf("relabelled to %s, want %s", got, want)
	}
}

func TestNothingConfigured(t *testing.T) {
	for _, file := range []string{"comments", "braces", "marker"} {
		orgs, err := load(t, "testdata/good/"+file+".yml")
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if o := orgs[0]; len(orgs) != 1 || o.Selection != nil || len(o.Rules) != 0 || o.place.line != 0 {
			t.Errorf("%s: %+v, want an empty configuration", file, orgs)
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
	orgs, err := parseFile(t, []byte(file), "", "")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"x", "y"} {
		rules := orgs[i].Rules
		if got := rules[len(rules)-1].Regex.String(); len(rules) != 4 || got != want {
			t.Errorf("organization %d: last of %d rules is %s, want %s", i, len(rules), got, want)
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
	flags := &New().Organization
	for _, s := range flags.settings() {
		if s.Default != "" {
			if err := s.Value.Set(s.Default); err != nil {
				f.Fatal(err)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		orgs, err := parse(data, "dir", "", flags)
		if err != nil {
			var errs Errors
			if orgs != nil || !errors.As(err, &errs) || len(errs) == 0 {
				t.Fatalf("%v, %#v, want Errors alone", orgs, err)
			}
			for _, e := range errs {
				if e.Problem == "" || e.Line < 0 {
					t.Errorf("error without substance: %#v", e)
				}
			}
			return
		}
		for _, o := range orgs {
			if (o.keyIDFile == "") != (o.keySecretFile == "") || o.rate.limit < 1 || o.MaxAge <= 0 || o.API.BaseURL == "" {
				t.Errorf("accepted: %+v", o)
			}
			o.Selection.Match(api.Service{ID: "a", Name: "b"})            // must not panic
			relabel.ProcessBuilder(labels.NewBuilder(series), o.Rules...) // nor this
		}
	})
}
