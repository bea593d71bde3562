// SPDX-License-Identifier: Apache-2.0

// Package server sends profiles to a fleetprof server: POST /api/v1/push with what the server
// has not been sent before (package wire), or to an older one POST /api/v1/profiles with the gzip
// pprof as it is; and POST /api/v1/exemplars with the exemplars of the same window, if there are
// any.
package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/fleetprof/fleetprof/internal/endpoint"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/uploader"
)

const (
	profilesPath  = "/api/v1/profiles"
	exemplarsPath = "/api/v1/exemplars"
	plainType     = "application/octet-stream"
	// timeout bounds one attempt, the answer included.
	timeout = 20 * time.Second
	// reasonBytes bounds how much of an answer goes into an error.
	reasonBytes = 512
)

// Destination is one server. It is safe for concurrent use.
type Destination struct {
	to      *endpoint.Endpoint
	client  *http.Client
	session *session
}

// New takes the address of a server, see endpoint.Parse. It connects only when something is
// sent.
func New(address string) (*Destination, error) {
	to, err := endpoint.Parse(address, "store", endpoint.Fleetprof)
	if err != nil {
		return nil, err
	}
	client, transport := to.Client()
	client.Timeout, transport.MaxConnsPerHost = timeout, 2
	session, err := newSession()
	if err != nil {
		return nil, err
	}
	return &Destination{to: to, client: client, session: session}, nil
}

// String gives the address without what is secret.
func (d *Destination) String() string { return d.to.String() }

// Send posts one profile, and then its exemplars. The server recognises what it has
// stored before, so sending again is safe.
func (d *Destination) Send(ctx context.Context, p sample.Profile) error {
	sent, err := d.session.push(ctx, p.PProf, d.post)
	if err == nil && !sent {
		_, err = d.post(ctx, profilesPath, plainType, p.PProf)
	}
	if err != nil {
		return fmt.Errorf("send profile to %v: %w", d, err)
	}
	if p.Exemplars == nil {
		return nil
	}
	status, err := d.post(ctx, exemplarsPath, plainType, p.Exemplars)
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
func (d *Destination) post(ctx context.Context, path, kind string, body []byte) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.to.URL().JoinPath(path).String(), bytes.NewReader(body))
	if err != nil {
		return 0, endpoint.Redacted(err)
	}
	req.Header.Set("Content-Type", kind)
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
	return resp.StatusCode, uploader.Refusal(resp.StatusCode, resp.Header, text)
}
