package web

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// chart is a curve as the page draws it: inline SVG, whose colours and strokes are those
// of the style sheet.
type chart struct {
	Title, Class  string
	Width, Height int
	Top           float64 // value at the upper edge; the maximum if that is greater
	MaxPoints     int

	Line, Area string // path data
	Empty      bool   // there is no value

	// Texts: the latest value, "" if it is missing now; the maximum; the time covered; a
	// description for screen readers.
	Latest, Max, Span, Label string
}

// draw completes a chart with values, NaN for none, of the given moments.
func (c chart) draw(moments []time.Time, values []float32, format func(float64) string) chart {
	maximum, known := 0.0, false
	for _, v := range values {
		if isKnown(v) {
			known, maximum = true, max(maximum, float64(v))
		}
	}
	if !known || len(values) != len(moments) {
		c.Empty, c.Label = true, c.Title+": no data yet"
		return c
	}
	if c.Top = max(c.Top, maximum); !(c.Top > 0) || math.IsInf(c.Top, 0) {
		c.Top = 1
	}
	span := moments[len(moments)-1].Sub(moments[0])
	c.Line, c.Area = c.paths(moments, values, span)

	c.Max, c.Span = format(maximum), formatDuration(math.Round(span.Minutes())*60)
	if span < time.Minute {
		c.Span = formatDuration(math.Round(span.Seconds()))
	}
	now := "none now"
	if latest := values[len(values)-1]; isKnown(latest) {
		c.Latest = format(float64(latest))
		now = c.Latest + " now"
	}
	c.Label = fmt.Sprintf("%s over the last %s: %s, maximum %s", c.Title, c.Span, now, c.Max)
	return c
}

// paths returns the path data of the curve and of the area below it. A value without
// neighbours, which makes no line, is a line of no length: a dot.
func (c chart) paths(moments []time.Time, values []float32, span time.Duration) (curve, below string) {
	var line, area []byte
	add := func(b []byte, command byte, x, y int) []byte {
		b = append(b, command)
		b = strconv.AppendInt(b, int64(x), 10)
		b = append(b, ' ')
		return strconv.AppendInt(b, int64(y), 10)
	}
	type point struct{ x, y int }
	var run []point // without a gap
	end := func() {
		for i, p := range run {
			if i == 0 {
				line = add(line, 'M', p.x, p.y)
				continue
			}
			line = add(line, 'L', p.x, p.y)
		}
		switch n := len(run); n {
		case 0:
		case 1:
			line = append(line, "h0"...)
		default:
			area = add(area, 'M', run[0].x, c.Height)
			for _, p := range run {
				area = add(area, 'L', p.x, p.y)
			}
			area = append(add(area, 'L', run[n-1].x, c.Height), 'Z')
		}
		run = run[:0]
	}
	// Where there are more values than points, a point is the maximum of its values:
	// peaks are what people look for. The latest point has as many values as others.
	step := max(1, (len(values)+c.MaxPoints-1)/c.MaxPoints)
	for last := (len(values) - 1) % step; last < len(values); last += step {
		highest := unknownValue()
		for _, v := range values[max(0, last-step+1) : last+1] {
			if isKnown(v) && !(highest >= v) {
				highest = v
			}
		}
		if !isKnown(highest) {
			end()
			continue
		}
		p := point{x: c.Width}
		if span > 0 {
			p.x = int(math.Round(float64(moments[last].Sub(moments[0])) / float64(span) * float64(c.Width)))
		}
		// A pixel is left for half of the stroke at either edge.
		share := min(max(float64(highest)/c.Top, 0), 1)
		p.y = 1 + int(math.Round((1-share)*float64(c.Height-2)))
		run = append(run, p)
	}
	end()
	return string(line), string(area)
}
