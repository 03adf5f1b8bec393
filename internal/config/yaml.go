package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	// maxNodes bounds the work for a file whose aliases multiply.
	maxNodes = 200_000
	// maxErrors is as many as a human reads at once.
	maxErrors = 20
)

// value is a node of the file together with its place. Its methods note what is
// wrong; aliases are resolved. yaml's own decoding of structs would not do: it takes a
// key without a value for one that is not there, repeats wrong values in its errors,
// and forgets KnownFields below every UnmarshalYAML.
type value struct {
	d    *decoding
	node *yaml.Node
	path string
	line int // of the key
}

// decoding is the reading of one file.
type decoding struct {
	file, dir string
	nodes     int
	errs      Errors
}

// decode calls root for the one document in data. One that is empty but for comments
// is as good as {}.
func (d *decoding) decode(data []byte, root func(value)) {
	// Editors and copying truncate before they write. Taking an empty file for an
	// empty configuration would drop every rule on a reload at that moment.
	if len(bytes.TrimSpace(data)) == 0 {
		d.note("", 0, "the file is empty: if no configuration is wanted, write {} into it, or start without it")
		return
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	document := func() *yaml.Node {
		var node yaml.Node
		switch err := decoder.Decode(&node); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			d.noteSyntax(err)
			return nil
		}
		return &node
	}
	first, second := document(), (*yaml.Node)(nil)
	if first != nil {
		second = document()
	}
	switch {
	case len(d.errs) > 0 || first == nil:
	case second != nil:
		d.note("", second.Line, "a second YAML document starts here: join them into one")
	default:
		if v := d.at(first.Content[0], "", 0); !v.null() {
			root(v)
		}
	}
}

// noteSyntax understands "yaml: line 3: did not find expected key".
func (d *decoding) noteSyntax(err error) {
	text, line := strings.TrimPrefix(err.Error(), "yaml: "), 0
	if number, problem, ok := strings.Cut(strings.TrimPrefix(text, "line "), ": "); ok {
		if n, err := strconv.Atoi(number); err == nil {
			// The line of the package is off by one for some errors.
			line, text = n, problem+" (look at this line and those next to it)"
		}
	}
	d.note("", line, "not valid YAML: "+text)
}

func (d *decoding) note(path string, line int, problem string) {
	if len(d.errs) < maxErrors {
		d.errs = append(d.errs, &Error{File: d.file, Line: line, Key: path, Problem: problem})
	}
}

func (d *decoding) at(node *yaml.Node, path string, line int) value {
	d.nodes++
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return value{d: d, node: node, path: path, line: line}
}

func (v value) fail(format string, args ...any) {
	v.d.note(v.path, v.node.Line, fmt.Sprintf(format, args...))
}

// spent notes once that the file has become too large by its aliases.
func (v value) spent() bool {
	if v.d.nodes == maxNodes+1 {
		v.fail("the aliases up to here expand to more than %d values: write fewer", maxNodes)
		v.d.nodes++
	}
	return v.d.nodes > maxNodes
}

// mapping calls the function of every key that is given. Keys that are unknown,
// repeated or without a value are errors.
func (v value) mapping(fields map[string]func(value)) {
	if v.node.Kind != yaml.MappingNode {
		v.fail("must be a mapping of keys to values, not %s", v.kind())
		return
	}
	v.entries(func(key string, item value) {
		field, known := fields[key]
		switch {
		case known && item.null():
			item.fail("has no value: give it one or remove the key")
		case known:
			field(item)
		case key == "<<":
			v.d.note(item.path, item.line, "merge keys are not understood: repeat the keys that are meant")
		case inlineSecret(key):
			v.d.note(item.path, item.line, "no key and no secret is read from this file: put them into files of their own and name these by key_id_file and key_secret_file")
		default:
			v.d.note(item.path, item.line, "unknown key: known here are "+strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
		}
	})
}

// entries calls f for every key of a mapping.
func (v value) entries(f func(key string, item value)) {
	seen := make(map[string]int, len(v.node.Content)/2)
	for i := 0; i+1 < len(v.node.Content) && !v.spent(); i += 2 {
		k := v.node.Content[i]
		if k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		path := strings.TrimPrefix(v.path+"."+k.Value, ".")
		switch first, repeated := seen[k.Value]; {
		case k.Kind != yaml.ScalarNode:
			v.d.note(v.path, k.Line, "a key must be plain text")
		case repeated:
			v.d.note(path, k.Line, fmt.Sprintf("given twice, first in line %d: remove one", first))
		default:
			seen[k.Value] = k.Line
			f(k.Value, v.d.at(v.node.Content[i+1], path, k.Line))
		}
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
		item := v.d.at(n, v.path+"["+strconv.Itoa(i)+"]", n.Line)
		if item.null() {
			item.fail("is empty: complete it or remove it")
			continue
		}
		f(item)
	}
}

// filled is list for one that must not be empty; otherwise says what to do instead.
func (v value) filled(otherwise string, f func(item value)) {
	if v.empty(yaml.SequenceNode) {
		v.fail("the list is empty: %s", otherwise)
		return
	}
	v.list(f)
}

func (v value) empty(kind yaml.Kind) bool { return v.node.Kind == kind && len(v.node.Content) == 0 }

func (v value) null() bool { return v.node.Kind == yaml.ScalarNode && v.node.Tag == "!!null" }

// kind names what was found. It never quotes it: it may be a misplaced secret.
func (v value) kind() string {
	switch {
	case v.node.Kind == yaml.MappingNode:
		return "a mapping"
	case v.node.Kind == yaml.SequenceNode:
		return "a list"
	case v.node.Tag == "!!int":
		return "a number"
	case v.node.Tag == "!!bool":
		return "a boolean"
	}
	return "text"
}

// scalar returns the text of any single value; "123" and 123 are the same.
func (v value) scalar() (text string, ok bool) {
	if v.node.Kind != yaml.ScalarNode || v.null() {
		v.fail("must be text, not %s", v.kind())
		return "", false
	}
	return v.node.Value, true
}

// text returns text that is not empty.
func (v value) text() (text string, ok bool) {
	if text, ok = v.scalar(); ok && text == "" {
		v.fail("is empty: give it a value or remove the key")
	}
	return text, ok && text != ""
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
