package e2e

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestServiceViewInABrowser goes from the table to a service's own view, which keeps
// itself up to date, and back.
func TestServiceViewInABrowser(t *testing.T) {
	_, e := statusFleet(t, 100)
	b := openBrowser(t, e)
	b.open(t, "?sort=disk&order=desc")
	b.await(t, `document.querySelectorAll(".spark .line").length > 50`)
	name := b.services(t)[0]
	b.follow(t, "tbody th a")
	b.await(t, `document.querySelectorAll("#service .plot .line").length == 3`)
	if got := ask[string](t, b, `document.getElementById("service-title").innerText`); got != name {
		t.Errorf("the view is of %q, not of %q", got, name)
	}
	b.do(t, chromedp.Evaluate(`window.same = true`, nil))
	then := ask[string](t, b, `document.getElementById("now").innerText`)
	b.await(t, fmt.Sprintf(`document.getElementById("now").innerText != %q`, then))
	if !ask[bool](t, b, `window.same && document.querySelectorAll("#service .plot .line").length == 3`) {
		t.Error("the view does not refresh itself")
	}
	b.follow(t, ".back a")
	b.await(t, `document.querySelectorAll("tbody th").length == 50`)
}
