// Command generate writes the Grafana dashboards beside it, in
// deploy/grafana/dashboards:
//
//	go run ./deploy/grafana/generate
//
// They are generated because nearly every query repeats the same selection by
// the dashboard's variables, which must not differ from panel to panel. The
// JSON is committed, for users to import; a test fails when it is not what
// this command writes.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	dir := flag.String("dir", filepath.Join("deploy", "grafana", "dashboards"), "folder to write the dashboards to")
	flag.Parse()
	if err := write(*dir); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

// dashboards returns all dashboards by file name.
func dashboards() map[string]dashboard {
	return map[string]dashboard{
		"fleet.json":    fleet(),
		"service.json":  service(),
		"exporter.json": exporterHealth(),
	}
}

// write writes all dashboards into dir.
func write(dir string) error {
	for name, d := range dashboards() {
		text, err := encode(d)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// encode returns a dashboard as Grafana exports it.
func encode(d dashboard) ([]byte, error) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false) // the queries are full of < and >
	if err := e.Encode(d); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}
