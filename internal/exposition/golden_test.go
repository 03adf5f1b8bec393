package exposition

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/protobuf/encoding/protodelim"
)

var update = flag.Bool("update", false, "write the golden files")

// goldenRules are the rules for those pages that have some.
const goldenRules = `
- source_labels: [__name__]
  regex: h_(.*)
  target_label: __name__
  replacement: renamed_$1
- source_labels: [__name__]
  regex: torn_sum
  target_label: __name__
  replacement: torn_total
- source_labels: [to]
  regex: (.+)
  target_label: __name__
- source_labels: [__name__, le]
  regex: cut_bucket;\+Inf
  action: drop
- regex: to|gone
  action: labeldrop
`

func TestGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/golden/*.prom")
	if err != nil {
		t.Fatal(err)
	}
	more, _ := filepath.Glob("testdata/golden/*.om")
	for _, in := range append(inputs, more...) {
		name := filepath.Base(in)
		body, err := os.ReadFile(in)
		if err != nil {
			t.Fatal(err)
		}
		contentType := textContent
		if strings.HasSuffix(name, ".om") {
			contentType = openMetricsContent
		}
		added := func(string) []labels.Label { return nil }
		rules := &Rules{}
		switch name {
		case "upstream.prom":
			added = func(group string) []labels.Label {
				return []labels.Label{{Name: "added", Value: group}, {Name: "postgres_region", Value: "us-east-1"}}
			}
		case "rename.prom":
			rules = relabelling(t, goldenRules)
		}
		page := mustParse(t, NewParser("postgres_service"), string(body), contentType)
		doc := Merge(nil, exposed(page, added, rules)...)
		for ending, f := range formats {
			utf8 := strings.HasSuffix(ending, "-utf8")
			if utf8 && !doc.quoted() {
				if !bytes.Equal(plain(t, f, doc), plain(t, formats[strings.TrimSuffix(ending, "-utf8")], doc)) {
					t.Errorf("%s: %s differs for no reason", name, f)
				}
				continue
			}
			t.Run(name+"/"+ending, func(t *testing.T) {
				got := plain(t, f, doc)
				if strings.HasPrefix(ending, "protobuf") {
					got = protobufAsText(t, got)
				}
				checkGolden(t, in+"."+ending, got)
			})
		}
	}
}

// protobufAsText writes messages in a form that can be compared and does not vary, as
// that of the protobuf package does.
func protobufAsText(t *testing.T, page []byte) []byte {
	var out bytes.Buffer
	r := bytes.NewReader(page)
	for {
		var mf dto.MetricFamily
		if err := protodelim.UnmarshalFrom(r, &mf); errors.Is(err, io.EOF) {
			return out.Bytes()
		} else if err != nil {
			t.Fatal(err)
		}
		out.WriteString("family " + oneSpace(mf.String()) + "\n")
	}
}

func oneSpace(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	return strings.ReplaceAll(s, " metric:", "\n  metric:")
}

func checkGolden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", file, got, want)
	}
}
