package packagingtest

import (
	"bytes"
	"testing"

	"github.com/helm-unittest/helm-unittest/pkg/unittest"
	"github.com/helm-unittest/helm-unittest/pkg/unittest/printer"
)

// TestHelmUnittest runs the tests that are in the chart, as "helm unittest"
// does.
func TestHelmUnittest(t *testing.T) {
	var out bytes.Buffer
	runner := unittest.TestRunner{Printer: printer.NewPrinter(&out, new(bool)), Strict: true, TestFiles: []string{"tests/*_test.yaml"}}
	if !runner.RunV3([]string{chart}) {
		t.Error(out.String())
	}
}
