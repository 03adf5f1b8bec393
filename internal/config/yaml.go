package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/relabel"
	"go.yaml.in/yaml/v3"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

const (
	maxErrors = 20   // as many as a human reads at once
	maxPath   = 1000 // of what nests deeper, yaml says that it does not belong there
)

// content is what a file holds.
type content struct {
	Rules         []rule      `yaml:"metric_relabel_configs"`
	Services      *selection  `yaml:"services"`
	Organizations []orgFields `yaml:"organizations"`
}

type selection struct{ Include, Exclude []inventory.Filter }

type orgFields struct {
	Rules    []rule                 `yaml:"metric_relabel_configs"`
	Services *selection             `yaml:"services"`
	Settings map[string]settingText `yaml:",inline"` // by their [Setting.Key]
}

// settingText is the text of a setting, as it would be in a flag.
type settingText struct {
	text string
	list bool
}

// UnmarshalYAML takes a single value, or a list of them.
func (s *settingText) UnmarshalYAML(n *yaml.Node) error {
	if s.list = n.Kind == yaml.SequenceNode; !s.list {
		return n.Decode(&s.text)
	}
	var items []string
	err := n.Decode(&items)
	s.text = strings.Join(items, ",")
	return err
}

// rule is one of Prometheus's, and what its decoder says of it without a line.
type rule struct {
	relabel.Config
	err error
}

// UnmarshalYAML keeps yaml's own errors apart, which have lines.
func (r *rule) UnmarshalYAML(unmarshal func(any) error) error {
	r.err = unmarshal(&r.Config)
	if typeErr := (*yaml.TypeError)(nil); errors.As(r.err, &typeErr) {
		return typeErr
	}
	return nil
}

// decoding is the reading of one file.
type decoding struct {
	file, dir string
	lines     map[string]int // of keys and items, by their path
	errs      Errors
}

// decode tells whether the one document in data has the form of content. One that is
// empty but for comments is as good as {}.
func (d *decoding) decode(data []byte) (c content, ok bool) {
	// Editors and copying truncate before they write. Taking an empty file for an
	// empty configuration would drop every rule on a reload at that moment.
	if len(bytes.TrimSpace(data)) == 0 {
		d.note(0, "", "the file is empty: if no configuration is wanted, write {} into it, or start without it")
		return c, false
	}
	var root, second yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	err := decoder.Decode(&root)
	if errors.Is(err, io.EOF) {
		return c, true
	}
	if err == nil {
		d.survey(root.Content[0], "", root.Content[0].Line)
		strict := yaml.NewDecoder(bytes.NewReader(data))
		strict.KnownFields(true)
		err = strict.Decode(&c)
	}
	if err == nil {
		if err = decoder.Decode(&second); err == nil {
			d.note(second.Line, "", "a second YAML document starts here: join them into one")
			return c, false
		}
	}
	var typeErr *yaml.TypeError
	switch {
	case errors.Is(err, io.EOF):
		return c, true
	case errors.As(err, &typeErr):
		for _, text := range typeErr.Errors {
			line, problem := lineOf(text)
			d.note(line, "", reword(problem))
		}
	default:
		text := strings.TrimPrefix(err.Error(), "yaml: ")
		line, problem := lineOf(text)
		if line > 0 {
			problem += " (look at this line and those next to it)" // it is off by one for some errors
		}
		d.note(line, "", "not valid YAML: "+problem)
	}
	return c, false
}

// survey learns where everything is, and notes what yaml would pass over: values that are
// left out, which may be there tomorrow, and secrets.
func (d *decoding) survey(n *yaml.Node, path string, line int) {
	if len(path) > maxPath {
		return
	}
	d.lines[path] = line
	free := strings.Contains(path, "metric_relabel_configs") || strings.Contains(path, ".tags.") // may be empty
	key := path[strings.LastIndex(path, ".")+1:]
	switch {
	case path == "" && n.Tag == "!!null":
	case n.Tag == "!!null":
		d.fail(path, "has no value: give it one or remove it")
	case !free && inlineSecret(key):
		d.fail(path, "no key and no secret is read from this file: put them into files of their own and name these by key_id_file and key_secret_file")
	case n.Kind == yaml.ScalarNode && n.Value == "" && !free:
		d.fail(path, "is empty: give it a value or remove the key")
	case n.Kind == yaml.MappingNode && len(n.Content) == 0 && path != "":
		d.fail(path, "the mapping is empty: fill it or remove it")
	case n.Kind == yaml.SequenceNode && len(n.Content) == 0 && slices.Contains([]string{"organizations", "include", "exclude", "ids"}, key):
		d.fail(path, "the list is empty: fill it or remove the key")
	}
	for i, inner := range n.Content {
		switch {
		case n.Kind == yaml.SequenceNode:
			d.survey(inner, path+"["+strconv.Itoa(i)+"]", inner.Line)
		case i%2 == 1:
			key := n.Content[i-1]
			d.survey(inner, strings.TrimPrefix(path+"."+key.Value, "."), key.Line)
		}
	}
}

// line returns where a key or item is; of one that an alias or a merge brings, where that is.
func (d *decoding) line(path string) int {
	for d.lines[path] == 0 && path != "" {
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return d.lines[path]
}

func (d *decoding) fail(path, format string, args ...any) {
	d.note(d.line(path), path, fmt.Sprintf(format, args...))
}

// note notes no more than one thing of a line: another one is often due to the first.
func (d *decoding) note(line int, path, problem string) {
	known := slices.ContainsFunc(d.errs, func(e *Error) bool { return e.Line == line && line > 0 })
	if !known && len(d.errs) < maxErrors {
		d.errs = append(d.errs, &Error{File: d.file, Line: line, Key: path, Problem: problem})
	}
}

// lineOf splits "line 3: did not find expected key".
func lineOf(text string) (line int, problem string) {
	if number, problem, ok := strings.Cut(strings.TrimPrefix(text, "line "), ": "); ok {
		if line, err := strconv.Atoi(number); err == nil {
			return line, problem
		}
	}
	return 0, text
}

// reword says what yaml does in the words of users, and without the value, which may be a
// misplaced secret.
func reword(problem string) string {
	if key, in, ok := strings.Cut(strings.TrimPrefix(problem, "field "), " not found in type "); ok {
		return "unknown key " + key + ": known here are " + strings.Join(keysOf(in), ", ")
	}
	found, unmarshal := strings.CutPrefix(problem, "cannot unmarshal !!")
	if i := strings.LastIndex(found, " into "); unmarshal && i > 0 {
		want := found[i+len(" into "):]
		found, _, _ = strings.Cut(found[:i], " ")
		switch {
		case strings.HasPrefix(want, "[]"), strings.HasSuffix(want, "LabelNames"):
			want = "a list"
		case want == "string", strings.HasSuffix(want, "LabelName"):
			want = "text"
		case want == "uint64":
			want = "a whole number such as 8"
		default:
			want = "a mapping of keys to values"
		}
		kinds := map[string]string{"map": "a mapping", "seq": "a list", "int": "a number", "float": "a number", "bool": "a boolean"}
		return "must be " + want + ", not " + cmp.Or(kinds[found], "text")
	}
	if twice, ok := strings.CutPrefix(problem, "mapping "); ok {
		return twice + ": remove one"
	}
	return problem
}

// keysOf returns the keys of a mapping, by the name of its type.
func keysOf(name string) []string {
	var keys []string
	for _, t := range []reflect.Type{reflect.TypeFor[content](), reflect.TypeFor[selection](), reflect.TypeFor[inventory.Filter](), reflect.TypeFor[relabel.Config]()} {
		if t.String() != name && (name != "relabel.plain" || t != reflect.TypeFor[relabel.Config]()) {
			continue
		}
		for i := range t.NumField() {
			key, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
			if key = cmp.Or(key, strings.ToLower(t.Field(i).Name)); key != "-" {
				keys = append(keys, key)
			}
		}
	}
	slices.Sort(keys)
	return keys
}

// inlineSecret recognizes the keys by which people try to write a secret into the file.
func inlineSecret(key string) bool {
	switch strings.NewReplacer("-", "_", " ", "_").Replace(strings.ToLower(key)) {
	case "key_id", "key_secret", "secret", "api_key", "api_secret", "api_key_id", "api_key_secret",
		"key", "password", "basic_auth", "credentials", "token", "bearer_token",
		"clickhouse_cloud_api_key", "clickhouse_cloud_api_secret":
		return true
	}
	return false
}
