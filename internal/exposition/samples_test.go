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
func (keepAll) Passes(string) bool         { return false }
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
	for place, labels := range block.Find("a") {
		modes[labels.Get("mode")] = block.Value(place)
	}
	want := map[string]float64{"user": 1.5, "back\\slash \"quoted\"\nline": 2, "": math.Inf(1)}
	if !maps.Equal(modes, want) {
		t.Errorf("samples of a: %v, not %v", modes, want)
	}
	for place, labels := range block.Find("b") {
		if v := block.Value(place); labels.Get("not a name") != "v" || v != 7 {
			t.Errorf("sample of b: %s %v", labels, v)
		}
	}
	for _, name := range []string{"", "A", "aa", "h", "h_sum", "z"} {
		for _, labels := range block.Find(name) {
			t.Errorf("sample of %q: %s", name, labels)
		}
	}
	for range block.Find("a") {
		break // must be possible
	}
	for range (*Block)(nil).Find("a") {
		t.Error("a sample of nothing")
	}
}

func TestShape(t *testing.T) {
	s := NewSource()
	shape := func(body string) Shape { return decode(t, s, body, keepAll{}).Block("").Shape() }
	one := shape("a 1\nb{x=\"1\"} 2\n")
	if again := shape("a 2\nb{x=\"1\"} 3\n"); again != one {
		t.Error("other values, other shape")
	}
	if other := shape("a 2\nb{x=\"2\"} 3\n"); other == one {
		t.Error("other series, same shape")
	}
	if none := (*Block)(nil).Shape(); none == one {
		t.Error("no block has a shape like that of another")
	}
}
