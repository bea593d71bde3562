// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"
)

// errTooLong says that a file is longer than its kind can be.
var errTooLong = errors.New("longer than expected")

// maxLine bounds the bytes of one line that are kept. It holds a path of
// PATH_MAX (4,096) bytes each of which the kernel escaped to four.
const maxLine = 20 << 10

// The files here are read with bare system calls: an os.File costs several
// allocations and an attempt to register with the poller, and a start-up scan
// opens some thousands.

func open(path string) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, gone(err)
		}
	}
}

func read(fd int, p []byte) (int, error) {
	for {
		n, err := unix.Read(fd, p)
		if err != unix.EINTR {
			return max(n, 0), gone(err)
		}
	}
}

// gone makes ESRCH match [fs.ErrNotExist], as ENOENT does.
func gone(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}

// readShort reads a whole file into buf and returns the part that was filled.
func readShort(path string, buf []byte) ([]byte, error) {
	fd, err := open(path)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	filled := 0
	for {
		if filled == len(buf) {
			return nil, errTooLong
		}
		n, err := read(fd, buf[filled:])
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return buf[:filled], nil
		}
		filled += n
	}
}

// lineReader splits a file into lines without allocating: it is meant to live
// on its user's stack.
type lineReader struct {
	fd         int
	start, end int  // what is read but not yet returned: buf[start:end]
	left       int  // how many lines may still come
	skip       bool // the rest of a line that was cut comes first
	buf        [maxLine]byte
}

// open opens a file of at most the given number of lines.
func (r *lineReader) open(path string, lines int) (err error) {
	r.left = lines
	r.fd, err = open(path)
	return err
}

func (r *lineReader) close() { unix.Close(r.fd) }

// next returns the next line without its newline, valid until the following
// call, and io.EOF after the last. Of a line longer than maxLine it returns
// the beginning, and cut is true.
func (r *lineReader) next() (line []byte, cut bool, err error) {
	for r.skip {
		_, r.skip, err = r.piece()
		if err != nil {
			return nil, false, err
		}
	}
	line, cut, err = r.piece()
	if err != nil {
		return nil, false, err
	}
	if r.left == 0 {
		return nil, false, errTooLong
	}
	r.left--
	r.skip = cut
	return line, cut, nil
}

// piece returns what is left of the current line, or as much as buf holds; more
// says that the line goes on.
func (r *lineReader) piece() (p []byte, more bool, err error) {
	for {
		if n := bytes.IndexByte(r.buf[r.start:r.end], '\n'); n >= 0 {
			p = r.buf[r.start : r.start+n]
			r.start += n + 1
			return p, false, nil
		}
		r.end = copy(r.buf[:], r.buf[r.start:r.end])
		r.start = 0
		if r.end == len(r.buf) {
			r.start = r.end
			return r.buf[:], true, nil
		}
		n, err := read(r.fd, r.buf[r.end:])
		if err != nil {
			return nil, false, err
		}
		if n == 0 && r.end == 0 {
			return nil, false, io.EOF
		}
		if n == 0 {
			r.start = r.end
			return r.buf[:r.end], false, nil
		}
		r.end += n
	}
}
