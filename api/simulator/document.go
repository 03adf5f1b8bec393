package simulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxNameLength     = 50
	maxTags           = 50
	maxTagValueLength = 256
	maxBouncerConfig  = 64
	minPasswordLength = 12
	maxPasswordLength = 1024
	reservedTagPrefix = "chc_"
)

var (
	namePattern      = regexp.MustCompile(`^[\p{L}\p{N} ._-]+$`)
	tagKeyPattern    = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,128}$`)
	tagValuePattern  = regexp.MustCompile(`^[a-zA-Z0-9._-]+$`)
	bouncerPattern   = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	uuidPattern      = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	gcpRegionPattern = regexp.MustCompile(`^[a-z]+-[a-z]+[0-9]{1,2}$`)
	quantityPattern  = regexp.MustCompile(`^(-?[0-9]+(?:\.[0-9]+)?)(B|kB|MB|GB|TB|us|ms|s|min|m|h|d)?$`)
)

// Values for document.choice.
const (
	providers = aws + ", " + gcp
	versions  = "18, 17"
	haTypes   = "none, async, sync"
	commands  = "restart, promote, switchover"
)

// A document is the JSON object in the body of a request, read field by field. err is the first
// thing that is wrong with it, and names the field.
type document struct {
	fields map[string]json.RawMessage
	err    error
}

func parseDocument(body []byte, allowed ...string) *document {
	d := &document{}
	dec := json.NewDecoder(bytes.NewReader(body))
	if err := dec.Decode(&d.fields); err != nil || d.fields == nil {
		return &document{err: fmt.Errorf("request body must be a JSON object%s", cause(err))}
	}
	if _, err := dec.Token(); err != io.EOF {
		return &document{err: errors.New("request body must be one JSON object, and nothing after it")}
	}
	for _, name := range slices.Sorted(maps.Keys(d.fields)) {
		if !slices.Contains(allowed, name) {
			d.fail("%s is not a known field: use %s", name, strings.Join(allowed, ", "))
		}
	}
	return d
}

func cause(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}

func (d *document) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
}

func (d *document) has(name string) bool {
	_, ok := d.fields[name]
	return ok
}

func (d *document) require(names ...string) {
	for _, name := range names {
		if !d.has(name) {
			d.fail("%s is required", name)
		}
	}
}

// text reads a string that must not be null.
func (d *document) text(name string) string {
	if !d.has(name) {
		return ""
	}
	var v *string
	if err := json.Unmarshal(d.fields[name], &v); err != nil || v == nil {
		d.fail("%s must be a string", name)
		return ""
	}
	return *v
}

// choice reads one of several values, which are separated by a comma and a space. It returns
// otherwise if the field is absent.
func (d *document) choice(name, otherwise, values string) string {
	if !d.has(name) {
		return otherwise
	}
	v := d.text(name)
	if !slices.Contains(strings.Split(values, ", "), v) {
		d.fail("%s must be one of %s, and is %.64q", name, values, v)
	}
	return v
}

func (d *document) name() string {
	v := d.text("name")
	if !d.has("name") {
		return v
	}
	if n := utf8.RuneCountInString(v); n < 1 || n > maxNameLength {
		d.fail("name must have 1 to %d characters, and has %d", maxNameLength, n)
	}
	if !namePattern.MatchString(v) || strings.TrimSpace(v) == "" {
		d.fail("name must be of letters, digits and spaces")
	}
	return v
}

// region reads a region. Those of aws are known; for gcp, only the form is checked.
func (d *document) region(provider string) string {
	if provider != gcp {
		return d.choice("region", "", regions)
	}
	v := d.text("region")
	if d.has("region") && !gcpRegionPattern.MatchString(v) {
		d.fail("region must be one of gcp such as europe-west4, and is %.64q", v)
	}
	return v
}

func (d *document) size(provider string) string {
	v := d.text("size")
	if _, ok := machineOf(v); d.has("size") && (!ok || providerOf(v) != provider) {
		examples := "r6gd.medium or r8gd.large"
		if provider == gcp {
			examples = "c4a-highmem-8 or z3-highlssd-8"
		}
		d.fail("size must be a VM size such as %s, and is %.64q", examples, v)
	}
	return v
}

// tags reads the list of tags; null, as in a JSON merge patch, empties it.
func (d *document) tags() []Tag {
	if !d.has("tags") {
		return nil
	}
	var list []map[string]json.RawMessage
	if err := json.Unmarshal(d.fields["tags"], &list); err != nil {
		d.fail("tags must be a list of objects with key and, optionally, value")
		return nil
	}
	if len(list) > maxTags {
		d.fail("tags must be at most %d, and are %d", maxTags, len(list))
	}
	tags, seen := make([]Tag, 0, len(list)), map[string]bool{}
	for i, fields := range list {
		at := "tags[" + strconv.Itoa(i) + "]"
		t := document{fields: fields}
		for name := range fields {
			if name != "key" && name != "value" {
				t.fail("%.64s is not a known field: use key, value", name)
			}
		}
		tag := Tag{Key: t.text("key"), Value: t.text("value")}
		if t.err != nil {
			d.fail("%s.%w", at, t.err)
		}
		switch {
		case !tagKeyPattern.MatchString(tag.Key):
			d.fail("%s.key must be 1 to 128 letters, digits, dashes, underscores and dots", at)
		case strings.HasPrefix(tag.Key, reservedTagPrefix):
			d.fail("%s.key must not start with %s, which is reserved", at, reservedTagPrefix)
		case seen[tag.Key]:
			d.fail("%s.key %s was given before", at, tag.Key)
		case t.has("value") && (len(tag.Value) > maxTagValueLength || !tagValuePattern.MatchString(tag.Value)):
			d.fail("%s.value must be 1 to %d letters, digits, dashes, underscores and dots", at, maxTagValueLength)
		}
		seen[tag.Key] = true
		tags = append(tags, tag)
	}
	return tags
}

func (d *document) time(name string) time.Time {
	t, err := time.Parse(time.RFC3339, d.text(name))
	if err != nil {
		d.fail("%s must be a time such as 2026-03-31T18:17:37Z", name)
	}
	return t
}

// object reads a map of settings. Numbers keep the form in which they were sent.
func (d *document) object(name string) map[string]any {
	if !d.has(name) {
		return nil
	}
	var v map[string]any
	dec := json.NewDecoder(bytes.NewReader(d.fields[name]))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil || v == nil {
		d.fail("%s must be an object", name)
	}
	return v
}

// pgConfig reads settings of Postgres. With patch, null removes a setting.
func (d *document) pgConfig(patch bool) map[string]any {
	config := d.object("pgConfig")
	for _, name := range slices.Sorted(maps.Keys(config)) {
		s, ok := settingOf(name)
		switch v := config[name]; {
		case !ok:
			d.fail("pgConfig.%.64s is not a parameter that can be set", name)
		case v == nil && patch:
		default:
			if err := s.check(v); err != nil {
				d.fail("pgConfig.%s %w", name, err)
			}
		}
	}
	return config
}

// bouncerConfig reads settings of PgBouncer, all of which are strings.
func (d *document) bouncerConfig(patch bool) map[string]any {
	config := d.object("pgBouncerConfig")
	if len(config) > maxBouncerConfig {
		d.fail("pgBouncerConfig must have at most %d parameters, and has %d", maxBouncerConfig, len(config))
	}
	for _, name := range slices.Sorted(maps.Keys(config)) {
		_, isText := config[name].(string)
		switch {
		case !bouncerPattern.MatchString(name):
			d.fail("pgBouncerConfig.%.64q is not a parameter", name)
		case !isText && (config[name] != nil || !patch):
			d.fail("pgBouncerConfig.%.64s must be a string", name)
		}
	}
	return config
}

// initialConfig reads the settings of a new service. A map may be absent, but not empty.
func (d *document) initialConfig() (postgres, bouncer map[string]any) {
	postgres, bouncer = d.pgConfig(false), d.bouncerConfig(false)
	if d.has("pgConfig") && len(postgres) == 0 {
		d.fail("pgConfig must not be empty: leave it out")
	}
	if d.has("pgBouncerConfig") && len(bouncer) == 0 {
		d.fail("pgBouncerConfig must not be empty: leave it out")
	}
	return postgres, bouncer
}

// password reads a password. No error contains it.
func (d *document) password() string {
	v := d.text("password")
	if !d.has("password") {
		return v
	}
	if len(v) < minPasswordLength || len(v) > maxPasswordLength {
		d.fail("password must have %d to %d characters", minPasswordLength, maxPasswordLength)
	}
	for _, class := range []struct{ first, last rune }{{'a', 'z'}, {'A', 'Z'}, {'0', '9'}} {
		if !strings.ContainsFunc(v, func(r rune) bool { return class.first <= r && r <= class.last }) {
			d.fail("password must have at least one lowercase letter, one uppercase letter and one digit")
		}
	}
	return v
}
