// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// perfRecord writes a side-band record the way the kernel lays it out, see
// perf_event_open(2): header, body, and the time as the only sample_id field.
func perfRecord(kind uint32, misc uint16, time uint64, body ...any) []byte {
	var b bytes.Buffer
	for _, field := range body {
		if text, ok := field.(string); ok {
			padded := make([]byte, (len(text)+8)&^7)
			copy(padded, text)
			field = padded
		}
		binary.Write(&b, binary.LittleEndian, field)
	}
	head := binary.LittleEndian.AppendUint32(nil, kind)
	head = binary.LittleEndian.AppendUint16(head, misc)
	head = binary.LittleEndian.AppendUint16(head, uint16(8+b.Len()+8))
	return binary.LittleEndian.AppendUint64(append(head, b.Bytes()...), time)
}

func TestDecodeEvent(t *testing.T) {
	const pid, tid, parent = uint32(7), uint32(8), uint32(6)
	buildID := [20]byte{0xab, 0xcd, 19: 0xef}
	for _, c := range []struct {
		name   string
		record []byte
		want   event
		ok     bool
	}{
		{"exec", perfRecord(unix.PERF_RECORD_COMM, miscCommExec, 5, pid, pid, "ls"),
			event{kind: eventExec, time: 5, pid: pid}, true},
		{"renamed thread", perfRecord(unix.PERF_RECORD_COMM, 0, 5, pid, tid, "worker"), event{}, false},
		{"fork", perfRecord(unix.PERF_RECORD_FORK, 0, 5, pid, parent, pid, parent, uint64(5)),
			event{kind: eventFork, time: 5, pid: pid, parent: parent}, true},
		{"new thread", perfRecord(unix.PERF_RECORD_FORK, 0, 5, pid, pid, tid, pid, uint64(5)), event{}, false},
		{"exit", perfRecord(unix.PERF_RECORD_EXIT, 0, 5, pid, parent, pid, parent, uint64(5)),
			event{kind: eventExit, time: 5, pid: pid}, true},
		{"thread's end", perfRecord(unix.PERF_RECORD_EXIT, 0, 5, pid, parent, tid, parent, uint64(5)), event{}, false},
		{"lost", perfRecord(unix.PERF_RECORD_LOST, 0, 5, uint64(1), uint64(42)),
			event{kind: eventLost, time: 5, pid: 1, lost: 42}, true},
		{"mapping by inode", perfRecord(unix.PERF_RECORD_MMAP2, 0, 5, pid, tid, uint64(0x1000), uint64(0x2000), uint64(0x3000),
			uint32(8), uint32(1), uint64(99), uint64(0), uint32(5), uint32(2), "/bin/ls (deleted)"),
			event{kind: eventMap, time: 5, pid: pid, region: mapRecord{
				start: 0x1000, length: 0x2000, offset: 0x3000, path: "/bin/ls", deleted: true,
				device: unix.Mkdev(8, 1), inode: 99}}, true},
		{"mapping by build ID", perfRecord(unix.PERF_RECORD_MMAP2, miscMmapBuildID, 5, pid, tid, uint64(0x1000), uint64(0x2000), uint64(0),
			uint8(20), uint8(0), uint16(0), buildID, uint32(5), uint32(2), "/bin/ls"),
			event{kind: eventMap, time: 5, pid: pid, region: mapRecord{
				start: 0x1000, length: 0x2000, path: "/bin/ls",
				buildID: "abcd0000000000000000000000000000000000ef"}}, true},
	} {
		got, ok := decodeEvent(c.record)
		if ok != c.ok || (ok && got != c.want) {
			t.Errorf("%s: got %+v, %v, want %+v, %v", c.name, got, ok, c.want, c.ok)
		}
	}
}

func FuzzDecodeEvent(f *testing.F) {
	f.Add(perfRecord(unix.PERF_RECORD_MMAP2, miscMmapBuildID, 5, make([]byte, 64), "/bin/ls"))
	f.Add(perfRecord(unix.PERF_RECORD_FORK, 0, 5, uint32(1), uint32(2), uint32(1), uint32(2), uint64(5)))
	f.Fuzz(func(t *testing.T, record []byte) {
		e, ok := decodeEvent(record)
		if ok && e.kind == 0 {
			t.Error("an event without a kind")
		}
	})
}
