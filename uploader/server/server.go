// SPDX-License-Identifier: Apache-2.0

// Package server sends profiles to a fleetprof server:
// POST /api/v1/profiles with the gzip pprof as it is, and POST /api/v1/exemplars with
// the exemplars of the same window, if there are any.
package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/fleetprof/fleetprof/internal/endpoint"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/uploader"
)

const (
	profilesPath  = "/api/v1/profiles"
	exemplarsPath = "/api/v1/exemplars"
	// timeout bounds one attempt, the answer included.
	timeout = 20 * time.Second
	// reasonBytes bounds how much of an answer goes into an error.
	reasonBytes = 512
)

// Destination is one server. It is safe for concurrent use.
type Destination struct {
	base   *url.URL
	client *http.Client
}

// New takes the address of a server, see endpoint.Parse. It connects only when something is
// sent.
func New(address string) (*Destination, error) {
	base, err := endpoint.Parse(address, "store", "http://HOST:PORT or https://HOST:PORT")
	if err != nil {
		return nil, err
	}
	client, transport := endpoint.Client()
	client.Timeout, transport.MaxConnsPerHost = timeout, 2
	return &Destination{base: base, client: client}, nil
}

// String gives the address without the password.
func (d *Destination) String() string { return d.base.Redacted() }

// Send posts one profile, and then its exemplars. The server recognises what it has
// stored before, so sending again is safe.
func (d *Destination) Send(ctx context.Context, p sample.Profile) error {
	if _, err := d.post(ctx, profilesPath, p.PProf); err != nil {
		return fmt.Errorf("send profile to %v: %w", d, err)
	}
	if p.Exemplars == nil {
		return nil
	}
	status, err := d.post(ctx, exemplarsPath, p.Exemplars)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("send exemplars to %v: %w", d, err)
	// An older server does not know the path.
	if errors.As(err, new(uploader.Permanent)) || status == http.StatusNotFound {
		return uploader.Incomplete{Err: err}
	}
	return err
}

// post sends one body. status is 0 if there is no answer.
func (d *Destination) post(ctx context.Context, path string, body []byte) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.base.JoinPath(path).String(), bytes.NewReader(body))
	if err != nil {
		return 0, endpoint.Redacted(err)
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("User-Agent", "fleetprof")
	resp, err := d.client.Do(req)
	if err != nil {
		return 0, endpoint.Redacted(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, reasonBytes)) // what is there will do
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp.StatusCode, nil
	}
	err = fmt.Errorf("%s: %q", resp.Status, bytes.TrimSpace(text))
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return resp.StatusCode, uploader.Permanent{Err: err}
	}
	if after, ok := retryAfter(resp.Header.Get("Retry-After"), time.Now()); ok {
		return resp.StatusCode, uploader.Retry{Err: err, After: after}
	}
	return resp.StatusCode, err
}

// retryAfter reads the header of that name, seconds or a date:
// RFC 9110, section 10.2.3.
func retryAfter(value string, now time.Time) (time.Duration, bool) {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second, true
	}
	date, err := http.ParseTime(value)
	return max(0, date.Sub(now)), err == nil
}
