package web

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
)

// TestServiceView follows the link of a service in the table.
func TestServiceView(t *testing.T) {
	s := healthyService(80) // CPU 80 %, disk 40 %
	s.Hostname, s.StorageGiB, s.Error = "db.example.com", 118, "get service metrics: API failed"
	s.LastBackup = statusTime.Add(-5 * time.Hour)
	for _, key := range []string{"a", "b", "c", "d"} {
		s.Tags = append(s.Tags, api.Tag{Key: key, Value: "1"})
	}
	namesake := healthyService(1)
	namesake.ID = s.ID
	k := statusOf(working("first", namesake), working("second", s, healthyService(2)))
	h := NewHistory(k)
	for i := range 5 {
		status := k.status
		status.Time = statusTime.Add(time.Duration(i-5) * observeInterval)
		h.observe(status)
	}
	base := serve(t, Options{Collector: k, History: h})
	page, _ := open(t, base+"/?q=service-80")
	var link string
	for _, a := range find(byID(t, page, "services-part"), "a") {
		if words(a) == "service-80" {
			link = attribute(a, "href")
		}
	}
	page, _ = open(t, base+"/"+link)
	checkPage(t, page)
	section := byID(t, page, "service")
	text := words(section)
	for _, want := range []string{
		"All services", "service-80 running", s.ID, "Organization name of second", "Host name db.example.com", "Region aws eu-west-1",
		"Size r6gd.medium", "Postgres version 18", "Role primary", "High availability sync", "Created 24 h ago", "Last backup 5 h ago",
		"Disk size 118 GiB", "Disk space 66.1 GiB until read-only", "Data age 40 s", "Values changed 50 s ago", "Series 36",
		"team=a keep a=1 b=1 c=1 d=1", "Last error: get service metrics: API failed", "CPU 80 %", "Connections 560", "Disk used 40 %", "last 20 s",
	} {
		if !strings.Contains(strings.ReplaceAll(text, narrowSpace, " "), want) {
			t.Errorf("%q is not in %q", want, text)
		}
	}
	if n := len(find(section, "figure")); n != 3 {
		t.Errorf("%d charts", n)
	}
	for _, name := range []string{"article", "table", "form"} {
		if n := len(find(page, name)); n != map[string]int{"article": 1}[name] {
			t.Errorf("%d <%s>", n, name)
		}
	}
	metrics := "v1/organizations/second/postgres/" + s.ID + "/prometheus"
	found := false
	for _, a := range find(section, "a") {
		found = found || attribute(a, "href") == metrics
	}
	if !found {
		t.Errorf("no link to %s", metrics)
	}

	page, _ = open(t, base+"/?service=gone")
	checkPage(t, page)
	if got := words(byID(t, page, "service-title")); got != "No such service" {
		t.Errorf("for a service that is gone: %q", got)
	}
	if a := do(t, "GET", base+"/api/v1/status?service="+url.QueryEscape(s.ID), nil); strings.Count(string(a.body), `"known":true`) != 2 {
		t.Errorf("as JSON: %s", a.body)
	}
}

// TestDiskMarks: disks are marked where alerts begin, and where ClickHouse Cloud lets a
// service only read, which depends on the size.
func TestDiskMarks(t *testing.T) {
	const gib = 1 << 30
	for _, test := range []struct {
		size, free float64 // bytes
		gib        float64 // of the inventory
		used       float64 // share, instead of free
		want       string
	}{
		{size: 64e9, free: 1e9 + 1, want: "warn"},
		{size: 64e9, free: 1e9 - 1, want: "bad"},
		{size: 128e9, free: 5e9 + 1, want: "warn"},
		{size: 128e9, free: 5e9 - 1, want: "bad"},
		{size: 512e9, free: 7e9 + 1, want: "warn"},
		{size: 512e9, free: 7e9 - 1, want: "bad"},
		{size: 2000e9, free: 40e9 + 1, want: "warn"},
		{size: 2000e9, free: 40e9 - 1, want: "bad"},
		{gib: 118, free: 5e9 - 1, want: "bad"},
		{gib: 118, free: 5e9 + 1, want: "warn"},
		{used: 0.851, want: "warn"}, // the size is not known
		{used: 0.999, want: "warn"},
		{used: 0.85, want: ""},
		{size: 1e9, used: 0.01, want: "bad"},
	} {
		s := healthyService(1)
		s.StorageGiB, s.DiskUsedRatio, s.DiskSizeBytes = test.gib, &test.used, nil
		size := test.gib * gib
		if test.size > 0 {
			s.DiskSizeBytes, size = &test.size, test.size
		}
		if test.free > 0 {
			test.used = 1 - test.free/size
		}
		if got := diskClass(&s); got != test.want {
			t.Errorf("%+v: %q", test, got)
		}
	}
	s := healthyService(1)
	s.DiskUsedRatio = nil
	if got := diskClass(&s); got != "" {
		t.Errorf("unknown: %q", got)
	}
}

// TestMarksBeginWithAlerts compares with the rules of the alerts.
func TestMarksBeginWithAlerts(t *testing.T) {
	for name, want := range map[string]float64{"ClickHousePostgresDiskSpaceLow": diskWarning, "ClickHousePostgresCPUHigh": cpuWarning} {
		found := false
		for _, file := range []string{"disks.yml", "load.yml"} {
			rules, err := os.ReadFile(filepath.Join("..", "..", "deploy", "prometheus", "rules", file))
			if err != nil {
				t.Fatal(err)
			}
			// The threshold ends the expression.
			alert := regexp.MustCompile(`(?s)- alert: ` + name + `\n +expr: .*? > ([0-9.]+)\n +(?:for|labels):`).FindSubmatch(rules)
			if alert != nil {
				found = true
				if got := string(alert[1]); got != fmt.Sprint(100*want) {
					t.Errorf("%s is above %s, the mark above %g", name, got, 100*want)
				}
			}
		}
		if !found {
			t.Errorf("no alert %s", name)
		}
	}
}

// TestNeverRead tells services that were never read from those whose data is old.
func TestNeverRead(t *testing.T) {
	list := fleet(4)
	for i := range 2 {
		list[i].LastSuccess, list[i].Series, list[i].DataAgeSeconds = time.Time{}, 0, 0
	}
	list[1].Error = "API failed"
	page, _ := open(t, serve(t, Options{Collector: statusOf(working("org", list...))})+"/")
	if got := strings.ReplaceAll(words(byID(t, page, "verdict")), narrowSpace, " "); !strings.Contains(got, "oldest data 23 s 2 never read") {
		t.Errorf("verdict %q", got)
	}
	if got := strings.ReplaceAll(words(byID(t, page, "organizations")), narrowSpace, " "); !strings.Contains(got, "Data age 22 s newest , 23 s oldest , 2 never read") {
		t.Errorf("card %q", got)
	}
}

// TestFullDisks has the headline say what alerts do.
func TestFullDisks(t *testing.T) {
	o := working("org", fleet(4)...)
	used, size := []float64{0.9, 0.99}, 50e9
	o.Services[1].DiskUsedRatio, o.Services[1].DiskSizeBytes = &used[0], &size
	page, _ := open(t, serve(t, Options{Collector: statusOf(o)})+"/")
	if got := words(byID(t, page, "verdict")); !strings.HasPrefix(got, "Serving metrics, with 1 problem ") {
		t.Errorf("verdict %q", got)
	}
	if got := strings.ReplaceAll(words(byID(t, page, "problems")), narrowSpace, " "); !strings.Contains(got, "warning 1 service uses more than 85 % of the disk service-1") {
		t.Errorf("problems %q", got)
	}
	o.Services[2].DiskUsedRatio, o.Services[2].DiskSizeBytes = &used[1], &size
	base := serve(t, Options{Collector: statusOf(o)})
	page, _ = open(t, base+"/")
	if got := strings.ReplaceAll(words(byID(t, page, "verdict")), narrowSpace, " "); !strings.HasPrefix(got, "2 problems 4 services, 4 running 1 read-only 1 disk above 85 % ") {
		t.Errorf("verdict %q", got)
	}
	for _, a := range find(byID(t, page, "problems"), "a") {
		page, _ := open(t, base+"/"+attribute(a, "href"))
		if got := strings.Join(listed(t, page), " "); got != "service-2 service-1" {
			t.Errorf("%s shows %s", words(a), got)
		}
	}
}
