package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// twoOrganizations is an exporter of two fleets, whose names are as long as they can be.
func twoOrganizations(t *testing.T) *exporter {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	config := "organizations:\n"
	for i, name := range []string{"Example Payments and Settlements Production", "staging"} {
		sim, environment := upstream(t, simulator.Config{Services: 30, Seed: uint64(i + 7)})
		list := sim.Services()
		sim.Rename(list[0].ID, strings.Repeat("wide-", 10))
		sim.Rename(list[1].ID, strings.Repeat("W", 50))
		sim.SetState(list[2].ID, "finalizing_restore")
		sim.SetTags(list[3].ID, simulator.Tag{Key: strings.Repeat("k", 128), Value: strings.Repeat("v", 256)})
		url, _ := strings.CutPrefix(environment[0], "CLICKHOUSE_API_URL=")
		config += fmt.Sprintf("- {name: %q, id: %s, api_url: %q, key_id_file: %q, key_secret_file: %q}\n", name, sim.Config().OrganizationID, url,
			write(fmt.Sprint("id", i), sim.Config().KeyID), write(fmt.Sprint("secret", i), sim.Config().KeySecret))
	}
	return startExporter(t, nil, append(quick, "--config.file="+write("config.yml", config))...)
}

// TestStatusPageFits: at no width does the page, or a part of it, have to be scrolled
// sideways, or is something cut off.
func TestStatusPageFits(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) *exporter{
		"one organization":  func(t *testing.T) *exporter { _, e := statusFleet(t, 100); return e },
		"two organizations": twoOrganizations,
	} {
		t.Run(name, func(t *testing.T) {
			b := openBrowser(t, start(t))
			b.open(t, "")
			b.await(t, `document.querySelectorAll(".spark .line").length > 50`)
			b.do(t, emulation.SetDeviceMetricsOverride(1280, 1200, 1, false))
			b.keep(t, "narrow-table", false)
			service := ask[string](t, b, `document.querySelector("tbody th a").getAttribute("href")`)
			for _, query := range []string{"", service} {
				b.open(t, query)
				for width := int64(320); width <= 1920; width += 40 {
					b.do(t, emulation.SetDeviceMetricsOverride(width, 900, 1, width < 500))
					wide := ask[[]string](t, b, `[...document.querySelectorAll("body, body *")].filter(e =>
						!e.closest("svg, thead, .skip, select, [hidden]") && e.getClientRects().length > 0 && getComputedStyle(e).display != "inline" &&
						(e.getBoundingClientRect().right > innerWidth + .5 || e.scrollWidth > e.clientWidth + 1)
					).map(e => e.tagName + "." + e.className + " " + e.id + " " + Math.round(e.getBoundingClientRect().right) + " " + e.scrollWidth + ">" + e.clientWidth)`)
					if len(wide) > 0 {
						t.Errorf("%q at %d pixels: %d elements are too wide, such as %q", query, width, len(wide), wide[:min(4, len(wide))])
					}
				}
			}
		})
	}
}
