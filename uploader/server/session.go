// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/wire"
)

// plainFor is how long profiles are sent as they are to a server that does not know pushes.
const plainFor = 10 * time.Minute

// session sends profiles in the form of package wire. One push is under way at a time: each builds
// on those before it.
type session struct {
	mu      sync.Mutex
	encoder *wire.Encoder
	plain   time.Time // until when pushes are not tried
}

func newSession() (*session, error) {
	encoder, err := wire.NewEncoder()
	return &session{encoder: encoder}, err
}

// push sends a gzip pprof profile. Where it reports false without an error, the profile is to be
// sent as it is: the server is too old, or has refused the push, which says nothing about the
// profile.
//
// A push that may have been taken is sent again with the same number; the answer, if it has, is
// 409, and the profile then begins a new session. The server knows it by its id.
func (s *session) push(ctx context.Context, gz []byte, post func(ctx context.Context, path, kind string, body []byte) (int, error)) (sent bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.plain) {
		return false, nil
	}
	p, err := read(gz)
	if err != nil {
		return false, nil // the server will say what is wrong with it
	}
	sum := sha256.Sum256(gz)
	for range 2 {
		body, err := s.encoder.Encode(p, wire.ID(sum[:16]))
		if err != nil {
			return false, nil // it is too large for a session
		}
		status, err := post(ctx, wire.Path, wire.ContentType, body)
		if err == nil {
			s.encoder.Commit()
			return true, nil
		}
		s.encoder.Rollback()
		switch status {
		case http.StatusConflict:
			s.encoder.Reset()
			continue
		case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType:
			s.plain = time.Now().Add(plainFor)
			return false, nil
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
			s.encoder.Reset()
			return false, nil
		}
		return false, err
	}
	return false, nil
}

func read(gz []byte) (*columns.Profile, error) {
	raw, err := columns.Inflate(gz)
	if err != nil {
		return nil, fmt.Errorf("read own profile: %w", err)
	}
	return columns.Decode(raw)
}
