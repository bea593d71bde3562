// SPDX-License-Identifier: Apache-2.0

package storeclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"connectrpc.com/connect"

	"github.com/fleetprof/fleetprof/internal/endpoint"
)

// maxReason bounds how much of a store's own words goes into an error, in bytes.
const maxReason = 4096

// reason makes a store's words fit for one line of a terminal.
func reason(text string) string {
	text = strings.ToValidUTF8(strings.TrimSpace(text[:min(len(text), maxReason)]), "�")
	return strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f && c < 0xa0 {
			return ' '
		}
		return c
	}, text)
}

// unreachable says of an error of the network what to look at. software is what should
// run at the address.
func unreachable(address, software string, err error) error {
	err = endpoint.Redacted(err)
	var timed net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timed) && timed.Timeout() {
		return fmt.Errorf("ask %s: no answer within %v: ask for a shorter time range or a narrower selector", address, timeout)
	}
	return fmt.Errorf("ask %s: %w; is %s running there? (--server)", address, err, software)
}

// refused says of an error of a call what the store means, and the way out.
func refused(address, software string, err error) error {
	var answer *connect.Error
	if !errors.As(err, &answer) {
		return fmt.Errorf("ask %s: %w", address, err)
	}
	text := reason(answer.Message())
	if strings.Contains(text, ": ask ") { // a fleetprof server says the way out itself
		return fmt.Errorf("ask %s: %s", address, text)
	}
	switch answer.Code() {
	case connect.CodeUnavailable, connect.CodeDeadlineExceeded, connect.CodeCanceled:
		if !connect.IsWireError(err) {
			return unreachable(address, software, errors.Unwrap(answer))
		}
		return fmt.Errorf("ask %s: %s: ask again in a moment", address, text)
	case connect.CodeUnauthenticated, connect.CodePermissionDenied:
		return fmt.Errorf("ask %s: %s: it wants other credentials than those in the address (--server)", address, text)
	case connect.CodeResourceExhausted:
		return fmt.Errorf("ask %s: %s: ask for a shorter time range or a narrower selector", address, text)
	case connect.CodeUnimplemented:
		return fmt.Errorf("ask %s: %s: is it %s that listens there, or something else? (--server)", address, text, software)
	}
	return fmt.Errorf("ask %s: %v: %s", address, answer.Code(), text)
}

// noSamples says that a query selected nothing, and which profile types there are.
func noSamples(address string, q Query, types []string) error {
	have := "it has no profiles in that time"
	if len(types) > 0 {
		have = "it has the profile types " + reason(strings.Join(types, ", ")) + " (--type)"
	}
	return fmt.Errorf("%w of %v at %s: %s", ErrNoSamples, q, address, have)
}
