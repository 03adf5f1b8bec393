package web

import (
	"net/url"
	"testing"
)

func mustParse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := ParseExternalURL(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestParseExternalURL(t *testing.T) {
	for text, want := range map[string]string{
		"https://x.example.com":       "https://x.example.com",
		"http://x:9924/":              "http://x:9924",
		"http://[::1]:80/a/../b/c/":   "http://[::1]:80/b/c",
		"x:9924":                      "not a URL: write it like https://exporter.example.com:9924",
		"//x":                         "not a URL: write it like https://exporter.example.com:9924",
		"ftp://x":                     "not a URL: write it like https://exporter.example.com:9924",
		"http://":                     "not a URL: write it like https://exporter.example.com:9924",
		"https://x:y@example.com":     "the URL contains credentials: leave them out, and put the password into the scrape configuration",
		"https://example.com/?a=b":    "the URL has a query or a fragment: leave it out",
		"https://example.com/#a":      "the URL has a query or a fragment: leave it out",
		"https://example.com:0":       `the URL has an invalid port "0": write it like https://exporter.example.com:9924`,
		"https://exam$ple.com/a":      `the URL has an invalid host "exam$ple.com": write it like https://exporter.example.com:9924`,
		"https://[fe80::1%25eth0]/aa": `the URL has an invalid IPv6 address "[fe80::1%eth0]": write it like https://exporter.example.com:9924`,
	} {
		u, err := ParseExternalURL(text)
		var got string
		if err != nil {
			got = err.Error()
		} else {
			got = u.String()
		}
		if got != want {
			t.Errorf("%s: %s\nnot %s", text, got, want)
		}
	}
	if u, err := ParseExternalURL(""); u != nil || err != nil {
		t.Errorf("empty: %v, %v", u, err)
	}
}
