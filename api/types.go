package api

import "time"

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
