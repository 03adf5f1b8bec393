package main

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(child(role, os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// The measurement runs through; what it finds is not of interest here.
func TestScrape(t *testing.T) {
	var stdout, stderr bytes.Buffer
	err := run(t.Context(), strings.Fields("scrape -services 3 -scrapers 2 -duration 20ms"), &stdout, &stderr)
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	for _, row := range []string{"identity +2 +exporter", "gzip +2 +file", "zstd +2 +exporter", "gzip +2 +cached", "gzip +2 +const"} {
		if !regexp.MustCompile(`(?m)^3 +` + row + ` .* MB`).MatchString(stdout.String()) {
			t.Errorf("no row %q in\n%s", row, stdout.String())
		}
	}
}

func TestArguments(t *testing.T) {
	for _, args := range []string{"nothing", "-services 0", "-services a", "-encodings br", "-duration 0", "-scrapers -1", "-quick more", "-unknown"} {
		if err := run(t.Context(), strings.Fields(args), &bytes.Buffer{}, &bytes.Buffer{}); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}
