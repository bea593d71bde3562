// SPDX-License-Identifier: Apache-2.0

package jitdump

import (
	"fmt"
	"io"
)

// bufferBytes is how much of a file is read at a time.
const bufferBytes = 32 << 10

// reader reads small pieces of a file in ascending order, and skips what lies between.
type reader struct {
	file   io.ReaderAt
	size   int64
	buffer []byte // what the file has at start
	start  int64
}

// at returns n bytes, valid until the next call; nil if the file ends before.
func (r *reader) at(offset int64, n int) ([]byte, error) {
	if offset+int64(n) > r.size {
		return nil, nil
	}
	if offset < r.start || offset+int64(n) > r.start+int64(len(r.buffer)) {
		if r.buffer == nil {
			r.buffer = make([]byte, bufferBytes)
		}
		r.buffer = r.buffer[:min(int64(cap(r.buffer)), r.size-offset)]
		got, err := r.file.ReadAt(r.buffer, offset)
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("read at %d: %w", offset, err)
		}
		r.buffer, r.start = r.buffer[:got], offset
		if got < n {
			return nil, nil // cut meanwhile
		}
	}
	from := offset - r.start
	return r.buffer[from : from+int64(n)], nil
}
