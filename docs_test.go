package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// documents returns the text of the README, of what is in docs/, and of others that
// speak of the program as it is, by file.
func documents(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, file := range append(files, "README.md", "CONTRIBUTING.md", "SECURITY.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[filepath.ToSlash(file)] = string(text)
	}
	return texts
}

// checkConfig returns what --config.check says of a configuration file.
func checkConfig(t *testing.T, file string) (int, string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"--config.check", "--config.file=" + file}, environment(), &stdout, &stderr)
	return code, stderr.String()
}

// TestDocsExamples checks the examples of configuration files, beside files that they
// name.
func TestDocsExamples(t *testing.T) {
	block := regexp.MustCompile("(?s)```yaml\n(.*?)```")
	named := regexp.MustCompile(`(?m)\w+_file: (\S+)$`)
	authority := newAuthority(t)
	examples := 0
	for document, text := range documents(t) {
		for _, m := range block.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "scrape_configs:") {
				continue // is Prometheus's
			}
			examples++
			dir := t.TempDir()
			example := strings.ReplaceAll(m[1], "_file: /", "_file: ")
			for _, name := range named.FindAllStringSubmatch(example, -1) {
				content := []byte("key")
				if strings.HasPrefix(name[0], "ca_file") {
					content = authority.pem
				}
				write(t, filepath.Join(dir, name[1]), content)
			}
			file := filepath.Join(dir, "example.yml")
			write(t, file, []byte(example))
			if code, stderr := checkConfig(t, file); code != 0 {
				t.Errorf("%s: an example is not valid: %s\n%s", document, stderr, m[1])
			}
		}
	}
	if examples < 2 {
		t.Errorf("found %d examples", examples)
	}
}

func write(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDocsConfigurationKeys has the program say which keys there are, and expects each
// of them in a table and in the first example.
func TestDocsConfigurationKeys(t *testing.T) {
	text := documents(t)["docs/configuration.md"]
	_, example, _ := strings.Cut(text, "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	known := regexp.MustCompile(`known here are ([a-z_, ]+)`)
	want := map[string]bool{}
	for _, unknown := range []string{"x: 1", "services: {x: 1}", "services: {include: [{x: 1}]}", "organizations: [{x: 1}]"} {
		file := filepath.Join(t.TempDir(), "unknown.yml")
		write(t, file, []byte(unknown))
		_, stderr := checkConfig(t, file)
		m := known.FindStringSubmatch(stderr)
		if m == nil {
			t.Fatalf("%s: no keys in %q", unknown, stderr)
		}
		for key := range strings.SplitSeq(m[1], ", ") {
			want[key] = true
			if !regexp.MustCompile(`(?m)^[ -]*` + key + ":").MatchString(example) {
				t.Errorf("%s is not in the example", key)
			}
		}
	}
	got := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(text, -1) {
		got[m[1]] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the keys in the tables of docs/configuration.md are not those of the program (-want +got)\n%s", diff)
	}
}

// TestDocsLinks follows links to files of the repository, and to headings.
func TestDocsLinks(t *testing.T) {
	texts := documents(t)
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading := regexp.MustCompile(`(?m)^#+ (.+)$`)
	anchor := strings.NewReplacer(" ", "-", "`", "", ",", "", ".", "", ":", "", "(", "", ")", "")
	for file, text := range texts {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			target, fragment, _ := strings.Cut(m[1], "#")
			name := file
			if target != "" {
				name = filepath.ToSlash(filepath.Join(filepath.Dir(file), target))
				if _, err := os.Stat(name); err != nil {
					t.Errorf("%s: link to %s: %v", file, m[1], err)
					continue
				}
			}
			if fragment == "" {
				continue
			}
			var anchors []string
			for _, h := range heading.FindAllStringSubmatch(texts[name], -1) {
				anchors = append(anchors, anchor.Replace(strings.ToLower(h[1])))
			}
			if !slices.Contains(anchors, fragment) {
				t.Errorf("%s: %s has no heading %s, but %v", file, name, fragment, anchors)
			}
		}
	}
}

func TestReadmeIsShort(t *testing.T) {
	if n := strings.Count(documents(t)["README.md"], "\n"); n > 200 {
		t.Errorf("README.md has %d lines, at most 200 are wanted: move what not every reader needs to docs/", n)
	}
}

// TestDocsFlagsExist finds flags that documents name and docs/flags.md, which is
// generated, does not.
func TestDocsFlagsExist(t *testing.T) {
	texts := documents(t)
	exists := map[string]bool{"version": true, "help": true} // kingpin's own
	for _, m := range regexp.MustCompile("(?m)^\\| `--([a-z.-]+)` \\|").FindAllStringSubmatch(texts["docs/flags.md"], -1) {
		exists[m[1]], exists["no-"+m[1]] = true, true
	}
	flag := regexp.MustCompile("`(?:clickhouse_postgres_exporter [a-z ]*)?--([a-z][a-z.-]+[a-z])")
	for file, text := range texts {
		for _, m := range flag.FindAllStringSubmatch(text, -1) {
			if !exists[m[1]] {
				t.Errorf("%s: there is no flag --%s", file, m[1])
			}
		}
	}
}
