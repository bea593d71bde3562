// SPDX-License-Identifier: Apache-2.0

package debuginfod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/fleetprof/fleetprof/internal/endpoint"
)

const (
	// maxRedirects is how many redirects of one request are followed.
	maxRedirects = 5
	// restAtFirst and restAtMost are how long a server is left alone that does not answer as it
	// should, doubled each time.
	restAtFirst = time.Minute
	restAtMost  = time.Hour
)

// Why a server did not give a file.
var (
	errAbsent    = errors.New("the server does not have it")
	errTooLarge  = errors.New("the file is larger than a quarter of --debuginfod-bytes")
	errElsewhere = errors.New("the server redirects to another one, which was not named")
	errStalled   = errors.New("nothing came for too long")
	errDisk      = errors.New("cannot be written")
)

// Server is one server that is asked. It belongs to the Client that it is given to.
type Server struct {
	to     *endpoint.Endpoint
	client *http.Client

	// failures in a row, and until when the server is left alone for them.
	failures int
	rests    time.Time
}

// NewServer takes the address of a server, see endpoint.Parse. It is not connected to.
func NewServer(address string) (*Server, error) {
	to, err := endpoint.Parse(address, "debuginfod", endpoint.Fleetprof)
	if err != nil {
		return nil, err
	}
	client, transport := to.Client()
	transport.MaxConnsPerHost = 1
	client.CheckRedirect = sameOrigin
	return &Server{to: to, client: client}, nil
}

// String gives the address without what is secret.
func (s *Server) String() string { return s.to.String() }

// sameOrigin follows redirects within a server. Elsewhere nobody is asked whom the user has not named:
// the request tells which software runs here, and it carries credentials.
func sameOrigin(next *http.Request, via []*http.Request) error {
	if first := via[0].URL; next.URL.Scheme != first.Scheme || next.URL.Host != first.Host {
		return fmt.Errorf("%w: %s", errElsewhere, (&url.URL{Scheme: next.URL.Scheme, Host: next.URL.Host}).String())
	}
	if len(via) > maxRedirects {
		return fmt.Errorf("%d redirects", maxRedirects)
	}
	return nil
}

// fail leaves the server alone for a while.
func (s *Server) fail(now time.Time) {
	s.rests = now.Add(min(restAtFirst<<min(s.failures, 10), restAtMost))
	s.failures++
}

// fetch writes the debug file of a build ID to a writer; it has at most limit bytes.
// https://sourceware.org/elfutils/Debuginfod.html
func (s *Server) fetch(ctx context.Context, id string, limit int64, stall time.Duration, to io.Writer) (size int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	alive := time.AfterFunc(stall, func() { cancel(errStalled) })
	defer alive.Stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.to.URL().JoinPath("buildid", id, "debuginfo").String(), nil)
	if err != nil {
		return 0, endpoint.Redacted(err)
	}
	request.Header.Set("X-DEBUGINFOD-MAXSIZE", strconv.FormatInt(limit, 10))
	answer, err := s.client.Do(request)
	if err != nil {
		return 0, caused(ctx, endpoint.Redacted(err))
	}
	defer answer.Body.Close()
	declared, err := judge(answer, limit)
	if err != nil {
		_, _ = io.CopyN(io.Discard, answer.Body, 4<<10) // the connection can then be used again
		return 0, err
	}
	body := &paced{ctx: ctx, body: answer.Body, alive: func() { alive.Reset(stall) }}
	size, err = io.Copy(to, io.LimitReader(body, limit+1))
	switch {
	case size > limit:
		return size, errTooLarge
	case err != nil:
		return size, caused(ctx, err)
	case declared >= 0 && size != declared:
		return size, fmt.Errorf("%d bytes came of %d", size, declared)
	}
	return size, nil
}

// caused is the error with which a request was cancelled, if it was.
func caused(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, errDisk) {
		return cause
	}
	return err
}

// judge reads the head of an answer. declared is the size of the file, or -1: Content-Length is not,
// if what is sent is compressed.
func judge(answer *http.Response, limit int64) (declared int64, err error) {
	switch answer.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusGone:
		return 0, errAbsent
	case http.StatusNotAcceptable, http.StatusRequestEntityTooLarge: // answers to X-DEBUGINFOD-MAXSIZE
		return 0, errTooLarge
	default:
		return 0, fmt.Errorf("the server answers %s", answer.Status)
	}
	declared = answer.ContentLength
	if text := answer.Header.Get("X-DEBUGINFOD-SIZE"); text != "" {
		if declared, err = strconv.ParseInt(text, 10, 64); err != nil || declared < 0 {
			return 0, fmt.Errorf("X-DEBUGINFOD-SIZE is %.20q", text)
		}
	}
	if declared > limit {
		return 0, errTooLarge
	}
	return declared, nil
}

// maxRate bounds how fast a file is read, in bytes a second: TLS and the disk then take no more than a few
// percent of a CPU from what runs here.
const maxRate = 8 << 20

// paced reads a body no faster than maxRate, and tells that something came.
type paced struct {
	ctx   context.Context
	body  io.Reader
	alive func()
}

func (p *paced) Read(b []byte) (n int, err error) {
	n, err = p.body.Read(b)
	p.alive()
	if err != nil {
		return n, err
	}
	select {
	case <-time.After(time.Duration(n) * time.Second / maxRate):
		return n, nil
	case <-p.ctx.Done():
		return n, p.ctx.Err()
	}
}
