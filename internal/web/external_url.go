package web

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// ParseExternalURL parses the URL under which clients reach the exporter, such as
// https://proxy.example.com/postgres; an empty text is nil.
func ParseExternalURL(text string) (*url.URL, error) {
	if text == "" {
		return nil, nil
	}
	const example = "write it like https://exporter.example.com:9924"
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return nil, errors.New("not a URL: " + example)
	case u.User != nil:
		return nil, errors.New("the URL contains credentials: leave them out, and put the password into the scrape configuration")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("the URL has a query or a fragment: leave it out")
	}
	if err := checkHost(u.Host); err != nil {
		return nil, fmt.Errorf("the URL has an %w: %s", err, example)
	}
	prefix := ""
	if u.Path != "" {
		prefix = strings.TrimRight(path.Clean("/"+u.Path), "/")
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: prefix}, nil
}

// checkHost says why a host, with or without a port, cannot be the address of a
// target. It is strict: the host comes from the client's request, and Prometheus
// scrapes it.
func checkHost(host string) error {
	name := host
	bracketed := strings.HasPrefix(host, "[")
	if i := strings.LastIndexByte(host, ':'); i >= 0 && (!bracketed || i > strings.LastIndexByte(host, ']')) {
		var port string
		name, port = host[:i], host[i+1:]
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("invalid port %q", port)
		}
	}
	if bracketed {
		ip, err := netip.ParseAddr(strings.TrimSuffix(name[1:], "]"))
		if err != nil || !strings.HasSuffix(name, "]") || !ip.Is6() || ip.Zone() != "" {
			return fmt.Errorf("invalid IPv6 address %q", name)
		}
		return nil
	}
	const hostCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"
	if name == "" || len(name) > 253 || strings.Trim(name, hostCharacters) != "" {
		return fmt.Errorf("invalid host %q", name)
	}
	return nil
}
