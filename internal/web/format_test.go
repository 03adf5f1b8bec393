package web

import (
	"strings"
	"testing"
)

func TestSpell(t *testing.T) {
	for _, test := range []struct {
		got, want string
	}{
		{formatDuration(0), "0 s"},
		{formatDuration(0.0001), "1 ms"},
		{formatDuration(0.25), "250 ms"},
		{formatDuration(0.9999), "1 s"},
		{formatDuration(1.25), "1.3 s"},
		{formatDuration(9.96), "10 s"},
		{formatDuration(59.6), "60 s"},
		{formatDuration(119), "119 s"},
		{formatDuration(120), "2 min"},
		{formatDuration(200), "3 min 20 s"},
		{formatDuration(3600), "1 h"},
		{formatDuration(3660), "1 h 1 min"},
		{formatDuration(48 * 3600), "2 d"},
		{formatDuration(49 * 3600), "2 d 1 h"},
		{formatDuration(-1), "unknown"},
		{formatDuration(1e300), "unknown"},
		{formatAge(0.9), "0 s"},
		{formatAge(3.7), "3 s"},
		{formatAge(61), "61 s"},
		{formatPercent(0), "0 %"},
		{formatPercent(0.0512), "5.1 %"},
		{formatPercent(0.5), "50 %"},
		{formatPercent(0.999), "100 %"},
		{formatPercent(1.5), "150 %"},
		{formatInteger(0), "0"},
		{formatInteger(999), "999"},
		{formatInteger(1000), "1 000"},
		{formatInteger(-1234567), "-1 234 567"},
		{formatBytes(0), "0 B"},
		{formatBytes(1023), "1023 B"},
		{formatBytes(1536), "1.5 KiB"},
		{formatBytes(912 << 10), "912 KiB"},
		{formatBytes(5 << 40), "5120 GiB"},
	} {
		if got := strings.ReplaceAll(test.got, narrowSpace, " "); got != test.want {
			t.Errorf("%q, not %q", got, test.want)
		}
	}
}
