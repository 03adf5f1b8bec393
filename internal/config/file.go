package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"
	"go.yaml.in/yaml/v3"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// parse returns the organizations that the file in data lists, or else the one of the
// flags, with what the file says for all. Every problem is in the error, an [Errors].
func parse(data []byte, dir, file string, flags *Organization) (orgs []*Organization, err error) {
	d := &decoding{file: file, dir: dir}
	one := flags.copy()
	var listed *value
	d.decode(data, func(root value) {
		root.mapping(map[string]func(value){
			"metric_relabel_configs": func(v value) { one.Rules = v.rules() },
			"services":               func(v value) { one.Selection = v.services() },
			"organizations":          func(v value) { listed = &v },
		})
		if listed == nil {
			orgs = []*Organization{one}
			return
		}
		// After what is for all, wherever that is in the file.
		listed.filled("remove the key to poll the one organization of flags and environment", func(item value) {
			orgs = append(orgs, item.organization(one))
		})
		d.checkDistinct(orgs)
	})
	if len(d.errs) == 0 && orgs == nil {
		orgs = []*Organization{one}
	}
	if err := d.errs.orNil(); err != nil {
		return nil, err
	}
	return orgs, nil
}

// organization reads one that starts from what is for all.
func (v value) organization(all *Organization) *Organization {
	before := len(v.d.errs)
	o := all.copy()
	o.ID, o.Name = "", ""
	o.place = source{v.path, v.d.file, v.line}
	o.sources["api.organization-id"] = source{"id", v.d.file, v.line} // should it be missing
	fields := map[string]func(value){
		"services": func(v value) { o.Selection = v.services() },
		// A new slice for each: appending to the common rules in place would let
		// organizations overwrite each other's.
		"metric_relabel_configs": func(v value) { o.Rules = append(slices.Clip(all.Rules), v.rules()...) },
	}
	given := map[string]value{}
	for _, s := range o.settings() {
		if s.Key != "" {
			fields[s.Key] = func(v value) {
				given[s.Key] = v
				v.set(s)
				o.sources[s.ID()] = source{s.Key, v.d.file, v.line}
			}
		}
	}
	v.mapping(fields)
	if v.empty(yaml.MappingNode) {
		v.fail("the organization is empty: give it at least an id, a name or its key files")
	}
	id, hasID := given["key_id_file"]
	secret, hasSecret := given["key_secret_file"]
	switch {
	case hasID && !hasSecret:
		id.fail("key_secret_file is missing: name the file that holds the key's secret")
	case hasSecret && !hasID:
		secret.fail("key_id_file is missing: name the file that holds the key's id")
	case hasID:
		o.API.Credentials = nil // see Loader
	}
	if wrong, err := o.check(); err != nil && len(v.d.errs) == before {
		line := v.line
		if s := o.sources[wrong]; s.line > 0 {
			line = s.line
		}
		v.d.note(v.path, line, err.Error())
	}
	return o
}

// set sets a setting by its one check.
func (v value) set(s Setting) {
	var text string
	var ok bool
	if s.list {
		var items []string
		v.list(func(item value) {
			if t, ok := item.text(); ok {
				items = append(items, t)
			}
		})
		text, ok = strings.Join(items, ","), v.node.Kind == yaml.SequenceNode
	} else {
		text, ok = v.text()
	}
	if s.path && text != "" && !filepath.IsAbs(text) && strings.TrimSpace(text) == text {
		text = filepath.Join(v.d.dir, text)
	}
	if !ok {
		return
	}
	if err := s.Value.Set(text); err != nil {
		v.fail("%s", err)
	}
}

// checkDistinct notes what two organizations must not share.
func (d *decoding) checkDistinct(orgs []*Organization) {
	firsts := map[string]string{}
	once := func(o *Organization, id, text, why string) {
		s := o.sources[id]
		if text == "" || s.line == 0 {
			return
		}
		if first, ok := firsts[id+"\x00"+text]; ok {
			d.note(o.place.name+"."+s.name, s.line, fmt.Sprintf("the same as in %s: %s", first, why))
			return
		}
		firsts[id+"\x00"+text] = o.place.name
	}
	inherits := ""
	for _, o := range orgs {
		once(o, "api.organization-id", inventory.CanonicalID(o.ID), "list an organization once")
		once(o, "name", o.Name, "give each organization a name of its own")
		// Two budgets for one key would together exceed what upstream grants it.
		const own = "a key belongs to one organization, so give each its own"
		once(o, "api.key-id-file", o.keyIDFile, own)
		once(o, "api.key-secret-file", o.keySecretFile, own)
		switch {
		case o.sources["api.key-id-file"].line > 0 || o.sources["api.key-secret-file"].line > 0:
		case inherits == "":
			inherits = o.place.name
		default:
			d.note(o.place.name, o.place.line, fmt.Sprintf(
				"neither this organization nor %s has key_id_file and key_secret_file: only one can use the key of flags and environment", inherits,
			))
		}
	}
}

func (v value) services() *inventory.Selection {
	var include, exclude []inventory.Filter
	before := len(v.d.errs)
	v.mapping(map[string]func(value){
		"include": func(v value) { include = v.filters() },
		"exclude": func(v value) { exclude = v.filters() },
	})
	if v.empty(yaml.MappingNode) {
		v.fail("chooses nothing: give include or exclude, or remove the key to export every service")
	}
	if len(v.d.errs) > before {
		return nil
	}
	s, err := inventory.NewSelection(include, exclude)
	if err != nil {
		v.fail("%s", err)
	}
	return s
}

func (v value) filters() []inventory.Filter {
	var filters []inventory.Filter
	v.filled("remove the key to set no such condition", func(item value) {
		filters = append(filters, item.filter())
	})
	return filters
}

func (v value) filter() inventory.Filter {
	var f inventory.Filter
	v.mapping(map[string]func(value){
		"ids": func(v value) {
			v.filled("remove the key to match any id", func(item value) {
				var id string
				item.set(Setting{Value: idTo(&id)})
				f.IDs = append(f.IDs, id)
			})
		},
		"name":   func(v value) { f.Name = v.criterion() },
		"region": func(v value) { f.Region = v.criterion() },
		"state":  func(v value) { f.State = v.criterion() },
		"tags":   func(v value) { f.Tags = v.tags() },
	})
	if v.empty(yaml.MappingNode) {
		v.fail("matches every service: give at least one of ids, name, region, state, tags")
	}
	return f
}

// criterion is a pattern that is not empty: no service is without a name.
func (v value) criterion() string {
	if v.node.Kind == yaml.ScalarNode && v.node.Value == "" {
		v.fail("is empty and matches nothing: give a regular expression or remove the key")
		return ""
	}
	return v.pattern()
}

// pattern reads a regular expression.
func (v value) pattern() string {
	text, ok := v.scalar()
	if !ok {
		return ""
	}
	// As it is, not anchored: "a)(b" must not become valid by what is put around it.
	if _, err := regexp.Compile(text); err != nil {
		v.failPattern(err)
	}
	return text
}

func (v value) failPattern(err error) {
	v.fail("not a regular expression in RE2 syntax: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
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
	v.entries(func(key string, item value) {
		switch {
		case !isTagKey(key):
			item.fail("no tag can have this key: " + tagKeys)
		case item.null():
			item.fail(`has no value: write ".*" for any value, "" for a tag without one`)
		default:
			tags[key] = item.pattern()
		}
	})
	return tags
}

// rules reads relabelling rules by Prometheus's own decoder.
func (v value) rules() []*relabel.Config {
	var rules []*relabel.Config
	v.list(func(item value) { rules = append(rules, item.rule()) })
	return rules
}

func (v value) rule() *relabel.Config {
	before := len(v.d.errs)
	fields := map[string]func(value){}
	// Prometheus's type says which keys there are, so that a newer version of it
	// brings its new keys along.
	for t, i := reflect.TypeFor[relabel.Config](), 0; i < t.NumField(); i++ {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		kind := t.Field(i).Type.Kind()
		if name == "" || name == "-" {
			continue
		}
		fields[name] = func(v value) {
			// Its errors for values of another kind would repeat them.
			switch n := 0; {
			case kind == reflect.Slice:
				v.list(func(item value) { item.scalar() })
			case kind != reflect.Uint64:
				v.scalar()
			case v.node.Tag != "!!int" || v.node.Decode(&n) != nil || n < 0:
				v.fail("must be a whole number such as 8, not %s", v.kind())
			}
			// Each key alone, since an error of the whole rule does not say which it was.
			key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name}
			alone := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{key, v.node}}
			if len(v.d.errs) == before {
				v.failRule(alone.Decode(&relabel.Config{}))
			}
		}
	}
	v.mapping(fields)
	c := &relabel.Config{}
	if len(v.d.errs) == before {
		v.failRule(v.node.Decode(c))
	}
	if len(v.d.errs) == before {
		// Names may be any UTF-8, as in Prometheus 3; what a format cannot carry is
		// escaped when a page is written.
		v.failRule(c.Validate(model.UTF8Validation))
	}
	return c
}

// failRule notes what Prometheus says of a rule, if it says anything.
func (v value) failRule(err error) {
	var syntaxErr *syntax.Error
	switch {
	case err == nil:
	case errors.As(err, &syntaxErr):
		v.failPattern(err)
	default:
		v.fail("%s (relabel_config in Prometheus's documentation says what is allowed)", strings.TrimPrefix(err.Error(), "yaml: "))
	}
}
