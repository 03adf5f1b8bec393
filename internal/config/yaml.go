package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

const (
	// maxNodes bounds the work for a file whose aliases multiply.
	maxNodes = 200_000
	// maxErrors is as many as a human reads at once.
	maxErrors = 20
)

// reader walks the tree of a YAML document and collects what is wrong with it.
type reader struct {
	origin origin
	dir    string
	nodes  int
	errs   Errors
}

// value is a node together with its place; aliases are resolved.
type value struct {
	r    *reader
	node *yaml.Node
	path string
}

// document returns the root of the one document in data, or false after having
// noted why there is none. A document of nothing but comments is an empty mapping.
func (r *reader) document(data []byte) (value, bool) {
	// Editors and copying truncate before they write. Taking an empty file for an
	// empty configuration would drop every rule on a reload at that moment.
	if len(bytes.TrimSpace(data)) == 0 {
		r.note("", 0, "the file is empty: if no configuration is wanted, write {} into it, or start without it")
		return value{}, false
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return value{r: r, node: &yaml.Node{Kind: yaml.MappingNode, Line: 1}}, true
	case err != nil:
		r.noteSyntax(err)
		return value{}, false
	}
	var second yaml.Node
	switch err := decoder.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		r.noteSyntax(err)
		return value{}, false
	default:
		r.note("", second.Line, "a second YAML document starts here: join them into one")
		return value{}, false
	}
	root := r.at(doc.Content[0], "")
	if root.node.Kind == yaml.ScalarNode && root.node.Tag == "!!null" {
		root.node = &yaml.Node{Kind: yaml.MappingNode, Line: root.node.Line}
	}
	return root, true
}

func (r *reader) at(node *yaml.Node, path string) value {
	r.nodes++
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return value{r: r, node: node, path: path}
}

func (r *reader) note(path string, line int, problem string) {
	if len(r.errs) < maxErrors {
		r.errs = append(r.errs, &Error{File: r.origin.file, Line: line, Key: path, Problem: problem})
	}
}

// noteSyntax understands "yaml: line 3: did not find expected key".
func (r *reader) noteSyntax(err error) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 0
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if number, problem, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				line, text = n, problem
			}
		}
	}
	// The line of the package is off by one for some errors.
	if line > 0 {
		text += " (look at this line and those next to it)"
	}
	r.note("", line, "not valid YAML: "+text)
}

func (v value) fail(format string, args ...any) {
	v.r.note(v.path, v.node.Line, fmt.Sprintf(format, args...))
}

// spent reports that the file has become too large by its aliases.
func (v value) spent() bool {
	if v.r.nodes <= maxNodes {
		return false
	}
	if v.r.nodes != 1<<62 {
		v.fail("the aliases up to here expand to more than %d values: write fewer", maxNodes)
		v.r.nodes = 1 << 62
	}
	return true
}

// mapping calls the function of every key that is given. Keys that are unknown,
// repeated or without a value are errors.
func (v value) mapping(fields map[string]func(value)) {
	if v.node.Kind != yaml.MappingNode {
		v.fail("must be a mapping of keys to values, not %s", v.kind())
		return
	}
	v.entries(func(key string, at int, item value) {
		field, known := fields[key]
		switch {
		case known && item.null():
			item.fail("has no value: give it one or remove the key")
		case known:
			field(item)
		case key == "<<":
			v.r.note(item.path, at, "merge keys are not understood: repeat the keys that are meant")
		case inlineSecret(key):
			v.r.note(item.path, at, "no key and no secret is read from this file: put them into files of their own and name these by key_id_file and key_secret_file")
		default:
			v.r.note(item.path, at, "unknown key: known here are "+strings.Join(sortedKeys(fields), ", "))
		}
	})
}

// entries calls f for every key of a mapping, with the key's line.
func (v value) entries(f func(key string, line int, item value)) {
	seen := make(map[string]int, len(v.node.Content)/2)
	for i := 0; i+1 < len(v.node.Content) && !v.spent(); i += 2 {
		k := v.node.Content[i]
		if k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		if k.Kind != yaml.ScalarNode {
			v.r.note(v.path, k.Line, "a key must be plain text")
			continue
		}
		path := k.Value
		if v.path != "" {
			path = v.path + "." + k.Value
		}
		if first, ok := seen[k.Value]; ok {
			v.r.note(path, k.Line, fmt.Sprintf("given twice, first in line %d: remove one", first))
			continue
		}
		seen[k.Value] = k.Line
		item := v.r.at(v.node.Content[i+1], path)
		v.r.origin.lines[path] = k.Line
		f(k.Value, k.Line, item)
	}
}

// list calls f for every item.
func (v value) list(f func(item value)) {
	if v.node.Kind != yaml.SequenceNode {
		v.fail("must be a list, not %s", v.kind())
		return
	}
	for i, n := range v.node.Content {
		if v.spent() {
			return
		}
		item := v.r.at(n, v.path+"["+strconv.Itoa(i)+"]")
		v.r.origin.lines[item.path] = n.Line
		if item.null() {
			item.fail("is empty: complete it or remove it")
			continue
		}
		f(item)
	}
}

// filled is list for one that must not be empty; otherwise says what to do instead.
func (v value) filled(otherwise string, f func(item value)) {
	if v.node.Kind == yaml.SequenceNode && len(v.node.Content) == 0 {
		v.fail("the list is empty: %s", otherwise)
		return
	}
	v.list(f)
}

func (v value) null() bool {
	return v.node.Kind == yaml.ScalarNode && v.node.Tag == "!!null"
}

// kind names what was found. It never quotes it: it may be a misplaced secret.
func (v value) kind() string {
	switch v.node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch v.node.Tag {
	case "!!null":
		return "nothing"
	case "!!int":
		return "a number"
	case "!!float":
		return "a fraction or a number too large"
	case "!!bool":
		return "a boolean"
	}
	return "text"
}

// scalar returns the text of any single value; "123" and 123 are the same.
func (v value) scalar() (string, bool) {
	if v.node.Kind != yaml.ScalarNode || v.null() {
		v.fail("must be text, not %s", v.kind())
		return "", false
	}
	return v.node.Value, true
}

// text reads text that is not empty and has neither control characters nor
// space around it, neither of which is ever meant.
func (v value) text(to *string) {
	s, ok := v.scalar()
	switch {
	case !ok:
	case s == "":
		v.fail("is empty: give it a value or remove the key")
	case strings.TrimSpace(s) != s || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }):
		v.fail("has white space around it or control characters in it: remove them")
	default:
		*to = s
	}
}

// count reads an integer of at least 1.
func (v value) count(to *int) {
	var n int
	if v.node.Kind != yaml.ScalarNode || v.node.Tag != "!!int" || v.node.Decode(&n) != nil {
		v.fail("must be a whole number such as 10, not %s", v.kind())
		return
	}
	const most = 1_000_000
	if n < 1 || n > most {
		v.fail("must be from 1 to %d, not %d", most, n)
		return
	}
	*to = n
}

// duration reads a duration of at least a second, in Prometheus's notation.
func (v value) duration(to *time.Duration) {
	const notation = "write a number with a unit such as 30s, 5m or 1h30m"
	s, ok := v.scalar()
	if !ok {
		return
	}
	d, err := model.ParseDuration(s)
	switch {
	case err != nil:
		v.fail("not a duration: %s", notation)
	case time.Duration(d) < time.Second:
		v.fail("must be at least 1s: %s", notation)
	default:
		*to = time.Duration(d)
	}
}

// pattern reads a regular expression.
func (v value) pattern(to *string) {
	s, ok := v.scalar()
	if !ok {
		return
	}
	// As it is, not anchored: "a)(b" must not become valid by what is put around it.
	if _, err := regexp.Compile(s); err != nil {
		v.fail("not a regular expression in RE2 syntax: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		return
	}
	*to = s
}

// file reads the name of a file, relative to the directory of this one.
func (v value) file(to *string) {
	var s string
	if v.text(&s); s == "" {
		return
	}
	if !filepath.IsAbs(s) {
		s = filepath.Join(v.r.dir, s)
	}
	*to = filepath.Clean(s)
	v.r.origin.files = append(v.r.origin.files, fileRef{key: v.path, path: *to})
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

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
