// SPDX-License-Identifier: Apache-2.0

// Package remote is the other end of a server's policy: Client asks for it and
// changes it, Follower keeps the last good one in force on an agent.
//
// What a server answers is bounded and checked as what a user writes is: the
// address may be wrong, and whoever answers there may be anybody.
package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/fleetprof/fleetprof/internal/endpoint"
	"github.com/fleetprof/fleetprof/policy"
)

const (
	path      = "/api/v1/policy"
	boostPath = "/api/v1/policy/boost"
	// timeout bounds a request, on top of what it waits.
	timeout = 15 * time.Second
	// maxHeader, maxTag and maxText bound an answer's header, its ETag and what
	// of a refusal goes into an error, in bytes.
	maxHeader = 16 << 10
	maxTag    = 128
	maxText   = 16 << 10
)

// errInvalid marks answers that no fleetprof server gives.
var errInvalid = errors.New("not the answer of a fleetprof server")

// Refusal is the error of a server that understood and said no.
type Refusal struct {
	Status int
	// Text is the server's reason, without what a terminal would act upon.
	Text string
	// After is when to ask again, if the server says so.
	After time.Duration
}

func (r *Refusal) Error() string { return fmt.Sprintf("status %d: %s", r.Status, r.Text) }

// Answer is a policy as a server gives it.
type Answer struct {
	Policy policy.Policy
	// Tag names the version; see Client.Next and Client.Set.
	Tag string
	// Unchanged says that the policy is still the one of the tag given, and not
	// repeated here.
	Unchanged bool
	// Time is the server's clock when it answered, to a second; zero is unknown.
	Time time.Time
}

// Client speaks to one server. It is safe for concurrent use.
type Client struct {
	to   *endpoint.Endpoint
	http *http.Client
}

// NewClient takes the address of a server, see endpoint.Parse. It connects only when
// something is asked.
func NewClient(address string) (*Client, error) {
	to, err := endpoint.Parse(address, "server", endpoint.Fleetprof)
	if err != nil {
		return nil, err
	}
	client, transport := to.Client()
	transport.MaxResponseHeaderBytes = maxHeader
	transport.DisableCompression = true // what is bounded is then what travels
	return &Client{to: to, http: client}, nil
}

// String gives the address without what is secret.
func (c *Client) String() string { return c.to.String() }

// Get asks for the policy.
func (c *Client) Get(ctx context.Context) (Answer, error) { return c.Next(ctx, "", 0) }

// Next waits for a policy other than the one of the tag; the empty tag is none.
func (c *Client) Next(ctx context.Context, tag string, wait time.Duration) (Answer, error) {
	r := request{method: http.MethodGet, path: path, wait: wait, query: url.Values{}, header: http.Header{}}
	if tag != "" {
		r.query.Set("wait", wait.String())
		r.header.Set("If-None-Match", tag)
	}
	a, err := c.do(ctx, r)
	if err != nil {
		return a, fmt.Errorf("get policy of %v: %w", c, err)
	}
	return a, nil
}

// Set puts a policy in the place of the one of the tag. It gives a Refusal of
// status 412 if that has changed meanwhile. by is who does it.
func (c *Client) Set(ctx context.Context, p policy.Policy, tag, by string) (Answer, error) {
	body, err := json.Marshal(p)
	if err != nil {
		return Answer{}, fmt.Errorf("set policy: %w", err)
	}
	r := request{method: http.MethodPut, path: path, body: body, header: http.Header{"If-Match": {tag}}, query: url.Values{"by": {by}}}
	a, err := c.do(ctx, r)
	if err != nil {
		return a, fmt.Errorf("set policy of %v: %w", c, err)
	}
	return a, nil
}

// Boost asks for a higher frequency for a time that begins now.
type Boost struct {
	Selector  string `json:"selector"`
	Frequency int    `json:"frequency"`
	For       string `json:"for"`
	Reason    string `json:"reason,omitempty"`
	By        string `json:"by,omitempty"`
}

// Boost adds a rule to the policy.
func (c *Client) Boost(ctx context.Context, b Boost) (Answer, error) {
	body, err := json.Marshal(b)
	if err != nil {
		return Answer{}, fmt.Errorf("boost: %w", err)
	}
	a, err := c.do(ctx, request{method: http.MethodPost, path: boostPath, body: body})
	if err != nil {
		return a, fmt.Errorf("boost by %v: %w", c, err)
	}
	return a, nil
}

type request struct {
	method, path string
	query        url.Values
	header       http.Header
	body         []byte
	wait         time.Duration
}

func (c *Client) do(ctx context.Context, r request) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, r.wait+timeout)
	defer cancel()
	u := c.to.URL().JoinPath(r.path)
	u.RawQuery = r.query.Encode()
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), bytes.NewReader(r.body))
	if err != nil {
		return Answer{}, endpoint.Redacted(err)
	}
	if r.header != nil {
		req.Header = r.header
	}
	req.Header.Set("User-Agent", "fleetprof")
	resp, err := c.http.Do(req)
	if err != nil {
		return Answer{}, endpoint.Redacted(err)
	}
	defer resp.Body.Close()
	return read(resp)
}

// read takes an answer apart.
func read(resp *http.Response) (a Answer, err error) {
	a.Time, _ = http.ParseTime(resp.Header.Get("Date")) // unknown if it says none
	switch resp.StatusCode {
	case http.StatusNotModified:
		a.Unchanged = true
		return a, nil
	case http.StatusOK:
	default:
		return a, refusal(resp)
	}
	if a.Tag = resp.Header.Get("ETag"); a.Tag == "" || len(a.Tag) > maxTag {
		return a, fmt.Errorf("%w: its ETag has %d bytes", errInvalid, len(a.Tag))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, policy.MaxBytes+1))
	if err != nil {
		return a, fmt.Errorf("read answer: %w", err)
	}
	var faults policy.Faults
	if a.Policy, err = policy.ParseJSON(body); errors.As(err, &faults) {
		return a, fmt.Errorf("%w: %w", errInvalid, faults[0]) // there may be hundreds
	}
	return a, err
}

// refusal makes an error of an answer that is none of ours or a no.
func refusal(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxText)) // what is there will do
	var form struct{ Error string }
	reason := string(text)
	if json.Unmarshal(text, &form) == nil && form.Error != "" {
		reason = form.Error
	}
	reason = strings.Map(func(c rune) rune {
		if c == '\n' || unicode.IsPrint(c) {
			return c
		}
		return -1
	}, strings.ToValidUTF8(strings.TrimSpace(reason), ""))
	after, _ := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16) // 0 if it says none
	return &Refusal{resp.StatusCode, reason, time.Duration(after) * time.Second}
}
