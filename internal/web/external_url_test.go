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
		"x:9924":                      "not a URL: it must look like https://exporter.example.com:9924",
		"//x":                         "not a URL: it must look like https://exporter.example.com:9924",
		"ftp://x":                     "not a URL: it must look like https://exporter.example.com:9924",
		"http://":                     "not a URL: it must look like https://exporter.example.com:9924",
		"https://x:y@example.com":     "a URL with credentials: it must look like https://exporter.example.com:9924; put the password in the scrape configuration",
		"https://example.com/?a=b":    "a URL with a query or fragment: it must look like https://exporter.example.com:9924",
		"https://example.com/#a":      "a URL with a query or fragment: it must look like https://exporter.example.com:9924",
		"https://example.com:0":       `a URL with an invalid port "0": it must look like https://exporter.example.com:9924`,
		"https://exam$ple.com/a":      `a URL with an invalid host "exam$ple.com": it must look like https://exporter.example.com:9924`,
		"https://[fe80::1%25eth0]/aa": `a URL with an invalid IPv6 address "[fe80::1%eth0]": it must look like https://exporter.example.com:9924`,
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
