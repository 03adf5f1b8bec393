package web

import (
	"math"
	"strconv"
	"time"
)

// plot is a curve as the page draws it: inline SVG, whose colours and strokes
// are those of the style sheet.
type plot struct {
	Width, Height int
	Line, Area    string  // path data
	Dots          []dot   // values without neighbours, which make no line
	Top           float64 // value at the upper edge
	Latest        float64 // last value, NaN if it is missing now
	Greatest      float64
	Any           bool          // there is a value
	Span          time.Duration // of all moments
}

type dot struct{ X, Y int }

// drawing says how to draw.
type drawing struct {
	width, height int
	top           float64 // value at the upper edge; the greatest value if that is more
	points        int     // at most
}

// draw makes a plot of values, NaN for none, at the given moments.
func (d drawing) draw(moments []time.Time, values []float32) plot {
	p := plot{Width: d.width, Height: d.height, Top: d.top, Latest: math.NaN()}
	if len(moments) == 0 || len(values) != len(moments) {
		return p
	}
	p.Span = moments[len(moments)-1].Sub(moments[0])
	for _, v := range values {
		if isSomething(v) {
			p.Any, p.Greatest = true, max(p.Greatest, float64(v))
		}
	}
	p.Latest = float64(values[len(values)-1])
	if p.Top = max(p.Top, p.Greatest); !(p.Top > 0) || math.IsInf(p.Top, 0) {
		p.Top = 1
	}
	type point struct {
		x, y int
		ok   bool
	}
	// Where there are more values than points, a point is the greatest of its
	// values: peaks are what people look for.
	step := max(1, (len(values)+d.points-1)/d.points)
	var points []point
	for end := len(values); end > 0; end -= step {
		begin := max(0, end-step)
		best := nothing()
		for _, v := range values[begin:end] {
			if isSomething(v) && !(best >= v) {
				best = v
			}
		}
		pt := point{x: d.width, ok: isSomething(best)}
		if p.Span > 0 {
			at := float64(moments[end-1].Sub(moments[0])) / float64(p.Span)
			pt.x = int(math.Round(at * float64(d.width)))
		}
		if pt.ok {
			// A pixel is left for half of the stroke at either edge.
			share := min(max(float64(best)/p.Top, 0), 1)
			pt.y = 1 + int(math.Round((1-share)*float64(d.height-2)))
		}
		points = append(points, pt)
	}
	var line, area []byte
	coordinates := func(b []byte, command byte, x, y int) []byte {
		b = append(b, command)
		b = strconv.AppendInt(b, int64(x), 10)
		b = append(b, ' ')
		return strconv.AppendInt(b, int64(y), 10)
	}
	for i := len(points) - 1; i >= 0; { // oldest first
		if !points[i].ok {
			i--
			continue
		}
		first := i
		for i >= 0 && points[i].ok {
			i--
		}
		run := points[i+1 : first+1]
		if len(run) == 1 {
			p.Dots = append(p.Dots, dot{run[0].x, run[0].y})
			continue
		}
		for j := len(run) - 1; j >= 0; j-- {
			command := byte('L')
			if j == len(run)-1 {
				command = 'M'
				area = coordinates(area, 'M', run[j].x, d.height)
			}
			line = coordinates(line, command, run[j].x, run[j].y)
			area = coordinates(area, 'L', run[j].x, run[j].y)
		}
		area = append(coordinates(area, 'L', run[0].x, d.height), 'Z')
	}
	p.Line, p.Area = string(line), string(area)
	return p
}
