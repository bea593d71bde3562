// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/sample"
)

// unseenCalls makes the test binary do what TestUnseenReads expects, see readUnseen.
const unseenCalls = "FLEETPROF_TEST_UNSEEN"

// readUnseen waits for a byte on standard input. Then it reads from one socket into a
// buffer that holds a request of another one, so that what is in the buffer is not what
// was read: by io_uring, and with MSG_TRUNC (tcp(7)). It prints the inode numbers of
// the sockets, 0 for what the kernel refuses.
func readUnseen() error {
	runtime.LockOSThread()
	if _, err := io.ReadFull(os.Stdin, make([]byte, 1)); err != nil {
		return err
	}
	for _, read := range []func(server, other [2]int, buffer []byte) error{readByRing, readAway} {
		server, err := connection()
		if err != nil {
			return err
		}
		other, err := connection()
		if err != nil {
			return err
		}
		buffer := make([]byte, 64)
		if err := writers[0].write(server[0], []byte("GET /stale HTTP/1.1\r\n\r\n")); err != nil {
			return err
		}
		if err := readers[0].read(server[1], buffer); err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Fstat(other[1], &st); err != nil {
			return err
		}
		switch err := read(server, other, buffer); {
		case errors.Is(err, errors.ErrUnsupported), errors.Is(err, unix.EPERM):
			st.Ino = 0
		case err != nil:
			return err
		}
		fmt.Println(st.Ino)
	}
	return nil
}

const foreign = "GET /unseen HTTP/1.1\r\n\r\n"

// readAway has what another socket brings discarded.
func readAway(_, other [2]int, buffer []byte) error {
	if err := writers[0].write(other[0], []byte(foreign)); err != nil {
		return err
	}
	_, _, err := unix.Recvfrom(other[1], buffer, unix.MSG_TRUNC)
	return err
}

// readByRing reads from another socket by io_uring, while the thread waits in read(2)
// for the server's: the kernel does so on the way out of that call.
func readByRing(server, other [2]int, buffer []byte) error {
	arrived := make([]byte, len(foreign))
	ring, err := receive(other[1], arrived)
	if err != nil {
		return err
	}
	defer unix.Close(ring)
	failed := make(chan error, 1)
	go func() {
		time.Sleep(20 * time.Millisecond) // until the thread waits
		err := writers[0].write(other[0], []byte(foreign))
		time.Sleep(20 * time.Millisecond)
		failed <- errors.Join(err, writers[0].write(server[0], []byte("nothing of interest")))
	}()
	if err := readers[0].read(server[1], buffer); err != nil {
		return err
	}
	if err := <-failed; err != nil {
		return err
	}
	if string(arrived) != foreign {
		return fmt.Errorf("receive by io_uring: got %q", arrived)
	}
	return nil
}

// receive submits one IORING_OP_RECV, see io_uring_setup(2), io_uring_enter(2) and
// include/uapi/linux/io_uring.h.
func receive(fd int, buffer []byte) (ring int, err error) {
	const (
		opRecv       = 27
		offSQEs      = 0x10000000
		sqTail       = 40 + 4 // in struct io_uring_params: offset of the tail in the ring
		sqArray      = 40 + 24
		parameters   = 120
		entryBytes   = 64
		entryAddress = 16
	)
	var p [parameters]byte
	n, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return 0, errno
	}
	ring = int(n)
	queue, err := unix.Mmap(ring, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return 0, err
	}
	entry, err := unix.Mmap(ring, offSQEs, entryBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return 0, err
	}
	entry[0] = opRecv
	binary.NativeEndian.PutUint32(entry[4:], uint32(fd))
	binary.NativeEndian.PutUint64(entry[entryAddress:], uint64(uintptr(unsafe.Pointer(&buffer[0]))))
	binary.NativeEndian.PutUint32(entry[entryAddress+8:], uint32(len(buffer)))
	at := func(field int) []byte { return queue[binary.NativeEndian.Uint32(p[field:]):] }
	binary.NativeEndian.PutUint32(at(sqArray), 0)
	binary.NativeEndian.PutUint32(at(sqTail), 1)
	if _, _, errno = unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(ring), 1, 0, 0, 0, 0); errno != 0 {
		return 0, errno
	}
	return ring, nil
}

// What was read by ways that are not looked at is not told, least of all with what was
// in a buffer of another call.
func TestUnseenReads(t *testing.T) {
	p, got := newRequestsTest(t, false)
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary)
	cmd.Env, cmd.Stderr = append(os.Environ(), unseenCalls+"=1"), t.Output()
	cmd.Stdin = strings.NewReader("\n")
	var out []byte
	during(t, p, func() {
		if out, err = cmd.Output(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * pollEvery)
	})
	var sockets [2]uint64
	if _, err := fmt.Sscan(string(out), &sockets[0], &sockets[1]); err != nil {
		t.Fatal(err)
	}
	if sockets[0] == 0 {
		t.Log("the kernel has no io_uring, or does not let us use it")
	}
	served := 0
	for _, a := range got.activities {
		if a.PID != uint32(cmd.Process.Pid) || a.Kind != sample.Read {
			continue
		}
		if strings.HasPrefix(string(a.Data), "GET /stale") {
			served++
		}
		for i, way := range []string{"io_uring", "MSG_TRUNC"} {
			if a.Socket == sockets[i] {
				t.Errorf("%s: %d bytes %q", way, a.Bytes, a.Data)
			}
		}
	}
	if served < 2 {
		t.Errorf("%d reads by read(2), want 2", served)
	}
}
