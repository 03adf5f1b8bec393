package exposition

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

func TestRoundTrip(t *testing.T) {
	for _, body := range textSeeds {
		t.Run(fmt.Sprintf("%.40q", body), func(t *testing.T) { checkRoundTrip(t, body, textContent) })
	}
	for _, body := range openMetricsSeeds {
		t.Run(fmt.Sprintf("%.40q", body), func(t *testing.T) { checkRoundTrip(t, body, openMetricsContent) })
	}
}

func FuzzRoundTrip(f *testing.F) {
	for _, s := range textSeeds {
		f.Add([]byte(s), false)
	}
	for _, s := range openMetricsSeeds {
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, body []byte, openMetrics bool) {
		contentType := textContent
		if openMetrics {
			contentType = openMetricsContent
		}
		checkRoundTrip(t, string(body), contentType)
	})
}

func TestRandomPages(t *testing.T) {
	for seed := range uint64(300) {
		body := randomPage(random(seed))
		compareParse(t, []byte(body), textContent)
		checkRoundTrip(t, body, textContent)
		if seed%100 == 0 {
			for _, f := range formats {
				plain(t, f, document(t, body, textContent))
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d:\n%s", seed, body)
		}
	}
}

// checkRoundTrip makes sure that Prometheus reads of what is written, in any format,
// what was read.
func checkRoundTrip(t *testing.T, body, contentType string) {
	t.Helper()
	page, err := NewParser("").Parse([]byte(body), contentType)
	if err != nil {
		return
	}
	read := parsed(page)
	doc := Merge(nil, exposed(page, nothingAdded, &Rules{})...)
	if doc.Series() != len(read) || doc.Duplicates() != 0 {
		t.Errorf("%d series and %d duplicates of %d", doc.Series(), doc.Duplicates(), len(read))
	}
	for _, ending := range slices.Sorted(maps.Keys(formats)) {
		f := formats[ending]
		out := identity(f, doc)
		got, err := reference(out, string(f))
		if err != nil {
			t.Fatalf("%s: Prometheus refuses the page: %v\n%s", f, err, out)
		}
		if doc.quoted() && (!strings.HasSuffix(ending, "-utf8") || ending == "openmetrics-utf8" && strings.Contains(body, ":")) {
			checkLegacy(t, f, out, len(read), len(got))
			continue
		}
		// Lines that are far from their TYPE line have their bounds as they are written.
		// They are served behind it.
		compareServed(t, ending, canonical(read), canonical(got), string(out))
		if strings.HasPrefix(ending, "text") {
			checkFamilies(t, out)
		}
	}
}

const negativeZero = "9223372036854775808" // as bits

// compareServed compares readings but for what a format cannot say.
func compareServed(t *testing.T, ending string, want, got map[string]reading, page string) {
	t.Helper()
	for k, w := range want {
		g, ok := got[k]
		switch {
		case strings.HasPrefix(ending, "text") && w.timestamp < 0, // Prometheus 2 refuses the page for it
			strings.HasPrefix(ending, "protobuf") && w.timestamp == 0: // the same as none
			w.timestamp, g.timestamp = noTimestamp, noTimestamp
		case strings.HasPrefix(ending, "openmetrics") && w.timestamp != noTimestamp && nearly(w.timestamp, g.timestamp):
			g.timestamp = w.timestamp
		}
		if strings.HasPrefix(ending, "openmetrics") && w.value == negativeZero {
			w.value = g.value // package expfmt writes 0
		}
		if !ok {
			t.Errorf("%s: %s is missing:\n%s", ending, k, page)
		} else if w != g {
			t.Errorf("%s: %s: want %v, got %v:\n%s", ending, k, w, g, page)
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("%s: %s was made up:\n%s", ending, k, page)
		}
	}
}

// nearly allows for what Prometheus loses when it reads the timestamps of
// OpenMetrics, as floating point numbers.
func nearly(a, b int64) bool {
	x, y := float64(a), float64(b)
	return math.Abs(x-y) <= 1+math.Abs(x)/1e15 || math.Abs(x) >= 1<<63-2048
}

// checkLegacy checks a page whose names had to be changed: nothing is lost or made
// up, and all names are such as old scrapers take.
func checkLegacy(t *testing.T, f expfmt.Format, page []byte, want, got int) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %d of %d series:\n%s", f, got, want, page)
	}
	if strings.HasPrefix(string(f), "text") {
		checkFamilies(t, page)
		p := expfmt.NewTextParser(model.LegacyValidation)
		if _, err := p.TextToMetricFamilies(bytes.NewReader(page)); err != nil {
			t.Errorf("an old scraper refuses the page: %v\n%s", err, page)
		}
	}
}

// checkFamilies makes sure that a text page has each family in one piece.
func checkFamilies(t *testing.T, page []byte) {
	t.Helper()
	seen := make(map[string]bool)
	for l := range strings.Lines(string(page)) {
		if name, ok := strings.CutPrefix(l, "# TYPE "); ok {
			name = name[:strings.LastIndexByte(name, ' ')]
			if seen[name] {
				t.Errorf("family %s comes twice:\n%s", name, page)
			}
			seen[name] = true
		}
	}
}

// strictParser is Debian's python3-prometheus-client, whose parser of OpenMetrics is
// the strict one.
const strictParser = `
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
for line in sys.stdin:
    page = json.loads(line)
    try:
        for f in parse(page):
            pass
        print("ok", flush=True)
    except Exception as e:
        print("refused", repr(e), flush=True)
`

func TestOpenMetricsIsStrictlyValid(t *testing.T) {
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import prometheus_client.openmetrics.parser").Run(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("python3-prometheus-client is not installed")
		}
		t.Skip("python3-prometheus-client is not installed")
	}
	var pages []string
	add := func(body, contentType string) {
		if page, err := NewParser("").Parse([]byte(body), contentType); err == nil {
			pages = append(pages, string(identity(OpenMetrics, Merge(nil, exposed(page, nothingAdded, &Rules{})...))))
		}
	}
	for _, body := range textSeeds {
		add(body, textContent)
	}
	for _, body := range openMetricsSeeds {
		add(body, openMetricsContent)
	}
	for seed := range uint64(1000) {
		add(randomPage(random(seed)), textContent)
	}
	var in bytes.Buffer
	for _, p := range pages {
		if err := json.NewEncoder(&in).Encode(p); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(python, "-c", strictParser)
	cmd.Stdin = &in
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	verdicts := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(verdicts) != len(pages) {
		t.Fatalf("%d verdicts on %d pages", len(verdicts), len(pages))
	}
	for i, v := range verdicts {
		if v != "ok" {
			t.Fatalf("%s:\n%s", v, pages[i])
		}
	}
}
