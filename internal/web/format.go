package web

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// narrowSpace keeps the digits of a number together, and the number with its unit.
const narrowSpace = "\u202f"

// formatDuration formats a number of seconds for people.
func formatDuration(seconds float64) string {
	if math.IsNaN(seconds) || seconds < 0 || seconds > 1e9 {
		return "unknown"
	}
	one := func(n int64, unit string) string { return strconv.FormatInt(n, 10) + narrowSpace + unit }
	two := func(n int64, unit string, m int64, smaller string) string {
		if m == 0 {
			return one(n, unit)
		}
		return one(n, unit) + " " + one(m, smaller)
	}
	switch {
	case seconds == 0:
		return one(0, "s")
	case seconds < 0.9995:
		return one(max(1, int64(math.Round(seconds*1000))), "ms")
	case seconds < 9.95:
		return strconv.FormatFloat(math.Round(seconds*10)/10, 'f', -1, 64) + narrowSpace + "s"
	}
	s := int64(math.Round(seconds))
	switch {
	case s < 120:
		return one(s, "s")
	case s < 3600:
		return two(s/60, "min", s%60, "s")
	case s < 48*3600:
		return two(s/3600, "h", s%3600/60, "min")
	}
	return two(s/86400, "d", s%86400/3600, "h")
}

// formatAge formats an age, for which whole seconds are precise enough.
func formatAge(seconds float64) string {
	if seconds >= 0 && seconds < 9.95 {
		seconds = math.Floor(seconds)
	}
	return formatDuration(seconds)
}

// formatPercent formats a share of 1.
func formatPercent(share float64) string {
	digits := 0
	if p := math.Abs(share * 100); p > 0 && p < 9.95 {
		digits = 1
	}
	return strconv.FormatFloat(share*100, 'f', digits, 64) + narrowSpace + "%"
}

// formatInteger formats a number with its digits grouped.
func formatInteger(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + narrowSpace + s[i:]
	}
	return s
}

// formatBytes formats a number of bytes.
func formatBytes(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB"}
	v, u := float64(n), 0
	for v >= 1024 && u < len(units)-1 {
		v, u = v/1024, u+1
	}
	if u == 0 || v >= 99.5 {
		return fmt.Sprintf("%.0f%s%s", v, narrowSpace, units[u])
	}
	return fmt.Sprintf("%.1f%s%s", v, narrowSpace, units[u])
}

// formatTime formats a moment for people, formatRFC3339 for attributes of the page.
func formatTime(t time.Time) string    { return t.UTC().Format("15:04:05") + " UTC" }
func formatRFC3339(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// plural returns a number and what is counted.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return formatInteger(n) + " " + many
}
