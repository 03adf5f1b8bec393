package api

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// object is a JSON object. Its methods take a value for what it evidently means, be it a
// version that is 18 today and "18" tomorrow, since an inventory that is refused for the
// type of one field helps nobody. What is null is as good as not there.
type object struct {
	fields map[string]json.RawMessage
	err    error // the first value that means nothing
}

func parseObject(b []byte) (*object, error) {
	if k := kind(b); k != "an object" && k != "null" && json.Valid(b) {
		return nil, fmt.Errorf("%s instead of an object", k)
	}
	o := &object{}
	return o, json.Unmarshal(b, &o.fields)
}

// kind names what valid JSON, or its beginning, is.
func kind(b []byte) string {
	switch b = trimSpace(b); {
	case len(b) == 0:
		return "nothing"
	case b[0] == '{':
		return "an object"
	case b[0] == '[':
		return "a list"
	case b[0] == '"':
		return "text"
	case b[0] == 'n':
		return "null"
	case b[0] == 't', b[0] == 'f':
		return "a boolean"
	}
	return "a number"
}

// get returns a value, nil for none.
func (o *object) get(name string) json.RawMessage {
	if b := o.fields[name]; len(b) > 0 && b[0] != 'n' {
		return b
	}
	return nil
}

func (o *object) fail(name, want string) {
	o.err = cmp.Or(o.err, fmt.Errorf("%s is %s, not %s", name, kind(o.fields[name]), want))
}

// text returns a string, or a number or boolean as it is written.
func (o *object) text(name string) string {
	b := o.get(name)
	switch kind(b) {
	case "nothing":
		return ""
	case "an object", "a list":
		o.fail(name, "text")
		return ""
	case "text":
		var s string
		o.err = cmp.Or(o.err, json.Unmarshal(b, &s))
		return s
	}
	return string(b)
}

// flag returns a boolean, also one in a string.
func (o *object) flag(name string) bool {
	switch strings.ToLower(o.text(name)) {
	case "true":
		return true
	case "false", "":
		return false
	}
	o.fail(name, "a boolean")
	return false
}

// number returns a number, also one in a string, or nil for none. One beyond the range
// of its type is infinite.
func (o *object) number(name string) *float64 {
	text := o.text(name)
	if text == "" {
		return nil
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		o.fail(name, "a number")
		return nil
	}
	return &v
}

// count returns a number of at least 0, or nil for none.
func (o *object) count(name string) *float64 {
	if v := o.number(name); v != nil && *v >= 0 {
		return v
	}
	return nil
}

// time returns a time as RFC 3339 and ISO 8601 write it, and the zero time for anything
// else, since a service without a creation time is better than none.
func (o *object) time(name string) time.Time {
	var text string
	_ = json.Unmarshal(o.get(name), &text)
	return parseTime(text)
}

// object returns the object of that name, an empty one for none.
func (o *object) object(name string) *object {
	b := o.get(name)
	if b == nil {
		return &object{}
	}
	inner, err := parseObject(b)
	if err != nil {
		o.fail(name, "an object")
		return &object{}
	}
	return inner
}

// list returns the elements of a list, none where there is none.
func (o *object) list(name string) []json.RawMessage {
	var elements []json.RawMessage
	if b := o.get(name); b != nil && json.Unmarshal(b, &elements) != nil {
		o.fail(name, "a list")
	}
	return elements
}

// texts returns every value that is not null, by name.
func (o *object) texts() map[string]string {
	m := make(map[string]string, len(o.fields))
	for name := range o.fields {
		if o.get(name) != nil {
			m[name] = o.text(name)
		}
	}
	return m
}

func parseTime(s string) time.Time {
	// All take fractions of a second; without a zone it is UTC.
	for _, layout := range [...]string{
		time.RFC3339,
		"2006-01-02T15:04:05Z0700",
		"2006-01-02T15:04:05Z07",
		"2006-01-02T15:04:05",
		"2006-01-02 15:04:05Z07:00",
	} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

var (
	errNoID     = errors.New("id is missing")
	errNoResult = errors.New("result is missing")
)

// decodeResult decodes the result of an enveloped answer that is one object. The envelope's
// status is not read: HTTP's rules.
func decodeResult[T any](body []byte, decode func(*object) T) (T, error) {
	var none T
	envelope, err := parseObject(body)
	if err != nil {
		return none, err
	}
	b := envelope.get("result")
	if b == nil {
		return none, errNoResult
	}
	return decodeElement(b, decode)
}

func decodeElement[T any](b json.RawMessage, decode func(*object) T) (T, error) {
	var none T
	o, err := parseObject(b)
	if err != nil {
		return none, err
	}
	v := decode(o)
	if o.err != nil {
		return none, o.err
	}
	return v, nil
}

// decodeList decodes a result that is a list, whole or not at all: a list that
// silently lacks an element would read like a deleted service.
func decodeList[T any](body []byte, decode func(*object) T) ([]T, error) {
	envelope, err := parseObject(body)
	if err != nil {
		return nil, err
	}
	if envelope.get("result") == nil {
		return nil, errNoResult
	}
	elements := envelope.list("result")
	list := make([]T, 0, len(elements))
	for i, b := range elements {
		v, err := decodeElement(b, decode)
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
		list = append(list, v)
	}
	return list, envelope.err
}

// id returns the id that everything has.
func (o *object) id() string {
	id := o.text("id")
	if id == "" {
		o.err = cmp.Or(o.err, errNoID)
	}
	return id
}

func decodeOrganizations(body []byte) ([]Organization, error) {
	return decodeList(body, func(o *object) Organization {
		return Organization{ID: o.id(), Name: o.text("name"), CreatedAt: o.time("createdAt")}
	})
}

func decodeKey(body []byte) (Key, error) {
	return decodeResult(body, func(o *object) Key {
		if actor := o.text("actorType"); actor != "apiKey" {
			o.err = cmp.Or(o.err, fmt.Errorf("actorType %q is not an API key", clean(actor, maxRequestID)))
		}
		return Key{ID: o.text("keyId"), Name: o.text("name")}
	})
}

func decodeServices(body []byte) ([]Service, error) { return decodeList(body, (*object).service) }

// maxStorage is an exbibyte in GiB: beyond, it is no size of a disk.
const maxStorage = 1 << 30

// service leaves out password, connectionString and username on purpose.
func (o *object) service() Service {
	s := Service{
		ID:              o.id(),
		Name:            o.text("name"),
		Provider:        o.text("provider"),
		Region:          o.text("region"),
		PostgresVersion: o.text("postgresVersion"),
		Size:            o.text("size"),
		HAType:          o.text("haType"),
		State:           o.text("state"),
		IsPrimary:       o.flag("isPrimary"),
		CreatedAt:       o.time("createdAt"),
	}
	if size := o.count("storageSize"); size != nil && *size <= maxStorage {
		s.StorageGiB = *size
	}
	for _, b := range o.list("tags") {
		tag, err := decodeElement(b, func(o *object) Tag { return Tag{Key: o.text("key"), Value: o.text("value")} })
		if err != nil {
			o.err = cmp.Or(o.err, fmt.Errorf("tag: %w", err))
		}
		if tag.Key != "" {
			s.Tags = append(s.Tags, tag)
		}
	}
	return s
}

// decodeService decodes the answer about the service of the given id.
func decodeService(body []byte, id string) (ServiceDetail, error) {
	return decodeResult(body, func(o *object) ServiceDetail {
		s := o.service()
		if !strings.EqualFold(s.ID, id) {
			o.err = cmp.Or(o.err, errors.New("response is about another service"))
		}
		return ServiceDetail{Service: s, Hostname: o.text("hostname"), EarliestRestoreTime: o.time("earliestRestoreTime")}
	})
}

func decodeServiceConfig(body []byte) (ServiceConfig, error) {
	return decodeResult(body, func(o *object) ServiceConfig {
		postgres, pgBouncer := o.object("pgConfig"), o.object("pgBouncerConfig")
		c := ServiceConfig{Postgres: postgres.texts(), PgBouncer: pgBouncer.texts()}
		o.err = cmp.Or(o.err, postgres.err, pgBouncer.err)
		return c
	})
}

func decodeBackups(body []byte) (Backups, error) {
	times, err := decodeList(body, func(o *object) time.Time {
		t := o.time("lastModified")
		if t.IsZero() {
			o.err = cmp.Or(o.err, errors.New("lastModified is not a time"))
		}
		return t
	})
	if err != nil {
		return Backups{}, err
	}
	var b Backups
	for _, t := range times {
		if t.After(b.Latest) {
			b.Latest = t
		}
	}
	envelope, err := parseObject(body) // the total is beside the result
	if err != nil {
		return Backups{}, err
	}
	// Upstream does not guarantee it: what makes no sense is not given.
	if n := envelope.count("totalCount"); n != nil && *n == float64(int(*n)) {
		total := int(*n)
		b.Total = &total
	}
	return b, nil
}

func decodeQuotas(body []byte) ([]Quota, error) {
	return decodeList(body, func(o *object) Quota {
		code, limit := o.text("quotaCode"), o.count("value")
		switch {
		case code == "":
			o.err = cmp.Or(o.err, errors.New("quotaCode is missing"))
		case limit == nil:
			o.err = cmp.Or(o.err, fmt.Errorf("value of %q is missing", code))
		default:
			return Quota{Code: code, Limit: *limit, Usage: o.count("usage")}
		}
		return Quota{}
	})
}
