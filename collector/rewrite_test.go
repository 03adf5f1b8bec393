package collector

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// eachSeries is a rewriter that is asked about every single series.
type eachSeries struct{ *rewriter }

func (eachSeries) Class(name string) string { return name }

// What the rewriter says of the scope of its questions holds for all that it looks
// at, not only for the rules.
func TestRewriterScope(t *testing.T) {
	t.Parallel()
	rule := func(r relabel.Config) *relabel.Config {
		r.Separator, r.NameValidationScheme = ";", model.UTF8Validation
		if r.Regex.Regexp == nil {
			r.Regex = relabel.DefaultRelabelConfig.Regex
		}
		return &r
	}
	label := model.LabelNames{"mode"}
	all := []*relabel.Config{
		rule(relabel.Config{Action: relabel.Drop, SourceLabels: model.LabelNames{"__name__"}, Regex: relabel.MustNewRegexp("b")}),
		rule(relabel.Config{Action: relabel.Replace, SourceLabels: label, TargetLabel: "__tmp", Replacement: "$1"}),
		rule(relabel.Config{Action: relabel.Drop, SourceLabels: label, Regex: relabel.MustNewRegexp("idle")}),
		rule(relabel.Config{Action: relabel.Replace, SourceLabels: model.LabelNames{inventory.NameLabel}, TargetLabel: "team", Replacement: "$1"}),
		rule(relabel.Config{Action: relabel.LabelDrop, Regex: relabel.MustNewRegexp("clickhouse_.*")}),
		rule(relabel.Config{Action: relabel.Replace, SourceLabels: model.LabelNames{"postgres_region"}, TargetLabel: "mode", Replacement: "$1"}),
	}
	enrich, err := inventory.ParseEnrichLabels([]string{"region", "size"})
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		var rules []*relabel.Config
		for _, c := range all {
			if r.IntN(3) == 0 {
				rules = append(rules, c)
			}
		}
		unknown := map[string]string{}
		rw := &rewriter{
			relabeller: relabeller{rules: rules, builder: labels.NewBuilder(labels.EmptyLabels())},
			scope:      exposition.NewRuleScope(rules),
			enriched:   enrich,
			inventory: map[string]*record{"s1": {inline: []labels.Label{
				{Name: "postgres_region", Value: "us-east-1"}, {Name: "postgres_size", Value: "small"},
			}}},
			own:          newNames([]string{"own"}),
			unknownNames: unknown,
		}
		var page strings.Builder
		for _, name := range []string{"a", "b", "c", "own", exporterPrefix + "x"} {
			for range 5 {
				fmt.Fprintf(&page, "%s{%s=\"o\",%s=\"s%d\",%s=\"n\"", name, inventory.OrgLabel, inventory.ServiceLabel, r.IntN(3), inventory.NameLabel)
				for _, l := range []string{`mode="idle"`, `mode="user"`, `postgres_region="here"`, `__tmp="x"`, `__other="y"`, `team=""`} {
					if r.IntN(4) == 0 {
						page.WriteString("," + l)
					}
				}
				fmt.Fprintf(&page, "} %d\n", r.IntN(10))
			}
		}
		text := func(rw exposition.Rewriter) string {
			p, err := exposition.NewSource().Decode([]byte(page.String()), "text/plain", rw)
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			for _, id := range p.Groups() {
				doc := exposition.Merge(exposition.Part{Block: p.Block(id)})
				fmt.Fprintf(&b, "%s:\n", id)
				for _, chunk := range exposition.Encode(exposition.Text, exposition.Identity, doc).Chunks {
					b.Write(chunk)
				}
			}
			fmt.Fprintf(&b, "%+v, unknown: %v", p.Stats(), unknown)
			clear(unknown)
			return b.String()
		}
		if got, want := text(rw), text(eachSeries{rw}); got != want {
			t.Fatalf("seed %d: got\n%s\nwant\n%s\nof\n%s", seed, got, want, page.String())
		}
	}
}
