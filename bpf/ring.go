// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// Ring is a ring that the kernel side fills. It is not safe for concurrent use.
//
// It is Go's own poller that waits for it. A thread that waits in epoll_wait(2), as one of
// [ringbuf.Reader] does, keeps a processor of the Go runtime for up to 10 ms, in which the runtime's
// monitor looks every 20 µs whether it is back: a quarter of what an agent costs that has little to do.
type Ring struct {
	reader *ringbuf.Reader
	file   *os.File
	conn   syscall.RawConn
}

func newRing(m *ebpf.Map) (_ *Ring, err error) {
	r := new(Ring)
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open ring: %w", err), r.Close())
		}
	}()
	if r.reader, err = ringbuf.NewReader(m); err != nil {
		return nil, err
	}
	r.reader.SetDeadline(time.Unix(0, 1)) // it never waits
	fd, err := unix.FcntlInt(uintptr(m.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil { // else os.NewFile takes it for one to block on
		return nil, errors.Join(err, unix.Close(fd))
	}
	r.file = os.NewFile(uintptr(fd), "ring")
	r.conn, err = r.file.SyscallConn()
	return r, err
}

// Wait returns when there is something in the ring at the call, when the kernel side wakes its
// reader after that, or at the deadline.
func (r *Ring) Wait(deadline time.Time) error {
	if err := r.file.SetReadDeadline(deadline); err != nil {
		return fmt.Errorf("wait for ring: %w", err)
	}
	// The function is called once before it waits and then after each wake-up, of which one that
	// comes after the first call is not missed.
	waited := false
	err := r.conn.Read(func(uintptr) bool {
		done := waited || r.reader.AvailableBytes() > 0
		waited = true
		return done
	})
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("wait for ring: %w", err)
	}
	return nil
}

// ReadInto reads the next record; os.ErrDeadlineExceeded says that there is none.
func (r *Ring) ReadInto(record *ringbuf.Record) error {
	if r.reader.AvailableBytes() == 0 {
		return os.ErrDeadlineExceeded
	}
	return r.reader.ReadInto(record)
}

// Close is idempotent.
func (r *Ring) Close() error {
	var errs []error
	if r.file != nil {
		if err := r.file.Close(); !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if r.reader != nil {
		errs = append(errs, r.reader.Close())
	}
	return errors.Join(errs...)
}
