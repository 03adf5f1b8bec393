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

// The measurements run without errors; their results do not matter here.
func TestRows(t *testing.T) {
	var stdout, stderr bytes.Buffer
	err := run(t.Context(), strings.Fields("-services 3 -rounds 1 -gogc 25"), &stdout, &stderr)
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	for _, r := range rows() {
		if !regexp.MustCompile(`(?m)^` + r.name + ` +3 +\d`).MatchString(stdout.String()) {
			t.Errorf("no row %q in\n%s", r.name, stdout.String())
		}
	}
}

func TestArguments(t *testing.T) {
	for _, args := range []string{"nothing", "-services 0", "-services a", "-rounds 0", "-unknown", "spaced nothing"} {
		if err := run(t.Context(), strings.Fields(args), &bytes.Buffer{}, &bytes.Buffer{}); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}
