package config

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"regexp/syntax"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"
	"go.yaml.in/yaml/v3"
)

func parse(data []byte, dir, file string) (*Config, error) {
	r := &reader{dir: dir, origin: origin{file: file, lines: map[string]int{}}}
	c := &Config{origin: &r.origin}
	if root, ok := r.document(data); ok {
		root.mapping(map[string]func(value){
			"metric_relabel_configs": func(v value) { c.MetricRelabelConfigs = v.rules() },
			"services":               func(v value) { c.Services = v.services() },
			"organizations":          func(v value) { c.Organizations = v.organizations() },
		})
	}
	if err := r.errs.orNil(); err != nil {
		return nil, err
	}
	for _, o := range c.Organizations {
		if o.Services == nil {
			o.Services = c.Services
		}
		// A new slice for each: appending to the common rules in place would let
		// organizations overwrite each other's.
		own := o.MetricRelabelConfigs
		o.MetricRelabelConfigs = append(c.MetricRelabelConfigs[:len(c.MetricRelabelConfigs):len(c.MetricRelabelConfigs)], own...)
	}
	return c, nil
}

func (v value) organizations() []*Organization {
	var orgs []*Organization
	v.filled("remove the key to poll the one organization of flags and environment", func(item value) {
		orgs = append(orgs, item.organization())
	})
	v.distinct(orgs)
	return orgs
}

func (v value) organization() *Organization {
	o := &Organization{key: v.path, origin: &v.r.origin}
	var maxAge, rateUse, keyID, keySecret *value
	v.mapping(map[string]func(value){
		"id":                     func(v value) { v.id(&o.ID) },
		"name":                   func(v value) { v.text(&o.Name) },
		"api_url":                func(v value) { v.baseURL(&o.APIURL) },
		"key_id_file":            func(v value) { v.file(&o.KeyIDFile); keyID = &v },
		"key_secret_file":        func(v value) { v.file(&o.KeySecretFile); keySecret = &v },
		"ca_file":                func(v value) { v.file(&o.CAFile) },
		"rate_limit":             func(v value) { v.count(&o.RateLimit) },
		"rate_window":            func(v value) { v.duration(&o.RateWindow) },
		"rate_use":               func(v value) { v.count(&o.RateUse); rateUse = &v },
		"replicas":               func(v value) { v.count(&o.Replicas) },
		"metrics_interval":       func(v value) { v.duration(&o.MetricsInterval) },
		"inventory_interval":     func(v value) { v.duration(&o.InventoryInterval) },
		"max_age":                func(v value) { v.duration(&o.MaxAge); maxAge = &v },
		"enrich_labels":          func(v value) { o.EnrichLabels = v.tokens() },
		"services":               func(v value) { o.Services = v.services() },
		"metric_relabel_configs": func(v value) { o.MetricRelabelConfigs = v.rules() },
	})
	if v.node.Kind == yaml.MappingNode && len(v.node.Content) == 0 {
		v.fail("the organization is empty: give it at least an id, a name or its key files")
	}
	if keyID != nil && keySecret == nil {
		keyID.fail("key_secret_file is missing: name the file that holds the key's secret")
	}
	if keySecret != nil && keyID == nil {
		keySecret.fail("key_id_file is missing: name the file that holds the key's id")
	}
	if o.RateUse > 0 && o.RateLimit > 0 && o.RateUse > o.RateLimit {
		rateUse.fail("%d is more than rate_limit (%d): use at most that many", o.RateUse, o.RateLimit)
	}
	if o.MaxAge > 0 && o.MaxAge < o.MetricsInterval {
		maxAge.fail("%s is shorter than metrics_interval (%s), so that data would expire between two polls: raise it",
			model.Duration(o.MaxAge), model.Duration(o.MetricsInterval))
	}
	return o
}

// distinct notes what two organizations must not share.
func (v value) distinct(orgs []*Organization) {
	r := v.r
	firsts := map[string]string{}
	once := func(o *Organization, key, val, why string) {
		if val == "" {
			return
		}
		path := o.key + "." + key
		if first, ok := firsts[key+"\x00"+val]; ok {
			r.note(path, r.origin.lines[path], fmt.Sprintf("the same as in %s: %s", first, why))
			return
		}
		firsts[key+"\x00"+val] = o.key
	}
	inherits := ""
	for _, o := range orgs {
		once(o, "id", o.ID, "list an organization once")
		once(o, "name", o.Name, "give each organization a name of its own")
		// Two budgets for one key would together exceed what upstream grants it.
		once(o, "key_id_file", o.KeyIDFile, "a key belongs to one organization, so give each its own")
		once(o, "key_secret_file", o.KeySecretFile, "a key belongs to one organization, so give each its own")
		switch {
		case r.origin.lines[o.key+".key_id_file"] > 0 || r.origin.lines[o.key+".key_secret_file"] > 0:
		case inherits == "":
			inherits = o.key
		default:
			r.note(o.key, r.origin.lines[o.key], fmt.Sprintf(
				"neither this organization nor %s has key_id_file and key_secret_file: only one can use the key of flags and environment", inherits,
			))
		}
	}
}

const alphanumeric = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

// hasOther reports whether s has any character that is not one of those allowed.
func hasOther(s, allowed string) bool {
	return strings.ContainsFunc(s, func(c rune) bool { return !strings.ContainsRune(allowed, c) })
}

// id reads an identifier that becomes part of a URL's path and of a label.
func (v value) id(to *string) {
	var s string
	v.text(&s)
	if s == "" {
		return
	}
	if hasOther(s, alphanumeric+"-_") {
		v.fail("not an id: copy it from the console, it looks like ee2fef9f-b443-8ad0-8c9b-724390cdb826")
		return
	}
	*to = s
}

func (v value) baseURL(to *string) {
	var s string
	v.text(&s)
	if s == "" {
		return
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		v.fail("must be an http or https URL such as https://api.clickhouse.cloud")
	case u.User != nil:
		v.fail("must not carry user or password: name their files by key_id_file and key_secret_file")
	case u.RawQuery != "" || u.Fragment != "":
		v.fail("must end before any ? or #")
	default:
		*to = strings.TrimRight(s, "/")
	}
}

func (v value) tokens() []string {
	tokens := []string{}
	v.list(func(item value) {
		var s string
		if item.text(&s); s != "" {
			tokens = append(tokens, s)
		}
	})
	return tokens
}

func (v value) services() *Services {
	s := &Services{}
	v.mapping(map[string]func(value){
		"include": func(v value) { s.Include = v.filters() },
		"exclude": func(v value) { s.Exclude = v.filters() },
	})
	if v.node.Kind == yaml.MappingNode && len(v.node.Content) == 0 {
		v.fail("chooses nothing: give include or exclude, or remove the key to export every service")
	}
	return s
}

func (v value) filters() []Filter {
	var filters []Filter
	v.filled("remove the key to set no such condition", func(item value) {
		filters = append(filters, item.filter())
	})
	return filters
}

func (v value) filter() Filter {
	var f Filter
	v.mapping(map[string]func(value){
		"ids": func(v value) {
			v.filled("remove the key to match any id", func(item value) {
				var id string
				if item.id(&id); id != "" {
					f.IDs = append(f.IDs, id)
				}
			})
		},
		"name":   func(v value) { v.criterion(&f.Name) },
		"region": func(v value) { v.criterion(&f.Region) },
		"state":  func(v value) { v.criterion(&f.State) },
		"tags":   func(v value) { f.Tags = v.tags() },
	})
	if v.node.Kind == yaml.MappingNode && len(v.node.Content) == 0 {
		v.fail("matches every service: give at least one of ids, name, region, state, tags")
	}
	return f
}

// criterion is a pattern that is not empty: a service without a name does not exist.
func (v value) criterion(to *string) {
	if v.node.Kind == yaml.ScalarNode && v.node.Value == "" {
		v.fail("is empty and matches nothing: give a regular expression or remove the key")
		return
	}
	v.pattern(to)
}

func (v value) tags() map[string]string {
	if v.node.Kind != yaml.MappingNode {
		v.fail("must be a mapping of tag keys to regular expressions, not %s", v.kind())
		return nil
	}
	if len(v.node.Content) == 0 {
		v.fail("the mapping is empty: name a tag or remove the key")
	}
	tags := map[string]string{}
	v.entries(func(key string, _ int, item value) {
		var pattern string
		switch {
		case len(key) < 1 || len(key) > 128 || hasOther(key, alphanumeric+"._-"):
			item.fail("no tag can have this key: keys are 1 to 128 letters, digits, dots, underscores and hyphens")
		case item.null():
			item.fail(`has no value: write ".*" for any value, "" for a tag without one`)
		default:
			item.pattern(&pattern)
			tags[key] = pattern
		}
	})
	return tags
}

// rules reads relabelling rules by Prometheus's own decoder, one by one.
func (v value) rules() []*relabel.Config {
	rules := []*relabel.Config{}
	v.list(func(item value) {
		if rule := item.rule(); rule != nil {
			rules = append(rules, rule)
		}
	})
	return rules
}

func (v value) rule() *relabel.Config {
	before := len(v.r.errs)
	fields := map[string]func(value){}
	// Prometheus's type says which keys there are, so that a newer version of it
	// brings its new keys along.
	for t, i := reflect.TypeFor[relabel.Config](), 0; i < t.NumField(); i++ {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		if name == "" || name == "-" {
			continue
		}
		kind := t.Field(i).Type.Kind()
		fields[name] = func(v value) {
			switch kind {
			case reflect.Slice:
				v.list(func(item value) { item.scalar() })
			case reflect.Uint64:
				if n := 0; v.node.Tag != "!!int" || v.node.Decode(&n) != nil || n < 0 {
					v.fail("must be a whole number such as 8, not %s", v.kind())
				}
			default:
				v.scalar()
			}
			if len(v.r.errs) > before {
				return
			}
			// Each key alone, since an error of the whole rule does not say which it was.
			alone := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{
				{Kind: yaml.ScalarNode, Tag: "!!str", Value: name}, v.node,
			}}
			var c relabel.Config
			if err := alone.Decode(&c); err != nil {
				v.failRule(err)
			}
		}
	}
	v.mapping(fields)
	if len(v.r.errs) > before {
		return nil
	}
	var c relabel.Config
	if err := v.node.Decode(&c); err != nil {
		v.failRule(err)
		return nil
	}
	// Names may be any UTF-8, as in Prometheus 3; what a format cannot carry is
	// escaped when a page is written.
	if err := c.Validate(model.UTF8Validation); err != nil {
		v.failRule(err)
		return nil
	}
	return &c
}

// failRule notes what Prometheus says of a rule.
func (v value) failRule(err error) {
	var syntaxErr *syntax.Error
	if errors.As(err, &syntaxErr) {
		v.fail("not a regular expression in RE2 syntax: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		return
	}
	v.fail("%s (relabel_config in Prometheus's documentation says what is allowed)", strings.TrimPrefix(err.Error(), "yaml: "))
}
