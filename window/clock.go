// SPDX-License-Identifier: Apache-2.0

package window

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// Clock says when windows are cut: at the same phase of the wall clock for ever, which differs
// from host to host, so that the hosts of a fleet that were started together do not all send in
// the same second.
type Clock struct{ every, phase time.Duration }

// NewClock gives that of a host.
func NewClock(host string, every time.Duration) Clock {
	sum := sha256.Sum256([]byte(host))
	return Clock{every: every, phase: time.Duration(binary.LittleEndian.Uint64(sum[:]) % uint64(every))}
}

// Next is the time from now to the next cut. After a cut it is between half a window and one and
// a half, also if the clock has been set; a first window may be as short as half.
func (c Clock) Next(now time.Time) time.Duration {
	since := (time.Duration(now.UnixNano()) - c.phase) % c.every
	next := (c.every - since) % c.every
	if next < c.every/2 {
		next += c.every
	}
	return next
}
