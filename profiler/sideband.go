// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sidebandBytes is the size of one CPU's side-band ring, a power of two. A
// process start takes about 1.5 KiB, so it holds some 40 starts between two
// polls; what does not fit is reported as lost and repaired from /proc.
const sidebandBytes = 64 << 10

// sideband is one CPU's stream of process events: a perf ring buffer as
// perf_event_open(2), section "MMAP layout", describes it. Not safe for
// concurrent use.
type sideband struct {
	fd   int
	area []byte
	meta *unix.PerfEventMmapPage
	data []byte
	buf  []byte // a record that wraps around the end, made whole
}

func newSideband(cpu int) (*sideband, error) {
	fd, err := openSideband(cpu)
	if err != nil {
		return nil, err
	}
	page := os.Getpagesize()
	area, err := unix.Mmap(fd, 0, page+sidebandBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("map side-band ring of cpu %d: %w", cpu, err)
	}
	return &sideband{
		fd:   fd,
		area: area,
		meta: (*unix.PerfEventMmapPage)(unsafe.Pointer(&area[0])),
		data: area[page:],
	}, nil
}

// drain calls visit with every complete record in the ring, oldest first, and
// gives the space back. The slice is valid during the call only.
func (s *sideband) drain(visit func(record []byte)) {
	const headerBytes = 8 // struct perf_event_header
	head := atomic.LoadUint64(&s.meta.Data_head)
	tail := s.meta.Data_tail
	for tail+headerBytes <= head {
		at := tail % sidebandBytes
		// Records are 8-byte aligned, so a header never wraps around.
		size := uint64(*(*uint16)(unsafe.Pointer(&s.data[at+6])))
		if size < headerBytes || tail+size > head {
			tail = head // cannot happen; losing sync must not loop
			break
		}
		record := s.data[at:min(at+size, sidebandBytes)]
		if uint64(len(record)) < size {
			s.buf = append(append(s.buf[:0], record...), s.data[:size-uint64(len(record))]...)
			record = s.buf
		}
		visit(record)
		tail += size
	}
	atomic.StoreUint64(&s.meta.Data_tail, tail)
}

func (s *sideband) close() {
	unix.Munmap(s.area)
	unix.Close(s.fd)
}
