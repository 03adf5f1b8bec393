package exposition

import (
	"maps"
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
)

type keepAll struct{}

func (keepAll) Group(labels.Labels) string { return "" }
func (keepAll) Epoch(string) uint64        { return 0 }
func (keepAll) Class(string) string        { return "" }
func (keepAll) Rewrite(_ string, lset labels.Labels) (labels.Labels, Verdict) {
	return lset, Keep
}

func TestSamples(t *testing.T) {
	page, err := NewSource().Decode([]byte(`# TYPE a counter
a{mode="user",x="}\",mode=\"idle"} 1.5
a{mode="back\\slash \"quoted\"\nline"} 2
a +Inf
# TYPE b gauge
b{"not a name"="v"} 7
# TYPE h histogram
h_bucket{le="+Inf"} 3
h_sum 3
h_count 3
`), "text/plain", keepAll{})
	if err != nil {
		t.Fatal(err)
	}
	block := page.Block("")
	modes := map[string]float64{}
	for labels, v := range block.Samples("a") {
		modes[labels.Get("mode")] = v
	}
	want := map[string]float64{"user": 1.5, "back\\slash \"quoted\"\nline": 2, "": math.Inf(1)}
	if !maps.Equal(modes, want) {
		t.Errorf("samples of a: %v, not %v", modes, want)
	}
	for labels, v := range block.Samples("b") {
		if labels.Get("not a name") != "v" || v != 7 {
			t.Errorf("sample of b: %s %v", labels, v)
		}
	}
	for _, name := range []string{"", "A", "aa", "h", "h_sum", "z"} {
		for labels, v := range block.Samples(name) {
			t.Errorf("sample of %q: %s %v", name, labels, v)
		}
	}
	for range block.Samples("a") {
		break // must be possible
	}
	for range (*Block)(nil).Samples("a") {
		t.Error("a sample of nothing")
	}
}
