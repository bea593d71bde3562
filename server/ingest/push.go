// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/fleetprof/fleetprof/wire"
)

// pushLimit bounds a push as it is sent.
const pushLimit = wire.MaxBody

// takePush takes one push of a session. The session goes on only if the profile is
// stored.
func (h *Handler) takePush(r *http.Request, body []byte) error {
	push, err := h.unpacker.Unpack(body)
	if errors.Is(err, wire.ErrTooLarge) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errInvalid, err)
	}
	s, ok := h.sessions.open(push.Session, push.Sequence == 0, time.Now())
	if !ok {
		return fmt.Errorf("%w: this one is unknown: the server was started after it, or needed its memory", errSession)
	}
	s.Lock()
	defer s.Unlock()
	err = h.takeNext(r, s, push)
	h.sessions.settle(s, s.Size(), time.Now())
	return err
}

func (h *Handler) takeNext(r *http.Request, s *session, push *wire.Push) error {
	p, err := s.Decode(push)
	switch {
	case errors.Is(err, wire.ErrSequence):
		return fmt.Errorf("%w: %w", errSession, err)
	case err != nil:
		err = fmt.Errorf("%w: %w", errInvalid, err)
	default:
		err = h.accept(r.Context(), protocolPush, p, push.Profile)
	}
	if err != nil {
		s.Rollback()
		return err
	}
	s.Commit()
	return nil
}
