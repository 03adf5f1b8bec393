package config

import (
	"fmt"
	"net/url"
	"strings"
)

// CheckProxies says which environment variable names a proxy that cannot be used: net/http
// would connect directly instead. It does not repeat the value, which may hold a password.
func CheckProxies(lookup func(string) (string, bool)) error {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"} {
		if text, _ := lookup(name); text != "" && !usableProxy(text) {
			return fmt.Errorf("%s cannot be used as a proxy: write it like http://user:password@proxy.example.com:3128, with special characters of the password escaped (%%23 for #, %%2F for /, %%25 for %%)", name)
		}
	}
	return nil
}

// usableProxy tells whether net/http would find a proxy by the value of a variable, and
// the one that is meant.
func usableProxy(text string) bool {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return false
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
		return true
	}
	return false
}
