// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Activity is what the ring of activities holds, see events.h; bytes follow it.
type Activity = rpcActivity

// Layout and Program say who executes in a process, see events.h.
type (
	Layout  = samplerLayout
	Program = samplerProgram
)

// The treaty's constants under Go names; events.h says what they mean.
const (
	RecordActivity      = uint16(samplerRecordKindRECORD_ACTIVITY)
	ActivityNonblocking = uint8(rpcActivityFlagACTIVITY_NONBLOCKING)
	ActivityLocal       = uint8(rpcActivityFlagACTIVITY_LOCAL)
	ActivityTLS         = uint8(rpcActivityKindACTIVITY_TLS)
	ExecutorUnknown     = uint32(samplerExecutorEXECUTOR_UNKNOWN)
	ExecutorThread      = uint32(samplerExecutorEXECUTOR_THREAD)
	ExecutorGoroutine   = uint32(samplerExecutorEXECUTOR_GOROUTINE)
	Layouts             = int(samplerLimitLAYOUTS)
)

// Requests is the programs that see requests on sockets. Its methods are safe for
// concurrent use, but for Watch.
type Requests struct {
	objects struct {
		common
		directPrograms
		tracedPrograms
	}
	// direct says that the kernel has tracepoints of sockets.
	direct  bool
	links   []link.Link
	watched bool
}

// What is loaded on every kernel, and one of two sets of programs.
type (
	common struct {
		rpcMaps
		rpcVariables
		tlsPrograms
		EnterEpollPwait  *ebpf.Program `ebpf:"enter_epoll_pwait"`
		EnterEpollPwait2 *ebpf.Program `ebpf:"enter_epoll_pwait2"`
		EnterEpollWait   *ebpf.Program `ebpf:"enter_epoll_wait"`
		GoroutineBegan   *ebpf.Program `ebpf:"goroutine_began"`
	}
	directPrograms struct {
		SocketRead    *ebpf.Program `ebpf:"socket_read"`
		SocketWritten *ebpf.Program `ebpf:"socket_written"`
		SocketState   *ebpf.Program `ebpf:"socket_state"`
		EnterClose    *ebpf.Program `ebpf:"enter_close_local"`
	}
	tracedPrograms struct {
		ExitRead      *ebpf.Program `ebpf:"exit_read"`
		ExitReadv     *ebpf.Program `ebpf:"exit_readv"`
		ExitRecvfrom  *ebpf.Program `ebpf:"exit_recvfrom"`
		ExitRecvmsg   *ebpf.Program `ebpf:"exit_recvmsg"`
		ExitWrite     *ebpf.Program `ebpf:"exit_write"`
		ExitWritev    *ebpf.Program `ebpf:"exit_writev"`
		ExitSendto    *ebpf.Program `ebpf:"exit_sendto"`
		ExitSendmsg   *ebpf.Program `ebpf:"exit_sendmsg"`
		EnterAnyClose *ebpf.Program `ebpf:"enter_close"`
	}
)

// RequestOptions say how requests are seen.
type RequestOptions struct {
	// RingBytes is a power of two and a multiple of the page size.
	RingBytes int
	// Headers captures more of each request, for header fields to be read.
	Headers bool
}

// LoadRequests puts the programs into the kernel without running them. They share
// what the sampler knows of programs.
func LoadRequests(s *Sampler, o RequestOptions) (*Requests, error) {
	return loadRequests(s, o, hasSocketTracepoints())
}

// hasSocketTracepoints tells whether the kernel has sock_send_length and
// sock_recv_length: Linux 6.3 and later.
func hasSocketTracepoints() bool {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return false
	}
	var hook *btf.Typedef
	return spec.TypeByName("btf_trace_sock_recv_length", &hook) == nil
}

func loadRequests(s *Sampler, o RequestOptions, direct bool) (_ *Requests, err error) {
	spec, err := loadRpc()
	if err != nil {
		return nil, fmt.Errorf("read embedded BPF object: %w", err)
	}
	spec.Maps[rpcMapActivities].MaxEntries = uint32(o.RingBytes)
	capture := uint32(rpcCaptureCAPTURE_REQUEST)
	if o.Headers {
		capture = uint32(rpcCaptureCAPTURE_HEADERS)
	}
	for name, value := range map[string]any{
		rpcVarKernelStackBytes: kernelStackBytes(),
		rpcVarOwnTgid:          uint32(os.Getpid()),
		rpcVarCaptureRequest:   capture,
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set BPF constant %s: %w", name, err)
		}
	}
	r := &Requests{direct: direct}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	opts := &ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{
		rpcMapPrograms: s.objects.Programs,
		rpcMapLayouts:  s.objects.Layouts,
		rpcMapServing:  s.objects.Serving,
	}}
	// What is not assigned is not loaded.
	if o := &r.objects; direct {
		err = spec.LoadAndAssign(&struct {
			*common
			*directPrograms
		}{&o.common, &o.directPrograms}, opts)
	} else {
		err = spec.LoadAndAssign(&struct {
			*common
			*tracedPrograms
		}{&o.common, &o.tracedPrograms}, opts)
	}
	if err != nil {
		return nil, explainLoad(err)
	}
	return r, nil
}

// Direct tells whether requests are seen by the tracepoints of sockets, which cost
// nothing but sockets, and not by those of system calls.
func (r *Requests) Direct() bool { return r.direct }

// Attach starts the programs. On an error those already attached go on until
// Close.
func (r *Requests) Attach() error {
	o := &r.objects
	if r.direct {
		for _, program := range []*ebpf.Program{o.SocketRead, o.SocketWritten, o.SocketState} {
			l, err := link.AttachTracing(link.TracingOptions{Program: program})
			if err != nil {
				return fmt.Errorf("attach to tracepoint of sockets: %w", err)
			}
			r.links = append(r.links, l)
		}
		return nil
	}
	return r.trace(map[string]*ebpf.Program{
		"sys_exit_read":     o.ExitRead,
		"sys_exit_readv":    o.ExitReadv,
		"sys_exit_recvfrom": o.ExitRecvfrom,
		"sys_exit_recvmsg":  o.ExitRecvmsg,
		"sys_exit_write":    o.ExitWrite,
		"sys_exit_writev":   o.ExitWritev,
		"sys_exit_sendto":   o.ExitSendto,
		"sys_exit_sendmsg":  o.ExitSendmsg,
		"sys_enter_close":   o.EnterAnyClose,
	})
}

// AttachCloses makes the closes of sockets that carry ActivityLocal be sent too: those
// of Unix sockets. The kernel has no tracepoint for these alone, so it makes close(2)
// some 100 ns dearer and every other system call of the host some 15 ns, and is for
// hosts that have servers on such sockets. Before Linux 6.3 all closes are sent anyway.
func (r *Requests) AttachCloses() error {
	if !r.direct {
		return nil
	}
	return r.trace(map[string]*ebpf.Program{"sys_enter_close": r.objects.EnterClose})
}

// AttachTurns makes the turns of event loops be sent too. That makes every system
// call of the host some 15 ns dearer, so it is for hosts that have such loops.
func (r *Requests) AttachTurns() error {
	o := &r.objects
	return r.trace(map[string]*ebpf.Program{
		"sys_enter_epoll_wait":   o.EnterEpollWait,
		"sys_enter_epoll_pwait":  o.EnterEpollPwait,
		"sys_enter_epoll_pwait2": o.EnterEpollPwait2,
	})
}

func (r *Requests) trace(programs map[string]*ebpf.Program) error {
	for name, program := range programs {
		l, err := link.Tracepoint("syscalls", name, program, nil)
		if errors.Is(err, os.ErrNotExist) && (name == "sys_enter_epoll_wait" || name == "sys_enter_epoll_pwait2") {
			continue // arm64 has no epoll_wait(2), Linux before 5.11 no epoll_pwait2(2)
		}
		if err != nil {
			return explainTracepoint(name, err)
		}
		r.links = append(r.links, l)
	}
	return nil
}

// Probe makes goroutines known that begin at an instruction of a program, in all
// processes that run it, until the result is closed. The instruction is given by its
// offset in the file.
func (r *Requests) Probe(file *os.File, offset uint64) (io.Closer, error) {
	program, err := link.OpenExecutable(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
	if err != nil {
		return nil, fmt.Errorf("open program to probe: %w", err)
	}
	probe, err := program.Uprobe("", r.objects.GoroutineBegan, &link.UprobeOptions{Address: offset})
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		// perf_uprobe_event_init() in kernel/events/core.c.
		return nil, &Unsupported{"probing programs", "run as root, or with CAP_SYS_ADMIN", unix.EACCES}
	}
	if err != nil {
		return nil, fmt.Errorf("probe %s at %#x: %w", file.Name(), offset, err)
	}
	return probe, nil
}

func explainTracepoint(name string, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist), !hasTracefs():
		return &Unsupported{
			"tracepoints of system calls",
			"mount tracefs at /sys/kernel/tracing, or use a kernel with CONFIG_FTRACE_SYSCALLS",
			err,
		}
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return &Unsupported{
			"tracepoints of system calls",
			"run as root, or with CAP_PERFMON and read access to /sys/kernel/tracing",
			err,
		}
	}
	return fmt.Errorf("attach to tracepoint syscalls:%s: %w", name, err)
}

// hasTracefs tells whether the kernel's tracepoints can be found by their names, see
// Documentation/trace/ftrace.rst.
func hasTracefs() bool {
	for _, path := range []string{"/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"} {
		if _, err := os.Stat(path); err == nil || errors.Is(err, os.ErrPermission) {
			return true
		}
	}
	return false
}

// OpenRing opens the ring of activities; the caller closes it.
func (r *Requests) OpenRing() (*Ring, error) { return newRing(r.objects.Activities) }

// Watch makes the kernel side send everything that is read from and written to
// a socket, given by its inode number. Sockets that are not used make room for others.
func (r *Requests) Watch(socket uint64) error {
	if err := r.objects.Watched.Put(socket, uint32(1)); err != nil {
		return fmt.Errorf("watch socket %d: %w", socket, err)
	}
	if r.watched {
		return nil
	}
	if err := r.objects.Watching.Set(uint64(1)); err != nil {
		return fmt.Errorf("watch sockets: %w", err)
	}
	r.watched = true
	return nil
}

// Unwatch takes Watch back; it is no error if the socket is not watched.
func (r *Requests) Unwatch(socket uint64) error {
	if err := r.objects.Watched.Delete(socket); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("stop watching socket %d: %w", socket, err)
	}
	return nil
}

// Lost is how many activities found no room in the ring.
func (r *Requests) Lost() (n uint64, err error) {
	if err := r.objects.Lost.Get(&n); err != nil {
		return 0, fmt.Errorf("read lost activities: %w", err)
	}
	return n, nil
}

// MapBytes is the kernel memory of the maps that are not the sampler's, as
// Sampler.MapBytes counts it.
func (r *Requests) MapBytes() (uint64, error) {
	o := &r.objects
	return mapBytes([]*ebpf.Map{o.Activities, o.Watched, o.Turns, o.Servers, o.Records, o.Closings, o.TlsThreads})
}

// Close ends the programs and takes them out of the kernel. It is idempotent.
func (r *Requests) Close() error {
	var errs []error
	for _, l := range r.links {
		errs = append(errs, l.Close())
	}
	r.links = nil
	for _, program := range r.programs() {
		errs = append(errs, program.Close())
	}
	return errors.Join(append(errs, r.objects.rpcMaps.Close())...)
}

// programs lists all there are; those that are not for this kernel are nil.
func (r *Requests) programs() []*ebpf.Program {
	o := &r.objects
	return append(o.tlsPrograms.all(),
		o.EnterEpollPwait, o.EnterEpollPwait2, o.EnterEpollWait, o.GoroutineBegan,
		o.SocketRead, o.SocketWritten, o.SocketState, o.EnterClose,
		o.ExitRead, o.ExitReadv, o.ExitRecvfrom, o.ExitRecvmsg,
		o.ExitWrite, o.ExitWritev, o.ExitSendto, o.ExitSendmsg, o.EnterAnyClose,
	)
}

// SetProgram says what a process runs.
func (s *Sampler) SetProgram(pid uint32, p Program) error {
	if err := s.objects.Programs.Put(pid, p); err != nil {
		return fmt.Errorf("set program of process %d: %w", pid, err)
	}
	return nil
}

// DeleteProgram forgets what a process runs; it is no error if nothing is known.
func (s *Sampler) DeleteProgram(pid uint32) error {
	if err := s.objects.Programs.Delete(pid); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forget program of process %d: %w", pid, err)
	}
	return nil
}

// SetLayout says where the program with a number keeps its goroutines.
func (s *Sampler) SetLayout(number uint32, l Layout) error {
	if err := s.objects.Layouts.Put(number, l); err != nil {
		return fmt.Errorf("set layout %d: %w", number, err)
	}
	return nil
}
