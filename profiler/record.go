// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"

	"golang.org/x/sys/unix"
)

// eventKind is what a side-band record tells.
type eventKind uint8

const (
	eventFork eventKind = iota + 1
	eventExec
	eventExit
	eventMap
	eventLost // the ring was full: some events are missing
)

// event is one side-band record decoded.
type event struct {
	kind   eventKind
	time   uint64 // CLOCK_MONOTONIC, nanoseconds
	pid    uint32
	parent uint32    // eventFork
	region mapRecord // eventMap
	lost   uint64    // eventLost
}

// mapRecord is what an MMAP2 record says of a new executable mapping.
type mapRecord struct {
	start, length, offset uint64
	path, buildID         string
	deleted               bool
	device, inode         uint64
}

// Record layouts: include/uapi/linux/perf_event.h, enum perf_event_type.
const (
	miscCommExec     = 1 << 13 // PERF_RECORD_MISC_COMM_EXEC
	miscMmapBuildID  = 1 << 14 // PERF_RECORD_MISC_MMAP_BUILD_ID
	timeBytes        = 8       // sample_id_all with PERF_SAMPLE_TIME alone
	mmap2HeadBytes   = 8 + 64  // up to the file name
	maxBuildIDBytes  = 20
	taskRecordBytes  = 8 + 24 + timeBytes
	lostRecordBytes  = 8 + 16 + timeBytes
	commExecMinBytes = 8 + 8 + timeBytes
)

// decodeEvent reads one side-band record; ok is false for records that tell
// nothing about a process as a whole, such as the start of a thread.
func decodeEvent(r []byte) (e event, ok bool) {
	le := binary.LittleEndian
	if len(r) < commExecMinBytes {
		return event{}, false
	}
	misc := le.Uint16(r[4:])
	e = event{time: le.Uint64(r[len(r)-timeBytes:]), pid: le.Uint32(r[8:])}
	switch le.Uint32(r) {
	case unix.PERF_RECORD_COMM:
		e.kind = eventExec
		return e, misc&miscCommExec != 0
	case unix.PERF_RECORD_FORK:
		if len(r) < taskRecordBytes {
			return event{}, false
		}
		e.kind, e.parent = eventFork, le.Uint32(r[12:])
		return e, e.pid != e.parent // equal: a thread of the same process
	case unix.PERF_RECORD_EXIT:
		if len(r) < taskRecordBytes {
			return event{}, false
		}
		e.kind = eventExit
		return e, e.pid == le.Uint32(r[16:]) // the thread-group leader
	case unix.PERF_RECORD_LOST:
		if len(r) < lostRecordBytes {
			return event{}, false
		}
		e.kind, e.lost = eventLost, le.Uint64(r[16:])
		return e, true
	case unix.PERF_RECORD_MMAP2:
		if len(r) < mmap2HeadBytes+timeBytes {
			return event{}, false
		}
		e.kind, e.region = eventMap, decodeMmap2(r, misc)
		return e, e.region.length > 0
	}
	return event{}, false
}

func decodeMmap2(r []byte, misc uint16) mapRecord {
	le := binary.LittleEndian
	m := mapRecord{
		start:  le.Uint64(r[16:]),
		length: le.Uint64(r[24:]),
		offset: le.Uint64(r[32:]),
	}
	if misc&miscMmapBuildID != 0 {
		size := min(int(r[40]), maxBuildIDBytes)
		m.buildID = hex.EncodeToString(r[44 : 44+size])
	} else {
		m.device = unix.Mkdev(le.Uint32(r[40:]), le.Uint32(r[44:]))
		m.inode = le.Uint64(r[48:])
	}
	path, _, _ := bytes.Cut(r[mmap2HeadBytes:len(r)-timeBytes], []byte{0})
	path, m.deleted = bytes.CutSuffix(path, []byte(" (deleted)"))
	m.path = string(path)
	return m
}
