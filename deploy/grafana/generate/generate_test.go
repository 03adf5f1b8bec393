package main

import (
	"bytes"
	"os"
	"path/filepath"
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
