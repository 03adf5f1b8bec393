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
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/protobuf/encoding/protodelim"
)

var update = flag.Bool("update", false, "write the golden files")

// goldenRules are the rules for those pages that have some.
var goldenRules = map[string]Rewriter{
	"upstream.prom": rules{group: "postgres_service", rewrite: func(b *labels.Builder) bool {
		b.Set("postgres_region", "us-east-1")
		return true
	}},
	"rename.prom": rules{rewrite: func(b *labels.Builder) bool {
		name := b.Get(model.MetricNameLabel)
		switch {
		case strings.HasPrefix(name, "h_"):
			b.Set(model.MetricNameLabel, "renamed"+name[1:])
		case name == "torn_sum":
			b.Set(model.MetricNameLabel, "torn_total")
		case b.Get("to") != "":
			b.Set(model.MetricNameLabel, b.Get("to"))
			b.Del("to")
		case name == "cut_bucket" && b.Get("le") == "+Inf":
			return false
		}
		b.Del("gone")
		return true
	}},
}

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
		contentType := textType
		if strings.HasSuffix(name, ".om") {
			contentType = openMetricsType
		}
		rw, ok := goldenRules[name]
		if !ok {
			rw = asIs{}
		}
		doc := document(t, string(body), contentType, rw)
		for _, f := range allFormats {
			if f.utf8() && !doc.plan.quoted {
				if !bytes.Equal(plain(t, f, doc), plain(t, Format(strings.TrimSuffix(string(f), "-utf8")), doc)) {
					t.Errorf("%s: %s differs for no reason", name, f)
				}
				continue
			}
			t.Run(name+"/"+string(f), func(t *testing.T) {
				got := plain(t, f, doc)
				if f.syntax() == syntaxProtobuf {
					got = protobufAsText(t, got)
				}
				checkGolden(t, in+"."+string(f), got)
			})
		}
	}
}

// protobufAsText writes messages in a form that can be compared and does not
// vary, as that of the protobuf package does.
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
