package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Organization is what a key belongs to.
type Organization struct {
	ID, Name  string
	CreatedAt time.Time // zero when not given
}

// Key is an API key as its users know it. Its id need not be the one by which it
// authenticates.
type Key struct{ ID, Name string }

// Service is one Managed Postgres service as the list of an organization gives
// it. Every text but ID may be empty. Names are not unique, ids are.
type Service struct {
	ID, Name, Provider, Region, PostgresVersion, Size, HAType, State string

	StorageGiB float64 // 0 when not given
	Tags       []Tag   // in upstream's order
	IsPrimary  bool
	CreatedAt  time.Time // zero when not given
}

// Tag is a tag of a service. Its value may be empty, its key is not.
type Tag struct {
	Key   string `json:"key"`
	Value string `json:"value,omitempty"`
}

// ServiceDetail is what upstream tells of a single service beyond the list.
type ServiceDetail struct {
	Service
	Hostname            string
	EarliestRestoreTime time.Time // zero when not given
}

// ServiceConfig holds the settings of a service that were set by the user, by
// name. Upstream gives some values as strings and some as numbers; here all are
// texts, as upstream wrote them.
type ServiceConfig struct{ Postgres, PgBouncer map[string]string }

// Backups is what upstream tells of the base backups of a service that it retains.
// Of those that failed it tells nothing.
type Backups struct {
	Latest time.Time // when the newest was written last, zero when there is none
	Total  *int      // nil when not given
}

// Quota is a limit that upstream sets to an organization.
type Quota struct {
	Code  string // such as postgres-services-per-organization
	Limit float64
	Usage *float64 // nil when not given; may exceed Limit
}

// Page is an answer in Prometheus' text or the OpenMetrics format, not parsed.
type Page struct {
	Body        []byte    // never HTML or JSON, but may be empty
	ContentType string    // as given, or text/plain when not given
	ReceivedAt  time.Time // when the header of the answer arrived: the data is no younger
	Date        time.Time // the answer's Date, by upstream's clock, to the second; zero when not given
	Complete    bool      // Content-Length, chunking or the framing of HTTP/2 proved that the body is whole
}

// envelope surrounds every JSON answer. Its status is not read: HTTP's rules.
type envelope struct {
	Result    json.RawMessage `json:"result"`
	Error     wireText        `json:"error"`
	RequestID wireText        `json:"requestId"`
}

type wireOrganization struct {
	ID        wireText `json:"id"`
	Name      wireText `json:"name"`
	CreatedAt wireTime `json:"createdAt"`
}

func (w wireOrganization) organization() (Organization, error) {
	if w.ID == "" {
		return Organization{}, errNoID
	}
	return Organization{ID: string(w.ID), Name: string(w.Name), CreatedAt: time.Time(w.CreatedAt)}, nil
}

// wireService leaves out password, connectionString and username on purpose.
type wireService struct {
	ID              wireText   `json:"id"`
	Name            wireText   `json:"name"`
	Provider        wireText   `json:"provider"`
	Region          wireText   `json:"region"`
	PostgresVersion wireText   `json:"postgresVersion"`
	Size            wireText   `json:"size"`
	StorageSize     wireNumber `json:"storageSize"`
	HAType          wireText   `json:"haType"`
	Tags            []wireTag  `json:"tags"`
	IsPrimary       wireFlag   `json:"isPrimary"`
	State           wireText   `json:"state"`
	CreatedAt       wireTime   `json:"createdAt"`
	Hostname        wireText   `json:"hostname"`
	EarliestRestore wireTime   `json:"earliestRestoreTime"`
}

type wireTag struct {
	Key   wireText `json:"key"`
	Value wireText `json:"value"`
}

func (w wireService) service() (Service, error) {
	if w.ID == "" {
		return Service{}, errNoID
	}
	s := Service{
		ID:              string(w.ID),
		Name:            string(w.Name),
		Provider:        string(w.Provider),
		Region:          string(w.Region),
		PostgresVersion: string(w.PostgresVersion),
		Size:            string(w.Size),
		HAType:          string(w.HAType),
		State:           string(w.State),
		StorageGiB:      float64(w.StorageSize),
		IsPrimary:       bool(w.IsPrimary),
		CreatedAt:       time.Time(w.CreatedAt),
	}
	for _, t := range w.Tags {
		if t.Key != "" {
			s.Tags = append(s.Tags, Tag{Key: string(t.Key), Value: string(t.Value)})
		}
	}
	return s, nil
}

var (
	errNoID     = errors.New("id is missing")
	errNoResult = errors.New("result is missing")
)

// decodeResult decodes the result of an enveloped answer into v.
func decodeResult(body []byte, v any) error {
	var e envelope
	if err := json.Unmarshal(body, &e); err != nil {
		return err
	}
	if len(e.Result) == 0 || bytes.Equal(e.Result, []byte("null")) {
		return errNoResult
	}
	return json.Unmarshal(e.Result, v)
}

// decodeList decodes a result that is a list, whole or not at all: a list that
// silently lacks an element would read like a deleted service.
func decodeList[W, T any](body []byte, convert func(W) (T, error)) ([]T, error) {
	var elements []json.RawMessage
	if err := decodeResult(body, &elements); err != nil {
		return nil, err
	}
	list := make([]T, 0, len(elements))
	for i, element := range elements {
		var w W
		if err := json.Unmarshal(element, &w); err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
		v, err := convert(w)
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
		list = append(list, v)
	}
	return list, nil
}

func decodeOrganizations(body []byte) ([]Organization, error) {
	return decodeList(body, wireOrganization.organization)
}

func decodeKey(body []byte) (Key, error) {
	var w struct {
		Actor wireText `json:"actorType"`
		ID    wireText `json:"keyId"`
		Name  wireText `json:"name"`
	}
	if err := decodeResult(body, &w); err != nil {
		return Key{}, err
	}
	if w.Actor != "apiKey" {
		return Key{}, fmt.Errorf("actorType %q is not an API key", clean(string(w.Actor), maxRequestID))
	}
	return Key{ID: string(w.ID), Name: string(w.Name)}, nil
}

func decodeServices(body []byte) ([]Service, error) {
	return decodeList(body, wireService.service)
}

// decodeService decodes the answer about the service of the given id.
func decodeService(body []byte, id string) (ServiceDetail, error) {
	var w wireService
	if err := decodeResult(body, &w); err != nil {
		return ServiceDetail{}, err
	}
	s, err := w.service()
	if err != nil {
		return ServiceDetail{}, err
	}
	if !strings.EqualFold(s.ID, id) {
		return ServiceDetail{}, errors.New("response is about another service")
	}
	return ServiceDetail{Service: s, Hostname: string(w.Hostname), EarliestRestoreTime: time.Time(w.EarliestRestore)}, nil
}

func decodeBackups(body []byte) (Backups, error) {
	type backup struct {
		LastModified wireTime `json:"lastModified"`
	}
	times, err := decodeList(body, func(w backup) (time.Time, error) {
		t := time.Time(w.LastModified)
		if t.IsZero() {
			return t, errors.New("lastModified is not a time")
		}
		return t, nil
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
	var w struct {
		Total json.RawMessage `json:"totalCount"` // beside the result
	}
	if err := json.Unmarshal(body, &w); err != nil {
		return Backups{}, err
	}
	// Upstream does not guarantee the total: what makes no sense is not given.
	var total *int
	if json.Unmarshal(w.Total, &total) == nil && total != nil && *total >= 0 {
		b.Total = total
	}
	return b, nil
}

func decodeQuotas(body []byte) ([]Quota, error) {
	type quota struct {
		Code  wireText `json:"quotaCode"`
		Limit *float64 `json:"value"`
		Usage *float64 `json:"usage"`
	}
	return decodeList(body, func(w quota) (Quota, error) {
		switch {
		case w.Code == "":
			return Quota{}, errors.New("quotaCode is missing")
		case w.Limit == nil:
			return Quota{}, fmt.Errorf("value of %q is missing", w.Code)
		}
		return Quota{Code: string(w.Code), Limit: *w.Limit, Usage: w.Usage}, nil
	})
}

func decodeServiceConfig(body []byte) (ServiceConfig, error) {
	var w struct {
		Postgres  map[string]*wireText `json:"pgConfig"`
		PgBouncer map[string]*wireText `json:"pgBouncerConfig"`
	}
	if err := decodeResult(body, &w); err != nil {
		return ServiceConfig{}, err
	}
	return ServiceConfig{Postgres: settings(w.Postgres), PgBouncer: settings(w.PgBouncer)}, nil
}

// settings leaves out what is null: not set.
func settings(wire map[string]*wireText) map[string]string {
	m := make(map[string]string, len(wire))
	for name, value := range wire {
		if value != nil {
			m[name] = string(*value)
		}
	}
	return m
}

// The wire types below take a value for what it evidently means, be it a version
// that is 18 today and "18" tomorrow, since an inventory that is refused for the
// type of one field helps nobody. Objects and lists they refuse.

// wireText is a string, or a number or boolean as it is written; null is "".
type wireText string

// UnmarshalJSON refuses objects and lists.
func (t *wireText) UnmarshalJSON(b []byte) error {
	switch b[0] {
	case '"':
		return json.Unmarshal(b, (*string)(t))
	case 'n':
		*t = ""
		return nil
	case '{', '[':
		return mistyped[string](b)
	}
	*t = wireText(b)
	return nil
}

// wireFlag is a boolean, also as a string; null is false.
type wireFlag bool

// UnmarshalJSON refuses everything else.
func (f *wireFlag) UnmarshalJSON(b []byte) error {
	var t wireText
	if err := t.UnmarshalJSON(b); err != nil {
		return mistyped[bool](b)
	}
	switch strings.ToLower(string(t)) {
	case "true":
		*f = true
	case "false", "":
		*f = false
	default:
		return mistyped[bool](b)
	}
	return nil
}

// wireNumber is a size in GiB, also as a string; null is 0, and so is a number
// that makes no sense as one.
type wireNumber float64

// UnmarshalJSON refuses what is not a number.
func (n *wireNumber) UnmarshalJSON(b []byte) error {
	var t wireText
	if err := t.UnmarshalJSON(b); err != nil {
		return mistyped[float64](b)
	}
	*n = 0
	if t == "" {
		return nil
	}
	v, err := strconv.ParseFloat(string(t), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return mistyped[float64](b)
	}
	if v > 0 && v <= maxNumber {
		*n = wireNumber(v)
	}
	return nil
}

// maxNumber is an exbibyte in GiB: beyond, it is no size of a disk.
const maxNumber = 1 << 30

// wireTime is a time as RFC 3339 and ISO 8601 write it; anything else is the zero
// time, since a service without a creation time is better than none.
type wireTime time.Time

// UnmarshalJSON refuses nothing.
func (t *wireTime) UnmarshalJSON(b []byte) error {
	var text wireText
	_ = text.UnmarshalJSON(b)
	*t = wireTime(parseTime(string(text)))
	return nil
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

// mistyped returns an error to which encoding/json adds the name of the field.
func mistyped[T any](b []byte) error {
	value := "string"
	switch b[0] {
	case '{':
		value = "object"
	case '[':
		value = "array"
	case 't', 'f':
		value = "bool"
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		value = "number"
	}
	return &json.UnmarshalTypeError{Value: value, Type: reflect.TypeFor[T]()}
}
