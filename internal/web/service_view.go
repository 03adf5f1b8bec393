package web

import (
	"math"
	"strings"
	"time"
)

// newServiceView returns what the page shows of a service alone.
func newServiceView(r *row, several bool, now time.Time, history *History) *rowView {
	s, v := r.service, newRow(r, 0, history)
	v.Tags, v.MoreTags = append(v.Tags, v.MoreTags...), nil
	fact := func(title, text string) {
		if text != "" {
			v.Facts = append(v.Facts, option{Text: title, Value: text})
		}
	}
	ago := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return formatAge(max(0, now.Sub(t).Seconds())) + " ago"
	}
	if several {
		fact("Organization", v.Organization)
	}
	fact("Host name", s.Hostname)
	fact("Region", strings.TrimSpace(s.Provider+" "+s.Region))
	fact("Size", s.Size)
	fact("Postgres version", s.Version)
	fact("Role", v.Role)
	fact("High availability", s.HAType)
	fact("Created", ago(s.CreatedAt))
	fact("Last backup", ago(s.LastBackup))
	if size := diskSize(s); size > 0 {
		fact("Disk size", formatBytes(int64(size)))
	}
	if writable, ok := writableBytes(s); ok {
		text := "too little free space, read-only"
		if writable >= 0 {
			text = formatBytes(int64(writable)) + " until read-only"
		}
		fact("Disk space", text)
	}
	fact("Data age", v.Age)
	fact("Values changed", ago(s.LastChange))

	moments, values := history.track(trackKey{r.organization.ID, s.ID})
	plot := chart{Width: 240, Height: 48, MaxPoints: maxMoments, Title: "Connections"}
	count := func(v float64) string { return formatInteger(int(math.Round(v))) }
	connected := withValue(plot.draw(moments, values[connections], count), s.Connections, count)
	plot.Top, plot.Title = 1, "CPU"
	cpu := withValue(plot.draw(moments, values[cpuUsed], formatPercent), s.CPUUsedRatio, formatPercent)
	plot.Title = "Disk used"
	disk := withValue(plot.draw(moments, values[diskUsed], formatPercent), s.DiskUsedRatio, formatPercent)
	v.Charts = []chart{cpu, connected, disk}
	return &v
}
