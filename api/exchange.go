package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"time"
)

// attempt sends the request and follows redirects that stay with the host.
func (c *Client) attempt(ctx context.Context, endpoint Endpoint, target *url.URL, creds Credentials, decode func(*response) *Error) *Error {
	for hops := 0; ; hops++ {
		if err := c.wait(ctx, endpoint); err != nil {
			e := contextError(ctx)
			e.Endpoint = endpoint
			return e
		}
		next, failure := c.exchange(ctx, endpoint, target, creds, hops, decode)
		if failure != nil || next == nil {
			return failure
		}
		target = next
	}
}

// wait takes a slot of the budget.
func (c *Client) wait(ctx context.Context, endpoint Endpoint) error {
	waited, err := c.budget.Wait(ctx)
	c.hooks.BudgetWait(endpoint, waited)
	return err
}

// exchange sends one request, for which there is a slot, and handles its answer.
// It returns the next address if that is a redirect.
func (c *Client) exchange(ctx context.Context, endpoint Endpoint, target *url.URL, creds Credentials, hops int, decode func(*response) *Error) (next *url.URL, failure *Error) {
	started := time.Now()
	code := 0
	done := func(e *Error) *Error {
		if e == nil {
			c.hooks.RequestDone(endpoint, code, nil, time.Since(started))
			return nil
		}
		e.Endpoint, e.StatusCode = endpoint, code
		e.bound(creds)
		c.hooks.RequestDone(endpoint, code, e, time.Since(started))
		return e
	}

	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()

	// When an idle connection turns out to be dead, net/http sends the request
	// again on another one by itself. Upstream may have counted the first.
	connected := false
	traced := httptrace.WithClientTrace(limited, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			if !connected {
				connected = true
				return
			}
			_ = done(&Error{Kind: KindCut, what: "idle connection to " + target.Host + " was closed"})
			if err := c.wait(limited, endpoint); err != nil {
				_ = info.Conn.Close() // nothing may be sent on it without a slot
			}
			started = time.Now()
		},
	})
	req, err := http.NewRequestWithContext(traced, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, done(&Error{Kind: KindBadRequest, Err: err})
	}
	req.Header.Set("Accept", endpoint.accept())
	req.Header.Set("User-Agent", c.userAgent)
	req.SetBasicAuth(creds.KeyID, creds.KeySecret)

	// RoundTrip and not http.Client.Do: no cookies, no referrer, no redirects but
	// those below, and no URL in the errors.
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return nil, done(transportError(ctx, err, target, connected, c.timeout))
	}
	defer resp.Body.Close()
	code = resp.StatusCode
	a := &response{status: code, header: resp.Header, receivedAt: time.Now()}

	if code == http.StatusTooManyRequests {
		asked, given := refusalDelay(resp.Header, a.receivedAt)
		pause := c.budget.refuse(started, asked, given)
		a.body, _ = readAtMost(io.LimitReader(resp.Body, maxErrorBodySize), -1, maxErrorBodySize)
		e := statusError(a)
		e.RetryAfter = pause
		return nil, done(e)
	}
	c.budget.accept(started)

	switch code {
	case http.StatusOK:
		// An encoding that nobody asked for, or gzip twice, is left as it is.
		if encoding := resp.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
			return nil, done(&Error{Kind: KindContentType, what: fmt.Sprintf("answer in encoding %q, which was not asked for", encoding)})
		}
		var err error
		if resp.ContentLength <= c.maxBytes {
			body := &gate{Reader: resp.Body, ctx: limited, slot: c.large}
			a.body, err = readAtMost(body, c.expectedSize(endpoint, resp.ContentLength), c.maxBytes)
			body.close()
		}
		switch {
		case resp.ContentLength > c.maxBytes, errors.Is(err, errTooLarge):
			return nil, done(&Error{Kind: KindTooLarge, what: fmt.Sprintf("answer larger than %d bytes", c.maxBytes)})
		case err != nil:
			return nil, done(transportError(ctx, err, target, true, c.timeout))
		}
		a.complete = framed(resp) || resp.Uncompressed && len(a.body) > 0 // gzip's trailer came
		c.sizes.Store(endpoint, int64(len(a.body)))
		return nil, done(decode(a))
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		next, failure := redirect(target, resp.Header.Get("Location"), hops)
		return next, done(failure)
	default:
		// The status tells enough, should the body be cut.
		a.body, _ = readAtMost(io.LimitReader(resp.Body, maxErrorBodySize), -1, maxErrorBodySize)
		e := statusError(a)
		if e.Kind == KindServerError {
			e.RetryAfter, _ = retryAfterDelay(resp.Header, a.receivedAt)
		}
		return nil, done(e)
	}
}

// framed tells whether a body that breaks off would have been an error, as opposed to
// one that lasts until the connection is closed, for whatever reason.
func framed(resp *http.Response) bool {
	return resp.ProtoMajor >= 2 || resp.ContentLength >= 0 || len(resp.TransferEncoding) > 0
}

// redirect returns where a redirect leads, if credentials may follow.
func redirect(from *url.URL, location string, hops int) (*url.URL, *Error) {
	to, err := from.Parse(location)
	switch {
	case location == "" || err != nil:
		// The parser's error quotes the address.
		return nil, &Error{Kind: KindRedirect, what: "redirect without a valid address"}
	case !sameOrigin(from, to) || to.User != nil:
		// Host alone: what follows it may be confidential.
		return nil, &Error{
			Kind: KindRedirect,
			what: fmt.Sprintf("redirect to %s refused, to which credentials must not be sent", to.Scheme+"://"+to.Host),
		}
	case hops >= maxRedirects:
		return nil, &Error{Kind: KindRedirect, what: fmt.Sprintf("more than %d redirects", maxRedirects)}
	}
	to.Fragment, to.RawFragment = "", ""
	return to, nil
}
