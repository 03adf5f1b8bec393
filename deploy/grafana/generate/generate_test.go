package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The committed dashboards are what this command writes, and there are no
// others.
func TestDashboardsAreGenerated(t *testing.T) {
	dir := filepath.Join("..", "dashboards")
	want := dashboards()
	for name, d := range want {
		text, err := encode(d)
		if err != nil {
			t.Fatal(err)
		}
		committed, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(text, committed) {
			t.Errorf("%s is not what the generator writes: go run ./deploy/grafana/generate", name)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if _, ok := want[f.Name()]; !ok {
			t.Errorf("%s is not generated", f.Name())
		}
	}
}

// The levels at which a disk becomes read-only are those of the rules.
func TestReadOnlyLevels(t *testing.T) {
	rules, err := os.ReadFile(filepath.Join("..", "..", "prometheus", "rules", "disks.yml"))
	if err != nil {
		t.Fatal(err)
	}
	level := regexp.MustCompile(`<= ([0-9e]+)\) \+ ([0-9e]+)|([0-9.]+) \* `)
	levels := func(text string) (all [][]string) {
		for _, m := range level.FindAllStringSubmatch(text, -1) {
			if m[3] != "0" {
				all = append(all, m[1:])
			}
		}
		return all
	}
	_, rule, _ := strings.Cut(string(rules), "record: postgres_service:disk_until_read_only:bytes")
	rule, _, _ = strings.Cut(rule, "- record:")
	if got, want := levels(untilReadOnly("used")), levels(rule); !slices.EqualFunc(got, want, slices.Equal) || len(want) != 4 {
		t.Errorf("dashboards have %q, rules %q", got, want)
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != len(dashboards()) {
		t.Errorf("wrote %d files, err %v; want %d", len(files), err, len(dashboards()))
	}
	if err := write(filepath.Join(dir, "missing")); err == nil {
		t.Error("no error for a folder that is not there")
	}
}
