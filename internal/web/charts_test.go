package web

import (
	"math"
	"testing"
	"time"
)

func TestChart(t *testing.T) {
	nan, inf := unknownValue(), float32(math.Inf(1))
	for _, test := range []struct {
		name       string
		values     []float32
		top        float64
		line, area string
	}{
		{"none", nil, 1, "", ""},
		{"nothing", []float32{nan, nan, nan}, 1, "", ""},
		{"one", []float32{0.5}, 1, "M100 6h0", ""},
		{"line", []float32{0, 1, 0.5}, 1, "M0 11L50 1L100 6", "M0 12L0 11L50 1L100 6L100 12Z"},
		{"beyond the top", []float32{0, 2, 1}, 1, "M0 11L50 1L100 6", "M0 12L0 11L50 1L100 6L100 12Z"},
		{"all zero", []float32{0, 0, 0}, 0, "M0 11L50 11L100 11", "M0 12L0 11L50 11L100 11L100 12Z"},
		{"below zero", []float32{-1, 1, 1}, 0, "M0 11L50 1L100 1", "M0 12L0 11L50 1L100 1L100 12Z"},
		{"gap", []float32{0, 0, nan, 1, 1}, 1, "M0 11L25 11M75 1L100 1", "M0 12L0 11L25 11L25 12ZM75 12L75 1L100 1L100 12Z"},
		{"alone", []float32{0, 0, nan, 1, nan}, 1, "M0 11L25 11M75 1h0", "M0 12L0 11L25 11L25 12Z"},
		{"infinite", []float32{inf, inf, inf}, 1, "M0 1L50 1L100 1", "M0 12L0 1L50 1L100 1L100 12Z"},
		{"peaks stay", []float32{0, 0, 1, 0, 0, 0, 0, 0, 0, 0}, 1, "M11 11L33 1L56 11L78 11L100 11", "M11 12L11 11L33 1L56 11L78 11L100 11L100 12Z"},
	} {
		t.Run(test.name, func(t *testing.T) {
			moments := make([]time.Time, len(test.values))
			for i := range moments {
				moments[i] = statusTime.Add(time.Duration(i) * time.Minute)
			}
			c := chart{Width: 100, Height: 12, Top: test.top, MaxPoints: 5}.draw(moments, test.values, formatPercent)
			if c.Line != test.line || c.Area != test.area || c.Empty != (test.line == "") {
				t.Errorf("line %s, area %s, empty %t", c.Line, c.Area, c.Empty)
			}
		})
	}
}
