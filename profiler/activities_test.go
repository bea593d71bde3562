// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/sample"
)

// socketCalls makes the test binary do what TestActivities expects, see
// callSockets.
const socketCalls = "FLEETPROF_TEST_SOCKETS"

// The ways to read and write, by the name of the system call.
var (
	writers = []struct {
		name  string
		write func(fd int, b []byte) error
	}{
		{"write", func(fd int, b []byte) error { _, err := unix.Write(fd, b); return err }},
		{"writev", func(fd int, b []byte) error { _, err := unix.Writev(fd, [][]byte{b}); return err }},
		{"sendto", func(fd int, b []byte) error { return unix.Sendto(fd, b, 0, nil) }},
		{"sendmsg", func(fd int, b []byte) error { return unix.Sendmsg(fd, b, nil, nil, 0) }},
		{"writev behind empty ones", func(fd int, b []byte) error { _, err := unix.Writev(fd, [][]byte{{}, {}, b}); return err }},
	}
	readers = []struct {
		name string
		read func(fd int, b []byte) error
	}{
		{"read", func(fd int, b []byte) error { _, err := unix.Read(fd, b); return err }},
		{"readv", func(fd int, b []byte) error { _, err := unix.Readv(fd, [][]byte{b}); return err }},
		{"recvfrom", func(fd int, b []byte) error { _, _, err := unix.Recvfrom(fd, b, 0); return err }},
		{"recvmsg", func(fd int, b []byte) error { _, _, _, _, err := unix.Recvmsg(fd, b, nil, 0); return err }},
		{"recvmsg behind empty ones", func(fd int, b []byte) error {
			_, _, _, _, err := unix.RecvmsgBuffers(fd, [][]byte{{}, {}, {}, b}, nil, 0)
			return err
		}},
	}
)

// callSockets waits for a byte on standard input. Then it sends over pairs of
// sockets, by every system call there is: a request, something else, a response,
// and one byte. It prints the inode number of each receiving socket. The first pair
// is only for the process to have read a request.
func callSockets() error {
	if _, err := io.ReadFull(os.Stdin, make([]byte, 1)); err != nil {
		return err
	}
	pair, err := connection()
	if err != nil {
		return err
	}
	for range 2 {
		if err := writers[0].write(pair[0], []byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
			return err
		}
		if err := readers[0].read(pair[1], make([]byte, 4096)); err != nil {
			return err
		}
	}
	for i, w := range writers {
		if pair, err = connection(); err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Fstat(pair[1], &st); err != nil {
			return err
		}
		fmt.Println(st.Ino)
		for _, text := range socketTexts(w.name) {
			if err := w.write(pair[0], []byte(text)); err != nil {
				return err
			}
			if err := readers[i].read(pair[1], make([]byte, 4096)); err != nil {
				return err
			}
		}
		copied, err := unix.Dup(pair[1])
		if err != nil {
			return err
		}
		unix.Close(pair[1]) // not the last
		unix.Close(copied)
		unix.Close(pair[0])
	}
	return nil
}

// connection makes two ends of a TCP connection.
func connection() (ends [2]int, err error) {
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return ends, err
	}
	defer unix.Close(l)
	if err := unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return ends, err
	}
	if err := unix.Listen(l, 1); err != nil {
		return ends, err
	}
	address, err := unix.Getsockname(l)
	if err != nil {
		return ends, err
	}
	if ends[0], err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0); err != nil {
		return ends, err
	}
	if err := unix.Connect(ends[0], address); err != nil {
		return ends, err
	}
	ends[1], _, err = unix.Accept(l)
	return ends, err
}

func socketTexts(writer string) []string {
	return []string{
		"GET /" + strings.ReplaceAll(writer, " ", "-") + strings.Repeat("x", 1500) + " HTTP/1.1\r\n\r\n",
		"nothing of interest",
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"G",
	}
}

func TestActivities(t *testing.T) {
	t.Run("requests", func(t *testing.T) { testActivities(t, false, 256) })
	t.Run("headers", func(t *testing.T) { testActivities(t, true, 1024) })
}

// testActivities expects so many bytes of a request.
func testActivities(t *testing.T, headers bool, captured int) {
	p, got := newRequestsTest(t, headers)
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary)
	cmd.Env = append(os.Environ(), socketCalls+"=1")
	start, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var sockets []uint64
	during(t, p, func() {
		cmd.Stderr = t.Output()
		out := new(strings.Builder)
		cmd.Stdout = out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := start.Write([]byte{0}); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		for text := range strings.FieldsSeq(out.String()) {
			var inode uint64
			fmt.Sscan(text, &inode)
			sockets = append(sockets, inode)
		}
		time.Sleep(3 * pollEvery) // until all that happened has been replayed
	})
	if len(sockets) != len(readers) {
		t.Fatalf("%d sockets", len(sockets))
	}
	for i, socket := range sockets {
		t.Run(readers[i].name, func(t *testing.T) {
			checkActivities(t, got.activities, uint32(cmd.Process.Pid), socket, socketTexts(writers[i].name), captured)
		})
	}
	var first []sample.ActivityKind
	for _, a := range got.activities {
		if a.PID == uint32(cmd.Process.Pid) && a.Kind != sample.Close && len(first) < 3 {
			first = append(first, a.Kind)
		}
	}
	if want := []sample.ActivityKind{sample.Read, sample.Write, sample.Read}; !slices.Equal(first, want) {
		t.Errorf("first activities %v, want %v: what a mere client writes is not one", first, want)
	}
	if got.lostActivities != 0 {
		t.Errorf("%d activities lost", got.lostActivities)
	}
}

// checkActivities compares what was seen on the receiving socket, and what was
// written to its peer, with what was sent. captured is how many bytes of a request are.
func checkActivities(t *testing.T, all []sample.Activity, pid uint32, socket uint64, texts []string, captured int) {
	t.Helper()
	sent := []struct {
		text     string
		captured int
	}{{texts[0], captured}, {texts[2], 32}, {texts[3], 1}}
	var read, written, closed int
	peer := uint64(0)
	for i, a := range all {
		switch {
		case a.PID != pid:
			continue
		case a.Kind == sample.Close && a.Socket == socket:
			closed++
		case a.Kind == sample.Read && a.Socket == socket:
			if read < len(sent) {
				want := sent[read]
				if a.Bytes != int64(len(want.text)) || string(a.Data) != want.text[:want.captured] || a.Nonblocking {
					t.Errorf("read %d: %d bytes %q, nonblocking %v, want %d %q", read, a.Bytes, a.Data, a.Nonblocking, len(want.text), want.text[:want.captured])
				}
				if w := all[i-1]; w.Kind != sample.Write || string(w.Data) != string(a.Data) || peer != 0 && w.Socket != peer {
					t.Errorf("before read %d: %v of socket %d, %q", read, w.Kind, w.Socket, w.Data)
				} else {
					peer = w.Socket
					written++
				}
			}
			read++
		}
	}
	if read != len(sent) || written != len(sent) || closed != 1 {
		t.Errorf("%d reads and %d writes, want %d; %d closes, want 1", read, written, len(sent), closed)
	}
}

func TestNeedsClose(t *testing.T) {
	thread, goroutine := sample.Executor{Kind: sample.Thread}, sample.Executor{Kind: sample.Goroutine, Goroutine: 1}
	for _, c := range []struct {
		local    bool
		kind     sample.ActivityKind
		executor sample.Executor
		data     string
		want     bool
	}{
		{true, sample.Read, thread, "GET / HTTP/1.1", true},
		{false, sample.Read, thread, "GET / HTTP/1.1", false},   // TCP: it is seen
		{true, sample.Read, goroutine, "GET / HTTP/1.1", false}, // it ends with its connection
		{true, sample.Read, thread, "HTTP/1.1 200 OK", false},   // a client
		{true, sample.Write, thread, "GET / HTTP/1.1", false},
	} {
		a := activity{local: c.local, Activity: sample.Activity{Kind: c.kind, Executor: c.executor, Data: []byte(c.data)}}
		if got := a.needsClose(); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// tellingSink writes down what it is told.
type tellingSink struct {
	n    int
	told []string
}

func (s *tellingSink) Activity(a *sample.Activity) {
	s.n++
	s.told = append(s.told, fmt.Sprint("activity ", a.Time))
}
func (s *tellingSink) LostActivities(n uint64) { s.told = append(s.told, fmt.Sprint("lost ", n)) }
func (s *tellingSink) Exited(uint32)           {}

// What is missing happened some time after the last activity that came: from then on
// nothing is certain, not only when the next one comes.
func TestLossesAreToldAtOnce(t *testing.T) {
	a, sink := new(activities), new(tellingSink)
	for _, head := range []bpf.Activity{{TimeNs: 10}, {TimeNs: 30, Lost: 2}, {TimeNs: 29, Lost: 1}, {TimeNs: 40, Lost: 2}} {
		head.Kind = bpf.RecordActivity
		if err := a.decode(encode(t, head)); err != nil {
			t.Fatal(err)
		}
	}
	a.sort()
	for _, step := range []struct {
		until uint64
		want  []string
	}{
		{9, nil}, {20, []string{"activity 10", "lost 2"}}, {50, []string{"activity 29", "activity 30", "activity 40"}},
	} {
		sink.told = nil
		a.until(step.until, sink, func(*activity) bool { return true })
		if !slices.Equal(sink.told, step.want) {
			t.Errorf("until %d: %q, want %q", step.until, sink.told, step.want)
		}
	}
}

// On a busy host something is always too young to be handed on. What has been handed on
// must not be kept for it.
func TestActivitiesOfABusyHostAreForgotten(t *testing.T) {
	const looks, each = 1000, 100
	a, sink := new(activities), new(tellingSink)
	admit := func(*activity) bool { return true }
	var now uint64
	for range looks {
		a.compact()
		for range each {
			now++
			text := fmt.Appendf(nil, "GET /%d HTTP/1.1\r\n\r\n", now)
			head := bpf.Activity{Kind: bpf.RecordActivity, TimeNs: now, Captured: uint16(len(text))}
			if err := a.decode(encode(t, head, text)); err != nil {
				t.Fatal(err)
			}
		}
		a.sort()
		a.until(now-1, sink, admit)
	}
	for i, left := range a.pending[a.done:] {
		if want := fmt.Sprintf("GET /%d HTTP/1.1\r\n\r\n", now); i > 0 || string(left.Data) != want {
			t.Errorf("pending: %q, want %q", left.Data, want)
		}
	}
	if want := looks*each - 1; sink.n != want {
		t.Errorf("%d activities handed on, want %d", sink.n, want)
	}
	if n := cap(a.memory) + cap(a.spare) + cap(a.pending); n > 8*each*40 {
		t.Errorf("memory for %d bytes and activities is kept", n)
	}
}

// A burst of activities uses the same memory in all its looks, and lets go of it when it is over.
func TestBurstsOfActivities(t *testing.T) {
	const most = 2 * pendingKept
	record := encode(t, bpf.Activity{Kind: bpf.RecordActivity, Captured: 100}, make([]byte, 100))
	a := new(activities)
	look := func(records int) {
		a.compact()
		for range records {
			if err := a.decode(record); err != nil {
				t.Fatal(err)
			}
		}
		a.done = len(a.pending)
	}
	look(most)
	look(most)
	if n := testing.AllocsPerRun(10, func() { look(most); look(most / 2) }); n > 0 {
		t.Errorf("%v allocations in two looks of a burst", n)
	}
	for range 4 {
		look(1)
	}
	if n := cap(a.memory) + cap(a.spare); cap(a.pending) > pendingKept || n > 2*memoryKept {
		t.Errorf("memory of %d bytes and of %d activities is kept", n, cap(a.pending))
	}
}
