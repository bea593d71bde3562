// SPDX-License-Identifier: Apache-2.0

package debuginfo

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
	"time"

	"github.com/fleetprof/fleetprof/internal/endpoint"
	"github.com/fleetprof/fleetprof/uploader"
)

const (
	serverPath = "/api/v1/debuginfo"
	// claimBytes is the size of the first part. Many hosts may send one at the same time, and all but one of
	// them in vain.
	claimBytes = 4 << 10
	// timeout bounds one request, its answer included: the server writes a whole file to disk at its end.
	timeout = time.Minute
	// answerBytes bounds what is read of an answer.
	answerBytes = 4 << 10
	// maxConflicts is how often a file is gone on with elsewhere than the server said before.
	maxConflicts = 3
	// unknownPause is when an older server is asked again.
	unknownPause = time.Hour
)

// Server is a fleetprof server. See docs/ingest.md for what it is asked.
type Server struct {
	to     *endpoint.Endpoint
	client *http.Client
	// known is what was answered last.
	known   answer
	knownID string
}

// NewServer takes the address of a server, see endpoint.Parse.
func NewServer(address string) (*Server, error) {
	to, err := endpoint.Parse(address, "store", endpoint.Fleetprof)
	if err != nil {
		return nil, err
	}
	client, transport := to.Client()
	client.Timeout, transport.MaxConnsPerHost = timeout, 1
	return &Server{to: to, client: client}, nil
}

// String gives the address without what is secret.
func (s *Server) String() string { return s.to.String() }

// answer is how the server stands about a build ID.
type answer struct {
	State          string `json:"state"`
	Size, Received int64
	Uploading      bool
	Reason         string
}

// The states.
const (
	absent   = "absent"
	partial  = "partial"
	present  = "present"
	unwanted = "unwanted"
)

func (a answer) standing() (Standing, error) {
	switch a.State {
	case present:
		return Present, nil
	case unwanted:
		return Unwanted, nil
	case absent, partial:
		if a.Uploading {
			return Busy, nil
		}
		return Wanted, nil
	}
	return Wanted, fmt.Errorf("the server answers with an unknown state, %.40q", a.State)
}

// Ask asks the server.
func (s *Server) Ask(ctx context.Context, buildID string) (Standing, error) {
	a, _, err := s.request(ctx, http.MethodGet, buildID, nil, nil)
	if err != nil {
		return Wanted, fmt.Errorf("ask %v for debug information: %w", s, err)
	}
	s.known, s.knownID = a, buildID
	return a.standing()
}

// Send sends a file in parts. It goes on where the server says that an earlier attempt has ended, be it
// of this host or of another.
func (s *Server) Send(ctx context.Context, buildID string, c *Content) (Standing, error) {
	off := int64(0)
	if a := s.known; s.knownID == buildID && a.State == partial && a.Size == c.Size && a.Received < c.Size {
		off = a.Received
	}
	standing, err := s.sendFrom(ctx, buildID, c, off)
	if err != nil {
		err = fmt.Errorf("send debug information to %v: %w", s, err)
	}
	return standing, err
}

func (s *Server) sendFrom(ctx context.Context, buildID string, c *Content, off int64) (Standing, error) {
	var part []byte
	begun := false
	for conflicts := 0; ; {
		most := mostPiece
		if !begun {
			most = claimBytes
		}
		var err error
		if part, err = c.Piece(ctx, off, most, part); err != nil {
			return Wanted, err
		}
		a, status, err := s.put(ctx, buildID, c, off, part)
		switch {
		case err != nil:
			return Wanted, err
		case a.State == present:
			return Present, nil
		case a.State == unwanted:
			return Unwanted, nil
		case status == http.StatusOK && (a.Received <= off || a.Received >= c.Size):
			return Wanted, fmt.Errorf("the server has taken %d bytes of %d from %d on, and says it has %d", len(part), c.Size, off, a.Received)
		case status == http.StatusOK:
			off, begun = a.Received, true
			continue
		}
		next := a.Received
		if a.State != partial || a.Size != c.Size || next >= c.Size || next == off {
			next = 0 // what it has is of another file
		}
		if conflicts++; begun || a.Uploading || next == off || conflicts > maxConflicts {
			return Busy, nil // with another host
		}
		off, part = next, nil // the one that is refused may be read still
	}
}

// put sends one part. The status is 200, or 409 if another part is the next.
func (s *Server) put(ctx context.Context, buildID string, c *Content, off int64, part []byte) (answer, int, error) {
	return s.request(ctx, http.MethodPut, buildID, url.Values{
		"size": {strconv.FormatInt(c.Size, 10)}, "offset": {strconv.FormatInt(off, 10)}, "sha256": {c.SHA256},
	}, part)
}

func (s *Server) request(ctx context.Context, method, buildID string, query url.Values, part []byte) (a answer, status int, err error) {
	u := s.to.URL().JoinPath(serverPath, buildID)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(part))
	if err != nil {
		return a, 0, endpoint.Redacted(err)
	}
	req.Header.Set("User-Agent", "fleetprof")
	if part != nil {
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return a, 0, endpoint.Redacted(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, answerBytes)) // what is there will do
	switch resp.StatusCode {
	case http.StatusOK, http.StatusConflict:
		if err := json.Unmarshal(text, &a); err != nil {
			return a, 0, fmt.Errorf("%s with an answer that is not that of a fleetprof server: %w", resp.Status, err)
		}
		return a, resp.StatusCode, nil
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		err := errors.New("it does not know debug information: upgrade the server, or use --symbolize=agent")
		return a, 0, uploader.Retry{Err: err, After: unknownPause}
	case http.StatusUnprocessableEntity:
		if json.Unmarshal(text, &a) == nil && a.State == unwanted {
			return a, http.StatusOK, nil
		}
	}
	return a, 0, uploader.Refusal(resp.StatusCode, resp.Header, text)
}
