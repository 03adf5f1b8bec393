//go:build linux

package faulttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestLicences checks that the licence of every module in the binary is one of those allowed. It
// uses the module cache, not the network.
func TestLicences(t *testing.T) {
	t.Parallel()
	known := []struct {
		name string
		text *regexp.Regexp
	}{
		{"Apache-2.0", regexp.MustCompile(`Apache License,? Version 2\.0`)},
		{"MPL-2.0", regexp.MustCompile(`Mozilla Public License,? [Vv]ersion 2\.0`)},
		{"BSD", regexp.MustCompile(`Redistribution and use in source and binary forms, with or without modification, are permitted`)},
		{"MIT", regexp.MustCompile(`Permission is hereby granted, free of charge, to any person obtaining`)},
		{"ISC", regexp.MustCompile(`Permission to use, copy, modify, and(/or)? distribute this software for any purpose with or without fee`)},
	}
	forbidden := regexp.MustCompile(`(?i)GNU (Affero |Lesser )?General Public License|Server Side Public License|Business Source License|Commons Clause`)

	cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}", module)
	cmd.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=-mod=readonly")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(lines)
	lines = slices.DeleteFunc(slices.Compact(lines), func(l string) bool { return l == "" })
	if len(lines) < 10 {
		t.Fatalf("only %d modules: %q", len(lines), lines)
	}
	for _, line := range lines {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			t.Errorf("not in the module cache: %s", line)
			continue
		}
		files, _ := filepath.Glob(filepath.Join(fields[2], "*"))
		var found []string
		for _, file := range files {
			base := strings.ToUpper(filepath.Base(file))
			if !strings.HasPrefix(base, "LICEN") && !strings.HasPrefix(base, "COPYING") {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				continue // a directory
			}
			// Line breaks vary.
			text = []byte(strings.Join(strings.Fields(string(text)), " "))
			for _, k := range known {
				if k.text.Match(text) {
					found = append(found, k.name)
				}
			}
			// The Mozilla licence contains the names of licences that it is compatible with.
			if forbidden.Match(text) && !slices.Contains(found, "MPL-2.0") {
				t.Errorf("%s %s: %s", fields[0], fields[1], forbidden.Find(text))
			}
		}
		if len(found) == 0 {
			t.Errorf("%s %s has no licence of those that are allowed", fields[0], fields[1])
		}
		t.Logf("%s %s: %s", fields[0], fields[1], strings.Join(slices.Compact(found), ", "))
	}
}
