package config

import (
	"strings"
	"testing"
)

func TestCheckProxies(t *testing.T) {
	for value, usable := range map[string]bool{
		"":                                   true,
		"proxy:3128":                         true,
		"proxy.example.com":                  true,
		"http://proxy:3128":                  true,
		"http://proxy:3128/":                 true,
		"https://user:hush@proxy:3128":       true,
		"socks5://proxy:1080":                true,
		"http://user:hu%23sh@proxy:3128":     true,
		"http://user:hu%zzsh@proxy:3128":     false,
		"http://user:hu#sh@proxy:3128":       false,
		"http://user:hu/sh@proxy:3128":       false,
		"http://user:hu?sh@proxy:3128":       false,
		"ftp://proxy:21":                     false,
		"http://":                            false,
		"http://proxy:port":                  false,
		"\"http://proxy:3128\"":              false,
		"http://proxy:3128/path/of/anything": false,
	} {
		for _, name := range []string{"HTTPS_PROXY", "http_proxy"} {
			err := CheckProxies(func(n string) (string, bool) {
				if n == name {
					return value, true
				}
				return "", false
			})
			if (err == nil) != usable {
				t.Errorf("%s=%s: %v", name, value, err)
			}
			if err != nil && (!strings.HasPrefix(err.Error(), name+" ") || strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "\n")) {
				t.Errorf("%s=%s: %v", name, value, err)
			}
		}
	}
}
