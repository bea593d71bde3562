// SPDX-License-Identifier: Apache-2.0

package debuginfo

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

const (
	// MaxPart bounds one part, in bytes.
	MaxPart = 8 << 20
	// maxUploads bounds the files that are being sent at a time, maxReceiving the parts, and maxOfOne
	// those of one client.
	maxUploads   = 256
	maxReceiving = 16
	maxOfOne     = maxReceiving / 2
	// freshFor is how long somebody is taken to be sending the next part, at most, and leastRate with how
	// many bytes a second he has it for longer than that.
	freshFor  = time.Minute
	leastRate = 1 << 10
	// leastRoom is what there must be room for if anything is to be sent.
	leastRoom = 1 << 20
)

// state says what there is of a build ID.
type state string

const (
	absent   state = "absent"
	partial  state = "partial"
	present  state = "present"
	unwanted state = "unwanted"
)

// status is what is answered, in JSON.
type status struct {
	State    state `json:"state"`
	Size     int64 `json:"size"`
	Received int64 `json:"received"`
	// Uploading says that somebody else is sending it.
	Uploading bool `json:"uploading"`
	// Reason is why it is unwanted.
	Reason string `json:"reason,omitempty"`
}

// part is a piece of a file: of one of size bytes and that SHA-256, what is from offset on.
type part struct {
	size, offset int64
	sum          [sha256.Size]byte
}

// Errors that are answered in their own way.
var (
	errConflict = errors.New("another part is the next")
	errRefused  = errors.New("file refused")
	errBadPart  = errors.New("part refused")
	errUnwanted = errors.New("file not wanted")
	errBusy     = errors.New("the server receives too many files: send this one later")
	errFull     = errors.New("no space left for debug information: send it later")
	errCutOff   = errors.New("the part did not arrive whole")
)

// look gives the status of a build ID.
func (k *Keeper) look(id string) status {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.statusOf(id)
	switch {
	case s.State != absent:
	case k.limit == 0:
		return status{State: unwanted, Reason: "this server keeps no debug information (--debuginfo-bytes 0)"}
	case !k.hasRoom(leastRoom):
		return status{State: unwanted, Reason: fmt.Sprintf("all of %d bytes (--debuginfo-bytes) are taken by files that were sent or used within %v", k.limit, keptFor)}
	}
	return s
}

// statusOf is look without what is not wanted. The caller holds mu.
func (k *Keeper) statusOf(id string) status {
	if f := k.files[id]; f != nil {
		return status{State: present, Size: f.size, Received: f.size}
	}
	if u := k.uploads[id]; u != nil {
		return k.of(u)
	}
	return status{State: absent}
}

// of gives the status of an upload. The caller holds mu.
func (k *Keeper) of(u *upload) status {
	return status{State: partial, Size: u.size, Received: u.received, Uploading: u.held(k.now())}
}

// take adds a part to a file that a client sends. With errConflict the status says which part is the next.
func (k *Keeper) take(client, id string, p part, body io.Reader) (status, error) {
	if p.size > k.limit/oneShare {
		return status{State: unwanted}, fmt.Errorf("%w: it has %d bytes, and one file may have %d, a quarter of --debuginfo-bytes", errUnwanted, p.size, k.limit/oneShare)
	}
	if !k.enter(client) {
		return status{State: absent}, errBusy
	}
	defer k.leave(client)
	u, s, err := k.claim(id, p)
	if err != nil || u == nil {
		return s, err
	}
	n, err := k.receive(id, u, body)
	return k.settle(id, u, n, err)
}

// enter reports whether one more part may be received of a client, and counts it.
func (k *Keeper) enter(client string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.receiving >= maxReceiving || k.parts[client] >= maxOfOne {
		return false
	}
	k.receiving++
	k.parts[client]++
	return true
}

// leave says that a part of a client is no longer received.
func (k *Keeper) leave(client string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.receiving--
	if k.parts[client]--; k.parts[client] == 0 {
		delete(k.parts, client)
	}
}

// claim begins a part: the upload is then busy, and has room for the part. It gives no upload if the file
// is there.
func (k *Keeper) claim(id string, p part) (*upload, status, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if f := k.files[id]; f != nil {
		return nil, status{State: present, Size: f.size, Received: f.size}, nil
	}
	u := k.uploads[id]
	if u != nil && (u.size != p.size || u.sum != p.sum) { // another file of that build ID, such as one that was stripped otherwise
		s := k.of(u)
		if s.Uploading || p.offset != 0 {
			s.Received = 0
			return nil, s, errConflict
		}
		k.drop(id, u)
		u = nil
	}
	switch {
	case u == nil && p.offset != 0:
		return nil, status{State: absent}, errConflict
	case u != nil && (u.busy || u.received != p.offset):
		return nil, k.of(u), errConflict
	case u == nil && len(k.uploads) >= maxUploads && !k.dropIdle():
		return nil, status{State: absent}, errBusy
	case u == nil && !k.hasRoom(p.size): // it would be sent in vain
		return nil, status{State: absent}, errFull
	}
	if u == nil {
		u = &upload{size: p.size, sum: p.sum, hash: sha256.New(), last: k.now(), claimed: k.now().Add(freshFor)}
	}
	reserved := min(MaxPart, p.size-p.offset)
	k.uploads[id], u.busy = u, true // so it is not what makes room
	if !k.evict(k.limit-reserved, maxFiles, keptFor) || !k.spare(reserved) {
		if u.busy = false; u.received == 0 {
			k.drop(id, u)
		}
		return nil, k.statusOf(id), errFull
	}
	k.bytes += reserved
	return u, status{}, nil
}

// extend has an upload be claimed for longer because n bytes have arrived.
func (u *upload) extend(n int64, now time.Time) {
	u.last = now
	if u.claimed.Before(now) {
		u.claimed = now
	}
	u.claimed = u.claimed.Add(time.Duration(n) * time.Second / leastRate)
	if most := now.Add(freshFor); u.claimed.After(most) {
		u.claimed = most
	}
}

// receive writes a part, and gives how much of it arrived. The upload is busy, so it is the caller's.
func (k *Keeper) receive(id string, u *upload, body io.Reader) (n int64, err error) {
	f, err := os.OpenFile(k.path(id, partSuffix), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, &diskError{err}
	}
	defer func() {
		if cause := f.Close(); cause != nil && err == nil {
			err = &diskError{cause}
		}
	}()
	if _, err := f.Seek(u.received, io.SeekStart); err != nil {
		return 0, &diskError{err}
	}
	most := min(MaxPart, u.size-u.received)
	to := &writer{file: f}
	n, err = io.Copy(io.MultiWriter(to, u.hash), io.LimitReader(body, most))
	switch {
	case to.err != nil:
		return n, &diskError{to.err}
	case err != nil:
		return n, fmt.Errorf("%w: %w", errCutOff, err)
	}
	if extra, _ := io.ReadFull(body, make([]byte, 1)); extra > 0 {
		return n, fmt.Errorf("%w: it has more than %d bytes, which is what a part may have, or what is left of the file", errBadPart, most)
	}
	if u.received+n == u.size {
		if err := f.Sync(); err != nil {
			return n, &diskError{err}
		}
	}
	return n, nil
}

// writer tells errors of the disk from those of the client.
type writer struct {
	file *os.File
	err  error
}

func (w *writer) Write(b []byte) (n int, err error) {
	n, w.err = w.file.Write(b)
	return n, w.err
}

// diskError says that a file could not be written.
type diskError struct{ err error }

func (e *diskError) Error() string { return "write debug information: " + e.err.Error() }
func (e *diskError) Unwrap() error { return e.err }

// settle ends a part of n bytes. What could not be written is thrown away, so that a full disk is not
// kept full.
func (k *Keeper) settle(id string, u *upload, n int64, err error) (status, error) {
	whole := err == nil && u.received+n == u.size
	if whole {
		err = k.check(id, u)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.bytes -= min(MaxPart, u.size-u.received) - n
	u.received += n
	u.busy = false
	if n > 0 {
		u.extend(n, k.now())
	}
	k.metrics.bytes.Add(float64(n))
	var disk *diskError
	switch {
	case errors.As(err, &disk):
		k.drop(id, u)
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			err = fmt.Errorf("%w: %w", errFull, err)
		}
		return status{State: absent}, err
	case errors.Is(err, errRefused), err != nil && u.received == u.size: // which no part can come after
		k.drop(id, u)
		return status{State: absent}, err
	case err != nil || !whole:
		s := k.of(u)
		s.Uploading = false // but by the one who is told
		return s, err
	}
	if err := os.Rename(k.path(id, partSuffix), k.path(id, wholeSuffix)); err != nil {
		k.drop(id, u)
		return status{State: absent}, &diskError{err}
	}
	delete(k.uploads, id)
	k.files[id] = newFile(id, u.size, k.now())
	k.metrics.whole.Inc()
	return status{State: present, Size: u.size, Received: u.size}, nil
}

// check checks a file that has arrived as a whole.
func (k *Keeper) check(id string, u *upload) error {
	if got := [sha256.Size]byte(u.hash.Sum(nil)); got != u.sum {
		return fmt.Errorf("%w: its SHA-256 is %x, not %x as was said", errRefused, got, u.sum)
	}
	_, err := openELF(k.path(id, partSuffix), id)
	switch {
	case outOfFiles(err):
		return &diskError{err}
	case err != nil:
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	return nil
}
