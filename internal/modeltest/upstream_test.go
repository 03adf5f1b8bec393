package modeltest

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// The calls that upstream answers.
const (
	callFind     = "organizations"
	callList     = "list"
	callPage     = "page"
	callOwn      = "own page"
	callHostname = "hostname"
	callSettings = "settings"
	callBackups  = "backups"
	callQuotas   = "quotas"
)

// answer is an answer that upstream has given.
type answer struct {
	at      time.Time
	call    string
	service string // "" for calls about the organization
	status  int
	body    string
	cut     bool // the connection broke before the end of the body
}

func (a answer) String() string {
	return fmt.Sprintf("%s %s %s: %d, %d bytes, cut: %t", a.at.UTC().Format("15:04:05.000"), a.call, a.service, a.status, len(a.body), a.cut)
}

// trouble is what goes wrong with answers to a call.
type trouble struct {
	left int  // how many more answers
	skip bool // for every second answer only
	kind string
	late time.Duration // how long they are held back, with their content as before
}

// The kinds of trouble. Any other is a status.
const (
	troubleNone  = ""
	troubleCut   = "cut"
	troubleEmpty = "empty"
	troubleHTML  = "html"
	troubleLine  = "line" // a line that does not parse
)

const htmlBody = "<html>"

// upstream answers one collector and records the answers. Safe for concurrent use.
type upstream struct {
	world *world

	mu       sync.Mutex
	troubles map[string]trouble
	answers  []answer // that the oracle has not seen yet
	lastAt   time.Time
}

// RoundTrip implements [http.RoundTripper].
func (u *upstream) RoundTrip(r *http.Request) (*http.Response, error) {
	a := u.draft(r.URL.Path)
	t := u.trouble(a.call)
	switch t.kind {
	case troubleNone:
	case troubleCut:
		a.cut = true
	case troubleEmpty:
		a.body = ""
		if a.call == callList || a.call == callFind {
			a.body = envelope([]any{})
		}
	case troubleHTML:
		a.body = htmlBody
	case troubleLine:
		a.body += "this is no {line\n"
	default:
		a.body = ""
		if _, err := fmt.Sscan(t.kind, &a.status); err != nil {
			return nil, err
		}
	}
	if err := u.give(r, &a, t.late); err != nil {
		return nil, err
	}
	var body io.Reader = strings.NewReader(a.body)
	if a.cut {
		body = io.MultiReader(strings.NewReader(a.body[:len(a.body)/2]), broken{})
	}
	header := http.Header{"Content-Type": {"text/plain"}}
	if strings.HasPrefix(a.body, "{") {
		header.Set("Content-Type", "application/json")
	}
	if a.status == http.StatusTooManyRequests {
		header.Set("Retry-After", "1")
	}
	return &http.Response{StatusCode: a.status, Header: header, Body: io.NopCloser(body), ContentLength: -1, Request: r}, nil
}

// draft returns the answer without trouble.
func (u *upstream) draft(path string) answer {
	u.world.Lock()
	defer u.world.Unlock()
	rest, _ := strings.CutPrefix(path, "/v1/organizations/"+organizationID+"/postgres")
	parts := strings.Split(strings.Trim(rest, "/"), "/")
	a := answer{status: http.StatusOK, service: parts[0]}
	switch {
	case path == "/v1/organizations":
		a.call, a.service = callFind, ""
		a.body = envelope([]any{map[string]any{"id": u.world.cased(organizationID), "name": "shop"}})
		return a
	case path == "/v1/organizations/"+organizationID+"/quotas":
		a.call, a.service, a.body = callQuotas, "", u.world.quotas()
		return a
	case rest == "":
		a.call, a.body = callList, u.world.list()
		return a
	case rest == "/prometheus":
		a.call, a.service, a.body = callPage, "", u.world.page("")
		return a
	case len(parts) == 2 && parts[1] == "prometheus":
		a.call, a.body = callOwn, u.world.page(parts[0])
		return a
	case len(parts) == 2 && parts[1] == "config":
		a.call = callSettings
	case len(parts) == 2 && parts[1] == "backups":
		a.call = callBackups
	case len(parts) == 1:
		a.call = callHostname
	}
	var known bool
	if a.body, known = u.world.detail(a.service, a.call); !known {
		a.status = http.StatusNotFound
	}
	return a
}

// trouble returns what goes wrong with this answer.
func (u *upstream) trouble(call string) trouble {
	u.mu.Lock()
	defer u.mu.Unlock()
	t := u.troubles[call]
	if t.left <= 0 {
		return trouble{}
	}
	now := t
	t.left--
	u.troubles[call] = t
	if t.skip && t.left%2 == 1 {
		return trouble{}
	}
	return now
}

// give waits until the answer is due and records it. No two are given at the same instant, so that
// their order is certain.
func (u *upstream) give(r *http.Request, a *answer, late time.Duration) error {
	for {
		select {
		case <-r.Context().Done():
			return r.Context().Err()
		case <-time.After(late):
		}
		u.mu.Lock()
		if now := time.Now(); now.After(u.lastAt) {
			a.at, u.lastAt = now, now
			u.answers = append(u.answers, *a)
			u.mu.Unlock()
			return nil
		}
		u.mu.Unlock()
		late = time.Millisecond
	}
}

// take returns the answers given since the last call.
func (u *upstream) take() []answer {
	u.mu.Lock()
	defer u.mu.Unlock()
	list := u.answers
	u.answers = nil
	return list
}

// broken is a lost connection.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
