package config

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// parse returns the organizations that the file in data lists, or else the one of the
// flags, with what the file says for all. Every problem is in the error, an [Errors].
func parse(data []byte, dir, file string, flags *Organization) (orgs []*Organization, err error) {
	d := &decoding{file: file, dir: dir, lines: map[string]int{}}
	if c, ok := d.decode(data); ok {
		all := flags.copy()
		all.Rules, all.Selection = d.rules("metric_relabel_configs", c.Rules), d.selection("services", c.Services)
		for i, fields := range c.Organizations {
			orgs = append(orgs, d.organization(fmt.Sprintf("organizations[%d]", i), fields, all))
		}
		d.checkDistinct(orgs)
		if orgs == nil {
			orgs = []*Organization{all}
		}
	}
	if err := d.errs.orNil(); err != nil {
		return nil, err
	}
	return orgs, nil
}

// organization returns one that starts from what is for all.
func (d *decoding) organization(path string, fields orgFields, all *Organization) *Organization {
	before := len(d.errs)
	o := all.copy()
	o.ID, o.Name = "", ""
	o.place = source{path, d.file, d.line(path)}
	o.sources["api.organization-id"] = source{"id", d.file, d.line(path)} // should it be missing
	// A new slice for each: appending to the common rules in place would let
	// organizations overwrite each other's.
	o.Rules = append(slices.Clip(all.Rules), d.rules(path+".metric_relabel_configs", fields.Rules)...)
	if fields.Services != nil {
		o.Selection = d.selection(path+".services", fields.Services)
	}
	known := map[string]Setting{}
	for _, s := range o.settings() {
		known[s.Key] = s
	}
	delete(known, "")
	for key, value := range fields.Settings {
		at := path + "." + key
		s, ok := known[key]
		if !ok {
			keys := append(slices.Collect(maps.Keys(known)), "metric_relabel_configs", "services")
			slices.Sort(keys)
			d.fail(at, "unknown key: known here are %s", strings.Join(keys, ", "))
			continue
		}
		o.sources[s.ID()] = source{s.Key, d.file, d.line(at)}
		text := value.text
		if s.File && text != "" && !filepath.IsAbs(text) && strings.TrimSpace(text) == text {
			text = filepath.Join(d.dir, text)
		}
		if value.list && !s.List {
			d.fail(at, "must be text, not a list")
		} else if err := s.Value.Set(text); err != nil {
			d.fail(at, "%s", err)
		}
	}
	_, hasID := fields.Settings["key_id_file"]
	_, hasSecret := fields.Settings["key_secret_file"]
	switch {
	case hasID && !hasSecret:
		d.fail(path+".key_id_file", "key_secret_file is missing: name the file that holds the key's secret")
	case hasSecret && !hasID:
		d.fail(path+".key_secret_file", "key_id_file is missing: name the file that holds the key's id")
	case hasID:
		o.API.Credentials = nil // see Loader
	}
	if wrong, err := o.check(); err != nil && len(d.errs) == before {
		line := o.place.line
		if s := o.sources[wrong]; s.line > 0 {
			line = s.line
		}
		d.note(line, path, err.Error())
	}
	return o
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
			d.note(s.line, o.place.name+"."+s.name, fmt.Sprintf("the same as in %s: %s", first, why))
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
			d.note(o.place.line, o.place.name, fmt.Sprintf(
				"neither this organization nor %s has key_id_file and key_secret_file: only one can use the key of flags and environment", inherits,
			))
		}
	}
}

// selection returns what the file selects, nil for every service.
func (d *decoding) selection(path string, s *selection) *inventory.Selection {
	if s == nil {
		return nil
	}
	for side, filters := range map[string][]inventory.Filter{"include": s.Include, "exclude": s.Exclude} {
		for i, f := range filters {
			d.filter(fmt.Sprintf("%s.%s[%d]", path, side, i), f)
		}
	}
	if len(d.errs) > 0 {
		return nil
	}
	selected, err := inventory.NewSelection(s.Include, s.Exclude)
	if err != nil {
		d.fail(path, "%s", err)
	}
	return selected
}

// filter notes what is wrong with one.
func (d *decoding) filter(path string, f inventory.Filter) {
	for i, id := range f.IDs {
		if err := idTo(new(string)).Set(id); err != nil {
			d.fail(fmt.Sprintf("%s.ids[%d]", path, i), "%s", err)
		}
	}
	for key := range f.Tags {
		if len(key) < 1 || len(key) > 128 || !only(key, alphanumeric+"._-") {
			d.fail(path+".tags."+key, "no tag can have this key: keys are 1 to 128 letters, digits, dots, underscores and hyphens")
		}
	}
	_, err := f.Compile()
	var syntaxErr *syntax.Error
	if errors.As(err, &syntaxErr) {
		criterion, _, _ := strings.Cut(err.Error(), ": ")
		d.failPattern(path+"."+strings.Replace(criterion, "tag ", "tags.", 1), syntaxErr)
	}
}

// rules returns those that Prometheus takes.
func (d *decoding) rules(path string, rules []rule) []*relabel.Config {
	out := make([]*relabel.Config, len(rules))
	for i, r := range rules {
		at := fmt.Sprintf("%s[%d]", path, i)
		err := r.err
		if err == nil {
			// Names may be any UTF-8, as in Prometheus 3; what a format cannot carry is
			// escaped when a page is written.
			err = r.Validate(model.UTF8Validation)
		}
		var syntaxErr *syntax.Error
		switch {
		case errors.As(err, &syntaxErr):
			d.failPattern(at+".regex", syntaxErr)
		case err != nil:
			d.fail(at+keyOf(r.err), "%s (relabel_config in Prometheus's documentation says what is allowed)", err)
		}
		out[i] = &r.Config
	}
	return out
}

// keyOf returns which key of a rule Prometheus's decoder refused, as far as its words tell.
func keyOf(err error) string {
	switch {
	case err == nil:
	case strings.Contains(err.Error(), "relabel action"):
		return ".action"
	case strings.Contains(err.Error(), "label name"):
		return ".source_labels"
	}
	return ""
}

func (d *decoding) failPattern(path string, err *syntax.Error) {
	d.fail(path, "not a regular expression in RE2 syntax: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
}
