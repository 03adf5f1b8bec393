package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api/simulator"
)

// browser is a tab of a Chromium of its own.
type browser struct {
	ctx context.Context
	url string // of the status page

	mu         sync.Mutex
	complaints []string // errors on the console, broken policies
	requests   []string
}

// openBrowser starts Chromium, which shows nothing yet. When the test ends,
// the browser must have had nothing to complain about, and must have asked
// nobody but the exporter.
func openBrowser(t *testing.T, e *exporter) *browser {
	t.Helper()
	var program string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("Chromium is not installed")
		}
		t.Skip("Chromium is not installed")
	}
	flags := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.NoSandbox,
		chromedp.DisableGPU,
		chromedp.Flag("disable-component-update", true),
		chromedp.WindowSize(1440, 1000),
	)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, flags...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	b := &browser{ctx: ctx, url: "http://" + e.address + "/"}
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits for the end of the process, which writes into its directory
		cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, c := range b.complaints {
			t.Errorf("the browser complains: %s", c)
		}
		for _, r := range b.requests {
			if !strings.HasPrefix(r, b.url) {
				t.Errorf("the page asks elsewhere: %s", r)
			}
		}
		if len(b.requests) == 0 {
			t.Error("no request was seen")
		}
	})
	chromedp.ListenTarget(ctx, func(event any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch event := event.(type) {
		case *runtime.EventExceptionThrown:
			b.complaints = append(b.complaints, event.ExceptionDetails.Error())
		case *runtime.EventConsoleAPICalled:
			b.complaints = append(b.complaints, fmt.Sprintf("console.%s", event.Type))
		case *log.EventEntryAdded:
			b.complaints = append(b.complaints, event.Entry.Text)
		case *network.EventRequestWillBeSent:
			b.requests = append(b.requests, event.Request.URL)
		}
	})
	b.do(t, network.Enable(), log.Enable(), runtime.Enable())
	return b
}

func (b *browser) do(t *testing.T, actions ...chromedp.Action) {
	t.Helper()
	if err := chromedp.Run(b.ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

// open loads the page with a query.
func (b *browser) open(t *testing.T, query string) {
	t.Helper()
	b.do(t, chromedp.Navigate(b.url+query), chromedp.WaitVisible("#verdict", chromedp.ByQuery))
}

// follow clicks on what loads a page, and returns once that is there.
func (b *browser) follow(t *testing.T, selector string) {
	t.Helper()
	if _, err := chromedp.RunResponse(b.ctx, chromedp.Click(selector, chromedp.ByQuery)); err != nil {
		t.Fatalf("click on %s: %v", selector, err)
	}
}

// ask returns what an expression of JavaScript is.
func ask[T any](t *testing.T, b *browser, expression string) T {
	t.Helper()
	var v T
	b.do(t, chromedp.Evaluate(expression, &v))
	return v
}

// await returns once an expression is true.
func (b *browser) await(t *testing.T, expression string) {
	t.Helper()
	if err := chromedp.Run(b.ctx, chromedp.Poll(expression, nil, chromedp.WithPollingInterval(100*time.Millisecond), chromedp.WithPollingTimeout(time.Minute))); err != nil {
		t.Fatalf("%s does not become true: %v\n%s", expression, err, ask[string](t, b, "document.body.innerText"))
	}
}

// services returns the names in the table, in order.
func (b *browser) services(t *testing.T) []string {
	t.Helper()
	return ask[[]string](t, b, `[...document.querySelectorAll("tbody th")].map(e => e.innerText)`)
}

// keep writes a picture of the page for people to look at.
func (b *browser) keep(t *testing.T, name string, whole bool) {
	t.Helper()
	var picture []byte
	if whole {
		b.do(t, chromedp.FullScreenshot(&picture, 100))
	} else {
		b.do(t, chromedp.CaptureScreenshot(&picture))
	}
	if err := os.WriteFile(filepath.Join(t.ArtifactDir(), name+".png"), picture, 0o644); err != nil {
		t.Fatal(err)
	}
}

// statusFleet is an upstream whose services are in every condition, and an
// exporter that has read all of it.
func statusFleet(t *testing.T, services int) (*simulator.Simulator, *exporter) {
	t.Helper()
	sim, environment := upstream(t, simulator.Config{
		Services: services, Seed: 7, RefreshInterval: time.Second,
	})
	list := sim.Services()
	for i, state := range []string{"stopped", "creating", "deleting", "unavailable", "restoring_backup", "a_state_of_tomorrow"} {
		sim.SetState(list[10*i+3].ID, state)
	}
	sim.SetTags(list[0].ID, simulator.Tag{Key: "Environment", Value: "production"}, simulator.Tag{Key: "team", Value: "payments"},
		simulator.Tag{Key: "critical"}, simulator.Tag{Key: "cost-center", Value: "42"}, simulator.Tag{Key: "owner", Value: "<b>bold</b>"})
	sim.Rename(list[0].ID, "a <script>alert(1)</script> name")
	e := startExporter(t, environment, "--api.rate-limit=1000", "--api.rate-use=900", "--metrics.interval=1s", "--inventory.interval=1s")
	return sim, e
}

func TestStatusPageInABrowser(t *testing.T) {
	sim, e := statusFleet(t, 100)
	b := openBrowser(t, e)
	b.open(t, "")
	b.await(t, `document.querySelectorAll("tbody th").length == 50`)
	b.await(t, `document.querySelectorAll(".spark .line").length > 50`) // by itself, with time

	// Style and script are in force, and nothing was inline.
	if got := ask[string](t, b, `getComputedStyle(document.querySelector(".bar")).backgroundColor`); got == "rgba(0, 0, 0, 0)" {
		t.Error("the style sheet is not in force")
	}
	if ask[bool](t, b, `document.getElementById("pause").hidden`) {
		t.Error("the script is not in force")
	}
	if got := ask[string](t, b, `document.title`); got != "Serving metrics, with 2 problems – ClickHouse Postgres exporter" {
		t.Errorf("title %q", got)
	}

	// Sort by a click and by the keyboard.
	b.follow(t, "#sort-disk")
	b.do(t, chromedp.WaitVisible("th[aria-sort=descending] #sort-disk", chromedp.ByQuery))
	disk := ask[[]float64](t, b, `[...document.querySelectorAll("td[data-label=Disk] .value:not(.none)")].map(e => parseFloat(e.innerText))`)
	if len(disk) < 40 || !slices.IsSortedFunc(disk, func(a, b float64) int { return int(b - a) }) {
		t.Errorf("sorted by disk: %v", disk)
	}
	b.do(t, chromedp.Focus("#sort-name", chromedp.ByQuery))
	if _, err := chromedp.RunResponse(b.ctx, chromedp.KeyEvent(kb.Enter)); err != nil {
		t.Fatal(err)
	}
	b.do(t, chromedp.WaitVisible("th[aria-sort=ascending] #sort-name", chromedp.ByQuery))
	first := b.services(t)
	if !slices.IsSortedFunc(first, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) }) || first[0] != "a <script>alert(1)</script> name" {
		t.Errorf("sorted by name: %q", first)
	}

	// Page.
	b.follow(t, "#next")
	b.do(t, chromedp.WaitVisible(`#page-2[aria-current=page]`, chromedp.ByQuery))
	if second := b.services(t); len(second) != 50 || slices.ContainsFunc(second, func(s string) bool { return slices.Contains(first, s) }) {
		t.Errorf("on the second page: %q", second)
	}

	// Filter: at once, without a new page, and for whoever opens the address.
	b.open(t, "")
	b.do(t, chromedp.Evaluate(`window.same = true`, nil), chromedp.SendKeys("#q", "payments critical", chromedp.ByQuery))
	b.await(t, `document.querySelectorAll("tbody th").length == 1`)
	if got := ask[string](t, b, `document.activeElement.id + " " + window.same + " " + location.search`); got != "q true ?q=payments+critical&sort=name&order=asc&per_page=50" {
		t.Errorf("after typing: %q", got)
	}
	if got := ask[string](t, b, `document.querySelector(".more details").innerText`); got != "+2" {
		t.Errorf("tags that are folded: %q", got)
	}
	b.open(t, ask[string](t, b, "location.search"))
	if got := ask[string](t, b, `document.getElementById("q").value`); got != "payments critical" || len(b.services(t)) != 1 {
		t.Errorf("after a reload: %q, %q", got, b.services(t))
	}
	b.do(t, chromedp.Click(".more summary", chromedp.ByQuery), chromedp.Focus("#sort-size", chromedp.ByQuery))
	then := ask[string](t, b, `document.getElementById("now").innerText`)
	b.await(t, fmt.Sprintf(`document.getElementById("now").innerText != %q`, then))
	if got := ask[string](t, b, `document.activeElement.id + " " + document.querySelector(".more details").open`); got != "sort-size true" {
		t.Errorf("a refresh loses focus or folds tags: %q", got)
	}
	b.follow(t, ".reset")
	b.await(t, `document.querySelectorAll("tbody th").length == 50`)

	// A fault and its recovery, on a page that nobody touches.
	b.do(t, chromedp.Evaluate(`window.same = true`, nil))
	end := sim.SetFault(simulator.Fault{Endpoints: []string{"organization_metrics", "service_metrics"}, Status: 500, Message: "Internal <i>error</i>"})
	b.await(t, `document.getElementById("problems").innerText.includes("Cannot read metrics")`)
	if got := ask[string](t, b, `document.getElementById("problems").innerText`); !strings.Contains(got, "Internal <i>error</i>") {
		t.Errorf("problems: %s", got)
	}
	b.do(t, chromedp.Evaluate(`scrollTo(0, 0)`, nil))
	b.keep(t, "fault", false)
	end()
	b.await(t, `!document.querySelector("#problems .problems").innerText.includes("Cannot read metrics") && document.querySelector("#resolved summary").innerText.startsWith("Resolved")`)
	if got := ask[string](t, b, `document.getElementById("resolved").textContent + window.same`); !strings.Contains(got, "Cannot read metrics") || !strings.HasSuffix(got, "true") {
		t.Errorf("problems that are over: %s", got)
	}

	// Pause stays, and resuming refreshes at once.
	b.do(t, chromedp.Click("#pause", chromedp.ByQuery))
	if got := ask[string](t, b, `document.getElementById("pause").innerText`); got != "Resume" {
		t.Errorf("the button says %q", got)
	}
	then = ask[string](t, b, `document.getElementById("now").innerText`)
	b.do(t, chromedp.Click("#pause", chromedp.ByQuery))
	b.await(t, fmt.Sprintf(`document.getElementById("now").innerText != %q`, then))
}

// TestStatusPageLooks takes pictures of the page in every form, and sees to it
// that it fits.
func TestStatusPageLooks(t *testing.T) {
	_, e := statusFleet(t, 100)
	b := openBrowser(t, e)
	b.open(t, "")
	b.await(t, `document.querySelectorAll(".spark .line").length > 50`)
	service := ask[string](t, b, `document.querySelector("tbody th a").getAttribute("href")`)
	for _, scheme := range []string{"light", "dark"} {
		for _, size := range []struct {
			name          string
			width, height int64
			whole         bool
		}{{"wide", 1440, 1000, false}, {"middle", 1100, 900, false}, {"narrow", 390, 844, false}, {"narrowest", 320, 640, false}, {"phone", 390, 3000, false}} {
			b.do(t,
				emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
				emulation.SetDeviceMetricsOverride(size.width, size.height, 1, size.width < 500),
			)
			b.open(t, "?sort=state")
			if over := ask[int](t, b, `document.documentElement.scrollWidth - window.innerWidth`); over > 0 {
				t.Errorf("%s: the page is %d pixels too wide", size.name, over)
			}
			b.keep(t, scheme+"-"+size.name, size.whole)
			b.open(t, service)
			b.keep(t, scheme+"-"+size.name+"-service", size.whole)
		}
	}
}

// TestStatusPageWithoutScript does what can be done with links and a form.
func TestStatusPageWithoutScript(t *testing.T) {
	_, e := statusFleet(t, 100)
	b := openBrowser(t, e)
	b.open(t, "")
	b.await(t, `document.querySelectorAll("tbody th").length == 50`)
	b.do(t, emulation.SetScriptExecutionDisabled(true))
	b.open(t, "")
	if !ask[bool](t, b, `document.getElementById("pause").hidden`) {
		t.Error("the script is in force")
	}
	b.follow(t, "#sort-cpu")
	b.do(t, chromedp.WaitVisible("th[aria-sort=descending] #sort-cpu", chromedp.ByQuery), chromedp.SetValue("#state", "stopped", chromedp.ByQuery))
	b.follow(t, "form button")
	b.do(t, chromedp.WaitVisible("tbody .pill.idle", chromedp.ByQuery))
	if got := b.services(t); len(got) != 1 {
		t.Errorf("stopped: %q", got)
	}
	if got := ask[string](t, b, `location.search`); got != "?q=&state=stopped&region=&sort=cpu&order=desc&per_page=50" {
		t.Errorf("the form asks for %q", got)
	}
}
