// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/uploader"
	"github.com/fleetprof/fleetprof/wire"
)

// prepared is a destination whose one push is encoded before it is sent. A thousand hosts
// encode theirs at the same time; one that simulates them cannot.
type prepared struct {
	url, host string
	client    *http.Client
	body      []byte
}

// prepare encodes a profile as the first push of a session.
func prepare(url, host string, gz []byte) (*prepared, error) {
	p, err := columns.Read(gz)
	if err != nil {
		return nil, err
	}
	e, err := wire.NewEncoder()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(gz)
	body, err := e.Encode(p, wire.ID(sum[:16]))
	// Timeout and connections are those of uploader/server.
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxConnsPerHost: 2}}
	return &prepared{url: url, host: host, client: client, body: body}, err
}

func (p *prepared) String() string { return p.host }

// Send posts the push. Where it was taken before, although no answer came, the answer is
// 409: that it is there is all that matters here.
func (p *prepared) Send(ctx context.Context, _ sample.Profile) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+wire.Path, bytes.NewReader(p.body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", wire.ContentType)
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 512)) // what is there will do
	switch resp.StatusCode {
	case http.StatusNoContent, http.StatusConflict:
		return nil
	}
	err = fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(text))
	if seconds, parse := strconv.Atoi(resp.Header.Get("Retry-After")); parse == nil {
		return uploader.Retry{Err: err, After: time.Duration(seconds) * time.Second}
	}
	return err
}
