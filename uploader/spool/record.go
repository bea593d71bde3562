// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/fleetprof/fleetprof/sample"
)

const (
	// magic names the format and its version.
	magic       = "fpspool1"
	checksumEnd = len(magic) + 4
	headBytes   = checksumEnd + 8 + 8 + 4
	// maxBytes bounds a file: a hundred times what a full window encodes to.
	maxBytes = 64 << 20
)

// castagnoli is CRC-32C, for which CPUs have an instruction.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode gives the content of a file, see FORMAT.md. The samples stand in its name.
func encode(p sample.Profile) []byte {
	b := make([]byte, 0, headBytes+len(p.PProf)+len(p.Exemplars))
	b = append(b, magic...)
	b = append(b, 0, 0, 0, 0) // the checksum's place
	b = binary.LittleEndian.AppendUint64(b, uint64(p.Start.UnixNano()))
	b = binary.LittleEndian.AppendUint64(b, uint64(p.Duration))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(p.PProf)))
	b = append(b, p.PProf...)
	b = append(b, p.Exemplars...)
	binary.LittleEndian.PutUint32(b[len(magic):], crc32.Checksum(b[checksumEnd:], castagnoli))
	return b
}

// decode gives the profile in a file, but for its samples. It keeps b.
func decode(b []byte) (sample.Profile, error) {
	if len(b) < headBytes || string(b[:len(magic)]) != magic {
		return sample.Profile{}, fmt.Errorf("%w: %d bytes do not begin with %q", ErrCorrupt, len(b), magic)
	}
	if want, got := binary.LittleEndian.Uint32(b[len(magic):]), crc32.Checksum(b[checksumEnd:], castagnoli); got != want {
		return sample.Profile{}, fmt.Errorf("%w: the checksum of %d bytes is %08x, not %08x", ErrCorrupt, len(b), got, want)
	}
	head, body := b[checksumEnd:headBytes], b[headBytes:]
	profileBytes := uint64(binary.LittleEndian.Uint32(head[16:]))
	if profileBytes > uint64(len(body)) {
		return sample.Profile{}, fmt.Errorf("%w: a profile of %d bytes in %d", ErrCorrupt, profileBytes, len(body))
	}
	p := sample.Profile{
		Start:    time.Unix(0, int64(binary.LittleEndian.Uint64(head))),
		Duration: time.Duration(binary.LittleEndian.Uint64(head[8:])),
		PProf:    body[:profileBytes:profileBytes],
	}
	if exemplars := body[profileBytes:]; len(exemplars) > 0 {
		p.Exemplars = exemplars
	}
	return p, nil
}
