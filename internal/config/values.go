package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/units"
	"github.com/prometheus/common/model"

	"github.com/ClickHouse/clickhouse_postgres_exporter/api"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// Value is where the text of a setting goes. Errors do not repeat the text.
type Value interface {
	Set(text string) error
	String() string
}

// parsed is a value that a function makes of the text.
type parsed[T any] struct {
	to    *T
	parse func(string) (T, error)
}

// Set keeps what the text means.
func (v parsed[T]) Set(text string) error {
	t, err := v.parse(text)
	if err == nil {
		*v.to = t
	}
	return err
}

func (v parsed[T]) String() string { return fmt.Sprint(*v.to) }

// boolean is a value that a flag sets without an argument.
type boolean struct{ parsed[bool] }

func boolTo(to *bool) Value {
	return boolean{parsed[bool]{to, func(text string) (bool, error) {
		b, err := strconv.ParseBool(text)
		if err != nil {
			return false, errors.New("must be true or false")
		}
		return b, nil
	}}}
}

// repeated is a value that a flag adds to.
type repeated struct {
	to    *[]string
	check func(string) error
}

// Set adds a text.
func (v repeated) Set(text string) error {
	if err := v.check(text); err != nil {
		return err
	}
	*v.to = append(*v.to, text)
	return nil
}

func (v repeated) String() string { return strings.Join(*v.to, " ") }

func textTo(to *string) Value { return parsed[string]{to, parseText} }

// parseText takes text in which there are neither control characters nor space around
// it, neither of which is ever meant.
func parseText(text string) (string, error) {
	if strings.TrimSpace(text) != text || strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return "", errors.New("has white space around it or control characters in it: remove them")
	}
	return text, nil
}

func fileTo(to *string) Value {
	return parsed[string]{to, func(text string) (string, error) {
		text, err := parseText(text)
		if text == "" || err != nil {
			return "", err
		}
		return filepath.Clean(text), nil
	}}
}

func oneOf(to *string, options ...string) Value {
	return parsed[string]{to, func(text string) (string, error) {
		if !slices.Contains(options, text) {
			return "", fmt.Errorf("must be one of %s", strings.Join(options, ", "))
		}
		return text, nil
	}}
}

const maxCount = 1_000_000

// countTo takes an integer of at least least.
func countTo(to *int, least int) Value {
	return parsed[int]{to, func(text string) (int, error) {
		n, err := strconv.Atoi(text)
		switch {
		case errors.Is(err, strconv.ErrSyntax):
			return 0, errors.New("must be a whole number such as 10")
		case err != nil, n < least, n > maxCount:
			return 0, fmt.Errorf("must be from %d to %d, not %s", least, maxCount, text)
		}
		return n, nil
	}}
}

func seedTo(to *uint64) Value {
	return parsed[uint64]{to, func(text string) (uint64, error) {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return 0, errors.New("must be a whole number such as 10")
		}
		return n, nil
	}}
}

// durationTo takes a duration in Prometheus's notation.
func durationTo(to *time.Duration) Value {
	return parsed[time.Duration]{to, func(text string) (time.Duration, error) {
		d, err := model.ParseDuration(text)
		switch {
		case err != nil:
			return 0, errors.New("not a duration: write a number with a unit such as 30s, 5m or 1h30m")
		case d == 0:
			return 0, errors.New("must be more than 0: write a number with a unit such as 30s, 5m or 1h30m")
		}
		return time.Duration(d), nil
	}}
}

func bytesTo(to *int64) Value {
	return parsed[int64]{to, func(text string) (int64, error) {
		n, err := units.ParseBase2Bytes(text)
		switch {
		case err != nil:
			return 0, errors.New("not a size: write a number with a unit such as 64MiB")
		case n <= 0:
			return 0, errors.New("must be more than 0: write a number with a unit such as 64MiB")
		}
		return int64(n), nil
	}}
}

const alphanumeric = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

// only tells whether every character of s is one of those allowed.
func only(s, allowed string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return !strings.ContainsRune(allowed, c) })
}

// idTo takes an identifier, which becomes part of a URL's path and of a label.
func idTo(to *string) Value {
	return parsed[string]{to, func(text string) (string, error) {
		text, err := parseText(text)
		if err == nil && !only(text, alphanumeric+"-_") {
			err = errors.New("not an id: copy it from the console, it looks like ee2fef9f-b443-8ad0-8c9b-724390cdb826")
		}
		return text, err
	}}
}

func baseURLTo(to *string) Value {
	return parsed[string]{to, func(text string) (string, error) {
		u, err := api.ParseURL(text)
		if err != nil {
			return "", fmt.Errorf("%w: write it like %s", err, api.DefaultURL)
		}
		// Other clients of the API are given its version as well.
		base := strings.TrimSuffix(u.String(), "/v1")
		if strings.Contains(u.EscapedPath()+"/", "/v1/organizations/") {
			return "", fmt.Errorf("must end before /v1/organizations: write it like %s", api.DefaultURL)
		}
		return base, nil
	}}
}

func labelsTo(to *[]inventory.EnrichLabel) Value {
	return parsed[[]inventory.EnrichLabel]{to, func(text string) ([]inventory.EnrichLabel, error) {
		return inventory.ParseEnrichLabels([]string{text})
	}}
}

func addressTo(to *string) Value {
	return parsed[string]{to, func(text string) (string, error) { return text, checkAddress(text) }}
}

// assumed is a value that takes name=value, or several joined by commas, and that a flag
// adds to. What it is set to first replaces what there was.
type assumed struct {
	to    *[]inventory.Setting
	again bool
}

// Set adds settings.
func (v *assumed) Set(text string) error {
	var list []inventory.Setting
	if v.again {
		list = slices.Clone(*v.to)
	}
	for pair := range strings.SplitSeq(text, ",") {
		name, number, _ := strings.Cut(strings.TrimSpace(pair), "=")
		value, ok := inventory.PlainNumber(number)
		switch {
		case name == "" || !ok || !only(name, alphanumeric+"._"):
			return errors.New("not a setting and its number: write it like max_connections=100")
		case slices.ContainsFunc(list, func(s inventory.Setting) bool { return s.Name == name }):
			return errors.New("one setting is given twice: give it once")
		}
		list = append(list, inventory.Setting{Name: name, Value: value})
	}
	*v.to, v.again = list, true
	return nil
}

func (v *assumed) String() string { return fmt.Sprint(*v.to) }

// tagKeysTo takes keys of tags joined by commas, or one of the words all, for which it
// keeps nil, and none.
func tagKeysTo(to *[]string) Value {
	return parsed[[]string]{to, func(text string) ([]string, error) {
		keys := []string{}
		switch text {
		case "all":
			return nil, nil
		case "", "none":
			return keys, nil
		}
		for key := range strings.SplitSeq(text, ",") {
			if key = strings.TrimSpace(key); !isTagKey(key) {
				return nil, errors.New("no tag can have such a key: " + tagKeys)
			}
			keys = append(keys, key)
		}
		return keys, nil
	}}
}

const tagKeys = "keys are 1 to 128 letters, digits, dots, underscores and hyphens"

// isTagKey tells whether upstream allows a tag such a key.
func isTagKey(key string) bool {
	return len(key) >= 1 && len(key) <= 128 && only(key, alphanumeric+"._-")
}

// checkListenAddress says why nothing can listen on an address.
func checkListenAddress(text string) error {
	if !strings.HasPrefix(text, "vsock://") {
		return checkAddress(text)
	}
	u, err := url.Parse(text)
	if err == nil {
		_, err = strconv.ParseUint(u.Port(), 10, 32)
	}
	if err != nil {
		return errors.New("not an address with a port: it must look like vsock://:9924")
	}
	return nil
}

// checkAddress says why it is none of TCP.
func checkAddress(text string) error {
	const example = "it must look like :9924 or localhost:9924"
	if strings.Contains(text, "://") {
		return errors.New("not an address but a URL: " + example)
	}
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return errors.New("not an address with a port: " + example)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return errors.New("the port is not a number from 0 to 65535: " + example)
	}
	return nil
}
